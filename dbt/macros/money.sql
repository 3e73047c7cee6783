{# All rounding and division of the project (R0). Internal amounts are bigint minor units. #}

{# numerator / denominator rounded half away from zero; the denominator is positive. #}
{% macro divide_rounded(numerator, denominator) -%}
    cast(
        sign({{ numerator }})
        * {{ whole_quotient(
            'cast(2 as ' ~ wide_integer() ~ ') * abs(' ~ numerator ~ ') + ' ~ denominator,
            'cast(2 as ' ~ wide_integer() ~ ') * ' ~ denominator
        ) }}
        as bigint
    )
{%- endmacro %}


{# A sum of minor units as bigint; null where there is nothing to sum. #}
{% macro sum_minor(expression) -%}
    cast(sum({{ expression }}) as bigint)
{%- endmacro %}


{# 100 * part / whole with four decimal places; null where the whole is zero. #}
{% macro percent_of(part_minor, whole_minor) -%}
    cast(
        case
            when {{ whole_minor }} <> 0
                then cast(
                    {{ divide_rounded(
                        'cast(1000000 as ' ~ wide_integer() ~ ') * (' ~ part_minor ~ ')',
                        'case when (' ~ whole_minor ~ ') <> 0 then (' ~ whole_minor ~ ') else 1 end'
                    ) }} as decimal(18, 4)
                ) * cast(0.0001 as decimal(5, 4))
        end as decimal(9, 4)
    )
{%- endmacro %}


{# Minor units as the published amount in major units; scale is the currency's minor units per major unit. #}
{% macro published_amount(minor, minor_per_major='minor_per_major') -%}
    cast(
        case
            when {{ minor_per_major }} = 1 then cast({{ minor }} as decimal(18, 2))
            else cast({{ minor }} as decimal(18, 0)) * cast(0.01 as decimal(3, 2))
        end as decimal(18, 2)
    )
{%- endmacro %}


{# A windowed sum of minor units as bigint. #}
{% macro sum_minor_over(expression, window) -%}
    cast(sum({{ expression }}) over ({{ window }}) as bigint)
{%- endmacro %}


{# Minor units as text for people: with the decimal places of the currency and thousands separated. #}
{% macro amount_in_words(minor, minor_per_major='minor_per_major') -%}
    {%- set whole -%} {{ whole_quotient('abs(' ~ minor ~ ')', minor_per_major) }} {%- endset -%}
    case
        when {{ minor }} is not null
            then concat(
                case when {{ minor }} < 0 then '-' else '' end,
                {{ with_thousands_separated(whole) }},
                case
                    when {{ minor_per_major }} = 1 then ''
                    else concat(
                        '.',
                        lpad(cast(abs({{ minor }}) - {{ whole }} * {{ minor_per_major }} as {{ dbt.type_string() }}), 2, '0')
                    )
                end
            )
    end
{%- endmacro %}


{# R8, R9, R13: columns with the expected charge beside the billed one, in minor units, for rows with the list amount,
   discounts, credit, billed amounts and credit notes. #}
{% macro charge_beside_bill() -%}
    list_minor - discount_minor - credit_minor as net_minor,
        list_minor - billed_discount_minor - billed_credit_minor as billed_net_minor,
        list_minor - billed_discount_minor - billed_credit_minor - credited_minor as billed_net_after_notes_minor,
        billed_discount_minor - discount_minor as discount_variance_minor
{%- endmacro %}
