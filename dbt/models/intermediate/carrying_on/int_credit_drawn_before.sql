{# Must be built before int_credit_draws deletes the rows to recalculate. #}
-- depends_on: {{ ref('int_invoices_recalculated') }}
with

final as (
    {% if carries_on() %}
    select
        basis,
        grant_id,
        {{ sum_minor('draw_minor') }} as drawn_minor

    from {{ kept('int_credit_draws') }}

    where invoice_id not in (select invoice_id from {{ ref('int_invoices_recalculated') }})

    group by
        basis,
        grant_id
    {% else %}
    {{ no_rows({'basis': dbt.type_string(), 'grant_id': dbt.type_string(), 'drawn_minor': 'bigint'}) }}
    {% endif %}
)

select * from final
