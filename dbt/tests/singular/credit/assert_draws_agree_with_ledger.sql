-- R7: what an invoice draws from a grant is the same in the draws and in the ledger, and no draw, expected or as
-- billed, exceeds the balance of the grant.
with

ledger as (

    select
        grant_id,
        invoice_id,
        sum(-amount) as drawn_amount

    from {{ ref('fct_credit_ledger') }}

    where entry_type = 'draw'

    group by
        grant_id,
        invoice_id

)

select
    coalesce(draws.grant_id, ledger.grant_id) as grant_id,
    coalesce(draws.invoice_id, ledger.invoice_id) as invoice_id,
    draws.draw_amount,
    ledger.drawn_amount

from {{ ref('fct_credit_draws') }} as draws

full outer join ledger
    on draws.grant_id = ledger.grant_id
    and draws.invoice_id = ledger.invoice_id

where
    coalesce(draws.draw_amount, -1) <> coalesce(ledger.drawn_amount, 0)
    or coalesce(draws.draw_amount not between 0 and draws.balance_before_amount, true)
    or coalesce(draws.billed_draw_amount not between 0 and draws.billed_balance_before_amount, true)
