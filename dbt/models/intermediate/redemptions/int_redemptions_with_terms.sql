-- depends_on: {{ ref('int_redemptions_before') }}
with

redemptions as (

    select * from {{ ref('int_redemption_windows_recorded') }}

),

judged as (

    select * from {{ ref('int_redemptions_judged') }}

),

derived as (

    select * from {{ ref('int_redemptions_derived') }}

),

promotions as (

    select * from {{ ref('int_promotions_chained') }}

),

coupons as (

    select * from {{ ref('stg_billing__coupons') }}

),

recorded_redemptions as (

    select
        redemptions.redemption_id,
        redemptions.coupon_id,
        redemptions.workspace_id,
        redemptions.user_id,
        redemptions.subscription_id,
        redemptions.redeemed_at,
        redemptions.application_order,
        redemptions.started_at,
        redemptions.natural_end_at,
        redemptions.ended_at,
        redemptions.ended_by,
        judged.refusal_reason,
        false as is_derived,
        redemptions.delivery_sequence,
        redemptions.delivery_row

    from redemptions

    inner join judged
        on redemptions.redemption_id = judged.redemption_id

),

-- R4: a derived redemption runs for the duration of its own coupon; it has no record that could revoke it.
derived_redemptions as (

    select
        redemption_id,
        coupon_id,
        workspace_id,
        user_id,
        subscription_id,
        redeemed_at,
        cast(null as bigint) as application_order,
        started_at,
        natural_end_at,
        natural_end_at as ended_at,
        case when natural_end_at is not null then 'expiry' end as ended_by,
        refusal_reason,
        true as is_derived,
        cast(null as bigint) as delivery_sequence,
        cast(null as bigint) as delivery_row

    from derived

),

all_redemptions as (

    select * from recorded_redemptions

    union all

    select * from derived_redemptions

),

-- R3: a redemption is in force from its start until, and not including, its end; with an end at or before the
-- start, never. Whether it is in force at the end of the as-of date is defined here for all models. R4, R12: a
-- follow-up that is not due yet is still to come, and is used by the outlook only.
final as (

    select
        all_redemptions.redemption_id,
        coalesce(promotions.promotion_id, all_redemptions.redemption_id) as promotion_id,
        all_redemptions.coupon_id,
        all_redemptions.workspace_id,
        all_redemptions.user_id,
        all_redemptions.subscription_id,
        all_redemptions.redeemed_at,
        all_redemptions.application_order,
        all_redemptions.started_at,
        all_redemptions.natural_end_at,
        all_redemptions.ended_at,
        all_redemptions.ended_by,
        all_redemptions.refusal_reason,
        all_redemptions.is_derived,
        all_redemptions.is_derived and all_redemptions.started_at >= {{ end_of_as_of_date() }} as is_to_come,
        all_redemptions.refusal_reason is null as is_honoured,
        coalesce(all_redemptions.ended_at > all_redemptions.started_at, true) as is_ever_in_force,
        all_redemptions.started_at < {{ end_of_as_of_date() }} as has_started,
        coalesce(all_redemptions.ended_at < {{ end_of_as_of_date() }}, false) as has_ended,
        coupons.program,
        coupons.discount_type,
        case coupons.duration when 'once' then 1 else coupons.duration_invoices end as invoice_limit,
        coupons.percent_off_e4,
        coupons.amount_off_minor,
        coupons.amount_off_per,
        coupons.credit_minor as grant_minor,
        coupons.credit_period_months,
        coupons.credit_max_periods,
        coupons.credit_priority,
        coupons.currency as coupon_currency,
        coupons.minor_per_major as coupon_minor_per_major,
        coupons.applies_to_plan,
        coupons.applies_to_interval,
        coupons.redeem_by,
        coupons.follow_up_coupon_id,
        coupons.once_per,
        all_redemptions.delivery_sequence,
        all_redemptions.delivery_row

    from all_redemptions

    left join promotions
        on all_redemptions.redemption_id = promotions.redemption_id

    left join coupons
        on all_redemptions.coupon_id = coupons.coupon_id

)

select * from final
