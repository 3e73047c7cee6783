-- Invariant 2: the first bill after a redemption's end is at list, unless another redemption on the
-- workspace was in force when it was issued.
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

bills_after as (

    select
        ended_redemptions.redemption_id,
        ended_redemptions.workspace_id,
        charges.invoice_id,
        charges.issued_at,
        charges.discount_amount,
        charges.credit_amount,
        row_number() over (
            partition by ended_redemptions.redemption_id
            order by charges.issued_at, charges.invoice_id
        ) as bill_number

    from ended_redemptions

    inner join {{ ref('fct_discounted_charges') }} as charges
        on ended_redemptions.workspace_id = charges.workspace_id
        and ended_redemptions.ends_at <= charges.issued_at

),

first_bills as (

    select * from bills_after

    where bill_number = 1

)

select
    first_bills.redemption_id,
    first_bills.invoice_id,
    first_bills.discount_amount,
    first_bills.credit_amount

from first_bills

left join {{ ref('dim_coupon_redemptions') }} as other_redemptions
    on first_bills.workspace_id = other_redemptions.workspace_id
    and first_bills.issued_at >= other_redemptions.started_at
    and (other_redemptions.ends_at is null or first_bills.issued_at < other_redemptions.ends_at)
    and other_redemptions.is_honoured

where
    (first_bills.discount_amount <> 0 or first_bills.credit_amount <> 0)
    and other_redemptions.redemption_id is null
