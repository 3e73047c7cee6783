with

entries as (

    select
        ledger.grant_id,
        ledger.entry_id,
        ledger.balance_amount,
        sum(ledger.amount) over (
            partition by ledger.grant_id
            order by
                case ledger.entry_type when 'grant' then 1 when 'draw' then 2 else 3 end,
                ledger.effective_at,
                ledger.invoice_id
            rows between unbounded preceding and current row
        ) as running_amount,
        sum(ledger.amount) over (partition by ledger.grant_id) as final_amount,
        sum(case ledger.entry_type when 'grant' then 1 else 0 end) over (partition by ledger.grant_id) as grant_entries

    from {{ ref('fct_credit_ledger') }} as ledger

)

select
    entries.grant_id,
    entries.entry_id,
    entries.balance_amount,
    entries.running_amount

from entries

left join {{ ref('int_credit_grants_scheduled') }} as scheduled_grants
    on entries.grant_id = scheduled_grants.grant_id

where
    entries.balance_amount is distinct from entries.running_amount
    or coalesce(entries.balance_amount < 0, true)
    or entries.grant_entries <> 1
    or coalesce(scheduled_grants.has_ended and entries.final_amount <> 0, true)
