{# Must be built before int_bills_expected is built again. #}
with

final as (
    {% if carries_on() %}
    select
        invoice_id,
        workspace_id,
        subscription_id,
        plan,
        billing_interval,
        interval_count,
        currency,
        issued_at,
        list_minor,
        discountable_minor,
        creditable_minor

    from {{ kept('int_bills_expected') }}
    {% else %}
    {{ no_rows({'invoice_id': dbt.type_string()}) }}
    {% endif %}
)

select * from final
