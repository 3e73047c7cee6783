{# As long as the invoices, and nothing but some of them: not kept. #}
{{ config(materialized='view') }}

with

invoices as (

    select * from {{ ref('stg_billing__invoices') }}

),

-- R1: the latest version of an invoice counts if it is open, paid or uncollectible and was issued
-- before the end of the as-of date.
final as (

    select
        invoice_id,
        workspace_id,
        status,
        plan,
        billing_interval,
        currency,
        minor_per_major,
        period_start,
        period_end,
        issued_at,
        {{ month_of('issued_at') }} as billing_month,
        mtus,
        list_minor,
        discount_minor as billed_discount_minor,
        credit_minor as billed_credit_minor,
        tax_minor,
        total_minor

    from invoices

    where
        status in ('open', 'paid', 'uncollectible')
        and issued_at < {{ end_of_as_of_date() }}

)

select * from final
