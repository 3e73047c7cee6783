with

-- R12: the outlook needs bills only for workspaces with a redemption in force or still to come.
workspaces as (

    select distinct workspace_id

    from {{ of_recalculated_workspaces(ref('int_redemptions_with_terms'), 'int_workspaces_touched') }}

    where
        is_honoured
        and not has_ended

),

-- R12: a line is the bills above zero of one workspace that share subscription, plan, interval and currency.
numbered as (

    select
        invoices.invoice_id,
        invoices.workspace_id,
        invoices.subscription_id,
        invoices.plan,
        invoices.billing_interval,
        invoices.interval_count,
        invoices.currency,
        invoices.minor_per_major,
        invoices.issued_at,
        invoices.list_minor,
        invoices.discountable_minor,
        coalesce(invoices.creditable_minor, invoices.list_minor) as creditable_minor,
        row_number() over (
            partition by
                invoices.workspace_id,
                invoices.subscription_id,
                invoices.plan,
                invoices.billing_interval,
                invoices.interval_count,
                invoices.currency
            order by invoices.issued_at desc, invoices.invoice_id desc
        ) as bills_back

    from {{ ref('int_invoices_counted') }} as invoices

    inner join workspaces
        on invoices.workspace_id = workspaces.workspace_id

    where
        invoices.list_minor > 0
        and invoices.billing_interval in ('day', 'week', 'month', 'year')

),

-- R12: amounts are the mean of the last three bills; for yearly lines, the amounts of the last bill.
lines as (

    select
        workspace_id,
        subscription_id,
        plan,
        billing_interval,
        interval_count,
        currency,
        minor_per_major,
        max(case when bills_back = 1 then invoice_id end) as last_invoice_id,
        max(case when bills_back = 1 then issued_at end) as last_issued_at,
        {{ divide_rounded(sum_minor('list_minor'), 'count(*)') }} as list_minor,
        {{ divide_rounded(sum_minor('discountable_minor'), 'count(*)') }} as discountable_minor,
        {{ divide_rounded(sum_minor('creditable_minor'), 'count(*)') }} as creditable_minor

    from numbered

    where bills_back <= case when billing_interval = 'year' then 1 else 3 end

    group by
        workspace_id,
        subscription_id,
        plan,
        billing_interval,
        interval_count,
        currency,
        minor_per_major

),

-- An interval in days or in months. Lengths are capped at ten thousand years or more; no bill can follow a capped
-- interval.
measured as (

    select
        *,
        case billing_interval
            when 'day' then least(interval_count, 4000000)
            when 'week' then 7 * least(interval_count, 600000)
        end as interval_days,
        case billing_interval
            when 'month' then least(interval_count, 120000)
            when 'year' then 12 * least(interval_count, 10000)
        end as interval_months

    from lines

),

-- The next bill of a line shows whether the line continues.
final as (

    select
        *,
        {{ intervals_after('last_issued_at', 'interval_days', 'interval_months', '1') }} as next_bill_at

    from measured

)

select * from final
