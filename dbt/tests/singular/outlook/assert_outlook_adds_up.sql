select
    workspace_id,
    currency,
    outlook_month

from {{ ref('fct_bill_outlook_monthly') }}

where
    coalesce(discount_amount < 0, true)
    or coalesce(credit_amount < 0, true)
    or coalesce(net_amount < 0, true)
    or coalesce(expected_bills < 1, true)
    or list_amount is distinct from discount_amount + credit_amount + net_amount
    or discount_amount is distinct from percent_off_amount + amount_off_amount
