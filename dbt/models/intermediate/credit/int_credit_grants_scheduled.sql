{%- set redemptions_before = ref('int_redemptions_before') %}
with

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

    where
        discount_type = 'credit'
        and is_honoured
        and is_ever_in_force

),

numbered as (

    select
        *,
        {{ each_whole_number('1', 'case when credit_period_months is null then 1 else credit_max_periods end') }} as grant_period

    from redemptions

),

dated as (

    select
        *,
        {{ months_after('started_at', '(grant_period - 1) * coalesce(credit_period_months, 0)') }} as grant_started_at,
        {{ months_after('started_at', 'grant_period * credit_period_months') }} as period_ended_at

    from numbered

),

-- R7: a further grant must start before the redemption's end and not after redeem_by.
granted as (

    select *

    from dated

    where
        grant_period = 1
        or (
            grant_started_at is not null
            and (ended_at is null or grant_started_at < ended_at)
            and (redeem_by is null or grant_started_at <= redeem_by)
        )

),

-- R7: a grant is valid until its own period or its redemption ends. The scheduled end, which orders
-- draws, disregards revocation and lost eligibility, so that a later revocation reorders nothing.
bounded as (

    select
        *,
        least(coalesce(period_ended_at, ended_at), coalesce(ended_at, period_ended_at)) as grant_ended_at,
        least(
            coalesce(period_ended_at, natural_end_at),
            coalesce(natural_end_at, period_ended_at)
        ) as scheduled_end_at

    from granted

),

final as (

    select
        concat(redemption_id, '#', cast(grant_period as {{ dbt.type_string() }})) as grant_id,
        redemption_id,
        coupon_id,
        workspace_id,
        coupon_currency as currency,
        coupon_minor_per_major as minor_per_major,
        grant_period,
        {{ grant_amount_of_its_day('bounded', redemptions_before) }} as grant_minor,
        credit_priority,
        grant_started_at,
        grant_ended_at,
        scheduled_end_at,
        grant_started_at < {{ end_of_as_of_date() }} as is_issued,
        coalesce(grant_ended_at < {{ end_of_as_of_date() }}, false) as has_ended,
        case
            when ended_by <> 'expiry' and (period_ended_at is null or ended_at < period_ended_at) then 'forfeit'
            else 'expire'
        end as ending_entry_type

    from bounded

)

select * from final
