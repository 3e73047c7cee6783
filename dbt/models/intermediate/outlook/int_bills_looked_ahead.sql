with

bills as (

    select * from {{ of_recalculated_workspaces(ref('int_bills_expected')) }}

    where workspace_id in (select workspace_id from {{ ref('int_workspaces_looked_ahead') }})

),

discounted as (

    select * from {{ ref('int_invoices_discounted') }}

    where is_expected

),

credited as (

    select
        invoice_id,
        {{ sum_minor('draw_minor') }} as credit_minor

    from {{ of_recalculated_workspaces(ref('int_credit_draws')) }}

    where is_expected

    group by invoice_id

),

-- R12: what coupons and credit will do to a bill (R6 to R8).
final as (

    select
        bills.invoice_id,
        bills.workspace_id,
        bills.subscription_id,
        bills.plan,
        bills.billing_interval,
        bills.interval_count,
        bills.currency,
        bills.minor_per_major,
        bills.issued_at,
        bills.billing_month,
        bills.list_minor,
        bills.discountable_minor,
        bills.creditable_minor,
        coalesce(discounted.percent_off_minor, 0) as percent_off_minor,
        coalesce(discounted.amount_off_minor, 0) as amount_off_minor,
        coalesce(discounted.discount_minor, 0) as discount_minor,
        coalesce(credited.credit_minor, 0) as credit_minor,
        bills.list_minor - coalesce(discounted.discount_minor, 0) - coalesce(credited.credit_minor, 0) as net_minor

    from bills

    left join discounted
        on bills.invoice_id = discounted.invoice_id

    left join credited
        on bills.invoice_id = credited.invoice_id

)

select * from final
