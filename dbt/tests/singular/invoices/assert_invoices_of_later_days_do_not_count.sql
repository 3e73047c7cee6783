with

deliveries as (

    select
        delivery_sequence,
        delivery_id

    from {{ ref('stg_arrival__deliveries') }}

),

later as (

    select
        invoice_id,
        delivery_sequence,
        row_number

    from {{ ref('stg_billing__invoices') }}

    where
        issued_at >= {{ end_of_as_of_date() }}
        and status not in ('draft', 'void')

),

left_out as (

    select
        not_counted.invoice_id,
        deliveries.delivery_sequence,
        not_counted.delivery_row as row_number

    from {{ ref('int_invoices_not_counted') }} as not_counted

    left join deliveries
        on not_counted.delivery_id = deliveries.delivery_id

    where not_counted.reason = 'after_as_of_date'

)

select coalesce(later.invoice_id, left_out.invoice_id) as invoice_id

from later

full outer join left_out
    on later.delivery_sequence = left_out.delivery_sequence
    and later.row_number = left_out.row_number

where
    later.invoice_id is null
    or left_out.invoice_id is null
