with

budgets as (

    select
        program,
        currency,
        budget_month,
        amount_minor,
        minor_per_major

    from {{ ref('stg_billing__budgets') }}

),

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

),

given as (

    select
        redemptions.program,
        benefits.currency,
        benefits.billing_month as budget_month,
        max(benefits.minor_per_major) as minor_per_major,
        {{ sum_minor('case when benefits.is_expected then 0 else benefits.discount_minor + benefits.credit_minor end') }} as given_minor,
        {{ sum_minor('case when benefits.is_expected then benefits.discount_minor + benefits.credit_minor else 0 end') }} as expected_minor

    from {{ ref('int_benefits_given') }} as benefits

    inner join redemptions
        on benefits.redemption_id = redemptions.redemption_id

    group by
        redemptions.program,
        benefits.currency,
        benefits.billing_month

),

-- A budget without discounts or credit has a row, and so have discounts and credit, given or expected (R12),
-- without a budget.
joined as (

    select
        coalesce(budgets.program, given.program) as program,
        coalesce(budgets.currency, given.currency) as currency,
        coalesce(budgets.budget_month, given.budget_month) as budget_month,
        coalesce(budgets.minor_per_major, given.minor_per_major) as minor_per_major,
        budgets.amount_minor as budget_minor,
        coalesce(given.given_minor, 0) as given_minor,
        coalesce(given.expected_minor, 0) as expected_minor

    from budgets

    full outer join given
        on budgets.program = given.program
        and budgets.currency = given.currency
        and budgets.budget_month = given.budget_month

),

final as (

    select
        program,
        currency,
        budget_month,
        {{ published_amount('budget_minor') }} as budget_amount,
        {{ published_amount('given_minor') }} as given_amount,
        {{ published_amount('expected_minor') }} as expected_amount,
        {{ published_amount('(budget_minor - given_minor - expected_minor)') }} as difference_amount

    from joined

)

select * from final
