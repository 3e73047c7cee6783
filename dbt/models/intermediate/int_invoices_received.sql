{%- set current_invoices = ref('stg_billing__invoices') -%}
{% if carries_on() -%}
with

final as (

    select invoice_id

    from {{ current_invoices }}

    where
        {{ came_since() }}
        or (
            issued_at >= least({{ kept_end_of_as_of_date() }}, {{ end_of_as_of_date() }})
            and issued_at < greatest({{ kept_end_of_as_of_date() }}, {{ end_of_as_of_date() }})
        )

)

select * from final
{%- else -%}
with

final as (

    select cast(null as {{ dbt.type_string() }}) as invoice_id

    where false

)

select * from final
{%- endif %}
