{# Time in the calculation (R0): the as-of date is an input, and an event counts if it happened before the end
   of that day. Days and months follow the calendar of the reporting time zone; windows, adding months and the
   periods of bills follow the UTC calendar. #}

{% macro as_of_date() -%}
    cast('{{ var("as_of_date") }}' as date)
{%- endmacro %}


{# The first instant after a day in the reporting time zone; the day is given as text. Because of clock changes, a day
   can begin late or be skipped altogether. Since 1972 every offset has been a multiple of a quarter of an hour, except
   that of Kiritimati until 1979, -10:40. pytz knows no clock change after 2037. A later day therefore ends like the
   same date of the latest year up to 2037 in which it falls on the same weekday: clocks change on a certain weekday of
   a month, except in Gaza, where they follow the moon. #}
{% macro first_instant_after(day) -%}
    {%- set given_day = modules.datetime.date.fromisoformat(day) -%}
    {%- set known = namespace(day=given_day) -%}
    {%- for year in range(2027, 2038) if given_day.year > 2037 -%}
        {%- set same_day = modules.datetime.date(year, given_day.month, 28 if (given_day.month, given_day.day) == (2, 29) else given_day.day) -%}
        {%- if same_day.weekday() == given_day.weekday() -%}
            {%- set known.day = same_day -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set day = known.day -%}
    {%- set midnight = modules.datetime.datetime(day.year, day.month, day.day) + modules.datetime.timedelta(days=1) -%}
    {%- set first = namespace(instant=midnight) -%}
    {%- if has_reporting_time_zone() -%}
        {%- set zone = modules.pytz.timezone(var('reporting_time_zone')) -%}
        {%- set first.instant = none -%}
        {%- for quarters in range(-60, 168) if first.instant is none -%}
            {%- set instant = midnight + modules.datetime.timedelta(minutes=15 * quarters) -%}
            {%- if first.instant is none and modules.pytz.utc.localize(instant).astimezone(zone).date() > day -%}
                {%- set first.instant = instant -%}
            {%- endif -%}
        {%- endfor -%}
        {%- set quarter = first.instant -%}
        {%- for minutes in [5, 10] -%}
            {%- set instant = quarter - modules.datetime.timedelta(minutes=minutes) -%}
            {%- if modules.pytz.utc.localize(instant).astimezone(zone).date() > day -%}
                {%- set first.instant = instant -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    cast('{{ (first.instant + (given_day - day)).isoformat(' ') }}' as timestamp)
{%- endmacro %}


{# The first instant after the as-of date: events before that instant count. #}
{% macro end_of_as_of_date() -%}
    {{ first_instant_after(var('as_of_date')) }}
{%- endmacro %}


{# R12: the end of the outlook. #}
{% macro horizon() -%}
    {{ add_months(end_of_as_of_date(), '24') }}
{%- endmacro %}


{% macro has_reporting_time_zone() -%}
    {{ return(var('reporting_time_zone') != 'UTC') }}
{%- endmacro %}


{# An instant as local time in the reporting time zone. #}
{% macro local_time(instant) -%}
    {%- if has_reporting_time_zone() -%}
    {{ time_in_zone(instant, var('reporting_time_zone')) }}
    {%- else -%}
    {{ instant }}
    {%- endif -%}
{%- endmacro %}


{# The day of an instant in the reporting time zone; no day is before the year 1. #}
{% macro day_of(instant) -%}
    {%- if has_reporting_time_zone() -%}
    greatest(cast({{ local_time(instant) }} as date), cast('0001-01-01' as date))
    {%- else -%}
    cast({{ instant }} as date)
    {%- endif -%}
{%- endmacro %}


{# The instant at which a day begins in the reporting time zone; midnight UTC if the clocks there skipped midnight. #}
{% macro start_of_day(day) -%}
    {%- set midnight = 'cast(' ~ day ~ ' as timestamp)' -%}
    {%- if has_reporting_time_zone() -%}
    coalesce({{ instant_in_zone(midnight, var('reporting_time_zone')) }}, {{ midnight }})
    {%- else -%}
    {{ midnight }}
    {%- endif -%}
{%- endmacro %}


{# The first day of the month of an instant in the reporting time zone. #}
{% macro month_of(instant) -%}
    {{ month_of_day(day_of(instant) if has_reporting_time_zone() else instant) }}
{%- endmacro %}


{# The first day of the month of the first instant after the as-of date: earlier months have ended, even where the
   reporting time zone leaves out the last day of a month. #}
{% macro month_after_as_of_date() -%}
    {{ month_of(end_of_as_of_date()) }}
{%- endmacro %}


{# Whole months from the month of one day to the month of another. #}
{% macro calendar_months_between(first_day, last_day) -%}
    cast(
        (extract(year from {{ last_day }}) - extract(year from {{ first_day }})) * 12
        + extract(month from {{ last_day }}) - extract(month from {{ first_day }})
        as bigint
    )
{%- endmacro %}


{# The first day of a month, some months later. #}
{% macro month_later(month, months) -%}
    cast({{ add_months('cast(' ~ month ~ ' as timestamp)', months) }} as date)
{%- endmacro %}


{# An instant some months later; null after the year 9999, which not every reader can represent. #}
{% macro months_after(instant, months) -%}
    {%- set moved = add_months(instant, months) -%}
    case when extract(year from {{ moved }}) <= 9999 then {{ moved }} end
{%- endmacro %}


{# R12: the instant some billing intervals after another, in days or in months; months count from that instant. #}
{% macro intervals_after(instant, interval_days, interval_months, intervals) -%}
    case
        when {{ interval_days }} is not null
            then {{ days_after(instant, '(' ~ intervals ~ ') * ' ~ interval_days) }}
        else {{ months_after(instant, '(' ~ intervals ~ ') * ' ~ interval_months) }}
    end
{%- endmacro %}


{# R12: a number of billing intervals, at least as many as fit between two instants. #}
{% macro intervals_until(last_instant, first_instant, interval_days, interval_months) -%}
    case
        when {{ interval_days }} is not null
            then {{ whole_quotient(days_between('cast(' ~ first_instant ~ ' as date)', 'cast(' ~ last_instant ~ ' as date)'), interval_days) }}
        else {{ whole_quotient(calendar_months_between(first_instant, last_instant), interval_months) }}
    end
{%- endmacro %}


{# R12: the instant of an expected bill of a line, over the columns of int_lines_billed. #}
{% macro expected_bill_at(bill_number) -%}
    {{ intervals_after('last_issued_at', 'interval_days', 'interval_months', bill_number) }}
{%- endmacro %}


{# R12: a number of expected bills of a line, at least as many as there are before an instant and at most one more. #}
{% macro expected_bills_until(instant) -%}
    {{ intervals_until(instant, 'last_issued_at', 'interval_days', 'interval_months') }}
{%- endmacro %}


{# R12: a line has ended if its next bill is before this instant. #}
{% macro latest_next_bill(end_of_day) -%}
    {{ days_before(end_of_day, '15') }}
{%- endmacro %}


{% macro days_before(instant, days) -%}
    {{ days_after(instant, '-' ~ days) }}
{%- endmacro %}
