with

grants as (

    select * from {{ of_recalculated_workspaces(ref('int_credit_grants_scheduled')) }}

    where is_issued

),

draws as (

    select * from {{ of_recalculated_workspaces(ref('int_credit_draws')) }}

    where
        not is_expected
        and draw_minor > 0

),

drawn_totals as (

    select
        grant_id,
        {{ sum_minor('draw_minor') }} as drawn_minor

    from draws

    group by grant_id

),

grant_entries as (

    select
        grant_id,
        'grant' as entry_type,
        cast(null as {{ dbt.type_string() }}) as invoice_id,
        grant_started_at as effective_at,
        grant_minor as signed_minor,
        1 as entry_class

    from grants

),

draw_entries as (

    select
        grant_id,
        'draw' as entry_type,
        invoice_id,
        issued_at as effective_at,
        -draw_minor as signed_minor,
        2 as entry_class

    from draws

),

-- R7: what is left of a grant at its end expires or is forfeited.
ending_entries as (

    select
        grants.grant_id,
        grants.ending_entry_type as entry_type,
        cast(null as {{ dbt.type_string() }}) as invoice_id,
        grants.grant_ended_at as effective_at,
        coalesce(drawn_totals.drawn_minor, 0) - grants.grant_minor as signed_minor,
        3 as entry_class

    from grants

    left join drawn_totals
        on grants.grant_id = drawn_totals.grant_id

    where
        grants.has_ended
        and grants.grant_minor > coalesce(drawn_totals.drawn_minor, 0)

),

entries as (

    select * from grant_entries

    union all

    select * from draw_entries

    union all

    select * from ending_entries

),

balanced as (

    select
        *,
        {{ sum_minor_over(
            'signed_minor',
            'partition by grant_id order by entry_class, effective_at, invoice_id rows between unbounded preceding and current row'
        ) }} as balance_minor

    from entries

),

final as (

    select
        case
            when entries.entry_type = 'draw' then concat(entries.grant_id, ':draw:', entries.invoice_id)
            else concat(entries.grant_id, ':', entries.entry_type)
        end as entry_id,
        entries.grant_id,
        grants.redemption_id,
        grants.coupon_id,
        grants.workspace_id,
        grants.currency,
        entries.entry_type,
        entries.invoice_id,
        entries.effective_at,
        {{ published_amount('entries.signed_minor', 'grants.minor_per_major') }} as amount,
        {{ published_amount('entries.balance_minor', 'grants.minor_per_major') }} as balance_amount,
        {{ month_of('entries.effective_at') }} as effective_month

    from balanced as entries

    inner join grants
        on entries.grant_id = grants.grant_id

)

select * from final
