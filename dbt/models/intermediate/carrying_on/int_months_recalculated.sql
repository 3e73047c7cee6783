{#- Must be built before fct_discounted_charges deletes the rows to recalculate. -#}
{%- set again = ref('int_invoices_recalculated') -%}
{%- set invoices = ref('int_counted_invoices_recalculated') %}
with

final as (
    {% if keeps_workspaces() %}
    select billing_month

    from {{ kept('fct_discounted_charges') }}

    where invoice_id in (select invoice_id from {{ again }} where not is_expected)

    union

    select billing_month from {{ invoices }}
    {% else %}
    {{ no_rows({'billing_month': 'date'}) }}
    {% endif %}
)

select * from final
