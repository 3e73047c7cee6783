with

totals as (

    select * from {{ ref('int_redemption_benefits_totalled') }}

),

invoices as (

    select * from {{ ref('int_invoices_charged') }}

),

ended as (

    select
        redemption_id,
        workspace_id,
        coupon_id,
        program,
        ended_at

    from {{ ref('int_redemptions_unified') }}

    where
        is_honoured
        and is_ever_in_force
        and has_ended
        and ended_by = 'expiry'

),

later_invoices as (

    select
        ended.redemption_id,
        max(case when invoices.net_minor > 0 then invoices.issued_at end) as last_paying_invoice_at,
        {{ sum_minor('case when invoices.issued_at < ' ~ add_months('ended.ended_at', '12') ~ ' then invoices.net_minor else 0 end') }} as net_12m_minor,
        min(case when invoices.issued_at < {{ add_months('ended.ended_at', '12') }} then invoices.currency end) as first_currency,
        max(case when invoices.issued_at < {{ add_months('ended.ended_at', '12') }} then invoices.currency end) as last_currency

    from ended

    inner join invoices
        on ended.workspace_id = invoices.workspace_id
        and ended.ended_at <= invoices.issued_at

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
        {%- for months in [1, 3, 6, 12] %}
        case
            when later_invoices.last_paying_invoice_at >= {{ add_months('ended.ended_at', months) }} then true
            when {{ add_months('ended.ended_at', months) }} < {{ end_of_as_of_date() }} then false
        end as is_retained_{{ months }}m,
        {%- endfor %}
        case
            when later_invoices.first_currency is null then cast(0 as decimal(18, 2))
            when later_invoices.first_currency = totals.currency and later_invoices.last_currency = totals.currency
                then {{ published_amount('later_invoices.net_12m_minor', 'totals.minor_per_major') }}
        end as net_amount_12m

    from ended

    inner join totals
        on ended.redemption_id = totals.redemption_id

    left join later_invoices
        on ended.redemption_id = later_invoices.redemption_id

)

select * from final
