{# A view: it has as many rows as there are invoices to calculate and is cheap to put together. #}
{{ config(materialized='view') }}

with

invoices as (

    select * from {{ invoices_to_calculate() }}

),

discounted as (

    select * from {{ ref('int_invoices_discounted') }}

    where not is_expected

),

-- Without this condition, which DuckDB assumes to keep one row in five, it would build hash tables of the invoices.
credited as (

    select * from {{ ref('int_credit_audited') }}

    where
        credit_minor <> 0
        or credit_variance_minor <> 0

),

credited_by_notes as (

    select * from {{ ref('int_invoices_credited') }}

),

-- Most invoices have neither a discount nor credit.
filled as (

    select
        invoices.*,
        coalesce(discounted.percent_off_minor, 0) as percent_off_minor,
        coalesce(discounted.amount_off_minor, 0) as amount_off_minor,
        coalesce(discounted.discount_minor, 0) as discount_minor,
        coalesce(credited.credit_minor, 0) as credit_minor,
        coalesce(credited.credit_variance_minor, 0) as credit_variance_minor,
        coalesce(credited_by_notes.credited_minor, 0) as credited_minor

    from invoices

    left join discounted
        on invoices.invoice_id = discounted.invoice_id

    left join credited
        on invoices.invoice_id = credited.invoice_id

    left join credited_by_notes
        on invoices.invoice_id = credited_by_notes.invoice_id

),

-- R8, R9, R13: the expected charge beside the billed one, before tax, in minor units.
final as (

    select
        invoice_id,
        workspace_id,
        status,
        plan,
        billing_interval,
        interval_count,
        subscription_id,
        currency,
        minor_per_major,
        period_start,
        period_end,
        issued_at,
        billing_month,
        mtus,
        list_minor,
        discountable_minor,
        creditable_minor,
        percent_off_minor,
        amount_off_minor,
        discount_minor,
        credit_minor,
        tax_minor,
        total_minor,
        billed_discount_minor,
        billed_credit_minor,
        credit_variance_minor,
        credited_minor,
        delivery_sequence,
        delivery_row,
        {{ charge_beside_bill() }}

    from filled

)

select * from final
