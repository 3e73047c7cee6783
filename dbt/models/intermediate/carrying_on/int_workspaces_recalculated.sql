{%- set changed = ref('int_workspaces_changed') -%}
{%- set covered = ref('int_redemption_invoices_covered') -%}
{%- set grants = ref('int_credit_grants_scheduled') -%}
{%- set redemptions = ref('int_redemptions_with_terms') %}
with

{% if carries_on() -%}
-- R10: the month after a covered month is compared with it once the as-of date is in that month.
workspaces_covered_in_the_month_before as (

    select workspace_id

    from {{ covered }}

    where
        discount_type = 'percent_off'
        and not is_expected
        and billing_month >= {{ month_of_day(kept_as_of_date()) }}
        and billing_month < {{ month_of_day(as_of_date()) }}

),

-- R12: a grant that has not ended has rows up to the month of the as-of date, and its run rate is over the last months
-- that have ended.
workspaces_with_grants_in_a_new_month as (

    select workspace_id

    from {{ grants }}

    where
        is_issued
        and not has_ended
        and (
            {{ month_of_day(as_of_date()) }} <> {{ month_of_day(kept_as_of_date()) }}
            or {{ month_after_as_of_date() }} <> {{ month_of(kept_end_of_as_of_date()) }}
        )

),

-- R7, R12: a grant is closed when it ends, which is when the next grant of its redemption is issued; the outlook
-- projects what is left at its end once that is before the horizon.
workspaces_with_grants_of_the_day as (

    select workspace_id

    from {{ grants }}

    where
        (grant_ended_at >= {{ kept_end_of_as_of_date() }} and grant_ended_at < {{ end_of_as_of_date() }})
        or (grant_ended_at >= {{ kept_horizon() }} and grant_ended_at < {{ horizon() }})

),

-- The retention of a workspace can be judged once enough months have passed since the end of its promotion.
workspaces_with_promotions_of_an_age as (

    select workspace_id

    from {{ redemptions }}

    where
        has_ended
        and ended_by = 'expiry'
        and (
            {%- for months in retention_months() %}
            {{ 'or ' if not loop.first }}(
                {{ add_months('ended_at', months) }} >= {{ kept_end_of_as_of_date() }}
                and {{ add_months('ended_at', months) }} < {{ end_of_as_of_date() }}
            )
            {%- endfor %}
        )

),

{% endif -%}
final as (
    {% if carries_on() %}
    select workspace_id from {{ changed }}

    union

    select workspace_id from workspaces_covered_in_the_month_before

    union

    select workspace_id from workspaces_with_grants_in_a_new_month

    union

    select workspace_id from workspaces_with_grants_of_the_day

    union

    select workspace_id from workspaces_with_promotions_of_an_age
    {% else %}
    {{ no_rows({'workspace_id': dbt.type_string()}) }}
    {% endif %}
)

select * from final
