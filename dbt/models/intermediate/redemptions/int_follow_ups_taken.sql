with

follow_ups_due as (

    select * from {{ ref('int_follow_ups_due') }}

),

derived as (

    select * from {{ ref('int_redemptions_derived') }}

),

coupons as (

    select * from {{ ref('stg_billing__coupons') }}

),

redemptions as (

    select * from {{ ref('int_redemptions_known') }}

),

judged as (

    select * from {{ ref('int_redemptions_judged') }}

),

-- R4: a derived redemption is itself followed up, by a coupon that is not yet in its chain.
due_after_derived as (

    select
        derived.redemption_id as predecessor_redemption_id,
        derived.workspace_id,
        derived.subscription_id,
        follow_up_coupons.coupon_id,
        derived.redeemed_at as predecessor_redeemed_at,
        derived.natural_end_at as due_at,
        derived.natural_end_at < {{ end_of_as_of_date() }} as is_due

    from derived

    inner join coupons
        on derived.coupon_id = coupons.coupon_id

    inner join coupons as follow_up_coupons
        on coupons.follow_up_coupon_id = follow_up_coupons.coupon_id

    where
        derived.refusal_reason is null
        and derived.natural_end_at is not null
        and not contains(derived.chain_coupons, concat(chr(31), follow_up_coupons.coupon_id, chr(31)))

),

handed_over as (

    select
        predecessor_redemption_id,
        workspace_id,
        subscription_id,
        coupon_id,
        predecessor_redeemed_at,
        due_at,
        is_due

    from follow_ups_due

    union all

    select * from due_after_derived

),

-- R4: the first honoured redemption of the follow-up coupon on record that is not earlier than its predecessor,
-- and is of the same subscription where both have one.
candidates as (

    select
        handed_over.*,
        redemptions.redemption_id,
        redemptions.started_at,
        row_number() over (
            partition by handed_over.predecessor_redemption_id
            order by redemptions.redeemed_at, redemptions.redemption_id
        ) as candidate_number

    from handed_over

    inner join redemptions
        on handed_over.workspace_id = redemptions.workspace_id
        and handed_over.coupon_id = redemptions.coupon_id
        and (
            handed_over.subscription_id is null
            or redemptions.subscription_id is null
            or handed_over.subscription_id = redemptions.subscription_id
        )
        and (
            handed_over.predecessor_redeemed_at < redemptions.redeemed_at
            or (
                handed_over.predecessor_redeemed_at = redemptions.redeemed_at
                and handed_over.predecessor_redemption_id < redemptions.redemption_id
            )
        )

    inner join judged
        on redemptions.redemption_id = judged.redemption_id
        and judged.refusal_reason is null

),

final as (

    select
        redemption_id,
        predecessor_redemption_id,
        predecessor_redeemed_at,
        due_at,
        is_due,
        false as is_derived,
        started_at,
        started_at = due_at as is_immediate

    from candidates

    where candidate_number = 1

    union all

    select
        derived.redemption_id,
        derived.predecessor_redemption_id,
        cast(null as timestamp) as predecessor_redeemed_at,
        derived.started_at as due_at,
        derived.is_due,
        true as is_derived,
        derived.started_at,
        true as is_immediate

    from derived

)

select * from final
