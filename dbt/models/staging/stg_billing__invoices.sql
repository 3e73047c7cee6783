with

final as (

    {{ current_versions('invoices') }}

)

select * from final
