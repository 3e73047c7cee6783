{#- Must be built before int_bills_expected and int_redemption_invoices_covered delete the rows to recalculate. -#}
{%- set changed = ref('int_workspaces_changed') %}
with

final as (
    {% if terms_hold_from() -%}
    select invoice_id

    from {{ kept('int_bills_expected') }}

    where workspace_id in (select workspace_id from {{ changed }})
    {%- elif carries_on() -%}
    -- Only covered bills: the others have no row in the models that are calculated by invoice.
    select distinct invoice_id

    from {{ kept('int_redemption_invoices_covered') }}

    where
        is_expected
        and workspace_id in (select workspace_id from {{ changed }})
    {%- else -%}
    {{ no_rows({'invoice_id': dbt.type_string()}) }}
    {%- endif %}

)

select * from final
