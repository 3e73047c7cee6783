with

applied as (

    select * from {{ ref('int_discounts_applied') }}

),

redemptions as (

    select * from {{ ref('int_redemptions_unified') }}

),

final as (

    select
        applied.invoice_id,
        {{ sum_minor("case when redemptions.discount_type = 'percent_off' then applied.discount_minor else 0 end") }} as percent_off_minor,
        {{ sum_minor("case when redemptions.discount_type = 'amount_off' then applied.discount_minor else 0 end") }} as amount_off_minor,
        {{ sum_minor('applied.discount_minor') }} as discount_minor

    from applied

    inner join redemptions
        on applied.redemption_id = redemptions.redemption_id

    group by applied.invoice_id

)

select * from final
