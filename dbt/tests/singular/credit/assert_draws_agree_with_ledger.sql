-- Because of this test, other tests of draws need not read the ledger.
with

ledger as (

    select
        grant_id,
        invoice_id,
        redemption_id,
        workspace_id,
        currency,
        sum(-amount) as drawn_amount

    from {{ ref('fct_credit_ledger') }}

    where entry_type = 'draw'

    group by
        grant_id,
        invoice_id,
        redemption_id,
        workspace_id,
        currency

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
    or (
        ledger.grant_id is not null
        and (
            draws.redemption_id is distinct from ledger.redemption_id
            or draws.workspace_id is distinct from ledger.workspace_id
            or draws.currency is distinct from ledger.currency
        )
    )
    or coalesce(draws.draw_amount not between 0 and draws.balance_before_amount, true)
    or coalesce(draws.billed_draw_amount not between 0 and draws.billed_balance_before_amount, true)
