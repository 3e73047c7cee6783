{%- set current_invoices = ref('stg_billing__invoices') -%}
{%- set repeated_rows = ref('stg_billing__repeated_rows') -%}
{%- set credited = ref('int_invoices_credited') -%}
{%- set credited_before = ref('int_invoices_credited_before') %}
with

{% if carries_on() -%}
credited_otherwise as (

    select coalesce(credited.invoice_id, credited_before.invoice_id) as invoice_id

    from {{ credited }} as credited

    full outer join {{ credited_before }} as credited_before
        on credited.invoice_id = credited_before.invoice_id

    where credited.credited_minor is distinct from credited_before.credited_minor

),

-- A redelivered copy of a superseded version makes that version current again if its updated_at is the newest.
came_back as (

    select record_id as invoice_id

    from {{ repeated_rows }}

    where
        feed = 'invoices'
        and fate = 'duplicate'
        and {{ came_since() }}
        and record_id in (select record_id from {{ repeated_rows }} where feed = 'invoices' and fate = 'superseded')

),

again as (

    select invoice_id from came_back

    union

    select invoice_id from credited_otherwise

),

{% endif -%}
final as (
    {% if carries_on() %}
    -- Two scans, because a single one with all conditions would look up the id of every invoice.
    select
        invoice_id,
        workspace_id,
        issued_at

    from {{ current_invoices }}

    where
        {{ came_since() }}
        or (
            issued_at >= {{ kept_end_of_as_of_date() }}
            and issued_at < {{ end_of_as_of_date() }}
        )

    union

    select
        invoice_id,
        workspace_id,
        issued_at

    from {{ current_invoices }}

    where invoice_id in (select invoice_id from again)
    {% else %}
    {{ no_rows({'invoice_id': dbt.type_string(), 'workspace_id': dbt.type_string(), 'issued_at': 'timestamp'}) }}
    {% endif %}
)

select * from final
