{%- set terms, content = {}, {} %}
{%- for name in typed_names('coupons') %}
{%- do content.update({name: name}) %}
{%- endfor %}
{%- for name in content.keys() | reject('in', ['coupon_name', 'program', 'updated_at']) %}
{%- do terms.update({name: name}) %}
{%- endfor %}

with

delivered as (

    select
        *,
        {{ json_record(terms) }} as terms,
        {{ json_record(content) }} as typed_values

    from {{ ref('base_billing__coupons') }}

    where rejection_reasons is null

),

delivered_in_order as (

    select
        *,
        lag(typed_values) over (
            partition by coupon_id
            order by updated_at, delivery_sequence, row_number
        ) as typed_values_before

    from delivered

),

-- A copy of the previous version is not a version.
final as (

    select
        coupon_id,
        coupon_name,
        program,
        discount_type,
        percent_off_e4,
        amount_off_minor,
        amount_off_per,
        credit_minor,
        credit_period_months,
        credit_max_periods,
        credit_priority,
        currency,
        applies_to_plan,
        applies_to_interval,
        duration,
        duration_months,
        duration_invoices,
        redeem_by,
        max_redemptions,
        requires_no_prior_coupon,
        once_per,
        follow_up_coupon_id,
        updated_at,
        minor_per_major,
        delivery_sequence,
        row_number,
        terms,
        cast(row_number() over (
            partition by coupon_id
            order by updated_at, delivery_sequence, row_number
        ) as bigint) as version_number

    from delivered_in_order

    where typed_values is distinct from typed_values_before

)

select * from final
