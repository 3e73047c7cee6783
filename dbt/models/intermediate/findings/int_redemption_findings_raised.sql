with

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

    where not is_derived

),

totals as (

    select * from {{ ref('int_redemption_benefits_totalled') }}

),

follow_ups_taken as (

    select * from {{ ref('int_follow_ups_taken') }}

    where
        is_due
        and not is_derived

),

-- R4: a redemption that follows several others needs to start at the end of only one of them.
late_follow_ups as (

    select redemption_id

    from follow_ups_taken

    group by redemption_id

    having max(case when is_immediate then 1 else 0 end) = 0

),

raised as (

    select
        redemption_id,
        refusal_reason as finding_type

    from redemptions

    where not is_honoured

    union all

    select
        redemption_id,
        'follow_up_not_immediate' as finding_type

    from late_follow_ups

),

final as (

    select
        raised.finding_type,
        case raised.finding_type when 'follow_up_not_immediate' then 'warn' else 'error' end as severity,
        redemptions.workspace_id,
        redemptions.redemption_id,
        redemptions.coupon_id,
        case raised.finding_type
            when 'follow_up_not_immediate' then redemptions.started_at
            else redemptions.redeemed_at
        end as occurred_at,
        totals.currency,
        coalesce(redemptions.once_per = 'subscription' and redemptions.subscription_id is not null, false)
            as is_once_per_subscription

    from raised

    inner join redemptions
        on raised.redemption_id = redemptions.redemption_id

    inner join totals
        on raised.redemption_id = totals.redemption_id

)

select * from final
