with

deliveries as (

    select
        delivery_sequence,
        delivery_id,
        feed,
        file_name,
        sha256,
        arrived_at,
        verdict,
        refusal_reason,
        notes,
        physical_rows,
        blank_rows

    from {{ source('arrival', 'deliveries') }}

),

loaded_rows as (
    {% for feed in feed_names() %}
    select
        delivery_sequence,
        count(*) as row_count

    from {{ source('billing', feed) }}

    group by delivery_sequence
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

rejected_rows as (

    select
        delivery_sequence,
        count(*) as row_count

    from {{ ref('stg_billing__rejected_rows') }}

    group by delivery_sequence

),

malformed_rows as (

    select
        delivery_sequence,
        count(*) as row_count

    from {{ source('arrival', 'malformed_rows') }}

    group by delivery_sequence

),

repeated_rows as (

    select
        delivery_sequence,
        cast(sum(case when fate = 'superseded' then 1 else 0 end) as bigint) as superseded_count,
        cast(sum(case when fate = 'duplicate' then 1 else 0 end) as bigint) as duplicate_count

    from {{ ref('stg_billing__repeated_rows') }}

    group by delivery_sequence

),

-- Invariant 6: a row is accepted, superseded, duplicate or rejected, and nothing else.
final as (

    select
        deliveries.delivery_sequence,
        deliveries.delivery_id,
        deliveries.feed,
        deliveries.file_name,
        deliveries.sha256,
        deliveries.arrived_at,
        deliveries.verdict,
        deliveries.refusal_reason,
        replace(
            deliveries.notes,
            'without an offset',
            concat('without an offset, read as ', {{ time_zone_of_feed('deliveries.feed') }})
        ) as notes,
        deliveries.physical_rows,
        deliveries.blank_rows,
        cast(
            coalesce(loaded_rows.row_count, 0)
            + coalesce(malformed_rows.row_count, 0)
            - coalesce(rejected_rows.row_count, 0)
            - coalesce(repeated_rows.superseded_count, 0)
            - coalesce(repeated_rows.duplicate_count, 0)
            as bigint
        ) as accepted_rows,
        coalesce(repeated_rows.superseded_count, 0) as superseded_rows,
        coalesce(repeated_rows.duplicate_count, 0) as duplicate_rows,
        coalesce(rejected_rows.row_count, 0) as rejected_rows

    from deliveries

    left join loaded_rows
        on deliveries.delivery_sequence = loaded_rows.delivery_sequence

    left join malformed_rows
        on deliveries.delivery_sequence = malformed_rows.delivery_sequence

    left join rejected_rows
        on deliveries.delivery_sequence = rejected_rows.delivery_sequence

    left join repeated_rows
        on deliveries.delivery_sequence = repeated_rows.delivery_sequence

)

select * from final
