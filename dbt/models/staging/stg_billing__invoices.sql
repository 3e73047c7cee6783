{# Read once or twice, and as large as what it reads: not kept. #}
{{ config(materialized='view') }}

with

final as (

    {{ current_versions('invoices') }}

)

select * from final
