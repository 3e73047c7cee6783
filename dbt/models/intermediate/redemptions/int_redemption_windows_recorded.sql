{# A view, because calculating its columns costs less than storing them and joining them to the source again. #}
{{ config(materialized='view') }}

with

redemptions as (

    select * from {{ ref('int_redemptions_known') }}

),

coupons as (

    select * from {{ ref('stg_billing__coupons') }}

),

natural_ends as (

    select
        redemptions.*,
        {{ natural_end('redemptions.started_at', 'redemptions.ends_at', 'coupons') }} as natural_end_at

    from redemptions

    left join coupons
        on redemptions.coupon_id = coupons.coupon_id

),

ends as (

    select
        *,
        least(
            coalesce(natural_end_at, revoked_at, eligible_until),
            coalesce(revoked_at, eligible_until, natural_end_at),
            coalesce(eligible_until, natural_end_at, revoked_at)
        ) as ended_at

    from natural_ends

),

-- R3: the earliest of natural end, revocation and lost eligibility; in a tie the first of the three, in this order.
final as (

    select
        *,
        case
            when ended_at = natural_end_at then 'expiry'
            when ended_at = revoked_at then 'revocation'
            when ended_at = eligible_until then 'eligibility'
        end as ended_by

    from ends

)

select * from final
