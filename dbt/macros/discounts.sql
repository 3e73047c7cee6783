{# What a discount takes from a bill. #}

{# R6: what one percent-off or dollar-off takes from what is left. #}
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
