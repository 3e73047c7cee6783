with

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

),

statuses as (

    select * from {{ ref('int_redemption_statuses') }}

),

run_rates as (

    select * from {{ ref('int_redemption_run_rates') }}

),

follow_ups_taken as (

    select * from {{ ref('int_follow_ups_taken') }}

),

rises as (

    select * from {{ ref('int_redemption_rises_looked_ahead') }}

),

-- R12: redemptions that are active at the end of the as-of date and run out within the twelve months after.
ending as (

    select *

    from {{ ref('int_redemption_ends_looked_ahead') }}

    where runs_out_at < {{ add_months(end_of_as_of_date(), '12') }}

),

-- R4, looking ahead: an honoured follow-up, on record or to be derived.
followed_up as (

    select distinct follow_ups_taken.predecessor_redemption_id as redemption_id

    from follow_ups_taken

    inner join redemptions
        on follow_ups_taken.redemption_id = redemptions.redemption_id
        and redemptions.is_honoured

    where follow_ups_taken.due_at < {{ horizon() }}

),

final as (

    select
        redemptions.redemption_id,
        redemptions.workspace_id,
        redemptions.coupon_id,
        redemptions.program,
        statuses.status,
        rises.currency,
        redemptions.ended_at as ends_at,
        {{ month_of('ending.runs_out_at') }} as ends_month,
        case
            when rises.is_one_currency then {{ published_amount('run_rates.run_rate_minor', 'rises.minor_per_major') }}
        end as run_rate_amount,
        redemptions.follow_up_coupon_id,
        followed_up.redemption_id is not null as is_followed_up,
        ending.runs_out_at,
        ending.runs_out_by,
        rises.last_benefit_invoice_id,
        rises.last_benefit_at,
        {{ published_amount('rises.rise_minor', 'rises.minor_per_major') }} as rise_amount,
        {{ published_amount('rises.monthly_rise_minor', 'rises.minor_per_major') }} as monthly_rise_amount

    from ending

    inner join redemptions
        on ending.redemption_id = redemptions.redemption_id

    inner join statuses
        on ending.redemption_id = statuses.redemption_id

    inner join run_rates
        on ending.redemption_id = run_rates.redemption_id

    inner join rises
        on ending.redemption_id = rises.redemption_id

    left join followed_up
        on ending.redemption_id = followed_up.redemption_id

)

select * from final
