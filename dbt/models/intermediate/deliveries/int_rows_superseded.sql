with

repeated_rows as (

    select * from {{ ref('stg_billing__repeated_rows') }}

),

deliveries as (

    select * from {{ ref('stg_arrival__deliveries') }}

),

typed_rows as (
    {% for feed in feed_names() %}
    select
        '{{ feed }}' as feed,
        delivery_sequence,
        row_number,
        updated_at

    from {{ ref('base_billing__' ~ feed) }}

    where rejection_reasons is null
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

final as (

    select
        deliveries.delivery_id,
        repeated_rows.feed,
        deliveries.file_name,
        repeated_rows.row_number,
        repeated_rows.record_id,
        typed_rows.updated_at

    from repeated_rows

    inner join deliveries
        on repeated_rows.delivery_sequence = deliveries.delivery_sequence

    inner join typed_rows
        on repeated_rows.feed = typed_rows.feed
        and repeated_rows.delivery_sequence = typed_rows.delivery_sequence
        and repeated_rows.row_number = typed_rows.row_number

    where repeated_rows.fate = 'superseded'

)

select * from final
