with

versions as (

    select
        *,
        max(version_number) over (partition by coupon_id) as last_version_number

    from {{ ref('stg_billing__coupon_versions') }}

),

deliveries as (

    select * from {{ ref('stg_arrival__deliveries') }}

),

final as (

    select
        versions.coupon_id,
        versions.version_number,
        versions.updated_at,
        versions.version_number = versions.last_version_number as is_current,
        versions.coupon_name,
        versions.program,
        versions.discount_type,
        cast(cast(versions.percent_off_e4 as decimal(7, 0)) * cast(0.0001 as decimal(5, 4)) as decimal(7, 4)) as percent_off,
        {{ published_amount('versions.amount_off_minor', 'versions.minor_per_major') }} as amount_off,
        versions.amount_off_per,
        {{ published_amount('versions.credit_minor', 'versions.minor_per_major') }} as credit_amount,
        versions.credit_period_months,
        versions.credit_max_periods,
        versions.credit_priority,
        versions.currency,
        versions.applies_to_plan,
        versions.applies_to_interval,
        versions.duration,
        versions.duration_months,
        versions.duration_invoices,
        versions.redeem_by,
        versions.max_redemptions,
        versions.requires_no_prior_coupon,
        versions.once_per,
        versions.follow_up_coupon_id,
        deliveries.delivery_id,
        versions.row_number as delivery_row

    from versions

    inner join deliveries
        on versions.delivery_sequence = deliveries.delivery_sequence

)

select * from final
