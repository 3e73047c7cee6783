with

final as (

    select * from {{ ref('int_invoices_counted') }}
    {{ only_recalculated('where') }}
    {{ 'where false' if not carries_on() }}

)

select * from final
