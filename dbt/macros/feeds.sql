{# Type the rows of a feed by the columns that the source file declares, and give the reasons for rejection. #}

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


{# The name of the typed column: amounts are in minor units, percentages in ten-thousandths. #}
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


{# The column that holds the text as delivered while a row is being typed: a separate one where typing can change or
   lose the text. #}
{% macro delivered_text(column) -%}
    {{ return(column.name if column.type in ('id', 'text', 'enum') else column.name ~ '_text') }}
{%- endmacro %}


{# Whether a column is of a type whose values a Parquet file can hold as values, not text. #}
{% macro has_values(column) -%}
    {{ return(lands_values() and column.type in ('boolean', 'whole', 'decimal', 'amount', 'date', 'instant')) }}
{%- endmacro %}


{# The column that holds the value if a Parquet file delivered it in the column's type: amounts are in hundredths,
   whatever the currency. The text is then null. Only columns with `has_values` have one. #}
{% macro delivered_value(column) -%}
    {{ return(column.name ~ '_value') }}
{%- endmacro %}


{# Whether a column of one of these types was delivered with a value, for a row that is being typed. #}
{% macro is_given(name) -%}
    {{ return('(' ~ name ~ '_text is not null' ~ (' or ' ~ name ~ '_value is not null' if lands_values() else '') ~ ')') }}
{%- endmacro %}

{% macro is_not_given(name) -%}
    {{ return('(' ~ name ~ '_text is null' ~ (' and ' ~ name ~ '_value is null' if lands_values() else '') ~ ')') }}
{%- endmacro %}


{# How many digits an amount may have before the point: 13, or as many as the column declares, which for a sum of other
   amounts is one more. With these limits, no sum or product within one row can overflow its type. #}
{% macro amount_digits(column) -%}
    {{ return(column.digits | default(13)) }}
{%- endmacro %}


{# The pattern that the text of a column must match, or its form in words; dbt_project.yml defines both by type. #}
{% macro type_pattern(column, which='pattern') -%}
    {{ return(
        var('value_types')[column.type][which]
        | replace('DIGITS', amount_digits(column) | string)
        | replace('PLACES', column.places | default(0) | string)
    ) }}
{%- endmacro %}


{# A list of words as SQL. #}
{% macro words(texts) -%}
    {{ return("'" ~ texts | join("', '") ~ "'") }}
{%- endmacro %}


{# An instant in the form that both engines cast alike: `Z` for ` UTC`, two-digit hours, seconds, and no blank
   before the offset. The text must match one of the patterns. The expression names the value as rarely as it can,
   because each occurrence makes an engine take longer to plan the model. #}
{% macro plain_instant(value) -%}
    {%- set whole = "case when length(" ~ value ~ ") <= 10 then " ~ value
        ~ " when substring(" ~ value ~ ", 13, 1) = ':' then concat(substring(" ~ value ~ ", 1, 11), '0', substring("
        ~ value ~ ", 12, 4), " ~ seconds_if_none(value, 16) ~ ", substring(" ~ value ~ ", 16))"
        ~ " else concat(substring(" ~ value ~ ", 1, 16), " ~ seconds_if_none(value, 17) ~ ", substring("
        ~ value ~ ", 17)) end" -%}
    {{ return(
        "replace(replace(replace(replace(replace(" ~ whole
        ~ ", 'UTC', 'Z'), ' Z', 'Z'), ' +', '+'), ' -', '-'), ' ', 'T')"
    ) }}
{%- endmacro %}


{# The seconds to insert at a position of an instant, after its minutes: `:00`, or nothing if it has seconds there. #}
{% macro seconds_if_none(value, place) -%}
    {{ return("case when substring(" ~ value ~ ", " ~ place ~ ", 1) = ':' then '' else ':00' end") }}
{%- endmacro %}


{# The time zone of a feed's instants without an offset; none for UTC. #}
{% macro feed_time_zone(feed) -%}
    {%- set zone = var('feed_time_zones', {}).get(feed, 'UTC') -%}
    {{ return(none if zone == 'UTC' else zone) }}
{%- endmacro %}


{# The time zone in which instants without an offset are read, by feed. #}
{% macro time_zone_of_feed(feed) -%}
    {%- set zones = var('feed_time_zones', {}) -%}
    {%- if zones -%}
        case {{ feed }}
            {%- for name, zone in zones.items() %} when '{{ name }}' then '{{ zone }}'{% endfor %} else 'UTC'
        end
    {%- else -%}
        'UTC'
    {%- endif -%}
{%- endmacro %}


{# The instant at which the clocks of a zone show a local time, as a UTC timestamp: the first instant of a time
   shown twice, null for a time never shown. It tries the offsets in force 26 hours before and after, because clocks do
   not change twice within days. The engines' own conversions differ and are not used. #}
{% macro instant_in_zone(local, zone) -%}
    {%- set before = shifted_by_zone(local, zone, -26) -%}
    {%- set after = shifted_by_zone(local, zone, 26) -%}
    {{ return(
        "case when " ~ time_in_zone(before, zone) ~ " = " ~ local
        ~ " and (" ~ time_in_zone(after, zone) ~ " <> " ~ local ~ " or " ~ before ~ " <= " ~ after ~ ") then " ~ before
        ~ " when " ~ time_in_zone(after, zone) ~ " = " ~ local ~ " then " ~ after ~ " end"
    ) }}
{%- endmacro %}


{# A local time minus the offset in force in the zone some hours earlier or later. #}
{% macro shifted_by_zone(local, zone, hours) -%}
    {%- set away = "(" ~ local ~ " + interval '" ~ hours ~ "' hour)" -%}
    {{ return("(" ~ local ~ " - (" ~ time_in_zone(away, zone) ~ " - " ~ away ~ "))") }}
{%- endmacro %}


{# The typed value of a column; null if the text is not of the column's type. A value delivered as a value is of that
   type, except for an amount with more decimal places than its currency and a time that no clock showed.
   zone is the time zone of instants without an offset, none for UTC. #}
{% macro typed_value(column, zone=none) -%}
    {%- set value = 'delivered.' ~ delivered_value(column) -%}
    {%- if not has_values(column) -%}
        {{ value_of_text(column, zone) }}
    {%- elif column.type == 'amount' -%}
        case
            when {{ value }} is null then {{ value_of_text(column, zone) }}
            when currencies.exponent is distinct from 0 then {{ value }}
            when {{ value }} % 100 = 0 then {{ whole_quotient(value, 100) }}
        end
    {%- elif column.type == 'instant' and zone -%}
        case
            when {{ value }} is null then {{ value_of_text(column, zone) }}
            when not delivered.is_local then {{ value }}
            else {{ instant_in_zone(value, zone) }}
        end
    {%- else -%}
        coalesce({{ value }}, {{ value_of_text(column, zone) }})
    {%- endif -%}
{%- endmacro %}


{# The typed value of a column's text; null if the text is not of the column's type. #}
{% macro value_of_text(column, zone=none) -%}
    {%- set value = 'delivered.' ~ column.name -%}
    {%- if column.type in ('id', 'text', 'enum') -%}
        {{ value }}
    {%- elif column.type == 'currency' -%}
        upper({{ value }})
    {%- elif column.type == 'boolean' -%}
        {%- set booleans = var('value_types').boolean -%}
        case
            when lower({{ value }}) in ({{ words(booleans['true']) }}) then true
            when lower({{ value }}) in ({{ words(booleans['false']) }}) then false
        end
    {%- elif column.type == 'whole' -%}
        case when {{ matches(value, type_pattern(column)) }} then cast(split_part({{ value }}, '.', 1) as bigint) end
    {%- elif column.type == 'decimal' -%}
        case
            when {{ matches(value, type_pattern(column)) }}
                then cast(cast({{ value }} as decimal(18, {{ column.places }})) * {{ 10 ** column.places }} as bigint)
        end
    {%- elif column.type == 'amount' -%}
        case
            when currencies.exponent = 0
                then
                    case
                        when {{ matches(value, type_pattern(column, 'pattern_without_places')) }}
                            then cast(split_part({{ value }}, '.', 1) as bigint)
                    end
            when {{ matches(value, type_pattern(column)) }}
                then cast(cast({{ value }} as decimal(18, 2)) * 100 as bigint)
        end
    {%- elif column.type == 'date' -%}
        case when {{ matches(value, type_pattern(column)) }} then try_cast(substring({{ value }}, 1, 10) as date) end
    {%- elif column.type == 'instant' -%}
        case
            when {{ matches(value, type_pattern(column, 'canonical')) }} then {{ try_instant(value) }}
            {%- if zone %}
            when {{ matches(value, type_pattern(column, 'with_offset')) }} then {{ try_instant(plain_instant(value)) }}
            when {{ matches(value, type_pattern(column, 'without_offset')) }}
                then {{ instant_in_zone(try_local_time(plain_instant(value)), zone) }}
            {%- else %}
            when
                {{ matches(value, type_pattern(column, 'with_offset')) }}
                or {{ matches(value, type_pattern(column, 'without_offset')) }}
                then {{ try_instant(plain_instant(value)) }}
            {%- endif %}
        end
    {%- else -%}
        {{ exceptions.raise_compiler_error('Column type ' ~ column.type ~ ' of ' ~ column.name ~ ' is not known.') }}
    {%- endif -%}
{%- endmacro %}


{# The amount in major units, as delivered by an accepted row. #}
{% macro delivered_amount(name) -%}
    {%- if lands_values() -%}
    coalesce(cast({{ name }}_value as decimal(18, 0)) * 0.01, cast({{ name }} as decimal(18, 2)))
    {%- else -%}
    cast({{ name }} as decimal(18, 2))
    {%- endif -%}
{%- endmacro %}


{# A delivered value as the text that a CSV file of the same row has. #}
{% macro text_of_value(column, value) -%}
    {{ return(
        var('value_types')[column.type]['as_text']
        | replace('VALUE', value)
        | replace('UNIT', '0.' ~ '0' * (column.places | default(2) - 1) ~ '1')
    ) }}
{%- endmacro %}


{# A delivered text as a rejected row shows it. An unclosed quote can put the rest of a row, and of the next
   one, into one value, personal data included; a line break or other control character gives such a value away. #}
{% macro shown_text(text) -%}
    {{ return(
        "case when " ~ has_control_characters(text) ~ " then '(not shown: it has control characters)' else "
        ~ text ~ " end"
    ) }}
{%- endmacro %}


{# The reasons to reject a row because of one column: pairs of condition and sentence, over typed rows with the
   text as delivered. For zone, see typed_value. #}
{% macro column_rejections(column, zone=none) -%}
    {%- set typed = typed_name(column) -%}
    {%- set rejections = [] -%}
    {%- set text = delivered_text(column) -%}
    {%- set missing_words = var('value_types').missing_words -%}
    {%- if column.type != 'text' -%}
        {#- No such word has a typed value, and that is the cheaper condition to check in every row. -#}
        {%- set untyped = typed ~ ' is null and ' if column.type in ('boolean', 'whole', 'decimal', 'amount', 'date', 'instant') else '' -%}
        {%- do rejections.append((untyped ~ text ~ ' in (' ~ words(missing_words) ~ ')', 'is a word for a missing value (' ~ missing_words | join(', ') ~ '), which is delivered as an empty one')) -%}
    {%- endif -%}
    {%- if column.type in ('boolean', 'whole', 'decimal', 'amount', 'date', 'instant') -%}
        {#- The form of an amount in an unsupported currency is not known, so it is not checked. -#}
        {%- set judgeable = ' and coalesce(exponent, 2) in (0, 2)' if column.type == 'amount' else '' -%}
        {%- set as_value = ' or ' ~ delivered_value(column) ~ ' is not null' if has_values(column) else '' -%}
        {%- set unreadable = typed ~ ' is null' ~ judgeable ~ ' and (' ~ text ~ ' not in (' ~ words(missing_words) ~ ')' ~ as_value ~ ')' -%}
        {%- if column.type == 'instant' and zone -%}
            {#- A well-formed time can still be one that the clocks of the zone skip. -#}
            {%- set skipped = '(' ~ matches(text, type_pattern(column, 'without_offset')) ~ ' and ' ~ try_local_time(plain_instant(text)) ~ ' is not null' ~ as_value ~ ')' -%}
            {%- do rejections.append((unreadable ~ ' and ' ~ skipped, 'is a time that the clocks of ' ~ zone ~ ' never showed: they were put forward over it')) -%}
            {%- set unreadable = unreadable ~ ' and not ' ~ skipped -%}
        {%- endif -%}
        {%- do rejections.append((unreadable, 'is not ' ~ type_pattern(column, 'form'))) -%}
    {%- endif -%}
    {%- if column.required -%}
        {%- do rejections.append((is_not_given(column.name) if has_values(column) else text ~ ' is null', 'is missing')) -%}
    {%- endif -%}
    {%- if column.type == 'id' -%}
        {%- do rejections.append(('length(' ~ text ~ ') > 200', 'is longer than 200 characters')) -%}
        {%- do rejections.append((has_control_characters(text), 'has control characters')) -%}
        {%- do rejections.append((text ~ " like '%.%0' and " ~ matches(text, type_pattern(column, 'through_a_float')), 'is ' ~ type_pattern(column, 'form_through_a_float'))) -%}
    {%- elif column.type == 'enum' -%}
        {%- do rejections.append((text ~ ' not in (' ~ words(column['values'] + missing_words) ~ ')', 'is not one of ' ~ column['values'] | join(', '))) -%}
    {%- elif column.type == 'currency' -%}
        {%- do rejections.append((text ~ ' is not null and exponent is null and ' ~ text ~ ' not in (' ~ words(missing_words) ~ ')', 'is not ' ~ type_pattern(column, 'form'))) -%}
        {%- do rejections.append((text ~ ' is not null and exponent not in (0, 2)', 'is not supported: only currencies with 0 or 2 decimal places are')) -%}
    {%- endif -%}
    {%- do rejections.extend(out_of_range(column)) -%}
    {{ return(rejections) }}
{%- endmacro %}


{# The reasons to reject a row because a typed value is out of its range. #}
{% macro out_of_range(column) -%}
    {%- set typed = typed_name(column) -%}
    {%- set rejections = [] -%}
    {%- if column.type == 'date' -%}
        {%- do rejections.append((typed ~ " < cast('0001-01-01' as date)", 'is before the year 1')) -%}
    {%- elif column.type == 'instant' -%}
        {#- In UTC, since an offset can move an instant past either end. -#}
        {%- do rejections.append((typed ~ " < cast('0001-01-01 00:00:00' as timestamp)", 'is before the year 1 in UTC')) -%}
        {%- do rejections.append((typed ~ " > cast('9999-12-31 23:59:59.999999' as timestamp)", 'is after the year 9999 in UTC')) -%}
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


{# Cheap conditions that select the rows to check for rejection because of a column: one of them is true for every row
   that is rejected and for few others. They are about half as many as the reasons, because several reasons share one
   condition here. For an id, they only cover a missing one. #}
{% macro column_doubts(column) -%}
    {%- set text = delivered_text(column) -%}
    {%- set doubts = [] -%}
    {%- if column.type in ('boolean', 'whole', 'decimal', 'amount', 'date', 'instant') -%}
        {%- do doubts.append(typed_name(column) ~ ' is null' ~ ('' if column.required else ' and ' ~ is_given(column.name))) -%}
        {%- for condition, sentence in out_of_range(column) -%}
            {%- do doubts.append(condition) -%}
        {%- endfor -%}
    {%- elif column.type == 'currency' -%}
        {#- No word for a missing value is a currency. -#}
        {%- do doubts.append(('' if column.required else text ~ ' is not null and ') ~ 'coalesce(exponent, -1) not in (0, 2)') -%}
    {%- elif column.type == 'enum' -%}
        {#- Nor is one a value of an enum. -#}
        {%- do doubts.append(('coalesce(' ~ text ~ ", '')" if column.required else text) ~ ' not in (' ~ words(column['values']) ~ ')') -%}
    {%- elif column.required -%}
        {%- do doubts.append(text ~ ' is null') -%}
    {%- endif -%}
    {{ return(doubts) }}
{%- endmacro %}


{# Every delivered row of a feed, typed, with the reasons for rejection and the row as delivered, without
   personal data (both null for a row that is not rejected).
   row_rejections are the feed's rules about several columns: pairs of condition and sentence.
   currencies is the relation of ISO 4217 currencies, for a feed with amounts. #}
{% macro typed_rows(feed, row_rejections, currencies=none) -%}
    {%- set columns = feed_columns(feed) -%}
    {%- set zone = feed_time_zone(feed) -%}

delivered as (

    select
        delivery_sequence,
        row_number
        {%- if lands_values() %},
        is_local,
        is_plain
        {%- endif %}
        {%- for column in columns %},
        {{ column.name }}
        {%- if has_values(column) %},
        {{ delivered_value(column) }}
        {%- endif %}
        {%- endfor %}

    from {{ landed(feed) }}
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
        {%- if lands_values() %},
        delivered.is_local,
        delivered.is_plain
        {%- endif %}
        {%- if currencies %},
        currencies.exponent
        {%- endif %}
        {%- for column in columns %}
        {%- if delivered_text(column) != typed_name(column) %},
        delivered.{{ column.name }} as {{ delivered_text(column) }}
        {%- endif %}
        {%- if has_values(column) %},
        delivered.{{ delivered_value(column) }}
        {%- endif %},
        {{ typed_value(column, zone) }} as {{ typed_name(column) }}
        {%- endfor %}

    from delivered
    {% if currencies %}
    -- ASCII text only: in upper case some other letters become I or S, and not the same ones on both engines.
    left join currencies
        on upper(case when bit_length(delivered.currency) = 8 * length(delivered.currency) then delivered.currency end)
        = currencies.currency
    {% endif %}
),

judged as (

    select
        *,
{#- Nearly every row is correct, so the reasons are evaluated only for rows for which one may be true. Arrival marks
    most rows as plain: none of their values is rejected by itself, except possibly amounts in a currency without two
    decimal places and local times that a time zone turns into instants. #}
        {%- set of_rows, of_values, of_amounts, of_instants, rejections = [], [], [], [], [] %}
        {%- for column in columns %}
        {%- set of_column = of_amounts if column.type in ('amount', 'currency') else of_instants if column.type == 'instant' and zone else of_values %}
        {%- do of_column.extend(column_doubts(column)) %}
        {%- if column.type == 'id' %}
        {%- do of_column.extend(column_rejections(column) | map('first')) %}
        {%- endif %}
        {%- for condition, sentence in column_rejections(column, zone) %}
        {%- do rejections.append((condition, column.name ~ ' ' ~ sentence)) %}
        {%- endfor %}
        {%- endfor %}
        {%- for condition, sentence in row_rejections %}
        {%- do of_rows.append(condition) %}
        {%- do rejections.append((condition, sentence)) %}
        {%- endfor %}
        {%- set doubts = {
            'not is_plain': of_values,
            '(not is_plain or exponent is distinct from 2)': of_amounts,
            '(not is_plain or is_local)': of_instants,
            'true': of_rows,
        } %}
        case
            when
                {%- for asked, conditions in doubts.items() if conditions %}
                {{ 'or ' if not loop.first }}{{ asked ~ ' and ' if lands_values() and asked != 'true' }}(
                    {%- for condition in conditions %}
                    {{ 'or ' if not loop.first }}({{ condition }})
                    {%- endfor %}
                )
                {%- endfor %}
                then nullif(
                    concat_ws(
                        '; '
                        {%- for condition, sentence in rejections %},
                        case when {{ condition }} then '{{ sentence }}' end
                        {%- endfor %}
                    ),
                    ''
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
        {%- set shown = shown_text('judged.' ~ delivered_text(column)) %}
        {%- if has_values(column) %}
        {%- set shown = 'coalesce(' ~ shown ~ ', ' ~ text_of_value(column, 'judged.' ~ delivered_value(column)) ~ ')' %}
        {%- endif %}
        {%- do delivered_texts.update({column.name: shown}) %}
        {%- endfor %}
        case when rejection_reasons is not null then {{ json_record(delivered_texts) }} end as rejected_record

    from judged

)
{%- endmacro %}
