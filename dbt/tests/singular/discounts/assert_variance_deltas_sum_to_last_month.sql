select
    workspace_id,
    currency,
    max_by(percent_off_amount, variance_month) as percent_off_amount,
    sum(delta_amount) as delta_sum

from {{ ref('fct_percent_off_variance_monthly') }}

group by
    workspace_id,
    currency

having
    max_by(percent_off_amount, variance_month) is distinct from sum(delta_amount)
    or count(percent_off_amount) <> count(*)
    or count(*) <> {{ calendar_months_between('min(variance_month)', 'max(variance_month)') }} + 1
