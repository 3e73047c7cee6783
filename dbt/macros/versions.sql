{# Which of several versions of a record is current, and what became of the others. #}

{# What identifies a record of each feed. #}
{% macro record_keys() -%}
    {{ return({
        'workspaces': 'workspace_id',
        'coupons': 'coupon_id',
        'redemptions': 'redemption_id',
        'invoices': 'invoice_id',
    }) }}
{%- endmacro %}


{# The fate of every acceptable row whose record was delivered more than once: the version with the
   greatest updated_at is current, the later delivery winning a tie, within a file the later row.
   An equal copy of a row that came before is a duplicate, whatever became of the first. #}
{% macro repeated_rows(feed, key) -%}
repeated_{{ feed }}_keys as (

    select {{ key }}

    from {{ ref('base_billing__' ~ feed) }}

    where
        rejection_reasons is null
        {% if carries_on() -%}
        and {{ key }} in (select {{ key }} from {{ ref('base_billing__' ~ feed) }} where {{ came_since() }})
        {%- endif %}

    group by {{ key }}

    having count(*) > 1

),

repeated_{{ feed }} as (
    {%- set values = {} %}
    {%- for name in typed_names(feed) %}
    {%- do values.update({name: 'rows_of_feed.' ~ name}) %}
    {%- endfor %}

    select
        rows_of_feed.delivery_sequence,
        rows_of_feed.row_number,
        rows_of_feed.{{ key }},
        rows_of_feed.updated_at,
        {{ json_record(values) }} as content

    from {{ ref('base_billing__' ~ feed) }} as rows_of_feed

    inner join repeated_{{ feed }}_keys
        on rows_of_feed.{{ key }} = repeated_{{ feed }}_keys.{{ key }}

    where rows_of_feed.rejection_reasons is null

),

ranked_{{ feed }} as (

    select
        delivery_sequence,
        row_number,
        {{ key }},
        content,
        row_number() over (
            partition by {{ key }}, content
            order by delivery_sequence, row_number
        ) as copy_number,
        first_value(content) over (
            partition by {{ key }}
            order by updated_at desc, delivery_sequence desc, row_number desc
            rows between unbounded preceding and unbounded following
        ) as current_content

    from repeated_{{ feed }}

),

{{ feed }}_fates as (

    select
        '{{ feed }}' as feed,
        {{ key }} as record_id,
        delivery_sequence,
        row_number,
        case
            when copy_number > 1 then 'duplicate'
            when content = current_content then 'accepted'
            else 'superseded'
        end as fate

    from ranked_{{ feed }}

)
{%- endmacro %}


{# The current version of every record of a feed. #}
{% macro current_versions(feed) -%}
    select
        {%- for name in typed_names(feed) %}
        rows_of_feed.{{ name }},
        {%- endfor %}
        {%- if feed_columns(feed) | selectattr('type', 'equalto', 'currency') | list %}
        rows_of_feed.minor_per_major,
        {%- endif %}
        rows_of_feed.delivery_sequence,
        rows_of_feed.row_number

    from {{ ref('base_billing__' ~ feed) }} as rows_of_feed

    left join {{ ref('stg_billing__repeated_rows') }} as repeated_rows
        on rows_of_feed.delivery_sequence = repeated_rows.delivery_sequence
        and rows_of_feed.row_number = repeated_rows.row_number
        and repeated_rows.feed = '{{ feed }}'

    where
        rows_of_feed.rejection_reasons is null
        and coalesce(repeated_rows.fate, 'accepted') = 'accepted'
{%- endmacro %}
