with

ended_redemptions as (

    select
        redemption_id,
        workspace_id,
        ends_at

    from {{ ref('dim_coupon_redemptions') }}

    where
        is_honoured
        and ends_at > started_at

),

first_bills as (

    select
        ended_redemptions.redemption_id,
        ended_redemptions.workspace_id,
        min(charges.issued_at) as issued_at

    from ended_redemptions

    inner join {{ ref('fct_discounted_charges') }} as charges
        on ended_redemptions.workspace_id = charges.workspace_id
        and ended_redemptions.ends_at <= charges.issued_at

    group by
        ended_redemptions.redemption_id,
        ended_redemptions.workspace_id

),

reduced_charges as (

    select
        invoice_id,
        workspace_id,
        issued_at,
        discount_amount,
        credit_amount

    from {{ ref('fct_discounted_charges') }}

    where
        discount_amount <> 0
        or credit_amount <> 0

),

reduced_first_bills as (

    select
        first_bills.redemption_id,
        first_bills.workspace_id,
        reduced_charges.invoice_id,
        reduced_charges.issued_at,
        reduced_charges.discount_amount,
        reduced_charges.credit_amount

    from first_bills

    inner join reduced_charges
        on first_bills.workspace_id = reduced_charges.workspace_id
        and first_bills.issued_at = reduced_charges.issued_at

),

invoices_in_force as (

    select distinct reduced_first_bills.invoice_id

    from reduced_first_bills

    inner join {{ ref('dim_coupon_redemptions') }} as redemptions
        on reduced_first_bills.workspace_id = redemptions.workspace_id
        and reduced_first_bills.issued_at >= redemptions.started_at
        and (redemptions.ends_at is null or reduced_first_bills.issued_at < redemptions.ends_at)

    where redemptions.is_honoured

)

select
    reduced_first_bills.redemption_id,
    reduced_first_bills.invoice_id,
    reduced_first_bills.discount_amount,
    reduced_first_bills.credit_amount

from reduced_first_bills

left join invoices_in_force
    on reduced_first_bills.invoice_id = invoices_in_force.invoice_id

where invoices_in_force.invoice_id is null
