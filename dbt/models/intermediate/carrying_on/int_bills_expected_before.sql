{# Must be built before int_bills_expected is built again. #}
with

final as (
    {% if carries_on() %}
    select * from {{ kept('int_bills_expected') }}
    {% else %}
    {{ no_rows({'invoice_id': dbt.type_string()}) }}
    {% endif %}
)

select * from final
