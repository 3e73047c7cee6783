with

totals as (

    select * from {{ ref('int_redemption_benefits_totalled') }}

),

charges as (

    select * from {{ ref('fct_discounted_charges') }}

),

ended as (

    select
        redemption_id,
        workspace_id,
        coupon_id,
        program,
        ended_at

    from {{ of_recalculated_workspaces(ref('int_redemptions_with_terms')) }}

    where
        is_honoured
        and is_ever_in_force
        and has_ended
        and not is_to_come
        and ended_by = 'expiry'

),

later_charges as (

    select
        ended.redemption_id,
        max(case when charges.net_amount > 0 then charges.issued_at end) as last_paying_invoice_at,
        cast(sum(case when charges.issued_at < {{ add_months('ended.ended_at', '12') }} then charges.net_amount end) as decimal(18, 2)) as net_amount_12m,
        min(case when charges.issued_at < {{ add_months('ended.ended_at', '12') }} then charges.currency end) as first_currency,
        max(case when charges.issued_at < {{ add_months('ended.ended_at', '12') }} then charges.currency end) as last_currency

    from ended

    inner join charges
        on ended.workspace_id = charges.workspace_id
        and ended.ended_at <= charges.issued_at

    group by ended.redemption_id

),

final as (

    select
        ended.redemption_id,
        ended.workspace_id,
        ended.coupon_id,
        ended.program,
        totals.currency,
        ended.ended_at,
        case
            when totals.is_one_currency
                then {{ published_amount('(totals.discount_minor + totals.credit_minor)', 'totals.minor_per_major') }}
        end as total_discount_amount,
        {%- for months in retention_months() %}
        case
            when later_charges.last_paying_invoice_at >= {{ add_months('ended.ended_at', months) }} then true
            when {{ add_months('ended.ended_at', months) }} < {{ end_of_as_of_date() }} then false
        end as is_retained_{{ months }}m,
        {%- endfor %}
        case
            when totals.currency is null and not totals.is_one_currency then null
            when later_charges.first_currency is null then cast(0 as decimal(18, 2))
            when later_charges.first_currency = totals.currency and later_charges.last_currency = totals.currency
                then later_charges.net_amount_12m
        end as net_amount_12m

    from ended

    inner join totals
        on ended.redemption_id = totals.redemption_id

    left join later_charges
        on ended.redemption_id = later_charges.redemption_id

)

select * from final
