{# Carrying on from the previous build. The variable `kept` says what that build knew: the last delivery and
   the as-of date. Models of materialization `incremental` then hold the rows of that build, and only what can
   have changed is recalculated; without the variable, everything is calculated. Incremental are:

   - typed rows, by delivery: a row once typed does not change,
   - the fates of records delivered more than once, by record,
   - what is calculated per invoice, by `int_invoices_recalculated`: new and changed invoices, the invoices
     after them where the workspace has uses or credit that are used up in the order of invoices, and all
     invoices of a workspace in which a redemption or its terms changed. Earlier invoices are not recalculated;
     their uses and draws enter as totals,
   - what depends on nothing outside a workspace: the lines of its bills by `int_workspaces_touched`, its expected
     bills by `int_workspaces_changed`, and its credit, months and redemptions by `int_workspaces_recalculated`. The
     last has all workspaces in which anything changed, and those in which the as-of date has passed an instant or
     the end of a month on which rows depend. A model that depends on another such instant has to add it there.

   What was billed and what programs gave is summed again for the months of `int_months_recalculated`, and taken over
   for all others.

   Before it adds rows, each of these models deletes those to recalculate. All other models are calculated whole,
   unless their sources, their SQL and the as-of date that it names are those of the previous build: such models
   are not built at all (`refresh/left_alone.py`). Spark always starts from nothing. #}

{% macro carries_on() -%}
    {{ return(var('kept', none) is not none) }}
{%- endmacro %}


{# The first instant at which the changed terms of a question hold, none where they hold for the whole past. Bills
   issued before it stay as the build before left them. #}
{% macro terms_hold_from() -%}
    {%- set day = var('terms_hold_from', none) -%}
    {%- if day is not none and carries_on() -%}
        {{ return(first_instant_after((modules.datetime.date.fromisoformat(day) - modules.datetime.timedelta(days=1)).isoformat())) }}
    {%- endif -%}
    {{ return(none) }}
{%- endmacro %}


{# A model as the previous build left it. This is no dependency for dbt: the caller must run before that model. #}
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


{# No rows, with these columns: the content of a model that is used only in a build that carries on. #}
{% macro no_rows(columns) -%}
    select
        {%- for name, type in columns.items() %}
        cast(null as {{ type }}) as {{ name }}{{ ',' if not loop.last }}
        {%- endfor %}

    where false
{%- endmacro %}


{# The rows of a relation that are recalculated: all rows unless a build carries on. Where all recalculated bills are
   expected ones, which is the rule on a day without deliveries, DuckDB looks up the ids of expected bills only, and
   reads no other column of the rest. #}
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


{# Delete the rows of recalculated invoices, before they are added again. A model that has no expected bills, of which
   there are many more, says so. #}
{% macro forget_recalculated(relation, which=none) -%}
    {%- set key = 'invoice_id' if which else 'invoice_id, is_expected' -%}
    {%- if carries_on() -%}
        delete from {{ relation }} where ({{ key }}) in (
            select {{ key }} from {{ ref('int_invoices_recalculated') }} where {{ which or 'true' }}
        )
    {%- endif -%}
{%- endmacro %}


{# Whether a model keeps the rows of workspaces. A question has the rows of the workspaces it concerns, and calculates
   all of these. #}
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


{# Delete the rows of recalculated workspaces, before they are added again. #}
{% macro forget_workspaces(relation, workspaces='int_workspaces_recalculated') -%}
    {%- if carries_on() -%}
        delete from {{ relation }} where workspace_id in (select workspace_id from {{ ref(workspaces) }})
    {%- endif -%}
{%- endmacro %}


{# Delete the rows of recalculated months, before they are added again. #}
{% macro forget_months(relation, month) -%}
    {%- if carries_on() -%}
        delete from {{ relation }} where {{ month }} in (select billing_month from {{ ref('int_months_recalculated') }})
    {%- endif -%}
{%- endmacro %}


{# Delete the rows of received invoices, before they are added again. #}
{% macro forget_received(relation) -%}
    {%- if carries_on() -%}
        delete from {{ relation }} where invoice_id in (select invoice_id from {{ ref('int_invoices_received') }})
    {%- endif -%}
{%- endmacro %}


{# Delete the fates of records of which another row has arrived, before they are added again. #}
{% macro forget_fates(relation) -%}
    {%- if carries_on() -%}
        delete from {{ relation }} where
        {%- for feed in feed_names() %}
        {{ 'or ' if not loop.first }}(feed = '{{ feed }}' and record_id in (select {{ record_id(feed) }} from {{ ref('base_billing__' ~ feed) }} where {{ came_since() }}))
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}


{# A model that is another one as the previous build left it, which is built anew after it: in a build that carries on,
   the table of the other one takes the name of this one, instead of being copied. The model's meta names the other one
   in `takes_over`. #}
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
