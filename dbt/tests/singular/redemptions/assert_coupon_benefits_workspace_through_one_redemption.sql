-- `assert_credit_comes_through_one_redemption` checks the same for coupons that give credit.
with

benefits as (

    select distinct
        charges.workspace_id,
        applications.coupon_id,
        applications.redemption_id

    from {{ ref('fct_discount_applications') }} as applications

    inner join {{ ref('fct_discounted_charges') }} as charges
        on applications.invoice_id = charges.invoice_id

)

{{ through_several_redemptions('benefits') }}
