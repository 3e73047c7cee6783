{%- set changed = ref('int_workspaces_changed') -%}
{%- set received_invoices = ref('int_invoices_received') -%}
{%- set credited = ref('int_invoices_credited') -%}
{%- set credited_before = ref('int_invoices_credited_before') -%}
{%- set expected = ref('int_bills_expected') -%}
{%- set expected_before = ref('int_bills_expected_before') %}
with

{% if carries_on() -%}
-- What counts now and was not received counted before.
from_the_first_change_on as (

    select invoices.invoice_id

    from {{ kept('fct_discounted_charges') }} as invoices

    inner join {{ changed }} as changed
        on invoices.workspace_id = changed.workspace_id
        and invoices.issued_at >= changed.changed_from

),

credited_otherwise as (

    select coalesce(credited.invoice_id, credited_before.invoice_id) as invoice_id

    from {{ credited }} as credited

    full outer join {{ credited_before }} as credited_before
        on credited.invoice_id = credited_before.invoice_id

    where credited.credited_minor is distinct from credited_before.credited_minor

),

{% endif -%}
final as (
    {% if carries_on() %}
    select invoice_id from {{ received_invoices }}

    union

    select invoice_id from from_the_first_change_on

    union

    select invoice_id from credited_otherwise

    union

    select invoice_id from {{ expected }}

    union

    select invoice_id from {{ expected_before }}
    {% else %}
    {{ no_rows({'invoice_id': dbt.type_string()}) }}
    {% endif %}
)

select * from final
