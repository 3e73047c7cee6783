with

charged as (

    select
        currency,
        billing_month,
        plan,
        count(*) as invoices,
        sum(list_amount) as list_amount,
        sum(net_amount) as net_amount,
        sum(billed_net_after_notes_amount) as billed_net_after_notes_amount

    from {{ ref('fct_discounted_charges') }}

    group by
        currency,
        billing_month,
        plan

)

select
    coalesce(bridge.currency, charged.currency) as currency,
    coalesce(bridge.bridge_month, charged.billing_month) as bridge_month,
    coalesce(bridge.plan, charged.plan) as plan

from {{ ref('fct_charge_bridge_monthly') }} as bridge

full outer join charged
    on bridge.currency = charged.currency
    and bridge.bridge_month = charged.billing_month
    and bridge.plan = charged.plan

where
    bridge.invoices is distinct from charged.invoices
    or bridge.list_amount is distinct from charged.list_amount
    or bridge.net_amount is distinct from charged.net_amount
    or bridge.billed_net_after_notes_amount is distinct from charged.billed_net_after_notes_amount
    or bridge.net_amount is distinct from
    bridge.list_amount - bridge.percent_off_amount - bridge.amount_off_amount - bridge.credit_amount
    or bridge.billed_net_amount is distinct from bridge.net_amount + bridge.billing_error_amount
    or bridge.billed_net_after_notes_amount is distinct from bridge.billed_net_amount - bridge.credited_amount
