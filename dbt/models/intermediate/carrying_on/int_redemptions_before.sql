{# Must be built before int_redemptions_with_terms is built again. Spark always starts from nothing. #}
{{ config(
    materialized='taken_over' if target.type == 'duckdb' else 'table',
    meta={'takes_over': 'int_redemptions_with_terms'}
) }}
with

final as (
    {% if carries_on() %}
    select * from {{ kept('int_redemptions_with_terms') }}
    {% else %}
    {{ no_rows({'redemption_id': dbt.type_string()}) }}
    {% endif %}
)

select * from final
