with

redemptions as (

    select * from {{ of_recalculated_workspaces(ref('int_redemptions_with_terms')) }}

    where not is_to_come

),

totals as (

    select * from {{ ref('int_redemption_benefits_totalled') }}

),

statuses as (

    select * from {{ ref('int_redemption_statuses') }}

),

deliveries as (

    select * from {{ ref('stg_arrival__deliveries') }}

),

ended_redemptions as (

    select
        redemption_id,
        workspace_id,
        ended_at

    from {{ of_recalculated_workspaces(ref('int_redemptions_with_terms')) }}

    where
        is_honoured
        and has_ended
        and not is_to_come

),

-- The first counted invoice with a list amount above zero, at or after the end of a redemption, without discount
-- or credit.
list_rate_invoices as (

    select
        ended_redemptions.redemption_id,
        min(charges.issued_at) as first_list_rate_invoice_at

    from ended_redemptions

    inner join {{ ref('fct_discounted_charges') }} as charges
        on ended_redemptions.workspace_id = charges.workspace_id
        and ended_redemptions.ended_at <= charges.issued_at

    -- A single condition: DuckDB assumes that each equality keeps few charges, and would build hash tables of them.
    where
        case
            when charges.list_amount > 0 then charges.discount_amount = 0 and charges.credit_amount = 0
            else false
        end

    group by ended_redemptions.redemption_id

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
        statuses.status,
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
            when totals.is_one_currency then {{ published_amount('statuses.balance_minor', 'totals.minor_per_major') }}
        end as credit_balance_amount,
        statuses.next_event,
        statuses.next_event_at,
        redemptions.subscription_id,
        redemptions.promotion_id,
        statuses.uses_left,
        deliveries.delivery_id,
        redemptions.delivery_row

    from redemptions

    inner join totals
        on redemptions.redemption_id = totals.redemption_id

    inner join statuses
        on redemptions.redemption_id = statuses.redemption_id

    left join deliveries
        on redemptions.delivery_sequence = deliveries.delivery_sequence

    left join list_rate_invoices
        on redemptions.redemption_id = list_rate_invoices.redemption_id

)

select * from final
