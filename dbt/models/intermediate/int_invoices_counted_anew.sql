{%- set recalculated = ref('int_invoices_recalculated') -%}
with

final as (

    select * from {{ ref('int_invoices_counted') }}
    {% if carries_on() %}
    where invoice_id in (select invoice_id from {{ recalculated }})
    {% else %}
    where false
    {% endif %}
)

select * from final
