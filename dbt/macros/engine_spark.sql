{# Where the tables of a build on Spark are stored. DuckDB builds do not call this. #}

{# Register the databases and the raw tables, which exist as Parquet files, in Spark's catalog. #}
{% macro lay_out_databases(storage) -%}
    {%- set root = storage | replace('\\', '\\\\') | replace("'", "\\'") -%}
    {%- set schemas = graph.nodes.values() | selectattr('resource_type', 'in', ['model', 'seed']) | map(attribute='schema') | unique | sort -%}
    {%- for schema in schemas -%}
        {%- do run_query("create database if not exists " ~ schema ~ " location '" ~ root ~ "/tables/" ~ schema ~ "'") -%}
    {%- endfor -%}
    {%- for source in graph.sources.values() -%}
        {%- do run_query("create database if not exists " ~ source.schema) -%}
        {%- do run_query("drop table if exists " ~ source.schema ~ "." ~ source.identifier) -%}
        {%- do run_query(
            "create table " ~ source.schema ~ "." ~ source.identifier
            ~ " using parquet location '" ~ root ~ "/" ~ source.schema ~ "/" ~ source.identifier ~ "'"
        ) -%}
    {%- endfor -%}
{%- endmacro %}
