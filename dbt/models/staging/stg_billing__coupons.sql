with

final as (

    {{ current_versions('coupons') }}

)

select * from final
