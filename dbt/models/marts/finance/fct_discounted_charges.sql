-- depends_on: {{ ref('int_invoices_recalculated') }}
with

charged as (

    select * from {{ ref('int_invoices_charged') }}

),

-- R9: within one minor unit each, or cancelling out, is a match.
audited as (

    select
        *,
        case
            when abs(discount_variance_minor) <= 1 and abs(credit_variance_minor) <= 1 then 'matched'
            when discount_variance_minor + credit_variance_minor > 0 then 'over_discounted'
            when discount_variance_minor + credit_variance_minor < 0 then 'under_discounted'
            else 'matched'
        end as audit_status

    from charged

),

final as (

    select
        invoice_id,
        workspace_id,
        plan,
        billing_interval,
        currency,
        period_start,
        period_end,
        issued_at,
        billing_month,
        status,
        mtus,
        {{ published_amount('list_minor') }} as list_amount,
        {{ published_amount('percent_off_minor') }} as percent_off_amount,
        {{ published_amount('amount_off_minor') }} as amount_off_amount,
        {{ published_amount('discount_minor') }} as discount_amount,
        {{ published_amount('credit_minor') }} as credit_amount,
        {{ published_amount('net_minor') }} as net_amount,
        {{ published_amount('tax_minor') }} as tax_amount,
        {{ published_amount('billed_discount_minor') }} as billed_discount_amount,
        {{ published_amount('billed_credit_minor') }} as billed_credit_amount,
        {{ published_amount('billed_net_minor') }} as billed_net_amount,
        {{ published_amount('total_minor') }} as billed_total_amount,
        {{ published_amount('discount_variance_minor') }} as discount_variance_amount,
        {{ published_amount('credit_variance_minor') }} as credit_variance_amount,
        audit_status

    from audited

)

select * from final
