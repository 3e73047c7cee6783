{# Must be built before int_redemptions_with_terms is built again. #}
with

final as (
    {% if carries_on() %}
    select * from {{ kept('int_redemptions_with_terms') }}
    {% else %}
    {{ no_rows({'redemption_id': dbt.type_string()}) }}
    {% endif %}
)

select * from final
