{%- set keys = {
    'workspaces': 'workspace_id', 'coupons': 'coupon_id', 'redemptions': 'redemption_id', 'invoices': 'invoice_id'
} -%}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook="{{ forget_fates(this, {'workspaces': 'workspace_id', 'coupons': 'coupon_id', 'redemptions': 'redemption_id', 'invoices': 'invoice_id'}) }}"
) }}

with

{% for feed, key in keys.items() %}
{{ repeated_rows(feed, key) }},
{% endfor %}

final as (
    {% for feed in keys %}
    select * from {{ feed }}_fates
    {{ 'union all' if not loop.last }}
    {% endfor %}
)

select * from final
