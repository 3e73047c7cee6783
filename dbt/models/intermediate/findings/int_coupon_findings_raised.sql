with

redeemed_coupons as (

    select distinct coupon_id

    from {{ ref('int_redemptions_known') }}

),

versions_compared as (

    select
        *,
        lag(terms) over (partition by coupon_id order by version_number) as terms_before

    from {{ ref('stg_billing__coupon_versions') }}

    where coupon_id in (select coupon_id from redeemed_coupons)

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
