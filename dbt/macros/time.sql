{# Time of the calculation (R0): the as-of date is an input, and an event counts if it happened before
   the end of that day. #}

{% macro as_of_date() -%}
    cast('{{ var("as_of_date") }}' as date)
{%- endmacro %}


{# The first instant after the as-of date: an event counts if it is before it. #}
{% macro end_of_as_of_date() -%}
    cast('{{ (modules.datetime.date.fromisoformat(var("as_of_date")) + modules.datetime.timedelta(days=1)).isoformat() }} 00:00:00' as timestamp)
{%- endmacro %}


{# Whole months from the month of one day to the month of another. #}
{% macro calendar_months_between(first_day, last_day) -%}
    cast(
        (extract(year from {{ last_day }}) - extract(year from {{ first_day }})) * 12
        + extract(month from {{ last_day }}) - extract(month from {{ first_day }})
        as bigint
    )
{%- endmacro %}


{# Months after an instant; none where that is after the year 9999, which nobody lives to see and not every
   reader can hold. #}
{% macro months_after(instant, months) -%}
    {%- set moved = add_months(instant, months) -%}
    case when extract(year from {{ moved }}) <= 9999 then {{ moved }} end
{%- endmacro %}
