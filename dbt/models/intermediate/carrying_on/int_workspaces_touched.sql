{%- set received_invoices = ref('int_invoices_received') -%}
{%- set redemptions = ref('int_redemptions_with_terms') -%}
{%- set redemptions_before = ref('int_redemptions_before') -%}
{#- The excluded columns depend on the as-of date or name the promotion and the delivery. They do not affect the
    calculation of any issued invoice. -#}
{%- set terms = all_columns_but(['has_started', 'has_ended', 'promotion_id', 'delivery_sequence', 'delivery_row']) %}
with

{% if carries_on() -%}
-- Credit and coupons limited to a number of invoices are used up in the order of invoices, so a changed invoice
-- affects all later ones. Any other discount depends on its own invoice only.
workspaces_in_order as (

    select distinct workspace_id

    from {{ redemptions }}

    where
        is_honoured
        and not is_to_come
        and (discount_type = 'credit' or invoice_limit is not null)

),

-- Redemptions that differ from the previous build, usually few: as they are now, and below as they were.
other_redemptions as (

    select * from {{ redemptions }}

    except

    select * from {{ redemptions_before }}

),

other_redemptions_before as (

    select * from {{ redemptions_before }}

    where
        redemption_id not in (
            select redemption_id from {{ redemptions }}

            except

            select redemption_id from other_redemptions
        )

),

changed_redemptions as (

    (
        select {{ terms }} from other_redemptions

        where not is_to_come

        except

        select {{ terms }} from other_redemptions_before

        where not is_to_come
    )

    union all

    (
        select {{ terms }} from other_redemptions_before

        where not is_to_come

        except

        select {{ terms }} from other_redemptions

        where not is_to_come
    )

),

-- The workspace that an invoice belonged to and the one that it belongs to now, whether or not the invoice counts.
changed_invoices as (

    select
        workspace_id,
        issued_at

    from {{ kept('fct_discounted_charges') }}

    where invoice_id in (select invoice_id from {{ received_invoices }})

    union all

    select
        workspace_id,
        issued_at

    from {{ received_invoices }}

),

with_other_redemptions as (

    select workspace_id from other_redemptions

    union

    select workspace_id from other_redemptions_before

),

-- R12: the discounts and credit on expected bills depend on everything in their workspace, but on no other workspace.
changes as (

    select
        changed_invoices.workspace_id,
        case when workspaces_in_order.workspace_id is not null then changed_invoices.issued_at end as changed_from

    from changed_invoices

    left join workspaces_in_order
        on changed_invoices.workspace_id = workspaces_in_order.workspace_id

    union all

    select
        workspace_id,
        cast(null as timestamp) as changed_from

    from with_other_redemptions

    union all

    select
        workspace_id,
        {{ terms_hold_from() or "cast('0001-01-01' as timestamp)" }} as changed_from

    from changed_redemptions

),

{% endif -%}
final as (
    {% if carries_on() %}
    select
        workspace_id,
        min(changed_from) as changed_from

    from changes

    group by workspace_id
    {% else %}
    {{ no_rows({'workspace_id': dbt.type_string(), 'changed_from': 'timestamp'}) }}
    {% endif %}
)

select * from final
