with

final as (

    {{ current_versions('redemptions') }}

)

select * from final
