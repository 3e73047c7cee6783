{#- Must be built before int_bills_expected deletes the rows to recalculate. -#}
{%- set changed = ref('int_workspaces_changed') %}
with

final as (
    {% if carries_on() %}
    select invoice_id

    from {{ kept('int_bills_expected') }}

    where workspace_id in (select workspace_id from {{ changed }})
    {% else %}
    {{ no_rows({'invoice_id': dbt.type_string()}) }}
    {% endif %}
)

select * from final
