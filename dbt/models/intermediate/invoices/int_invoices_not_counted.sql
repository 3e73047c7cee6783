with

invoices as (

    select * from {{ ref('stg_billing__invoices') }}

),

deliveries as (

    select * from {{ ref('stg_arrival__deliveries') }}

),

-- R1: the invoices that int_invoices_counted leaves out, with the reason. For a draft or void invoice that is
-- the reason, even if it is issued after the as-of date.
final as (

    select
        invoices.invoice_id,
        invoices.workspace_id,
        invoices.status,
        case when invoices.status in ('draft', 'void') then invoices.status else 'after_as_of_date' end as reason,
        invoices.plan,
        invoices.billing_interval,
        invoices.interval_count,
        invoices.currency,
        invoices.period_start,
        invoices.period_end,
        invoices.issued_at,
        {{ published_amount('invoices.list_minor', 'invoices.minor_per_major') }} as list_amount,
        {{ published_amount('invoices.discount_minor', 'invoices.minor_per_major') }} as billed_discount_amount,
        {{ published_amount('invoices.credit_minor', 'invoices.minor_per_major') }} as billed_credit_amount,
        invoices.updated_at,
        deliveries.delivery_id,
        invoices.row_number as delivery_row

    from invoices

    inner join deliveries
        on invoices.delivery_sequence = deliveries.delivery_sequence

    where
        invoices.status in ('draft', 'void')
        or invoices.issued_at >= {{ end_of_as_of_date() }}

)

select * from final
