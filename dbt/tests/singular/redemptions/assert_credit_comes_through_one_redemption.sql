with

ledger as (

    select distinct
        workspace_id,
        coupon_id,
        redemption_id

    from {{ ref('fct_credit_ledger') }}

),

-- Only workspaces with credit: without this condition, DuckDB would put all the others into a hash table, too.
charges as (

    select
        invoice_id,
        workspace_id

    from {{ ref('fct_discounted_charges') }}

    where workspace_id in (select workspace_id from ledger)

),

benefits as (

    select
        workspace_id,
        coupon_id,
        redemption_id

    from ledger

    union

    select
        charges.workspace_id,
        applications.coupon_id,
        applications.redemption_id

    from {{ ref('fct_discount_applications') }} as applications

    inner join charges
        on applications.invoice_id = charges.invoice_id

    inner join ledger
        on charges.workspace_id = ledger.workspace_id
        and applications.coupon_id = ledger.coupon_id

)

{{ through_several_redemptions('benefits') }}
