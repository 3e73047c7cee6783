with

drawn as (

    select
        invoice_id,
        sum(draw_amount) as drawn_amount

    from {{ ref('fct_credit_draws') }}

    group by invoice_id

)

select
    coalesce(charges.invoice_id, drawn.invoice_id) as invoice_id,
    charges.credit_amount,
    drawn.drawn_amount

from {{ ref('fct_discounted_charges') }} as charges

full outer join drawn
    on charges.invoice_id = drawn.invoice_id

where coalesce(charges.credit_amount, -1) <> coalesce(drawn.drawn_amount, 0)
