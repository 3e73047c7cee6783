-- The amounts are read again from the rows as delivered, excluding the few that are not those of a counted invoice.
with

other_rows as (

    select
        delivery_sequence,
        row_number

    from {{ ref('stg_billing__rejected_rows') }}

    where feed = 'invoices'

    union all

    select
        delivery_sequence,
        row_number

    from {{ ref('stg_billing__repeated_rows') }}

    where
        feed = 'invoices'
        and fate <> 'accepted'

    union all

    select
        deliveries.delivery_sequence,
        not_counted.delivery_row as row_number

    from {{ ref('int_invoices_not_counted') }} as not_counted

    inner join {{ ref('stg_arrival__deliveries') }} as deliveries
        on not_counted.delivery_id = deliveries.delivery_id

    where not_counted.reason = 'after_as_of_date'

),

counted as (

    select
        upper(delivered.currency) as currency,
        count(*) as invoice_count,
        sum({{ delivered_amount('delivered.list_amount') }}) as list_amount,
        sum({{ delivered_amount('delivered.discount_amount') }}) as billed_discount_amount,
        sum({{ delivered_amount('delivered.credit_amount') }}) as billed_credit_amount

    from {{ landed('invoices') }} as delivered

    left join other_rows
        on delivered.delivery_sequence = other_rows.delivery_sequence
        and delivered.row_number = other_rows.row_number

    where case when other_rows.row_number is null then delivered.status end not in ('draft', 'void')

    group by upper(delivered.currency)

),

charged as (

    select
        currency,
        count(*) as invoice_count,
        sum(list_amount) as list_amount,
        sum(billed_discount_amount) as billed_discount_amount,
        sum(billed_credit_amount) as billed_credit_amount

    from {{ ref('fct_discounted_charges') }}

    group by currency

)

select
    coalesce(counted.currency, charged.currency) as currency,
    counted.invoice_count as delivered_invoices,
    charged.invoice_count as charged_invoices,
    counted.list_amount as delivered_list_amount,
    charged.list_amount as charged_list_amount

from counted

full outer join charged
    on counted.currency = charged.currency

where
    counted.invoice_count is distinct from charged.invoice_count
    or counted.list_amount is distinct from charged.list_amount
    or counted.billed_discount_amount is distinct from charged.billed_discount_amount
    or counted.billed_credit_amount is distinct from charged.billed_credit_amount
