with

applied as (

    select * from {{ ref('int_discounts_applied') }}

),

redemptions as (

    select * from {{ ref('int_redemptions_unified') }}

),

invoices as (

    select * from {{ ref('int_invoices_counted') }}

),

final as (

    select
        applied.invoice_id,
        applied.redemption_id,
        redemptions.coupon_id,
        applied.application_rank,
        redemptions.discount_type,
        {{ published_amount('applied.base_minor', 'invoices.minor_per_major') }} as base_amount,
        {{ published_amount('applied.discount_minor', 'invoices.minor_per_major') }} as discount_amount,
        {{ published_amount('applied.remaining_minor', 'invoices.minor_per_major') }} as remaining_amount

    from applied

    inner join redemptions
        on applied.redemption_id = redemptions.redemption_id

    inner join invoices
        on applied.invoice_id = invoices.invoice_id

)

select * from final
