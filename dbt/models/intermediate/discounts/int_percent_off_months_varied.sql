with

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

    where
        discount_type = 'percent_off'
        and is_honoured
        and is_ever_in_force

),

discounted as (

    select * from {{ ref('int_invoices_discounted') }}

),

-- Once each, however many redemptions cover them.
covered_invoices as (

    select distinct
        invoice_id,
        workspace_id,
        currency,
        minor_per_major,
        billing_month,
        list_minor

    from {{ ref('int_redemption_invoices_covered') }}

    where discount_type = 'percent_off'

),

-- R10: B and D of a month, over its invoices covered by a percent-off redemption.
covered_months as (

    select
        invoices.workspace_id,
        invoices.currency,
        invoices.minor_per_major,
        invoices.billing_month,
        {{ sum_minor('invoices.list_minor') }} as bill_minor,
        coalesce({{ sum_minor('discounted.percent_off_minor') }}, 0) as percent_off_minor

    from covered_invoices as invoices

    left join discounted
        on invoices.invoice_id = discounted.invoice_id

    group by
        invoices.workspace_id,
        invoices.currency,
        invoices.minor_per_major,
        invoices.billing_month

),

spans as (

    select
        workspace_id,
        currency,
        minor_per_major,
        min(billing_month) as first_month,
        max(billing_month) as last_month

    from covered_months

    group by
        workspace_id,
        currency,
        minor_per_major

),

numbered_months as (

    select
        workspace_id,
        currency,
        minor_per_major,
        first_month,
        {{ each_whole_number('0', calendar_months_between('first_month', 'last_month') ~ ' + 1') }} as month_number

    from spans

),

-- R10: without gaps, to the month after the last covered one, not past the month of the as-of date.
months as (

    select
        workspace_id,
        currency,
        minor_per_major,
        cast({{ add_months('cast(first_month as timestamp)', 'month_number') }} as date) as variance_month,
        {{ add_months('cast(first_month as timestamp)', 'month_number + 1') }} as next_month_at

    from numbered_months

    where cast({{ add_months('cast(first_month as timestamp)', 'month_number') }} as date) <= {{ month_of(as_of_date()) }}

),

-- R10: in force at the end of a month: a redemption started before the next month and ends in it or
-- later, or never.
month_turns as (

    select
        workspace_id,
        cast(variance_month as timestamp) as turns_at

    from months

    union

    select
        workspace_id,
        next_month_at as turns_at

    from months

),

turns_in_force as (

    select distinct
        month_turns.workspace_id,
        month_turns.turns_at

    from month_turns

    inner join redemptions
        on month_turns.workspace_id = redemptions.workspace_id
        and month_turns.turns_at > redemptions.started_at
        and (redemptions.ended_at is null or month_turns.turns_at <= redemptions.ended_at)

),

filled as (

    select
        months.workspace_id,
        months.currency,
        months.minor_per_major,
        months.variance_month,
        covered_months.billing_month is not null as is_covered,
        coalesce(covered_months.bill_minor, 0) as bill_minor,
        coalesce(covered_months.percent_off_minor, 0) as percent_off_minor,
        turns_before.workspace_id is not null as was_in_force_at_end,
        turns_after.workspace_id is not null as is_in_force_at_end

    from months

    left join covered_months
        on months.workspace_id = covered_months.workspace_id
        and months.currency = covered_months.currency
        and months.variance_month = covered_months.billing_month

    left join turns_in_force as turns_before
        on months.workspace_id = turns_before.workspace_id
        and turns_before.turns_at = cast(months.variance_month as timestamp)

    left join turns_in_force as turns_after
        on months.workspace_id = turns_after.workspace_id
        and months.next_month_at = turns_after.turns_at

),

compared as (

    select
        *,
        coalesce(lag(is_covered) over (partition by workspace_id, currency order by variance_month), false) as was_covered,
        coalesce(lag(bill_minor) over (partition by workspace_id, currency order by variance_month), 0) as previous_bill_minor,
        coalesce(lag(percent_off_minor) over (partition by workspace_id, currency order by variance_month), 0) as previous_percent_off_minor

    from filled

),

measured as (

    select
        *,
        percent_off_minor - previous_percent_off_minor as delta_minor,
        case
            when previous_bill_minor = 0 then percent_off_minor - previous_percent_off_minor
            else {{ divide_rounded(
                'cast(previous_percent_off_minor as ' ~ wide_integer() ~ ') * (bill_minor - previous_bill_minor)',
                'greatest(previous_bill_minor, 1)'
            ) }}
        end as proportional_minor

    from compared

),

final as (

    select
        workspace_id,
        currency,
        minor_per_major,
        variance_month,
        is_covered,
        bill_minor,
        percent_off_minor,
        previous_bill_minor,
        previous_percent_off_minor,
        delta_minor,
        case
            when is_covered and was_covered then proportional_minor
            when is_covered and was_in_force_at_end then delta_minor
            when was_covered and not is_covered and is_in_force_at_end then delta_minor
            else 0
        end as bill_effect_minor,
        case
            when is_covered and was_covered then delta_minor - proportional_minor
            else 0
        end as rate_effect_minor,
        case
            when is_covered and not was_covered and not was_in_force_at_end then delta_minor
            else 0
        end as start_effect_minor,
        case
            when was_covered and not is_covered and not is_in_force_at_end then delta_minor
            else 0
        end as end_effect_minor

    from measured

)

select * from final
