{# Read before int_redemptions_unified is made anew. #}
with

final as (
    {% if carries_on() %}
    select * from {{ kept('int_redemptions_unified') }}
    {% else %}
    select cast(null as {{ dbt.type_string() }}) as redemption_id

    where false
    {% endif %}
)

select * from final
