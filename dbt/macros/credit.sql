{# The walk through the ranks of credit grants (R7): CTEs, the last of which is named walk and has every demand
   with what is left to pay at its rank. Grants of rank 0 share no invoice: nothing is taken from their demands. DuckDB
   recurses. Spark does not allow a window over a recursive reference, so there the steps are written out, one per rank
   up to the highest; what a step has drawn does not change in the next. On Spark, all windows have the workspace in
   their key, so that rows move only once. #}

{% macro walk_credit(demands) -%}
    {{ return(adapter.dispatch('walk_credit')(demands)) }}
{%- endmacro %}

{% macro default__walk_credit(demands) -%}
steps as (

    select
        basis,
        grant_id,
        grant_minor,
        grant_rank,
        workspace_id,
        invoice_id,
        issued_at,
        is_expected,
        cast(1 as bigint) as step,
        left_minor

    from {{ demands }}

    union all

    -- The demands of later ranks, less what the rank of the step has drawn.
    select
        later.basis,
        later.grant_id,
        later.grant_minor,
        later.grant_rank,
        later.workspace_id,
        later.invoice_id,
        later.issued_at,
        later.is_expected,
        later.step + 1 as step,
        later.left_minor - coalesce(least(drawing.left_minor, drawing.balance_before_minor), 0) as left_minor

    from steps as later

    left join (
        select
            basis,
            invoice_id,
            left_minor,
            {{ balance_before() }} as balance_before_minor

        from steps

        where grant_rank = step
    ) as drawing
        on later.invoice_id = drawing.invoice_id
        and later.basis = drawing.basis

    where later.grant_rank > later.step

),

walk as (

    select
        *,
        {{ balance_before() }} as balance_before_minor

    from steps

    where
        grant_rank = step
        or grant_rank = 0

)
{%- endmacro %}

{% macro spark__walk_credit(demands) -%}
    {%- set ranks = run_query('select greatest(coalesce(max(grant_rank), 1), 1) from ' ~ ref('int_credit_demands_ranked')) if execute -%}
    {%- set last_rank = ranks.columns[0].values()[0] | int if execute else 1 -%}
    {%- set by_grant = 'workspace_id, basis, grant_id' -%}
step_1 as (

    select
        *,
        {{ balance_before(by_grant) }} as balance_before_minor

    from (select /*+ repartition(workspace_id) */ * from {{ demands }}) as by_workspace

),
{% for step in range(2, last_rank + 1) %}
step_{{ step }} as (

    select
        basis,
        grant_id,
        grant_minor,
        grant_rank,
        workspace_id,
        invoice_id,
        issued_at,
        is_expected,
        left_minor,
        case
            when grant_rank >= {{ step }} then {{ balance_before(by_grant) }}
            else balance_before_minor
        end as balance_before_minor

    from (
        select
            basis,
            grant_id,
            grant_minor,
            grant_rank,
            workspace_id,
            invoice_id,
            issued_at,
            is_expected,
            balance_before_minor,
            left_minor - case when grant_rank >= {{ step }} then taken_minor else 0 end as left_minor

        from (
            select
                *,
                {{ sum_minor_over(
                    'case when grant_rank = ' ~ (step - 1) ~ ' then least(left_minor, balance_before_minor) else 0 end',
                    'partition by workspace_id, basis, invoice_id'
                ) }} as taken_minor

            from step_{{ step - 1 }}
        ) as taken
    ) as remaining

),
{% endfor %}
walk as (

    select * from step_{{ last_rank }}

)
{%- endmacro %}


{# R7: the balance of a grant before an invoice, from what earlier invoices had left to pay. #}
{% macro balance_before(grant='basis, grant_id') -%}
    greatest(
        grant_minor - coalesce(
            {{ sum_minor_over(
                'left_minor',
                'partition by ' ~ grant ~ ' order by issued_at, invoice_id rows between unbounded preceding and 1 preceding'
            ) }},
            0
        ),
        0
    )
{%- endmacro %}


{# R7: what a grant gives. Where changed terms hold from some day on, a grant that started earlier keeps the amount
   it was issued with. #}
{% macro grant_amount_of_its_day(grants, redemptions_before) -%}
    {%- if terms_hold_from() -%}
    case
            when grant_started_at < {{ terms_hold_from() }}
                then coalesce(
                    (
                        select redemptions_before.grant_minor

                        from {{ redemptions_before }} as redemptions_before

                        where redemptions_before.redemption_id = {{ grants }}.redemption_id
                    ),
                    grant_minor
                )
            else grant_minor
        end
    {%- else -%}
    grant_minor
    {%- endif -%}
{%- endmacro %}


{# R7: the order in which grants are drawn on: the lowest priority first, those without one last, then the earliest
   scheduled end. #}
{% macro draw_order(grants) -%}
    case when {{ grants }}.credit_priority is null then 1 else 0 end,
    {{ grants }}.credit_priority,
    case when {{ grants }}.scheduled_end_at is null then 1 else 0 end,
    {{ grants }}.scheduled_end_at,
    {{ grants }}.grant_started_at,
    {{ grants }}.grant_id
{%- endmacro %}
