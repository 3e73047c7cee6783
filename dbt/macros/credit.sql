{# Draw credit rank by rank (R7): CTEs, the last of which, `walk`, has every demand with the amount left to pay at its
   rank, as it should have been and as billed (R9). Grants of rank 0 share no invoice, so nothing is taken from their
   demands. DuckDB recurses. Spark does not allow a window over a recursive reference, so the steps are written out
   there, one per rank up to the highest; later steps do not change what a step has drawn. On Spark, every window has
   the workspace in its partition key, so rows are shuffled only once. #}

{% macro walk_credit(demands) -%}
    {{ return(adapter.dispatch('walk_credit')(demands)) }}
{%- endmacro %}

{% macro default__walk_credit(demands) -%}
steps as (

    select
        *,
        cast(1 as bigint) as step

    from {{ demands }}

    union all

    -- The demands of later ranks, less what the rank of the step has drawn.
    select
        later.workspace_id,
        later.grant_id,
        later.grant_minor,
        later.billed_grant_minor,
        later.grant_rank,
        later.invoice_id,
        later.issued_at,
        later.is_expected,
        later.left_minor - coalesce(least(drawing.left_minor, drawing.balance_before_minor), 0) as left_minor,
        later.billed_left_minor
        - coalesce(least(drawing.billed_left_minor, drawing.billed_balance_before_minor), 0) as billed_left_minor,
        later.step + 1 as step

    from steps as later

    left join (
        select
            invoice_id,
            left_minor,
            billed_left_minor,
            {{ balances_before() }}

        from steps

        where grant_rank = step
    ) as drawing
        on later.invoice_id = drawing.invoice_id

    where later.grant_rank > later.step

),

walk as (

    select
        *,
        {{ balances_before() }}

    from steps

    where
        grant_rank = step
        or grant_rank = 0

)
{%- endmacro %}

{% macro spark__walk_credit(demands) -%}
    {%- set ranks = run_query('select greatest(coalesce(max(grant_rank), 1), 1) from ' ~ ref('int_credit_demands_ranked')) if execute -%}
    {%- set last_rank = ranks.columns[0].values()[0] | int if execute else 1 -%}
    {%- set by_grant = 'workspace_id, grant_id' -%}
step_1 as (

    select
        *,
        {{ balances_before(by_grant) }}

    from (select /*+ repartition(workspace_id) */ * from {{ demands }}) as by_workspace

),
{% for step in range(2, last_rank + 1) %}
step_{{ step }} as (

    select
        workspace_id,
        grant_id,
        grant_minor,
        billed_grant_minor,
        grant_rank,
        invoice_id,
        issued_at,
        is_expected,
        left_minor,
        billed_left_minor,
        {%- for of in ('', 'billed_') %}
        case
            when grant_rank >= {{ step }} then {{ balance_before(by_grant, of) }}
            else {{ of }}balance_then_minor
        end as {{ of }}balance_before_minor{{ ',' if not loop.last }}
        {%- endfor %}

    from (
        select
            workspace_id,
            grant_id,
            grant_minor,
            billed_grant_minor,
            grant_rank,
            invoice_id,
            issued_at,
            is_expected,
            balance_before_minor as balance_then_minor,
            billed_balance_before_minor as billed_balance_then_minor,
            left_minor - case when grant_rank >= {{ step }} then taken_minor else 0 end as left_minor,
            billed_left_minor - case when grant_rank >= {{ step }} then billed_taken_minor else 0 end as billed_left_minor

        from (
            select
                *,
                {%- for of in ('', 'billed_') %}
                {{ sum_minor_over(
                    'case when grant_rank = ' ~ (step - 1) ~ ' then least(' ~ of ~ 'left_minor, ' ~ of ~ 'balance_before_minor) else 0 end',
                    'partition by workspace_id, invoice_id'
                ) }} as {{ of }}taken_minor{{ ',' if not loop.last }}
                {%- endfor %}

            from step_{{ step - 1 }}
        ) as taken
    ) as remaining

),
{% endfor %}
walk as (

    select * from step_{{ last_rank }}

)
{%- endmacro %}


{# R7, R9: two columns with the balance of a grant before an invoice, as it should have been and as billed. #}
{% macro balances_before(grant='grant_id') -%}
    {{ balance_before(grant) }} as balance_before_minor,
        {{ balance_before(grant, 'billed_') }} as billed_balance_before_minor
{%- endmacro %}


{# R7: the balance of a grant before an invoice, from what earlier invoices had left to pay; with `billed_`, from what
   was billed. #}
{% macro balance_before(grant, of='') -%}
    greatest(
        {{ of }}grant_minor - coalesce(
            {{ sum_minor_over(
                of ~ 'left_minor',
                'partition by ' ~ grant ~ ' order by issued_at, invoice_id rows between unbounded preceding and 1 preceding'
            ) }},
            0
        ),
        0
    )
{%- endmacro %}


{# R7: the amount of a grant. Where the terms of a what-if hold only from some day, a grant that started earlier keeps
   the amount with which it was issued. #}
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
