with

credit_notes as (

    select * from {{ ref('stg_billing__credit_notes') }}

    where
        status = 'issued'
        and issued_at < {{ end_of_as_of_date() }}

),

invoices as (

    select
        invoice_id,
        workspace_id

    from {{ ref('stg_billing__invoices') }}

    where invoice_id in (select invoice_id from credit_notes)

),

counted_invoices as (

    select
        invoice_id,
        currency,
        list_minor - billed_discount_minor - billed_credit_minor as billed_net_minor

    from {{ ref('int_invoices_counted') }}

    where invoice_id in (select invoice_id from credit_notes)

),

-- R13: an issued credit note counts if its invoice counts and is in the same currency.
final as (

    select
        credit_notes.credit_note_id,
        credit_notes.invoice_id,
        invoices.workspace_id,
        credit_notes.currency,
        credit_notes.minor_per_major,
        credit_notes.issued_at,
        {{ month_of('credit_notes.issued_at') }} as note_month,
        credit_notes.amount_minor,
        credit_notes.tax_minor,
        credit_notes.reason,
        coalesce(counted_invoices.currency = credit_notes.currency, false) as is_counted,
        case
            when invoices.invoice_id is null then 'unknown_invoice'
            when counted_invoices.invoice_id is null then 'invoice_does_not_count'
            when counted_invoices.currency <> credit_notes.currency then 'other_currency'
        end as why_not_counted,
        case
            when counted_invoices.currency = credit_notes.currency then counted_invoices.billed_net_minor
        end as billed_net_minor,
        credit_notes.delivery_sequence,
        credit_notes.row_number as delivery_row

    from credit_notes

    left join invoices
        on credit_notes.invoice_id = invoices.invoice_id

    left join counted_invoices
        on credit_notes.invoice_id = counted_invoices.invoice_id

)

select * from final
