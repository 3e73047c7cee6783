with

final as (

    select
        delivery_sequence,
        delivery_id,
        feed,
        file_name

    from {{ source('arrival', 'deliveries') }}

    where verdict = 'loaded'

)

select * from final
