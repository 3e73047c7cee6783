{%- set current_invoices = ref('stg_billing__invoices') -%}
with

final as (
    {% if carries_on() %}
    select
        invoice_id,
        workspace_id,
        issued_at

    from {{ current_invoices }}

    where
        {{ came_since() }}
        or (
            issued_at >= least({{ kept_end_of_as_of_date() }}, {{ end_of_as_of_date() }})
            and issued_at < greatest({{ kept_end_of_as_of_date() }}, {{ end_of_as_of_date() }})
        )
    {% else %}
    {{ no_rows({'invoice_id': dbt.type_string(), 'workspace_id': dbt.type_string(), 'issued_at': 'timestamp'}) }}
    {% endif %}
)

select * from final
