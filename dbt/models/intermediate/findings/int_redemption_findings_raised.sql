with

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

    where not is_derived

),

totals as (

    select * from {{ ref('int_redemption_benefits_totalled') }}

),

follow_ups_due as (

    select * from {{ ref('int_follow_ups_due') }}

    where is_due

),

-- R4: the first honoured redemption of the follow-up that is not earlier than its predecessor.
candidates as (

    select
        follow_ups_due.due_at,
        redemptions.redemption_id,
        redemptions.started_at,
        row_number() over (
            partition by follow_ups_due.predecessor_redemption_id
            order by redemptions.redeemed_at, redemptions.redemption_id
        ) as candidate_number

    from follow_ups_due

    inner join redemptions
        on follow_ups_due.workspace_id = redemptions.workspace_id
        and follow_ups_due.coupon_id = redemptions.coupon_id
        and redemptions.is_honoured
        and (
            follow_ups_due.predecessor_redeemed_at < redemptions.redeemed_at
            or (
                follow_ups_due.predecessor_redeemed_at = redemptions.redeemed_at
                and follow_ups_due.predecessor_redemption_id < redemptions.redemption_id
            )
        )

),

-- R4: where it follows several, starting at the end of one of them is enough.
late_follow_ups as (

    select redemption_id

    from candidates

    where candidate_number = 1

    group by redemption_id

    having max(case when due_at = started_at then 1 else 0 end) = 0

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
        totals.currency

    from raised

    inner join redemptions
        on raised.redemption_id = redemptions.redemption_id

    inner join totals
        on raised.redemption_id = totals.redemption_id

)

select * from final
