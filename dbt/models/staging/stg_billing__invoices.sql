{# A view: it is as large as its source and is read only once or twice. #}
{{ config(materialized='view') }}

with

current_versions as (

    {{ current_versions('invoices') }}

),

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
        period_start,
        period_end,
        issued_at,
        list_minor,
        discountable_minor,
        creditable_minor,
        discount_minor,
        credit_minor,
        tax_minor,
        total_minor,
        mtus,
        updated_at,
        minor_per_major,
        delivery_sequence,
        row_number

    from current_versions

)

select * from final
