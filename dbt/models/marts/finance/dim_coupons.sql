with

coupons as (

    select * from {{ ref('stg_billing__coupons') }}

),

final as (

    select
        coupon_id,
        coupon_name,
        program,
        discount_type,
        cast(cast(percent_off_e4 as decimal(7, 0)) * cast(0.0001 as decimal(5, 4)) as decimal(7, 4)) as percent_off,
        {{ published_amount('amount_off_minor') }} as amount_off,
        amount_off_per,
        {{ published_amount('credit_minor') }} as credit_amount,
        credit_period_months,
        credit_max_periods,
        credit_priority,
        currency,
        applies_to_plan,
        applies_to_interval,
        duration,
        duration_months,
        duration_invoices,
        redeem_by,
        max_redemptions,
        requires_no_prior_coupon,
        follow_up_coupon_id,
        updated_at

    from coupons

)

select * from final
