with

invoices as (

    select * from {{ ref('int_invoices_counted') }}

),

discount_totals as (

    select
        applied.invoice_id,
        {{ sum_minor("case when redemptions.discount_type = 'percent_off' then applied.discount_minor else 0 end") }} as percent_off_minor,
        {{ sum_minor("case when redemptions.discount_type = 'amount_off' then applied.discount_minor else 0 end") }} as amount_off_minor

    from {{ ref('int_discounts_applied') }} as applied

    inner join {{ ref('int_redemptions_unified') }} as redemptions
        on applied.redemption_id = redemptions.redemption_id

    group by applied.invoice_id

),

final as (

    select
        invoices.invoice_id,
        invoices.workspace_id,
        coalesce(discount_totals.percent_off_minor, 0) as percent_off_minor,
        coalesce(discount_totals.amount_off_minor, 0) as amount_off_minor,
        coalesce(discount_totals.percent_off_minor + discount_totals.amount_off_minor, 0) as discount_minor

    from invoices

    left join discount_totals
        on invoices.invoice_id = discount_totals.invoice_id

)

select * from final
