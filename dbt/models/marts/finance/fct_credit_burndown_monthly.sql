with

entries as (

    select * from {{ of_recalculated_workspaces(ref('fct_credit_ledger')) }}

),

looked_ahead as (

    select * from {{ ref('int_grants_looked_ahead') }}

),

-- The last month of a grant is the one in which it ended, or else that of the as-of date. R12: the run rate is over
-- those of the last three ended months that are not before the grant's start; the outlook gives the day on which a
-- bill uses up the balance, and what is left of the grant at its end.
grants as (

    select
        issued.grant_id,
        issued.redemption_id,
        issued.coupon_id,
        issued.workspace_id,
        issued.currency,
        issued.minor_per_major,
        issued.grant_period,
        issued.grant_ended_at,
        issued.has_ended,
        case when issued.has_ended then {{ month_of('issued.grant_ended_at') }} else {{ month_of_day(as_of_date()) }} end as last_month,
        least(3, {{ calendar_months_between(month_of('issued.grant_started_at'), month_after_as_of_date()) }}) as run_rate_months,
        case when looked_ahead.is_used_up_in_outlook then {{ day_of('looked_ahead.used_up_at') }} end as used_up_on,
        looked_ahead.breakage_minor

    from {{ of_recalculated_workspaces(ref('int_credit_grants_scheduled')) }} as issued

    inner join looked_ahead
        on issued.grant_id = looked_ahead.grant_id

    where issued.is_issued

),

entries_of_months as (

    select
        grant_id,
        effective_month as burn_month,
        cast(sum(amount) as decimal(18, 2)) as change_amount,
        cast(sum(case when entry_type = 'grant' then amount else 0 end) as decimal(18, 2)) as granted_amount,
        cast(sum(case when entry_type = 'draw' then -amount else 0 end) as decimal(18, 2)) as drawn_amount,
        cast(sum(case when entry_type = 'expire' then -amount else 0 end) as decimal(18, 2)) as expired_amount,
        cast(sum(case when entry_type = 'forfeit' then -amount else 0 end) as decimal(18, 2)) as forfeited_amount

    from entries

    group by
        grant_id,
        effective_month

),

balanced as (

    select
        *,
        cast(
            sum(change_amount) over (
                partition by grant_id
                order by burn_month
                rows between unbounded preceding and current row
            ) as decimal(18, 2)
        ) as closing_amount,
        cast(
            sum(
                case
                    when burn_month >= {{ three_months_before_end() }} and burn_month < {{ month_after_as_of_date() }} then drawn_amount
                    else 0
                end
            ) over (partition by grant_id) as decimal(18, 2)
        ) as run_rate_drawn_amount,
        lead(burn_month) over (partition by grant_id order by burn_month) as next_month_with_entries

    from entries_of_months

),

-- A grant has an entry in its first month. Each month with entries is followed by the months without any, until the
-- next one with entries or the last month.
numbered_months as (

    select
        balanced.*,
        grants.redemption_id,
        grants.coupon_id,
        grants.workspace_id,
        grants.currency,
        grants.minor_per_major,
        grants.grant_period,
        grants.grant_ended_at,
        grants.has_ended,
        grants.last_month,
        grants.run_rate_months,
        grants.used_up_on,
        grants.breakage_minor,
        {{ each_whole_number(
            '0',
            'coalesce('
            ~ calendar_months_between('balanced.burn_month', 'balanced.next_month_with_entries') ~ ' - 1, '
            ~ calendar_months_between('balanced.burn_month', 'grants.last_month') ~ ')'
        ) }} as month_number

    from balanced

    inner join grants
        on balanced.grant_id = grants.grant_id

),

months as (

    select
        grant_id,
        redemption_id,
        coupon_id,
        workspace_id,
        currency,
        minor_per_major,
        grant_period,
        grant_ended_at,
        {{ month_later('burn_month', 'month_number') }} as burn_month,
        not has_ended and {{ month_later('burn_month', 'month_number') }} = last_month as is_projected,
        case when month_number = 0 then change_amount else 0 end as change_amount,
        case when month_number = 0 then granted_amount else 0 end as granted_amount,
        case when month_number = 0 then drawn_amount else 0 end as drawn_amount,
        case when month_number = 0 then expired_amount else 0 end as expired_amount,
        case when month_number = 0 then forfeited_amount else 0 end as forfeited_amount,
        closing_amount,
        cast(run_rate_drawn_amount * minor_per_major as bigint) as run_rate_drawn_minor,
        run_rate_months,
        used_up_on,
        breakage_minor

    from numbered_months

),

final as (

    select
        grant_id,
        redemption_id,
        coupon_id,
        workspace_id,
        currency,
        grant_period,
        grant_ended_at as grant_ends_at,
        burn_month,
        cast(closing_amount - change_amount as decimal(18, 2)) as opening_amount,
        cast(granted_amount as decimal(18, 2)) as granted_amount,
        cast(drawn_amount as decimal(18, 2)) as drawn_amount,
        cast(expired_amount as decimal(18, 2)) as expired_amount,
        cast(forfeited_amount as decimal(18, 2)) as forfeited_amount,
        closing_amount,
        case
            when is_projected and run_rate_months > 0
                then {{ published_amount(divide_rounded('run_rate_drawn_minor', 'greatest(run_rate_months, 1)')) }}
        end as run_rate_amount,
        case when is_projected and closing_amount > 0 then used_up_on end as projected_exhaustion_date,
        case when is_projected then {{ published_amount('breakage_minor') }} end as projected_breakage_amount

    from months

)

select * from final
