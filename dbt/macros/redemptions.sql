{# When a redemption ends, which redemptions it may not repeat, which derived follow-ups exist, the months of run rates
   and of retention, and which coupons gave something through several redemptions. #}

{# R3: the end of a redemption by its own terms, before revocation and lost eligibility. #}
{% macro natural_end(started_at, ends_at, coupons) -%}
    case
        when {{ ends_at }} is not null then {{ ends_at }}
        when {{ coupons }}.duration_months is not null
            then {{ months_after(started_at, coupons ~ '.duration_months') }}
        when {{ coupons }}.discount_type = 'credit'
            then {{ months_after(
                started_at,
                coupons ~ '.credit_period_months * ' ~ coupons ~ '.credit_max_periods'
            ) }}
    end
{%- endmacro %}


{# R2: the group of a coupon's redemptions of which a workspace may have only one, as the coupon's once_per says;
   a redemption that may be repeated is a group of its own. #}
{% macro group_in_workspace(once_per, redemption_id, workspace_id, subscription_id) -%}
    case {{ once_per }}
        when 'unlimited' then concat('redemption', chr(31), {{ redemption_id }})
        when 'subscription' then concat('subscription', chr(31), {{ workspace_id }}, chr(31), coalesce({{ subscription_id }}, ''))
        else concat('workspace', chr(31), {{ workspace_id }})
    end
{%- endmacro %}


{# R2: the group of a coupon's redemptions of which a user may have only one. A redemption without a user is a group of
   its own; in one group, all of these would go to a single task on Spark. #}
{% macro group_by_user(once_per, redemption_id, user_id) -%}
    case
        when coalesce({{ once_per }}, 'user') = 'user' and {{ user_id }} is not null
            then concat('user', chr(31), {{ user_id }})
        else concat('redemption', chr(31), {{ redemption_id }})
    end
{%- endmacro %}


{# R12: the first of the last three calendar months that had ended by the end of the as-of date. #}
{% macro three_months_before_end() -%}
    {{ month_later(month_after_as_of_date(), '-3') }}
{%- endmacro %}


{# R4: which of the possible derived redemptions exist: the CTEs `settling` and `settled`, over the relation
   `contested`. A derived redemption is refused if an earlier one of its group exists, and the follow-ups of a
   refused one are not derived. Each round therefore decides again, from the outcome of the previous round, which ones
   exist, until a round changes nothing. DuckDB recurses. Spark does not allow a window over a recursive reference, so
   the rounds are written out there, as many as are needed. #}
{% macro settle_derived() -%}
    {{ return(adapter.dispatch('settle_derived')()) }}
{%- endmacro %}


{# One round, as a query over the previous round. #}
{% macro settling_round(before) -%}
    select
        redemption_id,
        root_redemption_id,
        chain_position,
        coupon_id,
        workspace_group,
        user_group,
        started_at,
        is_refused_by_record,
        exists_now as is_there,
        round + 1 as round,
        max(case when exists_now <> is_there then 1 else 0 end) over () as is_changing

    from (
        select
            *,
            coalesce(
                max(is_refused_now) over (
                    partition by root_redemption_id
                    order by chain_position
                    rows between unbounded preceding and 1 preceding
                ),
                0
            ) = 0 as exists_now

        from (
            select
                *,
                case
                    when is_refused_by_record then 1
                    else greatest(
                        coalesce(
                            max(case when is_there then 1 else 0 end) over (
                                partition by coupon_id, workspace_group
                                order by started_at, redemption_id
                                rows between unbounded preceding and 1 preceding
                            ),
                            0
                        ),
                        coalesce(
                            max(case when is_there then 1 else 0 end) over (
                                partition by coupon_id, user_group
                                order by started_at, redemption_id
                                rows between unbounded preceding and 1 preceding
                            ),
                            0
                        )
                    )
                end as is_refused_now

            from {{ before }}
        ) as judged
    ) as cut
{%- endmacro %}


{% macro default__settle_derived() -%}
settling as (

    select
        *,
        true as is_there,
        cast(0 as bigint) as round,
        1 as is_changing

    from contested

    union all

    select * from (
        {{ settling_round('settling') }}
    ) as rounds

    where is_changing = 1

),

settled as (

    select
        redemption_id,
        is_there

    from (
        select
            *,
            max(round) over () as last_round

        from settling
    ) as all_rounds

    where round = last_round

)
{%- endmacro %}


{% macro spark__settle_derived() -%}
    {%- set found = namespace(rounds=0, is_settled=not execute) -%}
    {%- set start -%}
        select *, true as is_there, cast(0 as bigint) as round, 1 as is_changing
    {%- endset -%}
    {%- for rounds in range(1, 1000) -%}
        {%- if not found.is_settled -%}
            {%- set query = namespace(sql='(' ~ start ~ ' from (' ~ contested_chains() ~ ') as contested)') -%}
            {%- for number in range(rounds) -%}
                {%- set query.sql = '(' ~ settling_round(query.sql ~ ' as round_before') ~ ')' -%}
            {%- endfor -%}
            {%- set changing = run_query('select coalesce(max(is_changing), 0) as is_changing from ' ~ query.sql ~ ' as last_round') -%}
            {%- if changing.columns[0].values()[0] | int == 0 -%}
                {%- set found.is_settled = true -%}
                {%- set found.rounds = rounds - 1 -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
settling_0 as (

    {{ start }}

    from contested

),
{% for number in range(1, found.rounds + 1) %}
settling_{{ number }} as (

    {{ settling_round('settling_' ~ (number - 1)) }}

),
{% endfor %}
settled as (

    select
        redemption_id,
        is_there

    from settling_{{ found.rounds }}

)
{%- endmacro %}


{# The chains of possible derived redemptions in which at least one shares a group with another. #}
{% macro contested_chains() -%}
    select
        redemption_id,
        root_redemption_id,
        chain_position,
        coupon_id,
        workspace_group,
        user_group,
        started_at,
        is_refused_by_record

    from (
        select
            *,
            max(case when group_size > 1 then 1 else 0 end) over (partition by root_redemption_id) as is_contested

        from (
            select
                *,
                greatest(
                    count(*) over (partition by coupon_id, workspace_group),
                    count(*) over (partition by coupon_id, user_group)
                ) as group_size

            from {{ ref('int_follow_ups_possible') }}
        ) as sized
    ) as marked

    where is_contested = 1
{%- endmacro %}


{# Invariant 1: the coupons that gave a workspace something through several redemptions, although their once_per allows
   only one. `benefits` has one row per workspace, coupon and redemption. #}
{% macro through_several_redemptions(benefits) -%}
    select
        {{ benefits }}.workspace_id,
        {{ benefits }}.coupon_id,
        count(*) as redemptions

    from {{ benefits }}

    inner join {{ ref('dim_coupons') }} as coupons
        on {{ benefits }}.coupon_id = coupons.coupon_id

    where coupons.once_per in ('user', 'workspace')

    group by
        {{ benefits }}.workspace_id,
        {{ benefits }}.coupon_id

    having count(*) > 1
{%- endmacro %}


{# After how many months from the end of a promotion retention is measured. #}
{% macro retention_months() -%}
    {{ return([1, 3, 6, 12]) }}
{%- endmacro %}
