-- Every counted invoice is charged exactly once, at the list amount delivered. The amounts are read again from
-- the rows as delivered. An empty mart also fails when invoices were delivered.
with

counted as (

    select
        invoices.currency,
        count(*) as invoice_count,
        sum({{ delivered_amount('delivered.list_amount') }}) as list_amount,
        sum({{ delivered_amount('delivered.discount_amount') }}) as billed_discount_amount,
        sum({{ delivered_amount('delivered.credit_amount') }}) as billed_credit_amount

    from {{ ref('stg_billing__invoices') }} as invoices

    inner join {{ landed('invoices') }} as delivered
        on invoices.delivery_sequence = delivered.delivery_sequence
        and invoices.row_number = delivered.row_number

    where
        delivered.status not in ('draft', 'void')
        and invoices.issued_at < {{ end_of_as_of_date() }}

    group by invoices.currency

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
