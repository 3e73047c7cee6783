{# Must be built before int_credit_draws deletes the rows to recalculate. #}
-- depends_on: {{ ref('int_invoices_recalculated') }}
with

final as (
    {% if carries_on() %}
    select
        grant_id,
        {{ sum_minor('draw_minor') }} as drawn_minor,
        {{ sum_minor('billed_draw_minor') }} as billed_drawn_minor

    from {{ kept('int_credit_draws') }}

    where invoice_id not in (select invoice_id from {{ ref('int_invoices_recalculated') }})

    group by grant_id
    {% else %}
    {{ no_rows({'grant_id': dbt.type_string(), 'drawn_minor': 'bigint', 'billed_drawn_minor': 'bigint'}) }}
    {% endif %}
)

select * from final
