with recursive

follow_ups_due as (

    select * from {{ ref('int_follow_ups_due') }}

    where due_at < {{ horizon() }}

),

redemptions as (

    select * from {{ ref('int_redemptions_known') }}

),

coupons as (

    select * from {{ ref('stg_billing__coupons') }}

),

-- R4: a follow-up is on record if the same workspace redeemed the follow-up coupon, for the same subscription
-- where both redemptions have one.
recorded_in_workspace as (

    select
        coupon_id,
        workspace_id,
        max(case when subscription_id is null then 1 else 0 end) = 1 as is_without_subscription

    from redemptions

    group by
        coupon_id,
        workspace_id

),

recorded_for_subscription as (

    select distinct
        coupon_id,
        workspace_id,
        subscription_id

    from redemptions

    where subscription_id is not null

),

recorded_by_user as (

    select distinct
        coupon_id,
        user_id

    from redemptions

    where user_id is not null

),

-- Every expiry on record hands over to a follow-up, and each follow-up to its own, as long as no coupon occurs
-- twice in a chain. Chains end at the horizon of the outlook.
chained as (

    select
        follow_ups_due.predecessor_redemption_id as root_redemption_id,
        follow_ups_due.predecessor_redemption_id,
        concat(follow_ups_due.predecessor_redemption_id, '~follow-up') as redemption_id,
        1 as chain_position,
        concat(chr(31), follow_ups_due.predecessor_coupon_id, chr(31), follow_ups_due.coupon_id, chr(31)) as chain_coupons,
        follow_ups_due.coupon_id,
        follow_ups_due.workspace_id,
        follow_ups_due.user_id,
        follow_ups_due.subscription_id,
        follow_ups_due.due_at as started_at,
        {{ natural_end('follow_ups_due.due_at', 'cast(null as timestamp)', 'coupons') }} as natural_end_at,
        recorded_in_workspace.workspace_id is not null
        and (
            follow_ups_due.subscription_id is null
            or recorded_in_workspace.is_without_subscription
            or recorded_for_subscription.subscription_id is not null
        ) as is_on_record

    from follow_ups_due

    inner join coupons
        on follow_ups_due.coupon_id = coupons.coupon_id

    left join recorded_in_workspace
        on follow_ups_due.coupon_id = recorded_in_workspace.coupon_id
        and follow_ups_due.workspace_id = recorded_in_workspace.workspace_id

    left join recorded_for_subscription
        on follow_ups_due.coupon_id = recorded_for_subscription.coupon_id
        and follow_ups_due.workspace_id = recorded_for_subscription.workspace_id
        and follow_ups_due.subscription_id = recorded_for_subscription.subscription_id

    union all

    select
        chained.root_redemption_id,
        chained.redemption_id as predecessor_redemption_id,
        concat(chained.redemption_id, '~follow-up') as redemption_id,
        chained.chain_position + 1 as chain_position,
        concat(chained.chain_coupons, coupons.coupon_id, chr(31)) as chain_coupons,
        coupons.coupon_id,
        chained.workspace_id,
        chained.user_id,
        chained.subscription_id,
        chained.natural_end_at as started_at,
        {{ natural_end('chained.natural_end_at', 'cast(null as timestamp)', 'coupons') }} as natural_end_at,
        recorded_in_workspace.workspace_id is not null
        and (
            chained.subscription_id is null
            or recorded_in_workspace.is_without_subscription
            or recorded_for_subscription.subscription_id is not null
        ) as is_on_record

    from chained

    inner join coupons as predecessor_coupons
        on chained.coupon_id = predecessor_coupons.coupon_id

    inner join coupons
        on predecessor_coupons.follow_up_coupon_id = coupons.coupon_id

    left join recorded_in_workspace
        on coupons.coupon_id = recorded_in_workspace.coupon_id
        and chained.workspace_id = recorded_in_workspace.workspace_id

    left join recorded_for_subscription
        on coupons.coupon_id = recorded_for_subscription.coupon_id
        and chained.workspace_id = recorded_for_subscription.workspace_id
        and chained.subscription_id = recorded_for_subscription.subscription_id

    where
        not chained.is_on_record
        and chained.natural_end_at < {{ horizon() }}
        and not contains(chained.chain_coupons, concat(chr(31), coupons.coupon_id, chr(31)))

),

-- R4: only reasons 4 and 5 of R2 can refuse a derived redemption; here they are checked against those on record.
judged_by_record as (

    select
        chained.root_redemption_id,
        chained.predecessor_redemption_id,
        chained.redemption_id,
        chained.chain_position,
        chained.chain_coupons,
        chained.coupon_id,
        chained.workspace_id,
        chained.user_id,
        chained.subscription_id,
        chained.started_at,
        chained.natural_end_at,
        {{ group_in_workspace('coupons.once_per', 'chained.redemption_id', 'chained.workspace_id', 'chained.subscription_id') }} as workspace_group,
        {{ group_by_user('coupons.once_per', 'chained.redemption_id', 'chained.user_id') }} as user_group,
        coupons.once_per in ('user', 'workspace') and recorded_in_workspace.workspace_id is not null as is_recorded_in_workspace,
        coupons.once_per = 'user' and recorded_by_user.user_id is not null as is_recorded_by_user

    from chained

    inner join coupons
        on chained.coupon_id = coupons.coupon_id

    left join recorded_in_workspace
        on chained.coupon_id = recorded_in_workspace.coupon_id
        and chained.workspace_id = recorded_in_workspace.workspace_id

    left join recorded_by_user
        on chained.coupon_id = recorded_by_user.coupon_id
        and chained.user_id = recorded_by_user.user_id

    where not chained.is_on_record

),

final as (

    select
        *,
        is_recorded_in_workspace or is_recorded_by_user as is_refused_by_record

    from judged_by_record

)

select * from final
