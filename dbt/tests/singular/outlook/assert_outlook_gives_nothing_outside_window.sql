select
    benefits.redemption_id,
    benefits.invoice_id,
    benefits.issued_at

from {{ ref('int_benefits_given') }} as benefits

left join {{ ref('int_redemptions_with_terms') }} as redemptions
    on benefits.redemption_id = redemptions.redemption_id
    and redemptions.is_honoured

where
    coalesce(benefits.issued_at < redemptions.started_at, true)
    or benefits.issued_at >= redemptions.ended_at
