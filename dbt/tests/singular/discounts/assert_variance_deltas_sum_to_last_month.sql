-- Invariant 5: the changes of a workspace sum to its last month's discount, without a month missing.
with

months as (

    select
        workspace_id,
        currency,
        percent_off_amount,
        sum(delta_amount) over (partition by workspace_id, currency) as delta_sum,
        row_number() over (partition by workspace_id, currency order by variance_month desc) as months_back,
        count(*) over (partition by workspace_id, currency) as month_count,
        {{ calendar_months_between(
            'min(variance_month) over (partition by workspace_id, currency)',
            'max(variance_month) over (partition by workspace_id, currency)'
        ) }} + 1 as month_span

    from {{ ref('fct_percent_off_variance_monthly') }}

)

select
    workspace_id,
    currency,
    percent_off_amount,
    delta_sum

from months

where
    months_back = 1
    and (
        percent_off_amount is distinct from delta_sum
        or month_count <> month_span
    )
