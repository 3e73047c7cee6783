with

redemptions as (

    select * from {{ ref('int_redemption_windows_recorded') }}

    where
        ended_by = 'expiry'
        and ended_at > started_at

),

judged as (

    select * from {{ ref('int_redemptions_judged') }}

),

coupons as (

    select * from {{ ref('stg_billing__coupons') }}

),

-- R4: an honoured redemption that ends by expiry hands over to the follow-up of its coupon. Ends are scheduled,
-- so a follow-up that is not due by the end of the as-of date will be due later.
final as (

    select
        redemptions.redemption_id as predecessor_redemption_id,
        redemptions.workspace_id,
        redemptions.user_id,
        redemptions.subscription_id,
        redemptions.coupon_id as predecessor_coupon_id,
        coupons.follow_up_coupon_id as coupon_id,
        redemptions.redeemed_at as predecessor_redeemed_at,
        redemptions.ended_at as due_at,
        redemptions.ended_at < {{ end_of_as_of_date() }} as is_due

    from redemptions

    inner join judged
        on redemptions.redemption_id = judged.redemption_id
        and judged.refusal_reason is null

    inner join coupons
        on redemptions.coupon_id = coupons.coupon_id
        and coupons.follow_up_coupon_id <> coupons.coupon_id

    inner join coupons as follow_up_coupons
        on coupons.follow_up_coupon_id = follow_up_coupons.coupon_id

)

select * from final
