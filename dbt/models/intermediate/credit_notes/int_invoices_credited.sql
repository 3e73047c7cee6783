-- depends_on: {{ ref('int_invoices_credited_before') }}
with

credit_notes as (

    select * from {{ ref('int_credit_notes_issued') }}

    where is_counted

),

-- R13: what counted credit notes take off an invoice.
final as (

    select
        invoice_id,
        workspace_id,
        currency,
        minor_per_major,
        {{ sum_minor('amount_minor') }} as credited_minor,
        max(issued_at) as last_credited_at,
        max(billed_net_minor) as billed_net_minor

    from credit_notes

    group by
        invoice_id,
        workspace_id,
        currency,
        minor_per_major

)

select * from final
