with

published as (

    select
        currency,
        count(budget_amount) as budgets,
        sum(budget_amount) as budget_amount,
        sum(given_amount) as given_amount,
        sum(expected_amount) as expected_amount,
        max(
            case
                when difference_amount is distinct from budget_amount - given_amount - expected_amount then 1
                else 0
            end
        ) as is_other_difference

    from {{ ref('fct_program_budget_monthly') }}

    group by currency

),

budgeted as (

    select
        currency,
        count(*) as budgets,
        sum({{ published_amount('amount_minor') }}) as budget_amount

    from {{ ref('stg_billing__budgets') }}

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

    select currency from budgeted

    union

    select currency from given

    union

    select currency from expected

)

select
    currencies.currency,
    published.budget_amount as published_budget_amount,
    budgeted.budget_amount,
    published.given_amount as published_given_amount,
    given.given_amount,
    published.expected_amount as published_expected_amount,
    expected.expected_amount

from currencies

left join published
    on currencies.currency = published.currency

left join budgeted
    on currencies.currency = budgeted.currency

left join given
    on currencies.currency = given.currency

left join expected
    on currencies.currency = expected.currency

where
    coalesce(published.budgets, 0) <> coalesce(budgeted.budgets, 0)
    or coalesce(published.budget_amount, 0) <> coalesce(budgeted.budget_amount, 0)
    or coalesce(published.given_amount, 0) <> coalesce(given.given_amount, 0)
    or coalesce(published.expected_amount, 0) <> coalesce(expected.expected_amount, 0)
    or published.is_other_difference = 1
