with

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

),

tracked as (

    select * from {{ ref('int_redemption_statuses') }}

),

totals as (

    select * from {{ ref('int_redemption_benefits_totalled') }}

),

run_rates as (

    select * from {{ ref('int_redemption_run_rates') }}

),

follow_ups_due as (

    select * from {{ ref('int_follow_ups_due') }}

    where not is_due

),

to_be_derived as (

    select * from {{ ref('int_redemptions_derived') }}

    where not is_due

),

-- R12: in force at the end of the as-of date, ending within twelve months of it.
ending as (

    select
        redemptions.*,
        tracked.status

    from redemptions

    inner join tracked
        on redemptions.redemption_id = tracked.redemption_id
        and tracked.is_in_force

    where redemptions.ended_at < {{ add_months(end_of_as_of_date(), '12') }}

),

-- R4, looking ahead: a follow-up on record that is honoured and not earlier, or one that will be derived
-- and honoured.
followed_up as (

    select follow_ups_due.predecessor_redemption_id as redemption_id

    from follow_ups_due

    inner join redemptions
        on follow_ups_due.workspace_id = redemptions.workspace_id
        and follow_ups_due.coupon_id = redemptions.coupon_id
        and redemptions.is_honoured
        and not redemptions.is_derived
        and (
            follow_ups_due.predecessor_redeemed_at < redemptions.redeemed_at
            or (
                follow_ups_due.predecessor_redeemed_at = redemptions.redeemed_at
                and follow_ups_due.predecessor_redemption_id < redemptions.redemption_id
            )
        )

    union

    select predecessor_redemption_id as redemption_id

    from to_be_derived

    where refusal_reason is null

),

final as (

    select
        ending.redemption_id,
        ending.workspace_id,
        ending.coupon_id,
        ending.program,
        ending.status,
        totals.currency,
        ending.ended_at as ends_at,
        {{ month_of('ending.ended_at') }} as ends_month,
        case
            when totals.is_one_currency then {{ published_amount('run_rates.run_rate_minor', 'totals.minor_per_major') }}
        end as run_rate_amount,
        ending.follow_up_coupon_id,
        followed_up.redemption_id is not null as is_followed_up

    from ending

    inner join totals
        on ending.redemption_id = totals.redemption_id

    inner join run_rates
        on ending.redemption_id = run_rates.redemption_id

    left join followed_up
        on ending.redemption_id = followed_up.redemption_id

)

select * from final
