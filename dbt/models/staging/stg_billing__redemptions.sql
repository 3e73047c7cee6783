with

current_versions as (

    {{ current_versions('redemptions') }}

),

final as (

    select
        redemption_id,
        coupon_id,
        workspace_id,
        user_id,
        subscription_id,
        redeemed_at,
        starts_at,
        ends_at,
        revoked_at,
        eligible_until,
        channel,
        application_order,
        updated_at,
        delivery_sequence,
        row_number

    from current_versions

)

select * from final
