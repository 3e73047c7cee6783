with

credit_notes as (

    select * from {{ ref('int_credit_notes_issued') }}

),

invoices_credited as (

    select * from {{ ref('int_invoices_credited') }}

),

-- R13: credit notes exceed what was billed by more than one minor unit.
credited_beyond_bill as (

    select
        'credited_beyond_bill' as finding_type,
        workspace_id,
        invoice_id,
        cast(null as {{ dbt.type_string() }}) as credit_note_id,
        last_credited_at as occurred_at,
        currency,
        minor_per_major,
        credited_minor - billed_net_minor as at_stake_minor,
        credited_minor as found_minor,
        billed_net_minor as expected_minor,
        cast(null as {{ dbt.type_string() }}) as why_not_counted

    from invoices_credited

    where credited_minor - billed_net_minor > 1

),

-- R13: an issued credit note whose invoice is unknown, does not count, or is in another currency.
without_invoice as (

    select
        'credit_note_without_invoice' as finding_type,
        workspace_id,
        invoice_id,
        credit_note_id,
        issued_at as occurred_at,
        currency,
        minor_per_major,
        amount_minor as at_stake_minor,
        amount_minor as found_minor,
        cast(null as bigint) as expected_minor,
        why_not_counted

    from credit_notes

    where not is_counted

),

final as (

    select * from credited_beyond_bill

    union all

    select * from without_invoice

)

select * from final
