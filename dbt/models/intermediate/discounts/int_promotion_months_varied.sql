{# A view, because it is read only once, by fct_percent_off_variance_monthly. In a build that carries on, it contains
   only recalculated workspaces. #}
{{ config(materialized='view') }}

with

redemptions as (

    select * from {{ of_recalculated_workspaces(ref('int_redemptions_with_terms')) }}

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
        redemptions.invoice_limit,
        covered_invoices.invoice_id,
        covered_invoices.workspace_id,
        covered_invoices.currency,
        covered_invoices.minor_per_major,
        covered_invoices.billing_month,
        covered_invoices.discountable_minor,
        covered_invoices.is_use

    from {{ of_recalculated_workspaces(ref('int_redemption_invoices_covered')) }} as covered_invoices

    inner join redemptions
        on covered_invoices.redemption_id = redemptions.redemption_id

    where
        covered_invoices.discount_type = 'percent_off'
        and not covered_invoices.is_expected

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
        covered.promotion_id,
        covered.invoice_id,
        max(covered.workspace_id) as workspace_id,
        max(covered.currency) as currency,
        max(covered.minor_per_major) as minor_per_major,
        max(covered.billing_month) as billing_month,
        max(covered.discountable_minor) as discountable_minor,
        coalesce({{ sum_minor('discounts.discount_minor') }}, 0) as percent_off_minor

    from covered

    left join discounts
        on covered.invoice_id = discounts.invoice_id
        and covered.redemption_id = discounts.redemption_id

    group by
        covered.promotion_id,
        covered.invoice_id

),

-- R10: B and D of a promotion, currency and month.
covered_months as (

    select
        promotion_id,
        currency,
        billing_month,
        max(workspace_id) as workspace_id,
        max(minor_per_major) as minor_per_major,
        {{ sum_minor('discountable_minor') }} as bill_minor,
        {{ sum_minor('percent_off_minor') }} as percent_off_minor

    from covered_invoices

    group by
        promotion_id,
        currency,
        billing_month

),

-- Each covered month with the covered months before and after it, which need not be adjacent months.
neighboured as (

    select
        *,
        {{ month_later('billing_month', '-1') }} as month_before,
        {{ month_later('billing_month', '1') }} as month_after,
        lag(billing_month) over (partition by promotion_id, currency order by billing_month) as covered_month_before,
        lag(bill_minor) over (partition by promotion_id, currency order by billing_month) as bill_minor_before,
        lag(percent_off_minor) over (partition by promotion_id, currency order by billing_month) as percent_off_minor_before,
        lead(billing_month) over (partition by promotion_id, currency order by billing_month) as covered_month_after

    from covered_months

),

-- Discounts can change in a covered month and in the month after it, but not past the month of the as-of date. Each
-- month is compared with the one before it. The gap month is the one of these two without covered invoices; it is null
-- if both have some, or if the promotion covered none before.
compared as (

    select
        workspace_id,
        promotion_id,
        currency,
        minor_per_major,
        billing_month as variance_month,
        true as is_covered,
        coalesce(covered_month_before = month_before, false) as was_covered,
        case when covered_month_before < month_before then month_before end as gap_month,
        bill_minor,
        percent_off_minor,
        case when covered_month_before = month_before then bill_minor_before else 0 end as previous_bill_minor,
        case when covered_month_before = month_before then percent_off_minor_before else 0 end as previous_percent_off_minor

    from neighboured

    union all

    select
        workspace_id,
        promotion_id,
        currency,
        minor_per_major,
        month_after as variance_month,
        false as is_covered,
        true as was_covered,
        month_after as gap_month,
        0 as bill_minor,
        0 as percent_off_minor,
        bill_minor as previous_bill_minor,
        percent_off_minor as previous_percent_off_minor

    from neighboured

    where
        month_after <= {{ month_of_day(as_of_date()) }}
        and (covered_month_after is null or covered_month_after > month_after)

),

-- R3: the month in which a redemption with no uses left had its last use.
used_up as (

    select
        redemption_id,
        max(case when is_use then billing_month end) as used_up_month

    from covered

    where invoice_limit is not null

    group by
        redemption_id,
        invoice_limit

    having sum(case when is_use then 1 else 0 end) >= invoice_limit

),

links as (

    select
        redemptions.promotion_id,
        {{ month_of('redemptions.started_at') }} as first_month,
        case when redemptions.ended_at is not null then {{ month_of('redemptions.ended_at') }} end as ended_month,
        used_up.used_up_month

    from redemptions

    left join used_up
        on redemptions.redemption_id = used_up.redemption_id

),

-- R10: a promotion is in force at the end of a gap month if one of its redemptions starts before the next month, does
-- not end before the next month, and has uses left after the invoices up to then.
gaps_in_force as (

    select distinct
        compared.promotion_id,
        compared.gap_month

    from compared

    inner join links
        on compared.promotion_id = links.promotion_id
        and compared.gap_month >= links.first_month
        and (links.ended_month is null or compared.gap_month < links.ended_month)
        and (links.used_up_month is null or compared.gap_month < links.used_up_month)

),

measured as (

    select
        compared.workspace_id,
        compared.promotion_id,
        compared.currency,
        compared.minor_per_major,
        compared.variance_month,
        compared.is_covered,
        compared.was_covered,
        gaps_in_force.promotion_id is not null as is_gap_in_force,
        compared.percent_off_minor - compared.previous_percent_off_minor as delta_minor,
        case
            when compared.previous_bill_minor = 0 then compared.percent_off_minor - compared.previous_percent_off_minor
            else {{ divide_rounded(
                'cast(compared.previous_percent_off_minor as ' ~ wide_integer() ~ ') * (compared.bill_minor - compared.previous_bill_minor)',
                'greatest(compared.previous_bill_minor, 1)'
            ) }}
        end as proportional_minor

    from compared

    left join gaps_in_force
        on compared.promotion_id = gaps_in_force.promotion_id
        and compared.gap_month = gaps_in_force.gap_month

),

-- R10: the effect depends on whether the promotion covered invoices of this month and of the month before.
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
            when is_gap_in_force then delta_minor
            else 0
        end as bill_effect_minor,
        case
            when is_covered and was_covered then delta_minor - proportional_minor
            else 0
        end as rate_effect_minor,
        case
            when is_covered and not was_covered and not is_gap_in_force then delta_minor
            else 0
        end as start_effect_minor,
        case
            when was_covered and not is_covered and not is_gap_in_force then delta_minor
            else 0
        end as end_effect_minor

    from measured

)

select * from final
