with

grants as (

    select * from {{ ref('int_credit_grants_scheduled') }}

    where grant_started_at < {{ horizon() }}

),

-- What invoices that are not recalculated have drawn; all of these precede the recalculated ones.
drawn_before as (

    select * from {{ ref('int_credit_drawn_before') }}

),

discounted as (

    select * from {{ ref('int_invoices_discounted') }}

),

covered as (

    select * from {{ recalculated(ref('int_redemption_invoices_covered')) }}

),

-- R5, R7: a grant covers the invoices of its redemption that were issued while the grant is valid.
grant_invoices as (

    select
        grants.grant_id,
        grants.grant_minor,
        grants.workspace_id,
        grants.credit_priority,
        grants.scheduled_end_at,
        grants.grant_started_at,
        covered.invoice_id,
        covered.issued_at,
        covered.is_expected,
        covered.list_minor - coalesce(discounted.discount_minor, 0) as after_discounts_minor,
        covered.creditable_minor,
        covered.billed_credit_minor as billed_demand_minor,
        count(*) over (partition by covered.invoice_id) as grants_of_invoice

    from covered

    inner join grants
        on covered.redemption_id = grants.redemption_id
        and covered.issued_at >= grants.grant_started_at
        and (grants.grant_ended_at is null or covered.issued_at < grants.grant_ended_at)

    left join discounted
        on covered.invoice_id = discounted.invoice_id

),

-- R7: grants are drawn in one fixed order, so a grant that shares no invoice with another can be
-- drawn at once; the others are drawn in the order of their rank in the workspace.
shared_marked as (

    select
        *,
        max(grants_of_invoice) over (partition by grant_id) > 1 as is_shared

    from grant_invoices

),

ranked as (

    select
        *,
        case
            when is_shared
                then dense_rank() over (
                    partition by workspace_id, is_shared
                    order by
                        case when credit_priority is null then 1 else 0 end,
                        credit_priority,
                        case when scheduled_end_at is null then 1 else 0 end,
                        scheduled_end_at,
                        grant_started_at,
                        grant_id
                )
            else 1
        end as grant_rank

    from shared_marked

),

-- One walk for both bases: what should have been drawn, at most the creditable amount of the invoice (R7),
-- and all credit that was billed (R9). Expected bills have no billed credit yet (R12).
demanded as (

    select
        'expected' as basis,
        workspace_id,
        grant_id,
        grant_minor,
        grant_rank,
        invoice_id,
        issued_at,
        is_expected,
        least(after_discounts_minor, coalesce(creditable_minor, after_discounts_minor)) as left_minor

    from ranked

    union all

    select
        'billed' as basis,
        workspace_id,
        grant_id,
        grant_minor,
        grant_rank,
        invoice_id,
        issued_at,
        is_expected,
        billed_demand_minor as left_minor

    from ranked

    where not is_expected

),

final as (

    select
        demanded.basis,
        demanded.workspace_id,
        demanded.grant_id,
        demanded.grant_minor - coalesce(drawn_before.drawn_minor, 0) as grant_minor,
        demanded.grant_rank,
        demanded.invoice_id,
        demanded.issued_at,
        demanded.is_expected,
        demanded.left_minor

    from demanded

    left join drawn_before
        on demanded.basis = drawn_before.basis
        and demanded.grant_id = drawn_before.grant_id

)

select * from final
