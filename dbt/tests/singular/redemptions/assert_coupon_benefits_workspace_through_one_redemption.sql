-- Invariant 1, seen from the money: whatever a coupon gave a workspace, it gave through one redemption.
with

benefits as (

    select
        charges.workspace_id,
        applications.coupon_id,
        applications.redemption_id

    from {{ ref('fct_discount_applications') }} as applications

    inner join {{ ref('fct_discounted_charges') }} as charges
        on applications.invoice_id = charges.invoice_id

    union

    select
        workspace_id,
        coupon_id,
        redemption_id

    from {{ ref('fct_credit_ledger') }}

)

select
    workspace_id,
    coupon_id,
    count(*) as redemptions

from benefits

group by
    workspace_id,
    coupon_id

having count(*) > 1
