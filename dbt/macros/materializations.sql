{# How a model becomes a table or a view in DuckDB: one transaction drops the old relation and creates the new one.
   dbt's own materializations build a second relation, rename twice, drop, and query the catalog about indexes and
   foreign keys in between: a dozen statements per model for features that no model here uses. Rows are inserted
   directly into an incremental table; dbt's own materialization writes them to a second table first and compares the
   columns of both, which come from the same code. The result reports the number of rows inserted and deleted
   (`refresh/dbt_build.py`). Columns listed in `unpacked` in the meta of a model are stored uncompressed: compressing
   the ids of ten million bills, all of them different, takes longer than writing all other columns. A mart is sorted by
   its key, because a release is a copy of it; a model with `is_in_order` in its meta sorts its rows itself. #}

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


{# Run a statement, if there is one, and return how many rows it inserted or deleted, as DuckDB reports. #}
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
