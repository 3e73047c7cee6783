-- depends_on: {{ ref('int_invoices_recalculated') }}
{{ config(materialized='incremental', pre_hook='{{ forget_recalculated(this) }}') }}

with

-- R9: differences above one minor unit, and totals that are not the sum of their lines. Few are left.
invoices as (

    select * from {{ ref('int_invoices_charged') }}

    where
        abs(discount_variance_minor) > 1
        or abs(credit_variance_minor) > 1
        or total_minor <> billed_net_minor + tax_minor

),

-- Percent-off and dollar-off; a refused redemption of an unknown coupon could be either.
redemptions as (

    select * from {{ ref('int_redemptions_unified') }}

    where coalesce(discount_type, 'unknown') <> 'credit'

),

discount_differences as (

    select * from invoices

    where abs(discount_variance_minor) > 1

),

-- What the workspace had when a differing invoice was issued.
surroundings as (

    select
        discount_differences.invoice_id,
        max(
            case
                when redemptions.is_honoured
                    and redemptions.started_at <= discount_differences.issued_at
                    and (redemptions.ended_at is null or redemptions.ended_at > discount_differences.issued_at)
                    then 1
                else 0
            end
        ) = 1 as is_honoured_in_force,
        max(
            case
                when redemptions.is_honoured
                    and redemptions.is_ever_in_force
                    and redemptions.ended_at <= discount_differences.issued_at
                    then 1
                else 0
            end
        ) = 1 as is_honoured_ended_before,
        max(
            case
                when not redemptions.is_honoured
                    and redemptions.started_at <= discount_differences.issued_at
                    and (redemptions.ended_at is null or redemptions.ended_at > discount_differences.issued_at)
                    then 1
                else 0
            end
        ) = 1 as is_refused_in_force

    from discount_differences

    inner join redemptions
        on discount_differences.workspace_id = redemptions.workspace_id

    group by discount_differences.invoice_id

),

discount_findings as (

    select
        discount_differences.invoice_id,
        case
            when surroundings.is_honoured_in_force and discount_differences.discount_variance_minor > 0 then 'over_discounted'
            when surroundings.is_honoured_in_force then 'under_discounted'
            when surroundings.is_honoured_ended_before then 'discount_after_expiry'
            when surroundings.is_refused_in_force then 'discount_on_refused_redemption'
            else 'discount_without_coupon'
        end as finding_type,
        abs(discount_differences.discount_variance_minor) as at_stake_minor,
        discount_differences.billed_discount_minor as found_minor,
        discount_differences.discount_minor as expected_minor

    from discount_differences

    left join surroundings
        on discount_differences.invoice_id = surroundings.invoice_id

),

credit_findings as (

    select
        invoice_id,
        case when credit_variance_minor > 0 then 'credit_over_drawn' else 'credit_under_drawn' end as finding_type,
        abs(credit_variance_minor) as at_stake_minor,
        billed_credit_minor as found_minor,
        billed_credit_minor - credit_variance_minor as expected_minor

    from invoices

    where abs(credit_variance_minor) > 1

),

sum_findings as (

    select
        invoice_id,
        'invoice_does_not_add_up' as finding_type,
        abs(total_minor - billed_net_minor - tax_minor) as at_stake_minor,
        total_minor as found_minor,
        billed_net_minor + tax_minor as expected_minor

    from invoices

    where total_minor <> billed_net_minor + tax_minor

),

raised as (

    select * from discount_findings

    union all

    select * from credit_findings

    union all

    select * from sum_findings

),

final as (

    select
        raised.finding_type,
        'error' as severity,
        invoices.workspace_id,
        invoices.invoice_id,
        invoices.issued_at as occurred_at,
        invoices.currency,
        invoices.minor_per_major,
        raised.at_stake_minor,
        raised.found_minor,
        raised.expected_minor

    from raised

    inner join invoices
        on raised.invoice_id = invoices.invoice_id

)

select * from final
