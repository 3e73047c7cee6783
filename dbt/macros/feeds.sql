{# From the columns a feed declares in the source file to typed rows with reasons for rejection. #}

{# The feeds, in the order of the contract. #}
{% macro feed_names() -%}
    {{ return(['workspaces', 'coupons', 'redemptions', 'invoices', 'credit_notes', 'budgets']) }}
{%- endmacro %}


{# The declared columns of a feed, in order: name and meta. Empty while dbt is still parsing. #}
{% macro feed_columns(feed) -%}
    {%- set columns = [] -%}
    {%- if execute -%}
        {%- for node in graph.sources.values() if node.source_name == 'billing' and node.name == feed -%}
            {%- for column in node.columns.values() -%}
                {%- do columns.append(dict(column.config.meta, name=column.name)) -%}
            {%- endfor -%}
        {%- endfor -%}
        {%- if not columns -%}
            {{ exceptions.raise_compiler_error('No feed named ' ~ feed ~ ' in the source file.') }}
        {%- endif -%}
    {%- endif -%}
    {{ return(columns) }}
{%- endmacro %}


{# The name a column has once it is typed: amounts are minor units, percentages ten-thousandths. #}
{% macro typed_name(column) -%}
    {%- if column.type == 'amount' -%}
        {{ return(column.name | replace('_amount', '') ~ '_minor') }}
    {%- elif column.type == 'decimal' -%}
        {{ return(column.name ~ '_e' ~ column.places) }}
    {%- endif -%}
    {{ return(column.name) }}
{%- endmacro %}


{% macro typed_names(feed) -%}
    {%- set names = [] -%}
    {%- for column in feed_columns(feed) -%}
        {%- do names.append(typed_name(column)) -%}
    {%- endfor -%}
    {{ return(names) }}
{%- endmacro %}


{# Where a row being typed has a column's text as delivered: beside what it is typed to, where that can
   lose it. #}
{% macro delivered_text(column) -%}
    {{ return(column.name if column.type in ('id', 'text', 'enum', 'currency') else column.name ~ '_text') }}
{%- endmacro %}


{# How many digits an amount may have before the point: one more where its column says so, since it is a
   sum of others. So no sum or product of one row leaves its type. #}
{% macro amount_digits(column) -%}
    {{ return(column.digits | default(13)) }}
{%- endmacro %}


{# What a column's text must look like, and what it then is. #}
{% macro typed_value(column) -%}
    {%- set value = 'delivered.' ~ column.name -%}
    {%- if column.type in ('id', 'text', 'enum', 'currency') -%}
        {{ value }}
    {%- elif column.type == 'boolean' -%}
        case {{ value }} when 'true' then true when 'false' then false end
    {%- elif column.type == 'whole' -%}
        case when {{ matches(value, '-?[0-9]{1,18}') }} then cast({{ value }} as bigint) end
    {%- elif column.type == 'decimal' -%}
        case
            when {{ matches(value, '-?[0-9]{1,9}([.][0-9]{1,' ~ column.places ~ '})?') }}
                then cast(cast({{ value }} as decimal(18, {{ column.places }})) * {{ 10 ** column.places }} as bigint)
        end
    {%- elif column.type == 'amount' -%}
        {%- set digits = amount_digits(column) -%}
        case
            when currencies.exponent = 0
                then case when {{ matches(value, '-?[0-9]{1,' ~ digits ~ '}') }} then cast({{ value }} as bigint) end
            when {{ matches(value, '-?[0-9]{1,' ~ digits ~ '}([.][0-9]{1,2})?') }}
                then cast(cast({{ value }} as decimal(18, 2)) * 100 as bigint)
        end
    {%- elif column.type == 'date' -%}
        case when {{ matches(value, '[0-9]{4}-[0-9]{2}-[0-9]{2}') }} then try_cast({{ value }} as date) end
    {%- elif column.type == 'instant' -%}
        {#- No clock is more than fourteen hours off; beyond, each engine draws a line of its own. -#}
        case
            when {{ matches(
                value,
                '[0-9]{4}-[0-9]{2}-[0-9]{2}([T ]([01][0-9]|2[0-3]):[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?(Z|[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?)?)?'
            ) }}
                then {{ try_instant(
                    "case when length(" ~ value ~ ") > 10 and substring(" ~ value ~ ", 17, 1) <> ':'"
                    ~ " then concat(substring(" ~ value ~ ", 1, 16), ':00', substring(" ~ value ~ ", 17))"
                    ~ " else " ~ value ~ " end"
                ) }}
        end
    {%- else -%}
        {{ exceptions.raise_compiler_error('Column type ' ~ column.type ~ ' of ' ~ column.name ~ ' is not known.') }}
    {%- endif -%}
{%- endmacro %}


{# A delivered text as a rejected row shows it. A quote that is not closed can put the rest of a row, and
   of the next, into one value, personal data too; the line break or other control character tells. #}
{% macro shown_text(text) -%}
    {{ return(
        "case when " ~ has_control_characters(text) ~ " then '(not shown: it has control characters)' else "
        ~ text ~ " end"
    ) }}
{%- endmacro %}


{# What is said of a text that is not what its column must be. #}
{% macro expectation_of(column) -%}
    {%- set sentences = {
        'boolean': 'true or false',
        'whole': 'a whole number of at most 18 digits',
        'decimal': 'a decimal with at most 9 digits before the point and ' ~ column.places ~ ' after it',
        'date': 'a date YYYY-MM-DD',
        'instant': 'an ISO 8601 instant',
        'amount': 'an amount like 120.00 with at most ' ~ amount_digits(column) ~ ' digits before the point and no more places than its currency',
    } -%}
    {{ return(sentences[column.type]) }}
{%- endmacro %}


{# The reasons to reject a row for one column: pairs of condition and sentence, over typed
   rows with the text as delivered. #}
{% macro column_rejections(column) -%}
    {%- set typed = typed_name(column) -%}
    {%- set rejections = [] -%}
    {%- set text = delivered_text(column) -%}
    {%- if text != typed -%}
        {#- Of an unsupported currency nobody here knows what its amounts look like. -#}
        {%- set judgeable = ' and coalesce(exponent, 2) in (0, 2)' if column.type == 'amount' else '' -%}
        {%- do rejections.append((text ~ ' is not null and ' ~ typed ~ ' is null' ~ judgeable, 'is not ' ~ expectation_of(column))) -%}
    {%- endif -%}
    {%- if column.required -%}
        {%- do rejections.append((text ~ ' is null', 'is missing')) -%}
    {%- endif -%}
    {%- if column.type == 'date' -%}
        {%- do rejections.append((typed ~ " < cast('0001-01-01' as date)", 'is before the year 1')) -%}
    {%- elif column.type == 'instant' -%}
        {#- In UTC: an offset can move one over either end. -#}
        {%- do rejections.append((typed ~ " < cast('0001-01-01 00:00:00' as timestamp)", 'is before the year 1 in UTC')) -%}
        {%- do rejections.append((typed ~ " > cast('9999-12-31 23:59:59.999999' as timestamp)", 'is after the year 9999 in UTC')) -%}
    {%- elif column.type == 'id' -%}
        {%- do rejections.append(('length(' ~ text ~ ') > 200', 'is longer than 200 characters')) -%}
        {%- do rejections.append((has_control_characters(text), 'has control characters')) -%}
    {%- elif column.type == 'enum' -%}
        {%- do rejections.append((text ~ " not in ('" ~ column['values'] | join("', '") ~ "')", 'is not one of ' ~ column['values'] | join(', '))) -%}
    {%- elif column.type == 'currency' -%}
        {%- do rejections.append((text ~ ' is not null and exponent is null', 'is not an ISO 4217 currency')) -%}
        {%- do rejections.append((text ~ ' is not null and exponent not in (0, 2)', 'is not supported: only currencies with 0 or 2 decimal places are')) -%}
    {%- endif -%}
    {%- if column.minimum is defined -%}
        {%- do rejections.append((typed ~ ' < ' ~ column.minimum, 'is below ' ~ column.minimum)) -%}
    {%- endif -%}
    {%- if column.exclusive_minimum is defined -%}
        {%- do rejections.append((typed ~ ' <= ' ~ column.exclusive_minimum, 'is not above ' ~ column.exclusive_minimum)) -%}
    {%- endif -%}
    {%- if column.maximum is defined -%}
        {%- set factor = 10 ** column.places if column.type == 'decimal' else 1 -%}
        {%- do rejections.append((typed ~ ' > ' ~ column.maximum * factor, 'is above ' ~ column.maximum)) -%}
    {%- endif -%}
    {{ return(rejections) }}
{%- endmacro %}


{# Every delivered row of a feed, typed, with the reasons to reject it and the row as delivered without
   personal data (both null where there are none).
   row_rejections are the feed's rules about several columns: pairs of condition and sentence.
   currencies is the relation of ISO 4217 currencies, for a feed with amounts. #}
{% macro typed_rows(feed, row_rejections, currencies=none) -%}
    {%- set columns = feed_columns(feed) -%}

delivered as (

    select
        delivery_sequence,
        row_number
        {%- for column in columns %},
        {{ column.name }}
        {%- endfor %}

    from {{ source('billing', feed) }}
    {% if carries_on() %}
    where {{ came_since() }}
    {% endif %}
),
{% if currencies %}
currencies as (

    select
        currency,
        exponent

    from {{ currencies }}

),
{% endif %}
typed as (

    select
        delivered.delivery_sequence,
        delivered.row_number
        {%- if currencies %},
        currencies.exponent
        {%- endif %}
        {%- for column in columns %}
        {%- if delivered_text(column) != typed_name(column) %},
        delivered.{{ column.name }} as {{ delivered_text(column) }}
        {%- endif %},
        {{ typed_value(column) }} as {{ typed_name(column) }}
        {%- endfor %}

    from delivered
    {% if currencies %}
    left join currencies
        on delivered.currency = currencies.currency
    {% endif %}
),

judged as (

    select
        *,
{#- Nearly every row is as it should be: the sentences are put together only where one is needed. #}
        {%- set rejections = [] %}
        {%- for column in columns %}
        {%- for condition, sentence in column_rejections(column) %}
        {%- do rejections.append((condition, column.name ~ ' ' ~ sentence)) %}
        {%- endfor %}
        {%- endfor %}
        {%- do rejections.extend(row_rejections) %}
        case
            when
                {%- for condition, sentence in rejections %}
                {{ 'or ' if not loop.first }}({{ condition }})
                {%- endfor %}
                then concat_ws(
                    '; '
                    {%- for condition, sentence in rejections %},
                    case when {{ condition }} then '{{ sentence }}' end
                    {%- endfor %}
                )
        end as rejection_reasons

    from typed

),

recorded as (

    select
        delivery_sequence,
        row_number
        {%- for column in columns %},
        {% if column.default is defined -%}
        coalesce({{ typed_name(column) }}, {{ ("'" ~ column.default ~ "'") if column.type == 'enum' else column.default }}) as {{ typed_name(column) }}
        {%- else -%}
        {{ typed_name(column) }}
        {%- endif %}
        {%- endfor %}
        {%- if currencies %},
        cast(case exponent when 0 then 1 when 2 then 100 end as bigint) as minor_per_major
        {%- endif %},
        rejection_reasons,
        {%- set delivered_texts = {} %}
        {%- for column in columns if not column.personal %}
        {%- do delivered_texts.update({column.name: shown_text('judged.' ~ delivered_text(column))}) %}
        {%- endfor %}
        case when rejection_reasons is not null then {{ json_record(delivered_texts) }} end as rejected_record

    from judged

)
{%- endmacro %}
