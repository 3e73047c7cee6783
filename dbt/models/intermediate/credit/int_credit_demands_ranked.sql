with

grants as (

    select * from {{ ref('int_credit_grants_scheduled') }}

    where grant_started_at < {{ horizon() }}

),

-- The draws of invoices that are not recalculated, all of which precede the recalculated ones.
drawn_before as (

    select * from {{ ref('int_credit_drawn_before') }}

),

discounted as (

    select * from {{ ref('int_invoices_discounted') }}

),

covered as (

    select * from {{ recalculated(ref('int_redemption_invoices_covered')) }}

    where discount_type = 'credit'

),

-- R5, R7: a grant covers the invoices of its redemption that were issued while the grant is valid.
grant_invoices as (

    select
        grants.grant_id,
        grants.grant_minor,
        grants.workspace_id,
        covered.invoice_id,
        covered.issued_at,
        covered.is_expected,
        covered.list_minor - coalesce(discounted.discount_minor, 0) as after_discounts_minor,
        covered.creditable_minor,
        covered.billed_credit_minor as billed_demand_minor

    from covered

    inner join grants
        on covered.redemption_id = grants.redemption_id
        and covered.issued_at >= grants.grant_started_at
        and (grants.grant_ended_at is null or covered.issued_at < grants.grant_ended_at)

    left join discounted
        on covered.invoice_id = discounted.invoice_id

),

shared_invoices as (

    select invoice_id

    from grant_invoices

    group by invoice_id

    having count(*) > 1

),

shared_grants as (

    select distinct grant_invoices.grant_id

    from grant_invoices

    inner join shared_invoices
        on grant_invoices.invoice_id = shared_invoices.invoice_id

),

-- R7: grants are drawn in the order of their rank in the workspace. A grant that shares no invoice with another does
-- not depend on any other and gets no rank.
ranked_grants as (

    select
        grants.grant_id,
        row_number() over (
            partition by grants.workspace_id
            order by {{ draw_order('grants') }}
        ) as grant_rank

    from grants

    inner join shared_grants
        on grants.grant_id = shared_grants.grant_id

),

ranked as (

    select
        grant_invoices.*,
        coalesce(ranked_grants.grant_rank, 0) as grant_rank

    from grant_invoices

    left join ranked_grants
        on grant_invoices.grant_id = ranked_grants.grant_id

),

-- Left to pay: what credit may pay of the invoice, at most its creditable amount (R7), and the credit that was billed
-- (R9). Expected bills have no billed credit yet (R12).
final as (

    select
        ranked.workspace_id,
        ranked.grant_id,
        ranked.grant_minor - coalesce(drawn_before.drawn_minor, 0) as grant_minor,
        ranked.grant_minor - coalesce(drawn_before.billed_drawn_minor, 0) as billed_grant_minor,
        ranked.grant_rank,
        ranked.invoice_id,
        ranked.issued_at,
        ranked.is_expected,
        least(
            ranked.after_discounts_minor,
            coalesce(ranked.creditable_minor, ranked.after_discounts_minor)
        ) as left_minor,
        case when ranked.is_expected then 0 else ranked.billed_demand_minor end as billed_left_minor

    from ranked

    left join drawn_before
        on ranked.grant_id = drawn_before.grant_id

)

select * from final
