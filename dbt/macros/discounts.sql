{# The amount that a discount takes off a bill. #}

{# R6: what one percent-off or dollar-off discount takes off the remaining amount. #}
{% macro discount_of(percent_off_e4, amount_off_minor, base_minor) -%}
    cast(
        case
            when {{ percent_off_e4 }} is not null
                then {{ divide_rounded(
                    'cast(' ~ base_minor ~ ' as ' ~ wide_integer() ~ ') * ' ~ percent_off_e4,
                    '1000000'
                ) }}
            else least({{ amount_off_minor }}, {{ base_minor }})
        end as bigint
    )
{%- endmacro %}


{# R6: the greatest number of months that can be added to the start of a period without passing its end, at
   least 1. #}
{% macro months_of_period(period_start, period_end) -%}
    {%- set months = calendar_months_between(period_start, period_end) -%}
    greatest(
        {{ months }}
        - case when {{ month_later(period_start, months) }} > {{ period_end }} then 1 else 0 end,
        1
    )
{%- endmacro %}
