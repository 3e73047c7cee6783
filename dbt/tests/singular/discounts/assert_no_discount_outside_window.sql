select
    applications.invoice_id,
    applications.redemption_id,
    charges.issued_at,
    redemptions.started_at,
    redemptions.ends_at

from {{ ref('fct_discount_applications') }} as applications

left join {{ ref('fct_discounted_charges') }} as charges
    on applications.invoice_id = charges.invoice_id

left join {{ ref('dim_coupon_redemptions') }} as redemptions
    on applications.redemption_id = redemptions.redemption_id
    and redemptions.is_honoured

where
    coalesce(charges.issued_at < redemptions.started_at, true)
    or charges.issued_at >= redemptions.ends_at
