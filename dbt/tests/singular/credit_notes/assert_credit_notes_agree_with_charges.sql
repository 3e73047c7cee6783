with

noted as (

    select
        invoice_id,
        currency,
        sum(amount) as credited_amount

    from {{ ref('fct_credit_notes') }}

    where is_counted

    group by
        invoice_id,
        currency

)

select
    coalesce(charges.invoice_id, noted.invoice_id) as invoice_id,
    charges.credited_amount,
    noted.credited_amount as noted_amount

from {{ ref('fct_discounted_charges') }} as charges

full outer join noted
    on charges.invoice_id = noted.invoice_id
    and charges.currency = noted.currency

where
    charges.invoice_id is null
    or charges.credited_amount is distinct from coalesce(noted.credited_amount, 0)
