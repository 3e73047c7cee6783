with

discounts as (

    select * from {{ ref('int_discounts_applied') }}

),

draws as (

    select * from {{ ref('int_credit_entries_posted') }}

    where entry_type = 'draw'

),

benefits as (

    select
        redemption_id,
        invoice_id,
        discount_minor,
        cast(0 as bigint) as credit_minor

    from discounts

    union all

    select
        redemption_id,
        invoice_id,
        cast(0 as bigint) as discount_minor,
        -signed_minor as credit_minor

    from draws

),

final as (

    select
        redemption_id,
        invoice_id,
        {{ sum_minor('discount_minor') }} as discount_minor,
        {{ sum_minor('credit_minor') }} as credit_minor

    from benefits

    group by
        redemption_id,
        invoice_id

)

select * from final
