with

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

),

totals as (

    select * from {{ ref('int_redemption_benefits_totalled') }}

),

tracked as (

    select * from {{ ref('int_redemption_statuses') }}

),

-- The first counted invoice at or after the end of a redemption that got no discount and no credit.
list_rate_invoices as (

    select
        redemptions.redemption_id,
        min(charges.issued_at) as first_list_rate_invoice_at

    from redemptions

    inner join {{ ref('fct_discounted_charges') }} as charges
        on redemptions.workspace_id = charges.workspace_id
        and redemptions.ended_at <= charges.issued_at

    where
        redemptions.is_honoured
        and redemptions.has_ended
        and charges.discount_amount = 0
        and charges.credit_amount = 0

    group by redemptions.redemption_id

),

final as (

    select
        redemptions.redemption_id,
        redemptions.workspace_id,
        redemptions.coupon_id,
        redemptions.program,
        redemptions.discount_type,
        totals.currency,
        redemptions.redeemed_at,
        redemptions.started_at,
        redemptions.ended_at as ends_at,
        redemptions.ended_by,
        redemptions.is_honoured,
        redemptions.refusal_reason,
        redemptions.is_derived,
        tracked.status,
        totals.invoices_discounted,
        totals.last_discounted_invoice_at,
        list_rate_invoices.first_list_rate_invoice_at,
        case
            when totals.is_one_currency then {{ published_amount('totals.discount_minor', 'totals.minor_per_major') }}
        end as discount_to_date_amount,
        case
            when totals.is_one_currency then {{ published_amount('totals.credit_minor', 'totals.minor_per_major') }}
        end as credit_to_date_amount,
        case
            when totals.is_one_currency then {{ published_amount('tracked.balance_minor', 'totals.minor_per_major') }}
        end as credit_balance_amount,
        tracked.next_event,
        tracked.next_event_at

    from redemptions

    inner join totals
        on redemptions.redemption_id = totals.redemption_id

    inner join tracked
        on redemptions.redemption_id = tracked.redemption_id

    left join list_rate_invoices
        on redemptions.redemption_id = list_rate_invoices.redemption_id

)

select * from final
