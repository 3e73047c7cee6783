{# When a redemption ends, and the months its run rate counts. #}

{# R3: the end a redemption has by its own terms, before revocation and lost eligibility. #}
{% macro natural_end(started_at, ends_at, coupons) -%}
    coalesce(
        {{ ends_at }},
        {{ months_after(started_at, coupons ~ '.duration_months') }},
        case
            when {{ coupons }}.discount_type = 'credit'
                then {{ months_after(
                    started_at,
                    coupons ~ '.credit_period_months * ' ~ coupons ~ '.credit_max_periods'
                ) }}
        end
    )
{%- endmacro %}


{# R12: the first of the last three calendar months that had ended by the end of the as-of date. #}
{% macro three_months_before_end() -%}
    cast({{ add_months('cast(' ~ month_of(end_of_as_of_date()) ~ ' as timestamp)', '-3') }} as date)
{%- endmacro %}
