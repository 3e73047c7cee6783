{# Must be built before int_invoices_credited is built again. #}
with

final as (
    {% if carries_on() %}
    select
        invoice_id,
        credited_minor

    from {{ kept('int_invoices_credited') }}
    {% else %}
    {{ no_rows({'invoice_id': dbt.type_string(), 'credited_minor': 'bigint'}) }}
    {% endif %}
)

select * from final
