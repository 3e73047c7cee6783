-- depends_on: {{ ref('int_invoices_recalculated') }}
-- depends_on: {{ ref('int_months_recalculated') }}
with

-- Sorted before the other amounts are derived: DuckDB sorts whole rows, and stores integers that it knows to be small
-- in half or an eighth of the width of an amount.
charged as (

    select {{ all_columns_but(['net_minor', 'billed_net_minor', 'billed_net_after_notes_minor', 'discount_variance_minor']) }}

    from {{ ref('int_invoices_charged') }}

    {{ stored_in_order_of('invoice_id') }}

),

compared as (

    select
        *,
        {{ charge_beside_bill() }}

    from charged

),

deliveries as (

    select * from {{ ref('stg_arrival__deliveries') }}

),

-- R9: variances of at most one minor unit each, or that cancel out, are a match.
audited as (

    select
        *,
        case
            when abs(discount_variance_minor) <= 1 and abs(credit_variance_minor) <= 1 then 'matched'
            when discount_variance_minor + credit_variance_minor > 0 then 'over_discounted'
            when discount_variance_minor + credit_variance_minor < 0 then 'under_discounted'
            else 'matched'
        end as audit_status

    from compared

),

final as (

    select
        audited.invoice_id,
        audited.workspace_id,
        audited.plan,
        audited.billing_interval,
        audited.currency,
        audited.period_start,
        audited.period_end,
        audited.issued_at,
        audited.billing_month,
        audited.status,
        audited.mtus,
        {{ published_amount('audited.list_minor', 'audited.minor_per_major') }} as list_amount,
        {{ published_amount('audited.percent_off_minor', 'audited.minor_per_major') }} as percent_off_amount,
        {{ published_amount('audited.amount_off_minor', 'audited.minor_per_major') }} as amount_off_amount,
        {{ published_amount('audited.discount_minor', 'audited.minor_per_major') }} as discount_amount,
        {{ published_amount('audited.credit_minor', 'audited.minor_per_major') }} as credit_amount,
        {{ published_amount('audited.net_minor', 'audited.minor_per_major') }} as net_amount,
        {{ published_amount('audited.tax_minor', 'audited.minor_per_major') }} as tax_amount,
        {{ published_amount('audited.billed_discount_minor', 'audited.minor_per_major') }} as billed_discount_amount,
        {{ published_amount('audited.billed_credit_minor', 'audited.minor_per_major') }} as billed_credit_amount,
        {{ published_amount('audited.billed_net_minor', 'audited.minor_per_major') }} as billed_net_amount,
        {{ published_amount('audited.total_minor', 'audited.minor_per_major') }} as billed_total_amount,
        {{ published_amount('audited.discount_variance_minor', 'audited.minor_per_major') }} as discount_variance_amount,
        {{ published_amount('audited.credit_variance_minor', 'audited.minor_per_major') }} as credit_variance_amount,
        audited.audit_status,
        audited.subscription_id,
        audited.interval_count,
        {{ published_amount('audited.discountable_minor', 'audited.minor_per_major') }} as discountable_amount,
        {{ published_amount('audited.creditable_minor', 'audited.minor_per_major') }} as creditable_amount,
        {{ published_amount('audited.credited_minor', 'audited.minor_per_major') }} as credited_amount,
        {{ published_amount('audited.billed_net_after_notes_minor', 'audited.minor_per_major') }} as billed_net_after_notes_amount,
        deliveries.delivery_id,
        audited.delivery_row

    from audited

    left join deliveries
        on audited.delivery_sequence = deliveries.delivery_sequence

)

select * from final
