with

redeemed_coupons as (

    select distinct coupon_id

    from {{ ref('int_redemptions_known') }}

),

versions as (

    select
        *,
        {{ json_record({'discount_type': 'discount_type', 'percent_off_e4': 'percent_off_e4', 'amount_off_minor': 'amount_off_minor', 'amount_off_per': 'amount_off_per', 'credit_minor': 'credit_minor', 'credit_period_months': 'credit_period_months', 'credit_max_periods': 'credit_max_periods', 'credit_priority': 'credit_priority', 'currency': 'currency', 'applies_to_plan': 'applies_to_plan', 'applies_to_interval': 'applies_to_interval', 'duration': 'duration', 'duration_months': 'duration_months', 'duration_invoices': 'duration_invoices', 'redeem_by': 'redeem_by', 'max_redemptions': 'max_redemptions', 'requires_no_prior_coupon': 'requires_no_prior_coupon', 'once_per': 'once_per', 'follow_up_coupon_id': 'follow_up_coupon_id'}) }} as terms

    from {{ ref('stg_billing__coupon_versions') }}

    where coupon_id in (select coupon_id from redeemed_coupons)

),

versions_compared as (

    select
        *,
        lag(terms) over (partition by coupon_id order by version_number) as terms_before

    from versions

),

changed as (

    select
        *,
        row_number() over (partition by coupon_id, updated_at order by version_number) as change_number

    from versions_compared

    where terms <> terms_before

),

-- A version that differs from the previous one in what the coupon gives, for how long, for what or to whom.
final as (

    select
        'coupon_terms_changed' as finding_type,
        coupon_id,
        updated_at as occurred_at,
        currency,
        change_number,
        delivery_sequence,
        row_number as delivery_row

    from changed

)

select * from final
