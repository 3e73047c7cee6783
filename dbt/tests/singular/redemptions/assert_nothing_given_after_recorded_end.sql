with

benefits as (

    select
        invoice_id,
        redemption_id

    from {{ ref('fct_discount_applications') }}

    union all

    select
        invoice_id,
        redemption_id

    from {{ ref('fct_credit_draws') }}

    where draw_amount <> 0

)

select
    benefits.invoice_id,
    benefits.redemption_id,
    charges.issued_at

from benefits

inner join {{ ref('fct_discounted_charges') }} as charges
    on benefits.invoice_id = charges.invoice_id

inner join {{ ref('stg_billing__redemptions') }} as redemptions
    on benefits.redemption_id = redemptions.redemption_id

where
    charges.issued_at >= redemptions.ends_at
    or charges.issued_at >= redemptions.revoked_at
    or charges.issued_at >= redemptions.eligible_until
