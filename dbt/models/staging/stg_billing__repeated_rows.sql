with

{{ repeated_rows('workspaces', 'workspace_id') }},

{{ repeated_rows('coupons', 'coupon_id') }},

{{ repeated_rows('redemptions', 'redemption_id') }},

{{ repeated_rows('invoices', 'invoice_id') }},

final as (

    select * from workspaces_fates

    union all

    select * from coupons_fates

    union all

    select * from redemptions_fates

    union all

    select * from invoices_fates

)

select * from final
