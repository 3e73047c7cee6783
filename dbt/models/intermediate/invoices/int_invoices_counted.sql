{# A view: it has nearly as many rows as the invoices and only filters them. #}
{{ config(materialized='view') }}

with

invoices as (

    select * from {{ ref('stg_billing__invoices') }}

),

-- R1: the latest version of an invoice counts if it is open, paid or uncollectible and was issued
-- before the end of the as-of date. R6: coupons may act on the whole list amount unless the invoice gives a
-- discountable amount, and on nothing of a negative bill.
final as (

    select
        invoice_id,
        workspace_id,
        status,
        plan,
        billing_interval,
        interval_count,
        subscription_id,
        currency,
        minor_per_major,
        period_start,
        period_end,
        issued_at,
        {{ month_of('issued_at') }} as billing_month,
        mtus,
        list_minor,
        case when list_minor < 0 then 0 else coalesce(discountable_minor, list_minor) end as discountable_minor,
        creditable_minor,
        discount_minor as billed_discount_minor,
        credit_minor as billed_credit_minor,
        tax_minor,
        total_minor,
        delivery_sequence,
        row_number as delivery_row

    from invoices

    -- A single condition: DuckDB assumes that each keeps one row in five; with several, it would build hash tables of
    -- the invoices.
    where
        case
            when status in ('open', 'paid', 'uncollectible') then issued_at < {{ end_of_as_of_date() }}
            else false
        end

)

select * from final
