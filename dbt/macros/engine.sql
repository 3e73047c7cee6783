{# SQL that differs between DuckDB and Spark. Models call these macros, so the same model runs on both. #}

{# The rows of a feed as arrival stores them. In DuckDB's schema `landed` (`arrival/warehouse.py`), rows of Parquet
   files whose columns have the contract's types hold typed values; Spark gets all rows as text. #}
{% macro landed(feed) -%}
    {{ return(adapter.dispatch('landed')(feed)) }}
{%- endmacro %}

{% macro default__landed(feed) -%}
    {{ return(source('billing', feed).incorporate(path={'schema': 'landed'})) }}
{%- endmacro %}

{% macro spark__landed(feed) -%}
    {{ return(source('billing', feed)) }}
{%- endmacro %}


{# Whether delivered rows can hold typed values instead of text. #}
{% macro lands_values() -%}
    {{ return(adapter.dispatch('lands_values')()) }}
{%- endmacro %}

{% macro default__lands_values() -%}
    {{ return(true) }}
{%- endmacro %}

{% macro spark__lands_values() -%}
    {{ return(false) }}
{%- endmacro %}


{% macro whole_quotient(numerator, denominator) -%}
    {{ return(adapter.dispatch('whole_quotient')(numerator, denominator)) }}
{%- endmacro %}

{% macro default__whole_quotient(numerator, denominator) -%}
    cast(({{ numerator }}) // ({{ denominator }}) as bigint)
{%- endmacro %}

{% macro spark__whole_quotient(numerator, denominator) -%}
    cast(({{ numerator }}) div ({{ denominator }}) as bigint)
{%- endmacro %}


{# A whole number as text, with commas between thousands. #}
{% macro with_thousands_separated(number) -%}
    {{ return(adapter.dispatch('with_thousands_separated')(number)) }}
{%- endmacro %}

{% macro default__with_thousands_separated(number) -%}
    format('{:,}', cast({{ number }} as bigint))
{%- endmacro %}

{% macro spark__with_thousands_separated(number) -%}
    format_number(cast({{ number }} as bigint), 0)
{%- endmacro %}


{% macro wide_integer() -%}
    {{ return(adapter.dispatch('wide_integer')()) }}
{%- endmacro %}

{% macro default__wide_integer() -%} hugeint {%- endmacro %}

{% macro spark__wide_integer() -%} decimal(38, 0) {%- endmacro %}


{% macro add_months(instant, months) -%}
    {{ return(adapter.dispatch('add_months')(instant, months)) }}
{%- endmacro %}

{% macro default__add_months(instant, months) -%}
    ({{ instant }} + to_months(cast({{ months }} as integer)))
{%- endmacro %}

{% macro spark__add_months(instant, months) -%}
    ({{ instant }} + make_ym_interval(0, cast({{ months }} as int)))
{%- endmacro %}


{# An instant some days after another. #}
{% macro days_after(instant, days) -%}
    {{ return(adapter.dispatch('days_after')(instant, days)) }}
{%- endmacro %}

{% macro default__days_after(instant, days) -%}
    ({{ instant }} + to_days(cast({{ days }} as integer)))
{%- endmacro %}

{% macro spark__days_after(instant, days) -%}
    ({{ instant }} + make_dt_interval(cast({{ days }} as int)))
{%- endmacro %}


{% macro days_between(first_day, last_day) -%}
    {{ return(adapter.dispatch('days_between')(first_day, last_day)) }}
{%- endmacro %}

{% macro default__days_between(first_day, last_day) -%}
    cast({{ last_day }} - {{ first_day }} as bigint)
{%- endmacro %}

{% macro spark__days_between(first_day, last_day) -%}
    cast(datediff({{ last_day }}, {{ first_day }}) as bigint)
{%- endmacro %}


{# The first day of the month of a day, or of an instant on the UTC calendar. #}
{% macro month_of_day(day) -%}
    {{ return(adapter.dispatch('month_of_day')(day)) }}
{%- endmacro %}

{% macro default__month_of_day(day) -%}
    cast(date_trunc('month', {{ day }}) as date)
{%- endmacro %}

{% macro spark__month_of_day(day) -%}
    trunc({{ day }}, 'MM')
{%- endmacro %}


{# A UTC timestamp as local time in a time zone. #}
{% macro time_in_zone(instant, zone) -%}
    {{ return(adapter.dispatch('time_in_zone')(instant, zone)) }}
{%- endmacro %}

{% macro default__time_in_zone(instant, zone) -%}
    timezone('{{ zone }}', timezone('UTC', {{ instant }}))
{%- endmacro %}

{% macro spark__time_in_zone(instant, zone) -%}
    convert_timezone('UTC', '{{ zone }}', {{ instant }})
{%- endmacro %}


{# One row for every whole number from first to last, no row if last is less than first; for use in a select list. #}
{% macro each_whole_number(first, last) -%}
    {{ return(adapter.dispatch('each_whole_number')(first, last)) }}
{%- endmacro %}

{% macro default__each_whole_number(first, last) -%}
    unnest(generate_series(cast({{ first }} as bigint), cast({{ last }} as bigint)))
{%- endmacro %}

{% macro spark__each_whole_number(first, last) -%}
    explode(
        case
            when {{ last }} >= {{ first }}
                then sequence(cast({{ first }} as bigint), cast({{ last }} as bigint))
        end
    )
{%- endmacro %}


{# Whether the whole text matches the pattern; null only for a null text. #}
{% macro matches(value, pattern) -%}
    {{ return(adapter.dispatch('matches')(value, pattern)) }}
{%- endmacro %}

{% macro default__matches(value, pattern) -%}
    regexp_full_match({{ value }}, '{{ pattern }}')
{%- endmacro %}

{% macro spark__matches(value, pattern) -%}
    regexp_like({{ value }}, r'\A(?:{{ pattern }})\z')
{%- endmacro %}


{# Whether a text has control characters, including those beyond ASCII. #}
{% macro has_control_characters(value) -%}
    {{ return(adapter.dispatch('has_control_characters')(value)) }}
{%- endmacro %}

{% macro default__has_control_characters(value) -%}
    regexp_matches({{ value }}, '\p{Cc}')
{%- endmacro %}

{% macro spark__has_control_characters(value) -%}
    regexp_like({{ value }}, r'\p{Cc}')
{%- endmacro %}


{# An ISO 8601 instant as a UTC timestamp; null for text that is not an instant. #}
{% macro try_instant(value) -%}
    {{ return(adapter.dispatch('try_instant')(value)) }}
{%- endmacro %}

{# An instant in UTC is cast without a time zone conversion, which takes DuckDB four times as long. #}
{% macro default__try_instant(value) -%}
    case
        when suffix({{ value }}, 'Z') then try_cast({{ value }} as timestamp)
        else cast(timezone('UTC', try_cast({{ value }} as timestamptz)) as timestamp)
    end
{%- endmacro %}

{% macro spark__try_instant(value) -%}
    cast(try_cast({{ value }} as timestamp_ltz) as timestamp_ntz)
{%- endmacro %}


{# A time without an offset as a local timestamp; null for text that is not a time. #}
{% macro try_local_time(value) -%}
    {{ return(adapter.dispatch('try_local_time')(value)) }}
{%- endmacro %}

{% macro default__try_local_time(value) -%}
    try_cast({{ value }} as timestamp)
{%- endmacro %}

{% macro spark__try_local_time(value) -%}
    try_cast({{ value }} as timestamp_ntz)
{%- endmacro %}


{# A JSON object as text, from values by name. By default, Spark truncates instants to milliseconds. #}
{% macro json_record(values) -%}
    {{ return(adapter.dispatch('json_record')(values)) }}
{%- endmacro %}

{% macro default__json_record(values) -%}
    cast(json_object({% for name, value in values.items() %}'{{ name }}', {{ value }}{{ ', ' if not loop.last }}{% endfor %}) as varchar)
{%- endmacro %}

{% macro spark__json_record(values) -%}
    to_json(named_struct({% for name, value in values.items() %}'{{ name }}', {{ value }}{{ ', ' if not loop.last }}{% endfor %}), map('ignoreNullFields', 'false', 'timestampNTZFormat', "yyyy-MM-dd'T'HH:mm:ss.SSSSSS"))
{%- endmacro %}


{# All columns except those named. #}
{% macro all_columns_but(columns) -%}
    {{ return(adapter.dispatch('all_columns_but')(columns)) }}
{%- endmacro %}

{% macro default__all_columns_but(columns) -%}
    * exclude ({{ columns | join(', ') }})
{%- endmacro %}

{% macro spark__all_columns_but(columns) -%}
    * except ({{ columns | join(', ') }})
{%- endmacro %}


{# The order by clause of a mart whose meta has `is_in_order`, for a build from nothing. Rows that a later build adds
   are stored after the others in any case, and tables on Spark have no order. #}
{% macro stored_in_order_of(columns) -%}
    {{ return(adapter.dispatch('stored_in_order_of')(columns)) }}
{%- endmacro %}

{% macro default__stored_in_order_of(columns) -%}
    {%- if not carries_on() -%} order by {{ columns }} {%- endif -%}
{%- endmacro %}

{% macro spark__stored_in_order_of(columns) -%}{%- endmacro %}
