with

published as (

    select
        currency,
        sum(given_amount) as given_amount,
        sum(expected_amount) as expected_amount

    from {{ ref('fct_program_budget_monthly') }}

    group by currency

),

given as (

    select
        currency,
        sum(discount_amount + credit_amount) as given_amount

    from {{ ref('fct_discounted_charges') }}

    group by currency

),

expected as (

    select
        currency,
        sum(discount_amount + credit_amount) as expected_amount

    from {{ ref('fct_bill_outlook_monthly') }}

    group by currency

),

currencies as (

    select currency from published

    union

    select currency from given

    union

    select currency from expected

)

select
    currencies.currency,
    published.given_amount as budgeted_given_amount,
    given.given_amount,
    published.expected_amount as budgeted_expected_amount,
    expected.expected_amount

from currencies

left join published
    on currencies.currency = published.currency

left join given
    on currencies.currency = given.currency

left join expected
    on currencies.currency = expected.currency

where
    coalesce(published.given_amount, 0) <> coalesce(given.given_amount, 0)
    or coalesce(published.expected_amount, 0) <> coalesce(expected.expected_amount, 0)
