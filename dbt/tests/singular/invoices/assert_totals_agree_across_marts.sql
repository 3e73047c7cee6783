with

charged as (

    select
        currency,
        sum(discount_amount) as discount_amount,
        sum(credit_amount) as credit_amount,
        sum(list_amount - net_amount) as benefit_amount

    from {{ ref('fct_discounted_charges') }}

    group by currency

),

applied as (

    select
        charges.currency,
        sum(applications.discount_amount) as discount_amount

    from {{ ref('fct_discount_applications') }} as applications

    left join {{ ref('fct_discounted_charges') }} as charges
        on applications.invoice_id = charges.invoice_id

    group by charges.currency

),

drawn as (

    select
        currency,
        sum(draw_amount) as credit_amount

    from {{ ref('fct_credit_draws') }}

    group by currency

),

currencies as (

    select currency from charged

    union

    select currency from applied

    union

    select currency from drawn

)

select
    currencies.currency,
    charged.discount_amount as charged_discount,
    applied.discount_amount as applied_discount,
    charged.credit_amount as charged_credit,
    drawn.credit_amount as drawn_credit

from currencies

left join charged
    on currencies.currency is not distinct from charged.currency

left join applied
    on currencies.currency is not distinct from applied.currency

left join drawn
    on currencies.currency is not distinct from drawn.currency

where
    coalesce(charged.discount_amount, 0) <> coalesce(applied.discount_amount, 0)
    or coalesce(charged.credit_amount, 0) <> coalesce(drawn.credit_amount, 0)
    or coalesce(charged.benefit_amount, 0) <> coalesce(applied.discount_amount, 0) + coalesce(drawn.credit_amount, 0)
