with

final as (

    {{ current_versions('workspaces') }}

)

select * from final
