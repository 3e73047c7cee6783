{%- set changed = ref('int_workspaces_changed') -%}
{%- set received_invoices = ref('int_invoices_received') -%}
{%- set expected = ref('int_bills_expected') -%}
{%- set expected_before = ref('int_bills_expected_before') -%}
{%- set redemptions = ref('int_redemptions_with_terms') %}
with

{% if carries_on() -%}
-- The charges of the previous build are enough: a counted invoice that is not among them is a received one.
from_the_first_change_on as (

    select invoices.invoice_id

    from {{ kept('fct_discounted_charges') }} as invoices

    inner join {{ changed }} as changed
        on invoices.workspace_id = changed.workspace_id
        and invoices.issued_at >= changed.changed_from

),

{% if terms_hold_from() -%}
-- R12: the expected bills of changed workspaces, except those that are issued before the changed terms hold and that
-- both builds have.
expected_bills as (

    select coalesce(expected.invoice_id, expected_before.invoice_id) as invoice_id

    from (select * from {{ expected }} where workspace_id in (select workspace_id from {{ changed }})) as expected

    full outer join {{ expected_before }} as expected_before
        on expected.invoice_id = expected_before.invoice_id

    where
        expected.invoice_id is null
        or expected_before.invoice_id is null
        or expected.issued_at >= {{ terms_hold_from() }}

),

{% else -%}
-- R12: the expected bills of changed workspaces that a redemption may cover or has covered, about a third of them.
expected_bills as (

    select invoice_id from {{ expected_before }}

    union all

    select expected.invoice_id

    from (select * from {{ expected }} where workspace_id in (select workspace_id from {{ changed }})) as expected

    inner join {{ redemptions }} as redemptions
        on expected.workspace_id = redemptions.workspace_id
        and redemptions.is_honoured
        and redemptions.started_at <= expected.issued_at
        and (redemptions.ended_at is null or redemptions.ended_at > expected.issued_at)

),

{% endif -%}
{% endif -%}
final as (
    {% if carries_on() %}
    select
        invoice_id,
        false as is_expected

    from {{ received_invoices }}

    union

    select
        invoice_id,
        false as is_expected

    from from_the_first_change_on

    union

    select
        invoice_id,
        true as is_expected

    from expected_bills
    {% else %}
    {{ no_rows({'invoice_id': dbt.type_string(), 'is_expected': 'boolean'}) }}
    {% endif %}
)

select * from final
