{# Each redemption without a user is a group of its own; in one group, all of them would go to a single Spark task. #}
{%- set if_no_user = 'case when user_id is null then redemption_id end' -%}

with

redemptions as (

    select * from {{ ref('int_redemptions_known') }}

),

coupons as (

    select * from {{ ref('stg_billing__coupons') }}

),

workspaces as (

    select workspace_id from {{ ref('stg_billing__workspaces') }}

),

described as (

    select
        redemptions.redemption_id,
        redemptions.coupon_id,
        redemptions.workspace_id,
        redemptions.user_id,
        redemptions.redeemed_at,
        coupons.coupon_id is null as is_unknown_coupon,
        workspaces.workspace_id is null as is_unknown_workspace,
        coupons.redeem_by,
        coupons.requires_no_prior_coupon,
        {{ group_in_workspace('coupons.once_per', 'redemptions.redemption_id', 'redemptions.workspace_id', 'redemptions.subscription_id') }} as workspace_group,
        {{ group_by_user('coupons.once_per', 'redemptions.redemption_id', 'redemptions.user_id') }} as user_group,
        coupons.max_redemptions,
        coupons.follow_up_coupon_id

    from redemptions

    left join coupons
        on redemptions.coupon_id = coupons.coupon_id

    left join workspaces
        on redemptions.workspace_id = workspaces.workspace_id

),

-- R2, reasons 4 and 5: "earlier" means before in the order (redeemed_at, redemption_id), honoured or not. The coupon's
-- once_per decides which redemptions are compared. Only groups of several redemptions are sorted.
{%- set uses = {'workspace': 'use_in_workspace', 'user': 'use_by_user'} %}
{%- for of, use in uses.items() %}
several_of_{{ of }} as (

    select
        coupon_id,
        {{ of }}_group

    from described

    group by
        coupon_id,
        {{ of }}_group

    having count(*) > 1

),

{{ use }} as (

    select
        described.redemption_id,
        row_number() over (
            partition by described.coupon_id, described.{{ of }}_group
            order by described.redeemed_at, described.redemption_id
        ) as {{ use }}

    from described

    inner join several_of_{{ of }}
        on described.coupon_id = several_of_{{ of }}.coupon_id
        and described.{{ of }}_group = several_of_{{ of }}.{{ of }}_group

),

{%- endfor %}

-- R2, reason 6: earlier redemptions are counted only for workspaces and users that redeemed a coupon which requires no
-- prior one.
asking as (

    select * from described

    where requires_no_prior_coupon

),

earlier_in_workspaces as (

    select
        redemption_id,
        row_number() over (
            partition by workspace_id
            order by redeemed_at, redemption_id
        ) - 1 as earlier

    from described

    where workspace_id in (select workspace_id from asking)

),

earlier_by_users as (

    select
        redemption_id,
        row_number() over (
            partition by user_id
            order by redeemed_at, redemption_id
        ) - 1 as earlier

    from described

    where user_id in (select user_id from asking)

),

-- The redemptions that do not count as prior to those of a coupon that requires no prior one: redemptions of the
-- coupon itself, and redemptions of coupons that name it as their follow-up.
overlooked as (

    select
        redemption_id,
        workspace_id,
        user_id,
        redeemed_at,
        coupon_id as for_coupon_id,
        true as is_own

    from asking

    union all

    select
        described.redemption_id,
        described.workspace_id,
        described.user_id,
        described.redeemed_at,
        described.follow_up_coupon_id as for_coupon_id,
        false as is_own

    from described

    inner join coupons as follow_ups
        on described.follow_up_coupon_id = follow_ups.coupon_id
        and follow_ups.requires_no_prior_coupon

    where described.follow_up_coupon_id <> described.coupon_id

),

overlooked_counted as (

    select
        redemption_id,
        is_own,
        row_number() over (
            partition by for_coupon_id, workspace_id
            order by redeemed_at, redemption_id
        ) - 1 as overlooked_in_workspace,
        row_number() over (
            partition by for_coupon_id, user_id, {{ if_no_user }}
            order by redeemed_at, redemption_id
        ) - 1 as overlooked_by_user

    from overlooked

),

with_prior_coupon as (

    select overlooked_counted.redemption_id

    from overlooked_counted

    inner join earlier_in_workspaces
        on overlooked_counted.redemption_id = earlier_in_workspaces.redemption_id

    left join earlier_by_users
        on overlooked_counted.redemption_id = earlier_by_users.redemption_id

    where
        overlooked_counted.is_own
        and (
            earlier_in_workspaces.earlier > overlooked_counted.overlooked_in_workspace
            or earlier_by_users.earlier > overlooked_counted.overlooked_by_user
        )

),

judged_but_for_limit as (

    select
        described.redemption_id,
        described.coupon_id,
        described.redeemed_at,
        described.max_redemptions,
        case
            when described.is_unknown_coupon then 'unknown_coupon'
            when described.is_unknown_workspace then 'unknown_workspace'
            when described.redeemed_at > described.redeem_by then 'redeemed_after_close'
            when use_in_workspace.use_in_workspace > 1 then 'duplicate_for_workspace'
            when use_by_user.use_by_user > 1 then 'duplicate_for_user'
            when with_prior_coupon.redemption_id is not null then 'prior_coupon'
        end as refusal_reason

    from described

    left join use_in_workspace
        on described.redemption_id = use_in_workspace.redemption_id

    left join use_by_user
        on described.redemption_id = use_by_user.redemption_id

    left join with_prior_coupon
        on described.redemption_id = with_prior_coupon.redemption_id

),

-- R2, reason 7: a coupon is used up by n earlier redemptions that are not refused for reasons 1 to 6. Only
-- coupons with a limit are sorted.
limited as (

    select
        redemption_id,
        sum(case when refusal_reason is null then 1 else 0 end) over (
            partition by coupon_id
            order by redeemed_at, redemption_id
            rows between unbounded preceding and current row
        ) > max_redemptions as is_over_redeemed

    from judged_but_for_limit

    where max_redemptions is not null

),

final as (

    select
        judged_but_for_limit.redemption_id,
        case
            when judged_but_for_limit.refusal_reason is not null then judged_but_for_limit.refusal_reason
            when limited.is_over_redeemed then 'over_redeemed'
        end as refusal_reason

    from judged_but_for_limit

    left join limited
        on judged_but_for_limit.redemption_id = limited.redemption_id

)

select * from final
