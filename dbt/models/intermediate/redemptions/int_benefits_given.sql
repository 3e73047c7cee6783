with

covered as (

    select * from {{ recalculated(ref('int_redemption_invoices_covered')) }}

),

discounts as (

    select * from {{ recalculated(ref('int_discounts_applied')) }}

),

grants as (

    select * from {{ ref('int_credit_grants_scheduled') }}

),

-- One invoice may draw on two grants of a redemption.
draws as (

    select
        grants.redemption_id,
        draws_of_grants.invoice_id,
        {{ sum_minor('draws_of_grants.draw_minor') }} as credit_minor

    from {{ recalculated(ref('int_credit_draws')) }} as draws_of_grants

    inner join grants
        on draws_of_grants.grant_id = grants.grant_id

    where draws_of_grants.draw_minor > 0

    group by
        grants.redemption_id,
        draws_of_grants.invoice_id

),

final as (

    select
        covered.redemption_id,
        covered.invoice_id,
        covered.workspace_id,
        covered.subscription_id,
        covered.plan,
        covered.billing_interval,
        covered.interval_count,
        covered.issued_at,
        covered.billing_month,
        covered.currency,
        covered.minor_per_major,
        covered.list_minor,
        covered.is_expected,
        coalesce(discounts.discount_minor, 0) as discount_minor,
        coalesce(draws.credit_minor, 0) as credit_minor

    from covered

    left join discounts
        on covered.invoice_id = discounts.invoice_id
        and covered.redemption_id = discounts.redemption_id

    left join draws
        on covered.invoice_id = draws.invoice_id
        and covered.redemption_id = draws.redemption_id

    where
        discounts.discount_minor is not null
        or draws.credit_minor is not null

)

select * from final
