with

final as (

    select
        finding_id,
        reason,
        approved_by,
        cast(until as date) as accepted_until

    from {{ source('arrival', 'accepted_findings') }}

)

select * from final
