with

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

    where
        discount_type = 'percent_off'
        and is_honoured
        and is_ever_in_force
        and not is_to_come

),

covered as (

    select
        covered_invoices.redemption_id,
        redemptions.promotion_id,
        covered_invoices.invoice_id,
        covered_invoices.workspace_id,
        covered_invoices.currency,
        covered_invoices.minor_per_major,
        covered_invoices.billing_month,
        covered_invoices.discountable_minor,
        covered_invoices.is_use

    from {{ ref('int_redemption_invoices_covered') }} as covered_invoices

    inner join redemptions
        on covered_invoices.redemption_id = redemptions.redemption_id

    where not covered_invoices.is_expected

),

discounts as (

    select
        invoice_id,
        redemption_id,
        discount_minor

    from {{ ref('int_discounts_applied') }}

    where
        discount_type = 'percent_off'
        and not is_expected

),

-- R10: each invoice once per promotion, with the total that the promotion takes off.
covered_invoices as (

    select
        covered.workspace_id,
        covered.promotion_id,
        covered.currency,
        covered.minor_per_major,
        covered.billing_month,
        covered.invoice_id,
        covered.discountable_minor,
        coalesce({{ sum_minor('discounts.discount_minor') }}, 0) as percent_off_minor

    from covered

    left join discounts
        on covered.invoice_id = discounts.invoice_id
        and covered.redemption_id = discounts.redemption_id

    group by
        covered.workspace_id,
        covered.promotion_id,
        covered.currency,
        covered.minor_per_major,
        covered.billing_month,
        covered.invoice_id,
        covered.discountable_minor

),

-- R10: B and D of a promotion, currency and month.
covered_months as (

    select
        workspace_id,
        promotion_id,
        currency,
        minor_per_major,
        billing_month,
        {{ month_later('billing_month', '1') }} as next_month,
        {{ sum_minor('discountable_minor') }} as bill_minor,
        {{ sum_minor('percent_off_minor') }} as percent_off_minor

    from covered_invoices

    group by
        workspace_id,
        promotion_id,
        currency,
        minor_per_major,
        billing_month

),

-- Discounts can change in a covered month and in the month after it, but not past the month of the as-of date.
months as (

    select
        workspace_id,
        promotion_id,
        currency,
        minor_per_major,
        billing_month as variance_month

    from covered_months

    union

    select
        workspace_id,
        promotion_id,
        currency,
        minor_per_major,
        next_month as variance_month

    from covered_months

    where next_month <= {{ month_of_day(as_of_date()) }}

),

first_months as (

    select
        promotion_id,
        currency,
        min(billing_month) as first_month

    from covered_months

    group by
        promotion_id,
        currency

),

uses_by_month as (

    select
        redemption_id,
        billing_month,
        sum(case when is_use then 1 else 0 end) as uses

    from covered

    group by
        redemption_id,
        billing_month

),

-- R10: the month ends to consider: that of each month and that of the month before.
month_ends as (

    select
        promotion_id,
        variance_month as ending_month

    from months

    union

    select
        promotion_id,
        {{ month_later('variance_month', '-1') }} as ending_month

    from months

),

-- R10: a link of a promotion is in force at the end of a month if it starts before the next month, does not end
-- before the next month, and has uses left after the invoices up to then.
links_in_force as (

    select
        month_ends.promotion_id,
        month_ends.ending_month,
        redemptions.redemption_id,
        redemptions.invoice_limit,
        coalesce(sum(uses_by_month.uses), 0) as uses

    from month_ends

    inner join redemptions
        on month_ends.promotion_id = redemptions.promotion_id
        and {{ month_of('redemptions.started_at') }} <= month_ends.ending_month
        and (redemptions.ended_at is null or {{ month_of('redemptions.ended_at') }} > month_ends.ending_month)

    left join uses_by_month
        on redemptions.redemption_id = uses_by_month.redemption_id
        and month_ends.ending_month >= uses_by_month.billing_month

    group by
        month_ends.promotion_id,
        month_ends.ending_month,
        redemptions.redemption_id,
        redemptions.invoice_limit

),

ends_in_force as (

    select distinct
        promotion_id,
        ending_month

    from links_in_force

    where
        invoice_limit is null
        or uses < invoice_limit

),

compared as (

    select
        months.workspace_id,
        months.promotion_id,
        months.currency,
        months.minor_per_major,
        months.variance_month,
        this_month.billing_month is not null as is_covered,
        month_before.billing_month is not null as was_covered,
        coalesce(first_months.first_month < months.variance_month, false) as was_covered_earlier,
        ends_before.promotion_id is not null as was_in_force_at_end,
        ends_now.promotion_id is not null as is_in_force_at_end,
        coalesce(this_month.bill_minor, 0) as bill_minor,
        coalesce(month_before.bill_minor, 0) as previous_bill_minor,
        coalesce(month_before.percent_off_minor, 0) as previous_percent_off_minor,
        coalesce(this_month.percent_off_minor, 0) - coalesce(month_before.percent_off_minor, 0) as delta_minor

    from months

    inner join first_months
        on months.promotion_id = first_months.promotion_id
        and months.currency = first_months.currency

    left join covered_months as this_month
        on months.promotion_id = this_month.promotion_id
        and months.currency = this_month.currency
        and months.variance_month = this_month.billing_month

    left join covered_months as month_before
        on months.promotion_id = month_before.promotion_id
        and months.currency = month_before.currency
        and months.variance_month = month_before.next_month

    left join ends_in_force as ends_now
        on months.promotion_id = ends_now.promotion_id
        and months.variance_month = ends_now.ending_month

    left join ends_in_force as ends_before
        on months.promotion_id = ends_before.promotion_id
        and ends_before.ending_month = {{ month_later('months.variance_month', '-1') }}

),

measured as (

    select
        *,
        case
            when previous_bill_minor = 0 then delta_minor
            else {{ divide_rounded(
                'cast(previous_percent_off_minor as ' ~ wide_integer() ~ ') * (bill_minor - previous_bill_minor)',
                'greatest(previous_bill_minor, 1)'
            ) }}
        end as proportional_minor

    from compared

),

-- R10: the effect, by whether the promotion covered invoices of this month and of the month before.
final as (

    select
        workspace_id,
        promotion_id,
        currency,
        minor_per_major,
        variance_month,
        delta_minor,
        case
            when is_covered and was_covered then proportional_minor
            when is_covered and was_covered_earlier and was_in_force_at_end then delta_minor
            when was_covered and not is_covered and is_in_force_at_end then delta_minor
            else 0
        end as bill_effect_minor,
        case
            when is_covered and was_covered then delta_minor - proportional_minor
            else 0
        end as rate_effect_minor,
        case
            when is_covered and not was_covered and not (was_covered_earlier and was_in_force_at_end) then delta_minor
            else 0
        end as start_effect_minor,
        case
            when was_covered and not is_covered and not is_in_force_at_end then delta_minor
            else 0
        end as end_effect_minor

    from measured

)

select * from final
