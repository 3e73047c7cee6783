with

credit_notes as (

    select * from {{ ref('int_credit_notes_issued') }}

),

deliveries as (

    select * from {{ ref('stg_arrival__deliveries') }}

),

final as (

    select
        credit_notes.credit_note_id,
        credit_notes.invoice_id,
        credit_notes.workspace_id,
        credit_notes.currency,
        credit_notes.issued_at,
        credit_notes.note_month,
        {{ published_amount('credit_notes.amount_minor', 'credit_notes.minor_per_major') }} as amount,
        {{ published_amount('credit_notes.tax_minor', 'credit_notes.minor_per_major') }} as tax_amount,
        credit_notes.reason,
        credit_notes.is_counted,
        deliveries.delivery_id,
        credit_notes.delivery_row

    from credit_notes

    left join deliveries
        on credit_notes.delivery_sequence = deliveries.delivery_sequence

)

select * from final
