{% macro generate_schema_name(custom_schema_name, node) -%}
    {#- Schemas are named for their layer, without the target's prefix. -#}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}
