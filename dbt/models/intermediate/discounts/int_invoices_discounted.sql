with

applied as (

    select * from {{ recalculated(ref('int_discounts_applied')) }}

),

final as (

    select
        invoice_id,
        is_expected,
        {{ sum_minor("case when discount_type = 'percent_off' then discount_minor else 0 end") }} as percent_off_minor,
        {{ sum_minor("case when discount_type = 'amount_off' then discount_minor else 0 end") }} as amount_off_minor,
        {{ sum_minor('discount_minor') }} as discount_minor

    from applied

    group by
        invoice_id,
        is_expected

)

select * from final
