with

final as (

    select * from {{ recalculated(ref('int_invoices_counted')) }}
    {{ 'where false' if not carries_on() }}

)

select * from final
