with

grants as (

    select * from {{ ref('int_credit_grants_scheduled') }}

    where is_issued

),

entries as (

    select * from {{ ref('int_credit_entries_posted') }}

),

looked_ahead as (

    select * from {{ ref('int_grants_looked_ahead') }}

),

-- From the first month of validity to the month the grant ended, or the month of the as-of date.
spans as (

    select
        grant_id,
        {{ month_of('grant_started_at') }} as first_month,
        case when has_ended then {{ month_of('grant_ended_at') }} else {{ month_of_day(as_of_date()) }} end as last_month

    from grants

),

numbered_months as (

    select
        grant_id,
        first_month,
        last_month,
        {{ each_whole_number('0', calendar_months_between('first_month', 'last_month')) }} as month_number

    from spans

),

months as (

    select
        grant_id,
        {{ month_later('first_month', 'month_number') }} as burn_month,
        {{ month_later('first_month', 'month_number') }} = last_month as is_last_month

    from numbered_months

),

entries_of_months as (

    select
        grant_id,
        {{ month_of('effective_at') }} as burn_month,
        {{ sum_minor('signed_minor') }} as change_minor,
        {{ sum_minor("case when entry_type = 'grant' then signed_minor else 0 end") }} as granted_minor,
        {{ sum_minor("case when entry_type = 'draw' then -signed_minor else 0 end") }} as drawn_minor,
        {{ sum_minor("case when entry_type = 'expire' then -signed_minor else 0 end") }} as expired_minor,
        {{ sum_minor("case when entry_type = 'forfeit' then -signed_minor else 0 end") }} as forfeited_minor

    from entries

    group by
        grant_id,
        {{ month_of('effective_at') }}

),

filled as (

    select
        months.grant_id,
        months.burn_month,
        months.is_last_month,
        coalesce(entries_of_months.change_minor, 0) as change_minor,
        coalesce(entries_of_months.granted_minor, 0) as granted_minor,
        coalesce(entries_of_months.drawn_minor, 0) as drawn_minor,
        coalesce(entries_of_months.expired_minor, 0) as expired_minor,
        coalesce(entries_of_months.forfeited_minor, 0) as forfeited_minor,
        -- R12: the last three months that had ended by the end of the as-of date.
        months.burn_month < {{ month_after_as_of_date() }}
        and months.burn_month >= {{ three_months_before_end() }} as is_in_run_rate

    from months

    left join entries_of_months
        on months.grant_id = entries_of_months.grant_id
        and months.burn_month = entries_of_months.burn_month

),

balanced as (

    select
        *,
        {{ sum_minor_over(
            'change_minor',
            'partition by grant_id order by burn_month rows between unbounded preceding and current row'
        ) }} as closing_minor,
        {{ sum_minor_over('case when is_in_run_rate then drawn_minor else 0 end', 'partition by grant_id') }} as run_rate_drawn_minor,
        {{ sum_minor_over('case when is_in_run_rate then 1 else 0 end', 'partition by grant_id') }} as run_rate_months

    from filled

),

joined as (

    select
        balanced.*,
        grants.redemption_id,
        grants.coupon_id,
        grants.workspace_id,
        grants.currency,
        grants.minor_per_major,
        grants.grant_period,
        grants.grant_ended_at,
        balanced.is_last_month and not grants.has_ended as is_projected,
        case
            when balanced.is_last_month and not grants.has_ended and balanced.run_rate_months > 0
                then {{ divide_rounded('balanced.run_rate_drawn_minor', 'greatest(balanced.run_rate_months, 1)') }}
        end as run_rate_minor

    from balanced

    inner join grants
        on balanced.grant_id = grants.grant_id

),

-- R12: for a grant valid at the end of the as-of date, the bill that uses up the balance, and what is left of the
-- grant at its end.
projected as (

    select
        joined.*,
        case
            when joined.is_projected and joined.closing_minor > 0 and looked_ahead.is_used_up_in_outlook
                then {{ day_of('looked_ahead.used_up_at') }}
        end as exhaustion_date,
        case when joined.is_projected then looked_ahead.breakage_minor end as breakage_minor

    from joined

    inner join looked_ahead
        on joined.grant_id = looked_ahead.grant_id

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
        {{ published_amount('(closing_minor - change_minor)') }} as opening_amount,
        {{ published_amount('granted_minor') }} as granted_amount,
        {{ published_amount('drawn_minor') }} as drawn_amount,
        {{ published_amount('expired_minor') }} as expired_amount,
        {{ published_amount('forfeited_minor') }} as forfeited_amount,
        {{ published_amount('closing_minor') }} as closing_amount,
        {{ published_amount('run_rate_minor') }} as run_rate_amount,
        exhaustion_date as projected_exhaustion_date,
        {{ published_amount('breakage_minor') }} as projected_breakage_amount

    from projected

)

select * from final
