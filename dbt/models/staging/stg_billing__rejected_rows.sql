with

deliveries as (

    select
        delivery_sequence,
        delivery_id,
        feed,
        file_name

    from {{ source('arrival', 'deliveries') }}

),

-- Rows that break a rule of their feed.
refused_rows as (
    {% for feed in feed_names() %}
    select
        delivery_sequence,
        row_number,
        rejection_reasons as reasons,
        rejected_record as record

    from {{ ref('base_billing__' ~ feed) }}

    where rejection_reasons is not null
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

-- Rows that could not be split into the fields of their header.
malformed_rows as (

    select
        delivery_sequence,
        row_number,
        reason as reasons,
        record

    from {{ source('arrival', 'malformed_rows') }}

),

rejected_rows as (

    select * from refused_rows

    union all

    select * from malformed_rows

),

final as (

    select
        deliveries.delivery_sequence,
        deliveries.delivery_id,
        deliveries.feed,
        deliveries.file_name,
        rejected_rows.row_number,
        rejected_rows.reasons,
        rejected_rows.record

    from rejected_rows

    inner join deliveries
        on rejected_rows.delivery_sequence = deliveries.delivery_sequence

)

select * from final
