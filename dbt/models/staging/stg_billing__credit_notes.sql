with

current_versions as (

    {{ current_versions('credit_notes') }}

),

final as (

    select
        credit_note_id,
        invoice_id,
        status,
        issued_at,
        currency,
        amount_minor,
        tax_minor,
        reason,
        updated_at,
        minor_per_major,
        delivery_sequence,
        row_number

    from current_versions

)

select * from final
