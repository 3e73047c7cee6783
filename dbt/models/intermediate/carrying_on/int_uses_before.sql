{# Must be built before int_redemption_invoices_covered deletes the rows to recalculate. #}
-- depends_on: {{ ref('int_invoices_recalculated') }}
-- depends_on: {{ ref('int_redemptions_with_terms') }}
with

final as (
    {% if carries_on() %}
    select
        redemption_id,
        cast(count(*) as bigint) as uses

    from {{ kept('int_redemption_invoices_covered') }}

    -- Only redemptions with a limit need their uses.
    where
        is_use
        and redemption_id in (select redemption_id from {{ ref('int_redemptions_with_terms') }} where invoice_limit is not null)
        and invoice_id not in (select invoice_id from {{ ref('int_invoices_recalculated') }})

    group by redemption_id
    {% else %}
    {{ no_rows({'redemption_id': dbt.type_string(), 'uses': 'bigint'}) }}
    {% endif %}
)

select * from final
