select
    workspace_id,
    currency,
    variance_month,
    delta_amount

from {{ ref('fct_percent_off_variance_monthly') }}

where
    delta_amount is distinct from
    start_effect_amount + end_effect_amount + bill_effect_amount + rate_effect_amount
    or delta_amount is distinct from percent_off_amount - previous_percent_off_amount
