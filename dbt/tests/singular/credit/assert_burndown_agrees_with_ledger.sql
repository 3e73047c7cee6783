with

months as (

    select
        *,
        lag(closing_amount) over (partition by grant_id order by burn_month) as left_before,
        lead(burn_month) over (partition by grant_id order by burn_month) as next_month

    from {{ ref('fct_credit_burndown_monthly') }}

),

balances as (

    select
        grant_id,
        sum(amount) as balance_amount

    from {{ ref('fct_credit_ledger') }}

    group by grant_id

)

select
    coalesce(months.grant_id, balances.grant_id) as grant_id,
    months.burn_month,
    months.opening_amount,
    months.closing_amount

from balances

full outer join months
    on balances.grant_id = months.grant_id

where
    months.grant_id is null
    or balances.grant_id is null
    or months.opening_amount is distinct from coalesce(months.left_before, 0)
    or months.closing_amount is distinct from
    months.opening_amount
    + months.granted_amount
    - months.drawn_amount
    - months.expired_amount
    - months.forfeited_amount
    or (months.next_month is null and months.closing_amount is distinct from balances.balance_amount)
