{# How a model becomes a table or a view of DuckDB: in one transaction, what was there goes and the new comes.
   dbt's own way builds beside, renames twice, drops, and asks the catalog about indexes and foreign keys
   in between: a dozen statements per model for what no model here has. To a table that is carried on, rows are
   added directly; dbt's own way puts them into a table beside first and compares the columns of both, which
   are those of the same code. The result says how many rows came and went (`refresh/dbt_build.py`). Columns that the
   meta of a model names in `unpacked` are stored as they are: to pack the ids of ten million bills, no two of them
   alike, takes more time than to write all other columns. A mart is stored in the order of its key, since a release
   is a copy of it; a model whose meta says `is_in_order` puts its rows in order itself. #}

{% materialization table, adapter='duckdb' %}
    {{ return(replaced('table')) }}
{% endmaterialization %}


{% materialization view, adapter='duckdb' %}
    {{ return(replaced('view')) }}
{% endmaterialization %}


{% materialization incremental, adapter='duckdb' %}
    {%- if should_full_refresh() or load_cached_relation(this) is none -%}
        {{ return(replaced('table')) }}
    {%- endif -%}
    {%- set affected = namespace(rows=0) -%}
    {%- for hook in pre_hooks -%}
        {%- set affected.rows = affected.rows + rows_affected('hook', render(hook.sql)) -%}
    {%- endfor -%}
    {%- set affected.rows = affected.rows + rows_affected('main', 'insert into ' ~ this ~ ' by name (' ~ model.compiled_code ~ ')') -%}
    {% do adapter.commit() %}
    {% do store_raw_result('main', message='OK', code=none, rows_affected=affected.rows) %}
    {{ return({'relations': [this]}) }}
{% endmaterialization %}


{# How many rows a statement added or deleted, which DuckDB says. #}
{% macro rows_affected(name, sql) -%}
    {%- if sql | trim -%}
        {%- call statement(name, fetch_result=True) -%}{{ sql }}{%- endcall -%}
        {{ return(load_result(name).data[0][0]) }}
    {%- endif -%}
    {{ return(0) }}
{%- endmacro %}


{% macro replaced(kind) -%}
    {%- set before = load_cached_relation(this) -%}
    {%- set target = this.incorporate(type=kind) -%}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {% call statement('main') -%}
        {%- if before is not none %}
        drop {{ before.type }} if exists {{ before }};
        {%- endif %}
        {%- if kind == 'view' %}
        {{ get_create_view_as_sql(target, model.compiled_code) }}
        {%- elif config.get('contract').enforced %}
        {{ get_assert_columns_equivalent(model.compiled_code) }}
        create table {{ target }} as
        {{ get_select_subquery(model.compiled_code) }}
        {%- if not config.get('meta').get('is_in_order') %}
        order by {{ config.get('meta')['primary_key'] | join(', ') }}
        {%- endif %}
        {%- elif config.get('meta').get('unpacked') %}
        create table {{ target }} (
            {%- for column in get_column_schema_from_query(model.compiled_code) %}
            {{ column.quoted }} {{ column.dtype }}{{ ' using compression uncompressed' if column.name in config.get('meta')['unpacked'] }}{{ ',' if not loop.last }}
            {%- endfor %}
        );
        insert into {{ target }} by name ({{ model.compiled_code }})
        {%- else %}
        {{ create_table_as(False, target, model.compiled_code) }}
        {%- endif %}
    {%- endcall %}
    {% do adapter.commit() %}
    {{ return({'relations': [target]}) }}
{%- endmacro %}
