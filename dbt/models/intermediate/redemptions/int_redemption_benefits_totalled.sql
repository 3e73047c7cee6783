with

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

    where not is_to_come

),

benefits as (

    select * from {{ ref('int_benefits_given') }}

    where not is_expected

),

benefit_totals as (

    select
        redemption_id,
        count(*) as invoices_discounted,
        max(issued_at) as last_discounted_invoice_at,
        {{ sum_minor('discount_minor') }} as discount_minor,
        {{ sum_minor('credit_minor') }} as credit_minor

    from benefits

    group by redemption_id

),

covered_totals as (

    select
        redemption_id,
        min(currency) as first_currency,
        max(currency) as last_currency,
        max(minor_per_major) as minor_per_major,
        sum(case when is_use then 1 else 0 end) as invoices_used

    from {{ ref('int_redemption_invoices_covered') }}

    where not is_expected

    group by redemption_id

),

-- A redemption's amounts are in the currency of its coupon, or else in the one that its invoices share; the
-- amounts are null where the invoices are not all in that currency.
final as (

    select
        redemptions.redemption_id,
        case
            when redemptions.coupon_currency is not null then redemptions.coupon_currency
            when covered_totals.first_currency = covered_totals.last_currency then covered_totals.first_currency
        end as currency,
        case
            when redemptions.coupon_currency is not null then redemptions.coupon_minor_per_major
            when covered_totals.first_currency = covered_totals.last_currency then covered_totals.minor_per_major
            else 100
        end as minor_per_major,
        coalesce(
            covered_totals.first_currency = covered_totals.last_currency
            and covered_totals.first_currency = coalesce(redemptions.coupon_currency, covered_totals.first_currency),
            true
        ) as is_one_currency,
        coalesce(covered_totals.invoices_used, 0) as invoices_used,
        coalesce(benefit_totals.invoices_discounted, 0) as invoices_discounted,
        benefit_totals.last_discounted_invoice_at,
        coalesce(benefit_totals.discount_minor, 0) as discount_minor,
        coalesce(benefit_totals.credit_minor, 0) as credit_minor

    from redemptions

    left join covered_totals
        on redemptions.redemption_id = covered_totals.redemption_id

    left join benefit_totals
        on redemptions.redemption_id = benefit_totals.redemption_id

)

select * from final
