with

redemptions as (

    select * from {{ ref('int_redemptions_unified') }}

),

tracked as (

    select * from {{ ref('int_redemptions_tracked') }}

),

totals as (

    select * from {{ ref('int_redemption_benefits_totalled') }}

),

run_rates as (

    select * from {{ ref('int_redemption_run_rates') }}

),

known_coupons as (

    select coupon_id from {{ ref('stg_billing__coupons') }}

),

-- R12: in force at the end of the as-of date, ending within twelve months of it.
ending as (

    select redemptions.*

    from redemptions

    inner join tracked
        on redemptions.redemption_id = tracked.redemption_id
        and tracked.is_in_force

    where redemptions.ended_at < {{ add_months(end_of_as_of_date(), '12') }}

),

handing_over as (

    select ending.*

    from ending

    inner join known_coupons
        on ending.follow_up_coupon_id = known_coupons.coupon_id

    where
        ending.ended_by = 'expiry'
        and not ending.is_derived
        and ending.follow_up_coupon_id <> ending.coupon_id

),

on_record_for_workspace as (

    select
        handing_over.redemption_id,
        max(
            case
                when redemptions.is_honoured
                    and (
                        redemptions.redeemed_at > handing_over.redeemed_at
                        or (
                            redemptions.redeemed_at = handing_over.redeemed_at
                            and redemptions.redemption_id > handing_over.redemption_id
                        )
                    )
                    then 1
                else 0
            end
        ) = 1 as is_honoured_after

    from handing_over

    inner join redemptions
        on handing_over.workspace_id = redemptions.workspace_id
        and handing_over.follow_up_coupon_id = redemptions.coupon_id

    where not redemptions.is_derived

    group by handing_over.redemption_id

),

on_record_for_user as (

    select distinct handing_over.redemption_id

    from handing_over

    inner join redemptions
        on handing_over.user_id = redemptions.user_id
        and handing_over.follow_up_coupon_id = redemptions.coupon_id

    where not redemptions.is_derived

),

-- R4, looking ahead: a follow-up on record that is honoured, or one that will be derived because
-- neither the workspace nor the user has one on record.
followed_up as (

    select handing_over.redemption_id

    from handing_over

    left join on_record_for_workspace
        on handing_over.redemption_id = on_record_for_workspace.redemption_id

    left join on_record_for_user
        on handing_over.redemption_id = on_record_for_user.redemption_id

    where
        on_record_for_workspace.is_honoured_after
        or (on_record_for_workspace.redemption_id is null and on_record_for_user.redemption_id is null)

),

final as (

    select
        ending.redemption_id,
        ending.workspace_id,
        ending.coupon_id,
        ending.program,
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
