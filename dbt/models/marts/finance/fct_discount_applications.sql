with

applied as (

    select * from {{ recalculated(ref('int_discounts_applied')) }}

    where not is_expected

),

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

),

final as (

    select
        applied.invoice_id,
        applied.redemption_id,
        redemptions.coupon_id,
        applied.application_rank,
        applied.discount_type,
        applied.currency,
        {{ published_amount('applied.base_minor', 'applied.minor_per_major') }} as base_amount,
        {{ published_amount('applied.discount_minor', 'applied.minor_per_major') }} as discount_amount,
        {{ published_amount('applied.remaining_minor', 'applied.minor_per_major') }} as remaining_amount

    from applied

    inner join redemptions
        on applied.redemption_id = redemptions.redemption_id

)

select * from final
