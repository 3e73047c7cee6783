{%- set changed = ref('int_workspaces_changed') -%}
{%- set redemptions = ref('int_redemptions_with_terms') -%}
{%- set grants = ref('int_credit_grants_scheduled') %}
with

{% if carries_on() -%}
-- Totals by month end with the month of the as-of date.
workspaces_in_a_new_month as (

    select workspace_id

    from {{ redemptions }}

    where
        {{ month_of_day(as_of_date()) }} <> {{ month_of_day(kept_as_of_date()) }}
        or {{ month_after_as_of_date() }} <> {{ month_of(kept_end_of_as_of_date()) }}

),

-- R7, R12: a grant is issued when it starts, closed when it ends, and projected to its end once that is before the
-- horizon.
workspaces_with_grants_of_the_day as (

    select workspace_id

    from {{ grants }}

    where
        (grant_started_at >= {{ kept_end_of_as_of_date() }} and grant_started_at < {{ end_of_as_of_date() }})
        or (grant_ended_at >= {{ kept_end_of_as_of_date() }} and grant_ended_at < {{ end_of_as_of_date() }})
        or (grant_ended_at >= {{ kept_horizon() }} and grant_ended_at < {{ horizon() }})

),

{% endif -%}
final as (
    {% if carries_on() %}
    select workspace_id from {{ changed }}

    union

    select workspace_id from workspaces_in_a_new_month

    union

    select workspace_id from workspaces_with_grants_of_the_day
    {% else %}
    {{ no_rows({'workspace_id': dbt.type_string()}) }}
    {% endif %}
)

select * from final
