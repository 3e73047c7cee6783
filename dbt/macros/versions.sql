{# Which of several versions of a record is current, and what became of the others. #}

{# The id of a record of a feed, over its typed rows: the key, or the key columns joined by a blank, which no
   value of a composite key contains. #}
{% macro record_id(feed, alias=none) -%}
    {%- set prefix = alias ~ '.' if alias else '' -%}
    {%- set parts = [] -%}
    {%- for column in feed_columns(feed) if column.key -%}
        {%- do parts.append(prefix ~ column.name) -%}
    {%- endfor -%}
    {%- if parts | length > 1 -%}
        concat_ws(' ', {% for part in parts %}cast({{ part }} as {{ dbt.type_string() }}){{ ', ' if not loop.last }}{% endfor %})
    {%- else -%}
        {{ parts | join }}
    {%- endif -%}
{%- endmacro %}


{# The position of a row in the order of all deliveries, as one number; no file has a hundred billion rows. #}
{% macro place_in_deliveries(alias) -%}
    {{ alias }}.delivery_sequence * 100000000000 + {{ alias }}.row_number
{%- endmacro %}


{# The fate of every acceptable row whose record was delivered more than once: the version with the greatest
   updated_at is current; in a tie, the later delivery wins and, within a file, the later row. An equal copy of an
   earlier row is a duplicate, whatever the fate of that row. #}
{% macro repeated_rows(feed) -%}
repeated_{{ feed }}_keys as (

    select {{ record_id(feed) }} as record_id

    from {{ ref('base_billing__' ~ feed) }}

    where
        rejection_reasons is null
        {% if carries_on() -%}
        and {{ record_id(feed) }} in (select {{ record_id(feed) }} from {{ ref('base_billing__' ~ feed) }} where {{ came_since() }})
        {%- endif %}

    group by {{ record_id(feed) }}

    having count(*) > 1

),

repeated_{{ feed }} as (

    select
        rows_of_feed.*,
        repeated_{{ feed }}_keys.record_id,
        {{ place_in_deliveries('rows_of_feed') }} as place

    from {{ ref('base_billing__' ~ feed) }} as rows_of_feed

    inner join repeated_{{ feed }}_keys
        on {{ record_id(feed, 'rows_of_feed') }} = repeated_{{ feed }}_keys.record_id

    where rows_of_feed.rejection_reasons is null

),

-- One row per group of equal copies, which share one updated_at.
{{ feed }}_versions as (

    select
        record_id,
        updated_at,
        min(place) as first_place,
        max(place) as last_place

    from repeated_{{ feed }}

    group by
        record_id,
        {{ typed_names(feed) | join(',\n        ') }}

),

ranked_{{ feed }}_versions as (

    select
        first_place,
        row_number() over (
            partition by record_id
            order by updated_at desc, last_place desc
        ) as version_rank

    from {{ feed }}_versions

),

{{ feed }}_fates as (

    select
        '{{ feed }}' as feed,
        repeated_{{ feed }}.record_id,
        repeated_{{ feed }}.delivery_sequence,
        repeated_{{ feed }}.row_number,
        case
            when ranked_{{ feed }}_versions.version_rank is null then 'duplicate'
            when ranked_{{ feed }}_versions.version_rank = 1 then 'accepted'
            else 'superseded'
        end as fate

    from repeated_{{ feed }}

    left join ranked_{{ feed }}_versions
        on repeated_{{ feed }}.place = ranked_{{ feed }}_versions.first_place

)
{%- endmacro %}


{# The current version of every record of a feed. The filter is one condition because DuckDB assumes that each
   condition keeps one row in five: after three, it took the invoices for the smaller side of every join and built hash
   tables of them. #}
{% macro current_versions(feed) -%}
    select rows_of_feed.*

    from {{ ref('base_billing__' ~ feed) }} as rows_of_feed

    left join {{ ref('stg_billing__repeated_rows') }} as fates
        on rows_of_feed.delivery_sequence = fates.delivery_sequence
        and rows_of_feed.row_number = fates.row_number
        and fates.feed = '{{ feed }}'
        and fates.fate <> 'accepted'

    where
        case
            when rows_of_feed.rejection_reasons is null
                then coalesce(fates.fate, 'accepted')
        end = 'accepted'
{%- endmacro %}
