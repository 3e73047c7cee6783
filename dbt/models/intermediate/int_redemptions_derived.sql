with

redemptions as (

    select * from {{ ref('int_redemptions_known') }}

),

judged as (

    select * from {{ ref('int_redemptions_judged') }}

),

coupons as (

    select * from {{ ref('stg_billing__coupons') }}

),

windows as (

    select * from {{ ref('int_redemption_windows_recorded') }}

),

-- R4: what an honoured redemption that ran out by expiry hands over to its coupon's follow-up.
handed_over as (

    select
        redemptions.redemption_id as predecessor_redemption_id,
        redemptions.workspace_id,
        redemptions.user_id,
        coupons.follow_up_coupon_id as coupon_id,
        windows.ended_at as started_at

    from redemptions

    inner join judged
        on redemptions.redemption_id = judged.redemption_id
        and judged.refusal_reason is null

    inner join windows
        on redemptions.redemption_id = windows.redemption_id
        and windows.ended_by = 'expiry'
        and windows.ended_at > windows.started_at
        and windows.ended_at < {{ end_of_as_of_date() }}

    inner join coupons
        on redemptions.coupon_id = coupons.coupon_id
        and coupons.follow_up_coupon_id <> coupons.coupon_id

    inner join coupons as follow_up_coupons
        on coupons.follow_up_coupon_id = follow_up_coupons.coupon_id

),

on_record_for_workspace as (

    select distinct
        coupon_id,
        workspace_id

    from redemptions

),

on_record_for_user as (

    select distinct
        coupon_id,
        user_id

    from redemptions

    where user_id is not null

),

-- R4: derived only where the workspace has no redemption of the follow-up on record.
derived as (

    select
        handed_over.predecessor_redemption_id || '~follow-up' as redemption_id,
        handed_over.predecessor_redemption_id,
        handed_over.coupon_id,
        handed_over.workspace_id,
        handed_over.user_id,
        handed_over.started_at,
        on_record_for_user.user_id is not null as is_on_record_for_user

    from handed_over

    left join on_record_for_workspace
        on handed_over.coupon_id = on_record_for_workspace.coupon_id
        and handed_over.workspace_id = on_record_for_workspace.workspace_id

    left join on_record_for_user
        on handed_over.coupon_id = on_record_for_user.coupon_id
        and handed_over.user_id = on_record_for_user.user_id

    where on_record_for_workspace.workspace_id is null

),

counted as (

    select
        *,
        row_number() over (
            partition by coupon_id, workspace_id
            order by started_at, redemption_id
        ) as use_in_workspace,
        case
            when user_id is not null
                then row_number() over (
                    partition by coupon_id, user_id
                    order by started_at, redemption_id
                )
        end as use_by_user

    from derived

),

-- R4: of R2 only reasons 4 and 5 are asked of a derived redemption.
final as (

    select
        redemption_id,
        predecessor_redemption_id,
        coupon_id,
        workspace_id,
        user_id,
        started_at as redeemed_at,
        started_at,
        case
            when use_in_workspace > 1 then 'duplicate_for_workspace'
            when is_on_record_for_user or use_by_user > 1 then 'duplicate_for_user'
        end as refusal_reason

    from counted

)

select * from final
