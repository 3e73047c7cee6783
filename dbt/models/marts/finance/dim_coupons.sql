with

coupons as (

    select * from {{ ref('stg_billing__coupons') }}

),

deliveries as (

    select * from {{ ref('stg_arrival__deliveries') }}

),

final as (

    select
        coupons.coupon_id,
        coupons.coupon_name,
        coupons.program,
        coupons.discount_type,
        cast(cast(coupons.percent_off_e4 as decimal(7, 0)) * cast(0.0001 as decimal(5, 4)) as decimal(7, 4)) as percent_off,
        {{ published_amount('coupons.amount_off_minor', 'coupons.minor_per_major') }} as amount_off,
        coupons.amount_off_per,
        {{ published_amount('coupons.credit_minor', 'coupons.minor_per_major') }} as credit_amount,
        coupons.credit_period_months,
        coupons.credit_max_periods,
        coupons.credit_priority,
        coupons.currency,
        coupons.applies_to_plan,
        coupons.applies_to_interval,
        coupons.duration,
        coupons.duration_months,
        coupons.duration_invoices,
        coupons.redeem_by,
        coupons.max_redemptions,
        coupons.requires_no_prior_coupon,
        coupons.once_per,
        coupons.follow_up_coupon_id,
        coupons.updated_at,
        deliveries.delivery_id,
        coupons.row_number as delivery_row

    from coupons

    left join deliveries
        on coupons.delivery_sequence = deliveries.delivery_sequence

)

select * from final
