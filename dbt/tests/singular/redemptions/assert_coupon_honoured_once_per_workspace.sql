select
    redemptions.coupon_id,
    redemptions.workspace_id,
    case when coupons.once_per = 'subscription' then redemptions.subscription_id end as subscription_id,
    count(*) as honoured_redemptions

from {{ ref('dim_coupon_redemptions') }} as redemptions

inner join {{ ref('dim_coupons') }} as coupons
    on redemptions.coupon_id = coupons.coupon_id

where
    redemptions.is_honoured
    and coupons.once_per <> 'unlimited'

group by
    redemptions.coupon_id,
    redemptions.workspace_id,
    case when coupons.once_per = 'subscription' then redemptions.subscription_id end

having count(*) > 1
