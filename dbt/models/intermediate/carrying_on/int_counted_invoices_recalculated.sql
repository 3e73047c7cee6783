{%- set again = ref('int_invoices_recalculated') -%}
with

-- If no counted invoice is recalculated, as is usual on a day without deliveries, no invoice is read.
final as (

    select * from {{ ref('int_invoices_counted') }}

    where
        {% if carries_on() -%}
        invoice_id in (select invoice_id from {{ again }} where not is_expected)
        {%- else -%}
        false
        {%- endif %}

)

select * from final
