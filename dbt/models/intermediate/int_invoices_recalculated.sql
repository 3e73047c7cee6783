{%- set invoices = ref('int_invoices_counted') -%}
{%- set changed = ref('int_workspaces_changed') -%}
{%- set received_invoices = ref('int_invoices_received') -%}
{% if carries_on() -%}
with

invoices_before_and_now as (

    select
        invoice_id,
        workspace_id,
        issued_at

    from {{ kept('fct_discounted_charges') }}

    union all

    select
        invoice_id,
        workspace_id,
        issued_at

    from {{ invoices }}

),

from_the_first_change_on as (

    select invoices_before_and_now.invoice_id

    from invoices_before_and_now

    inner join {{ changed }} as changed
        on invoices_before_and_now.workspace_id = changed.workspace_id
        and invoices_before_and_now.issued_at >= changed.changed_from

),

final as (

    select invoice_id from {{ received_invoices }}

    union

    select invoice_id from from_the_first_change_on

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
