{# Read before int_bills_expected is made again. #}
with

final as (
    {% if carries_on() %}
    select invoice_id from {{ kept('int_bills_expected') }}
    {% else %}
    {{ no_rows({'invoice_id': dbt.type_string()}) }}
    {% endif %}
)

select * from final
