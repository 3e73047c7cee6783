with recursive

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

),

covered as (

    select * from {{ recalculated(ref('int_redemption_invoices_covered')) }}

    where discount_type in ('percent_off', 'amount_off')

),

-- R6: the order in which discounts apply, and what each would take: a percentage, or an amount, multiplied by
-- the months of the period where the amount is per month.
ordered as (

    select
        covered.invoice_id,
        covered.redemption_id,
        covered.discount_type,
        covered.currency,
        covered.minor_per_major,
        covered.is_expected,
        covered.discountable_minor,
        redemptions.percent_off_e4,
        cast(redemptions.amount_off_minor as {{ wide_integer() }})
        * case redemptions.amount_off_per when 'month' then covered.period_months else 1 end as amount_off_minor,
        row_number() over (
            partition by covered.invoice_id
            order by
                case when redemptions.application_order is null then 1 else 0 end,
                redemptions.application_order,
                redemptions.redeemed_at,
                redemptions.redemption_id
        ) as application_position

    from covered

    inner join redemptions
        on covered.redemption_id = redemptions.redemption_id

),

-- Invoices with a single discount need no recursion; the others are processed position by position.
first_discounts as (

    select
        invoice_id,
        redemption_id,
        discount_type,
        currency,
        minor_per_major,
        is_expected,
        application_position,
        1 as application_rank,
        discountable_minor as base_minor,
        {{ discount_of('percent_off_e4', 'amount_off_minor', 'discountable_minor') }} as discount_minor

    from ordered

    where application_position = 1

),

later_discounts as (

    select
        invoice_id,
        redemption_id,
        discount_type,
        currency,
        minor_per_major,
        is_expected,
        application_position,
        percent_off_e4,
        amount_off_minor

    from ordered

    where application_position > 1

),

-- R6: each discount applies to what earlier discounts left of the discountable amount, and never takes more
-- than that. Ranks number the discounts that take something.
applied as (

    select
        invoice_id,
        redemption_id,
        discount_type,
        currency,
        minor_per_major,
        is_expected,
        application_position,
        application_rank,
        base_minor,
        discount_minor

    from first_discounts

    union all

    select
        later_discounts.invoice_id,
        later_discounts.redemption_id,
        later_discounts.discount_type,
        later_discounts.currency,
        later_discounts.minor_per_major,
        later_discounts.is_expected,
        later_discounts.application_position,
        applied.application_rank + case when applied.discount_minor > 0 then 1 else 0 end as application_rank,
        applied.base_minor - applied.discount_minor as base_minor,
        {{ discount_of(
            'later_discounts.percent_off_e4',
            'later_discounts.amount_off_minor',
            '(applied.base_minor - applied.discount_minor)'
        ) }} as discount_minor

    from applied

    inner join later_discounts
        on applied.invoice_id = later_discounts.invoice_id
        and applied.application_position + 1 = later_discounts.application_position

),

-- A discount that takes nothing has no row.
final as (

    select
        invoice_id,
        redemption_id,
        discount_type,
        currency,
        minor_per_major,
        is_expected,
        cast(application_rank as bigint) as application_rank,
        base_minor,
        discount_minor,
        base_minor - discount_minor as remaining_minor

    from applied

    where discount_minor > 0

)

select * from final
