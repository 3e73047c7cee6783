{# Incremental builds, which carry on from the previous build. The variable `kept` holds the last delivery and the
   as-of date of that build. Models materialized as `incremental` then start with the rows of that build, and only
   what can have changed is recalculated. Without the variable, everything is calculated from nothing. Incremental are:

   - typed rows, by delivery: a typed row never changes,
   - the fates of records delivered more than once, by record,
   - what is calculated per invoice, by `int_invoices_recalculated`: new and changed invoices, the invoices after
     them in workspaces whose limited uses or credit are used up in the order of invoices, and all invoices of a
     workspace in which a redemption or its terms changed. Earlier invoices are not recalculated; their uses and
     draws enter as totals,
   - what depends on nothing outside its workspace: lines of bills by `int_workspaces_touched`, expected bills by
     `int_workspaces_changed`, and credit, months and redemptions by `int_workspaces_recalculated`. The last contains
     every workspace in which anything changed, and those in which the as-of date has passed an instant or a month
     end on which rows depend. A model that depends on another such instant must add it there.

   The monthly bridge and program performance are summed again for the months of `int_months_recalculated`; their
   other months are taken over.

   Before it adds rows, each incremental model deletes those to recalculate. Every other model is calculated whole,
   unless its sources, its SQL and the as-of date in it are unchanged since the previous build: such a model is not
   built at all (`refresh/left_alone.py`). Spark always starts from nothing. #}

{% macro carries_on() -%}
    {{ return(var('kept', none) is not none) }}
{%- endmacro %}


{# The first instant at which the changed terms of a what-if hold; none if they hold for the whole past. Bills issued
   earlier stay as the previous build left them. #}
{% macro terms_hold_from() -%}
    {%- set day = var('terms_hold_from', none) -%}
    {%- if day is not none and carries_on() -%}
        {{ return(first_instant_after((modules.datetime.date.fromisoformat(day) - modules.datetime.timedelta(days=1)).isoformat())) }}
    {%- endif -%}
    {{ return(none) }}
{%- endmacro %}


{# The relation of a model, for reading it as the previous build left it. dbt sees no dependency here: the caller must
   be built before that model. #}
{% macro kept(model) -%}
    {%- if execute -%}
        {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.name == model -%}
            {{ return(api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias)) }}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}


{# Whether a row arrived after the previous build. #}
{% macro came_since() -%}
    delivery_sequence > {{ var('kept').delivery_sequence }}
{%- endmacro %}


{# The first instant after the as-of date of the previous build. #}
{% macro kept_end_of_as_of_date() -%}
    {{ first_instant_after(var('kept').as_of_date) }}
{%- endmacro %}


{# The as-of date of the previous build. #}
{% macro kept_as_of_date() -%}
    cast('{{ var("kept").as_of_date }}' as date)
{%- endmacro %}


{# The end of the outlook of the previous build. #}
{% macro kept_horizon() -%}
    {{ add_months(kept_end_of_as_of_date(), '24') }}
{%- endmacro %}


{# An empty result with these columns: what a model that only a build that carries on uses contains in a build from
   nothing. #}
{% macro no_rows(columns) -%}
    select
        {%- for name, type in columns.items() %}
        cast(null as {{ type }}) as {{ name }}{{ ',' if not loop.last }}
        {%- endfor %}

    where false
{%- endmacro %}


{# The rows of a relation that are recalculated: all rows unless a build carries on. On a day without deliveries, all
   recalculated bills are usually expected ones; `is_expected` in the lookup then lets DuckDB look up the ids of
   expected bills only, without reading any other column of the rest. #}
{% macro recalculated(relation) -%}
    {%- set again = ref('int_invoices_recalculated') -%}
    {%- if carries_on() -%}
    (select * from {{ relation }} where (invoice_id, is_expected) in (select invoice_id, is_expected from {{ again }}))
    {%- else -%}
    {{ relation }}
    {%- endif -%}
{%- endmacro %}


{# The counted invoices that are recalculated: all counted invoices unless a build carries on. #}
{% macro invoices_to_calculate() -%}
    {%- set all_invoices = ref('int_invoices_counted') -%}
    {%- set some_invoices = ref('int_counted_invoices_recalculated') -%}
    {{ some_invoices if carries_on() else all_invoices }}
{%- endmacro %}


{# Delete the rows of recalculated invoices before they are added again. A model without expected bills excludes them
   by `which`, because most recalculated bills are expected ones. #}
{% macro forget_recalculated(relation, which=none) -%}
    {%- set key = 'invoice_id' if which else 'invoice_id, is_expected' -%}
    {%- if carries_on() -%}
        delete from {{ relation }} where ({{ key }}) in (
            select {{ key }} from {{ ref('int_invoices_recalculated') }} where {{ which or 'true' }}
        )
    {%- endif -%}
{%- endmacro %}


{# Whether models keep the rows of workspaces that are not recalculated. A what-if contains only the workspaces that it
   concerns, and recalculates them all. #}
{% macro keeps_workspaces() -%}
    {{ return(carries_on() and var('terms_hold_from', none) is none) }}
{%- endmacro %}


{# The rows of a relation that belong to recalculated workspaces: all rows unless a build carries on. #}
{% macro of_recalculated_workspaces(relation, workspaces='int_workspaces_recalculated') -%}
    {%- set again = ref(workspaces) -%}
    {%- if keeps_workspaces() -%}
    (select * from {{ relation }} where workspace_id in (select workspace_id from {{ again }}))
    {%- else -%}
    {{ relation }}
    {%- endif -%}
{%- endmacro %}


{# The rows of a relation that belong to recalculated months: all rows unless a build carries on. #}
{% macro of_recalculated_months(relation) -%}
    {%- set again = ref('int_months_recalculated') -%}
    {%- if keeps_workspaces() -%}
    (select * from {{ relation }} where billing_month in (select billing_month from {{ again }}))
    {%- else -%}
    {{ relation }}
    {%- endif -%}
{%- endmacro %}


{# Delete the rows of recalculated workspaces before they are added again. #}
{% macro forget_workspaces(relation, workspaces='int_workspaces_recalculated') -%}
    {%- if carries_on() -%}
        delete from {{ relation }} where workspace_id in (select workspace_id from {{ ref(workspaces) }})
    {%- endif -%}
{%- endmacro %}


{# Delete the rows of recalculated months before they are added again. #}
{% macro forget_months(relation, month) -%}
    {%- if carries_on() -%}
        delete from {{ relation }} where {{ month }} in (select billing_month from {{ ref('int_months_recalculated') }})
    {%- endif -%}
{%- endmacro %}


{# Delete the rows of received invoices before they are added again. #}
{% macro forget_received(relation) -%}
    {%- if carries_on() -%}
        delete from {{ relation }} where invoice_id in (select invoice_id from {{ ref('int_invoices_received') }})
    {%- endif -%}
{%- endmacro %}


{# Delete the fates of records for which another row has arrived, before they are added again. #}
{% macro forget_fates(relation) -%}
    {%- if carries_on() -%}
        delete from {{ relation }} where
        {%- for feed in feed_names() %}
        {{ 'or ' if not loop.first }}(feed = '{{ feed }}' and record_id in (select {{ record_id(feed) }} from {{ ref('base_billing__' ~ feed) }} where {{ came_since() }}))
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}


{# A model that holds another model's rows as the previous build left them, and runs before that model is rebuilt. In a
   build that carries on, the other model's table is renamed to this one instead of being copied. The meta entry
   `takes_over` names the other model. #}
{% materialization taken_over, adapter='duckdb' %}
    {%- if not keeps_workspaces() -%}
        {{ return(replaced('table')) }}
    {%- endif -%}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {% call statement('main') -%}
        drop table if exists {{ this }};
        alter table {{ kept(model.config.meta.takes_over) }} rename to {{ this.identifier }}
    {%- endcall %}
    {% do adapter.commit() %}
    {{ return({'relations': [this.incorporate(type='table')]}) }}
{% endmaterialization %}
