-- depends_on: {{ ref('int_invoices_recalculated') }}
with recursive

demanded as (

    select * from {{ ref('int_credit_demands_ranked') }}

),

-- A grant takes from its invoices, in their order, what is left of them up to its amount: its balance
-- before an invoice is its amount less all that was left of the invoices before, and not below zero.
-- Grants are served rank by rank; each step looks at the demands of that rank and later ones.
{{ walk_credit('demanded') }},

final as (

    select
        basis,
        grant_id,
        workspace_id,
        invoice_id,
        issued_at,
        is_expected,
        left_minor as demand_minor,
        balance_before_minor,
        least(left_minor, balance_before_minor) as draw_minor

    from walk

    where grant_rank = step

)

select * from final
