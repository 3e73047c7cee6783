with

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

),

statuses as (

    select * from {{ ref('int_redemption_statuses') }}

),

totals as (

    select * from {{ ref('int_redemption_benefits_totalled') }}

),

run_rates as (

    select * from {{ ref('int_redemption_run_rates') }}

),

follow_ups_taken as (

    select * from {{ ref('int_follow_ups_taken') }}

),

-- R12: in force at the end of the as-of date, ending within twelve months of it.
ending as (

    select
        redemptions.*,
        statuses.status

    from redemptions

    inner join statuses
        on redemptions.redemption_id = statuses.redemption_id
        and statuses.is_in_force

    where redemptions.ended_at < {{ add_months(end_of_as_of_date(), '12') }}

),

-- R4, looking ahead: a follow-up on record, or one that will be derived, that is honoured.
followed_up as (

    select distinct follow_ups_taken.predecessor_redemption_id as redemption_id

    from follow_ups_taken

    inner join redemptions
        on follow_ups_taken.redemption_id = redemptions.redemption_id
        and redemptions.is_honoured

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
