{%- set touched = ref('int_workspaces_touched') -%}
{%- set lines = ref('int_lines_billed') %}
with

{% if carries_on() -%}
-- R12: the expected bills of an unchanged line change only if the as-of date has passed the first of them, ...
workspaces_with_bills_past as (

    select workspace_id

    from {{ kept('int_bills_expected') }}

    where issued_at < {{ end_of_as_of_date() }}

),

-- ... if the next bill has become too late for the line to continue, or if the horizon has passed another bill. That
-- bill is the last of the numbered ones or the one before it.
workspaces_with_other_lines as (

    select workspace_id

    from {{ lines }}

    where
        (
            next_bill_at >= {{ latest_next_bill(kept_end_of_as_of_date()) }}
            and next_bill_at < {{ latest_next_bill(end_of_as_of_date()) }}
        )
        {%- for back in (0, 1) %}
        or (
            {{ expected_bill_at(expected_bills_until(horizon()) ~ ' - ' ~ back) }} >= {{ kept_horizon() }}
            and {{ expected_bill_at(expected_bills_until(horizon()) ~ ' - ' ~ back) }} < {{ horizon() }}
        )
        {%- endfor %}

),

{% endif -%}
final as (
    {% if carries_on() %}
    select
        workspace_id,
        changed_from

    from {{ touched }}

    union all

    (
        select
            workspace_id,
            cast(null as timestamp) as changed_from

        from (
            select workspace_id from workspaces_with_bills_past

            union

            select workspace_id from workspaces_with_other_lines

            except

            select workspace_id from {{ touched }}
        ) as passed
    )
    {% else %}
    {{ no_rows({'workspace_id': dbt.type_string(), 'changed_from': 'timestamp'}) }}
    {% endif %}
)

select * from final
