-- depends_on: {{ ref('int_redemptions_before') }}
with

redemptions as (

    select * from {{ ref('int_redemptions_known') }}

),

judged as (

    select * from {{ ref('int_redemptions_judged') }}

),

windows as (

    select * from {{ ref('int_redemption_windows_recorded') }}

),

derived as (

    select * from {{ ref('int_redemptions_derived') }}

    where is_due

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
        redemptions.redeemed_at,
        redemptions.application_order,
        windows.started_at,
        windows.natural_end_at,
        windows.ended_at,
        windows.ended_by,
        judged.refusal_reason,
        false as is_derived

    from redemptions

    inner join judged
        on redemptions.redemption_id = judged.redemption_id

    inner join windows
        on redemptions.redemption_id = windows.redemption_id

),

-- R4: a derived redemption runs for its own coupon's duration; nobody can have revoked it.
derived_windows as (

    select
        derived.redemption_id,
        {{ natural_end('derived.started_at', 'cast(null as timestamp)', 'coupons') }} as natural_end_at

    from derived

    inner join coupons
        on derived.coupon_id = coupons.coupon_id

),

derived_redemptions as (

    select
        derived.redemption_id,
        derived.coupon_id,
        derived.workspace_id,
        derived.user_id,
        derived.redeemed_at,
        cast(null as bigint) as application_order,
        derived.started_at,
        derived_windows.natural_end_at,
        derived_windows.natural_end_at as ended_at,
        case when derived_windows.natural_end_at is not null then 'expiry' end as ended_by,
        derived.refusal_reason,
        true as is_derived

    from derived

    inner join derived_windows
        on derived.redemption_id = derived_windows.redemption_id

),

unified as (

    select * from recorded_redemptions

    union all

    select * from derived_redemptions

),

-- R3: in force from the start until, and not including, the end; an end at or before the start means
-- never. Whether it is so at the end of the as-of date stands here for everyone who asks.
final as (

    select
        unified.redemption_id,
        unified.coupon_id,
        unified.workspace_id,
        unified.user_id,
        unified.redeemed_at,
        unified.application_order,
        unified.started_at,
        unified.natural_end_at,
        unified.ended_at,
        unified.ended_by,
        unified.refusal_reason,
        unified.is_derived,
        unified.refusal_reason is null as is_honoured,
        coalesce(unified.ended_at > unified.started_at, true) as is_ever_in_force,
        unified.started_at < {{ end_of_as_of_date() }} as has_started,
        coalesce(unified.ended_at < {{ end_of_as_of_date() }}, false) as has_ended,
        coupons.program,
        coupons.discount_type,
        coupons.duration,
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
        coupons.follow_up_coupon_id

    from unified

    left join coupons
        on unified.coupon_id = coupons.coupon_id

)

select * from final
