with

discounted as (

    select * from {{ ref('int_invoices_discounted') }}

),

effects as (

    select
        workspace_id,
        currency,
        variance_month,
        {{ sum_minor('bill_effect_minor') }} as bill_effect_minor,
        {{ sum_minor('rate_effect_minor') }} as rate_effect_minor,
        {{ sum_minor('start_effect_minor') }} as start_effect_minor,
        {{ sum_minor('end_effect_minor') }} as end_effect_minor

    from {{ ref('int_promotion_months_varied') }}

    group by
        workspace_id,
        currency,
        variance_month

),

-- Each invoice once, however many redemptions cover it.
covered_invoices as (

    select distinct
        invoice_id,
        workspace_id,
        currency,
        minor_per_major,
        billing_month,
        discountable_minor

    from {{ of_recalculated_workspaces(ref('int_redemption_invoices_covered')) }}

    where
        discount_type = 'percent_off'
        and not is_expected

),

-- R10: B and D of a month, over its invoices covered by a percent-off redemption.
covered_months as (

    select
        invoices.workspace_id,
        invoices.currency,
        invoices.minor_per_major,
        invoices.billing_month,
        {{ sum_minor('invoices.discountable_minor') }} as bill_minor,
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

-- R10: every month up to the one after the last covered month, but not past the month of the as-of date.
months as (

    select
        workspace_id,
        currency,
        minor_per_major,
        {{ month_later('first_month', 'month_number') }} as variance_month

    from numbered_months

    where {{ month_later('first_month', 'month_number') }} <= {{ month_of_day(as_of_date()) }}

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
        coalesce(effects.bill_effect_minor, 0) as bill_effect_minor,
        coalesce(effects.rate_effect_minor, 0) as rate_effect_minor,
        coalesce(effects.start_effect_minor, 0) as start_effect_minor,
        coalesce(effects.end_effect_minor, 0) as end_effect_minor

    from months

    left join covered_months
        on months.workspace_id = covered_months.workspace_id
        and months.currency = covered_months.currency
        and months.variance_month = covered_months.billing_month

    left join effects
        on months.workspace_id = effects.workspace_id
        and months.currency = effects.currency
        and months.variance_month = effects.variance_month

),

compared as (

    select
        *,
        coalesce(lag(bill_minor) over (partition by workspace_id, currency order by variance_month), 0) as previous_bill_minor,
        coalesce(lag(percent_off_minor) over (partition by workspace_id, currency order by variance_month), 0) as previous_percent_off_minor

    from filled

),

final as (

    select
        workspace_id,
        currency,
        variance_month,
        is_covered,
        {{ published_amount('bill_minor') }} as bill_amount,
        {{ published_amount('percent_off_minor') }} as percent_off_amount,
        {{ percent_of('percent_off_minor', 'bill_minor') }} as effective_percent,
        {{ published_amount('previous_bill_minor') }} as previous_bill_amount,
        {{ published_amount('previous_percent_off_minor') }} as previous_percent_off_amount,
        {{ published_amount('(percent_off_minor - previous_percent_off_minor)') }} as delta_amount,
        {{ published_amount('bill_effect_minor') }} as bill_effect_amount,
        {{ published_amount('rate_effect_minor') }} as rate_effect_amount,
        {{ published_amount('start_effect_minor') }} as start_effect_amount,
        {{ published_amount('end_effect_minor') }} as end_effect_amount

    from compared

)

select * from final
