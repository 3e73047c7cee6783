{# A view: it is as large as its source and is read only once or twice. #}
{{ config(materialized='view') }}

with

current_versions as (

    {{ current_versions('workspaces') }}

),

final as (

    select
        workspace_id,
        workspace_name,
        owner_user_id,
        created_at,
        updated_at,
        delivery_sequence,
        row_number

    from current_versions

)

select * from final
