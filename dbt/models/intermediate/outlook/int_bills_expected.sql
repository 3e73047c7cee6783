-- depends_on: {{ ref('int_bills_expected_before') }}
with

lines as (

    select * from {{ of_recalculated_workspaces(ref('int_lines_billed'), 'int_workspaces_changed') }}

),

-- R12: a line continues if its next bill is at most fifteen days late.
running as (

    select *

    from lines

    where next_bill_at >= {{ latest_next_bill(end_of_as_of_date()) }}

),

numbered_bills as (

    select
        *,
        {{ each_whole_number('1', expected_bills_until(horizon())) }} as bill_number

    from running

),

dated as (

    select
        *,
        {{ expected_bill_at('bill_number') }} as issued_at

    from numbered_bills

),

-- R12: bills from the end of the as-of date until the horizon; periods follow the UTC calendar.
final as (

    select
        concat(last_invoice_id, '~expected-', lpad(cast(bill_number as {{ dbt.type_string() }}), 4, '0')) as invoice_id,
        workspace_id,
        subscription_id,
        plan,
        billing_interval,
        interval_count,
        currency,
        minor_per_major,
        cast(issued_at as date) as period_start,
        cast({{ intervals_after('cast(cast(issued_at as date) as timestamp)', 'interval_days', 'interval_months', '1') }} as date) as period_end,
        issued_at,
        {{ month_of('issued_at') }} as billing_month,
        list_minor,
        discountable_minor,
        creditable_minor

    from dated

    where
        issued_at >= {{ end_of_as_of_date() }}
        and issued_at < {{ horizon() }}

)

select * from final
