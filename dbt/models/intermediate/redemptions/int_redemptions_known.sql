with

redemptions as (

    select * from {{ ref('stg_billing__redemptions') }}

),

-- R0: a redemption made after the as-of date is not known yet.
final as (

    select
        redemption_id,
        coupon_id,
        workspace_id,
        user_id,
        subscription_id,
        redeemed_at,
        coalesce(starts_at, redeemed_at) as started_at,
        ends_at,
        revoked_at,
        eligible_until,
        application_order,
        delivery_sequence,
        row_number as delivery_row

    from redemptions

    where redeemed_at < {{ end_of_as_of_date() }}

)

select * from final
