{# Carrying on from the build before. The variable `kept` says what that build knew: the last delivery and
   the as-of date. Then models of materialization `incremental` hold its rows, and only what can have
   changed is calculated anew; without the variable everything is. What is incremental here:

   - typed rows, by delivery: a row once typed stays as it is,
   - the fates of records delivered more than once, by record,
   - what is calculated per invoice, by `int_invoices_recalculated`: invoices that came or changed, those
     after them where the workspace has what is used up in their order, and all of a workspace whose
     redemptions or their terms changed. What came before is as it was, and enters as uses counted and
     credit drawn.

   Each forgets, before it adds, what is calculated anew. All else is calculated whole every time. Spark
   always starts from nothing. #}

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


{# A model as the build before left it. No dependency: who asks must run before the model does. #}
{% macro kept(model) -%}
    {%- if execute -%}
        {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.name == model -%}
            {{ return(api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias)) }}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}


{# Whether a row came after the build before. #}
{% macro came_since() -%}
    delivery_sequence > {{ var('kept').delivery_sequence }}
{%- endmacro %}


{# The first instant after the as-of date of the build before. #}
{% macro kept_end_of_as_of_date() -%}
    {{ first_instant_after(var('kept').as_of_date) }}
{%- endmacro %}


{# What a model that is only asked where a build carries on holds otherwise: no row of these columns. #}
{% macro no_rows(columns) -%}
    select
        {%- for name, type in columns.items() %}
        cast(null as {{ type }}) as {{ name }}{{ ',' if not loop.last }}
        {%- endfor %}

    where false
{%- endmacro %}


{# The rows of a relation that are calculated again: all of them unless a build carries on. #}
{% macro recalculated(relation) -%}
    {%- set again = ref('int_invoices_recalculated') -%}
    {%- if carries_on() -%}
    (select * from {{ relation }} where invoice_id in (select invoice_id from {{ again }}))
    {%- else -%}
    {{ relation }}
    {%- endif -%}
{%- endmacro %}


{# The counted invoices that are calculated anew, which are all of them unless a build carries on. #}
{% macro invoices_to_calculate() -%}
    {%- set all_invoices = ref('int_invoices_counted') -%}
    {%- set some_invoices = ref('int_invoices_counted_anew') -%}
    {{ some_invoices if carries_on() else all_invoices }}
{%- endmacro %}


{# Before adding what is calculated anew per invoice. #}
{% macro forget_recalculated(relation) -%}
    {%- if carries_on() -%}
        delete from {{ relation }} where invoice_id in (select invoice_id from {{ ref('int_invoices_recalculated') }})
    {%- endif -%}
{%- endmacro %}


{# Before adding the fates of records of which another row came. #}
{% macro forget_fates(relation) -%}
    {%- if carries_on() -%}
        delete from {{ relation }} where
        {%- for feed in feed_names() %}
        {{ 'or ' if not loop.first }}(feed = '{{ feed }}' and record_id in (select {{ record_id(feed) }} from {{ ref('base_billing__' ~ feed) }} where {{ came_since() }}))
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}
