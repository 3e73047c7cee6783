{# Those without a user are no group; on Spark they would all come to one task. #}
{%- set if_no_user = 'case when user_id is null then redemption_id end' -%}

with

redemptions as (

    select * from {{ ref('int_redemptions_known') }}

),

handed_over as (

    select * from {{ ref('int_follow_ups_due') }}

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
        handed_over.due_at as started_at,
        handed_over.is_due,
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
                    partition by coupon_id, user_id, {{ if_no_user }}
                    order by started_at, redemption_id
                )
        end as use_by_user

    from derived

),

-- R4: of R2 only reasons 4 and 5 are asked of a derived redemption. Those to come are after all that are
-- due, and change nothing for them.
final as (

    select
        redemption_id,
        predecessor_redemption_id,
        coupon_id,
        workspace_id,
        user_id,
        started_at as redeemed_at,
        started_at,
        is_due,
        case
            when use_in_workspace > 1 then 'duplicate_for_workspace'
            when is_on_record_for_user or use_by_user > 1 then 'duplicate_for_user'
        end as refusal_reason

    from counted

)

select * from final
