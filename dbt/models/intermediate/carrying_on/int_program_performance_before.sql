{# Must be built before fct_program_performance_monthly is built again. #}
with

final as (
    {% if keeps_workspaces() %}
    select * from {{ kept('fct_program_performance_monthly') }}
    {% else %}
    {{ no_rows({'program': dbt.type_string()}) }}
    {% endif %}
)

select * from final
