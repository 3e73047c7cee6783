with

invoices as (

    select * from {{ ref('int_invoices_counted') }}

),

discounted as (

    select * from {{ ref('int_invoices_discounted') }}

),

credited as (

    select * from {{ ref('int_credit_audited') }}

),

-- R8, R9: what should have been charged beside what was, before tax, in minor units.
final as (

    select
        invoices.invoice_id,
        invoices.workspace_id,
        invoices.status,
        invoices.plan,
        invoices.billing_interval,
        invoices.currency,
        invoices.minor_per_major,
        invoices.period_start,
        invoices.period_end,
        invoices.issued_at,
        invoices.billing_month,
        invoices.mtus,
        invoices.list_minor,
        discounted.percent_off_minor,
        discounted.amount_off_minor,
        discounted.discount_minor,
        credited.credit_minor,
        invoices.list_minor - discounted.discount_minor - credited.credit_minor as net_minor,
        invoices.tax_minor,
        invoices.total_minor,
        invoices.billed_discount_minor,
        invoices.billed_credit_minor,
        invoices.list_minor - invoices.billed_discount_minor - invoices.billed_credit_minor as billed_net_minor,
        invoices.billed_discount_minor - discounted.discount_minor as discount_variance_minor,
        credited.credit_variance_minor

    from invoices

    inner join discounted
        on invoices.invoice_id = discounted.invoice_id

    inner join credited
        on invoices.invoice_id = credited.invoice_id

)

select * from final
