-- depends_on: {{ ref('int_invoices_recalculated') }}
with recursive

demanded as (

    select * from {{ ref('int_credit_demands_ranked') }}

),

-- A grant pays what its invoices have left to pay, in their order, up to the amount of the grant. Its balance before
-- an invoice is that amount less all that earlier invoices had left to pay, and at least zero. Grants that share
-- invoices are drawn rank by rank; each step subtracts its draws from the demands of later ranks.
{{ walk_credit('demanded') }},

final as (

    select
        grant_id,
        workspace_id,
        invoice_id,
        issued_at,
        is_expected,
        balance_before_minor,
        least(left_minor, balance_before_minor) as draw_minor,
        billed_balance_before_minor,
        least(billed_left_minor, billed_balance_before_minor) as billed_draw_minor

    from walk

)

select * from final
