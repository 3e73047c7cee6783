select
    ledger.entry_id,
    ledger.effective_at,
    redemptions.started_at,
    redemptions.ends_at

from {{ ref('fct_credit_ledger') }} as ledger

left join {{ ref('dim_coupon_redemptions') }} as redemptions
    on ledger.redemption_id = redemptions.redemption_id
    and redemptions.is_honoured

where
    ledger.entry_type = 'draw'
    and (
        coalesce(ledger.effective_at < redemptions.started_at, true)
        or ledger.effective_at >= redemptions.ends_at
    )
