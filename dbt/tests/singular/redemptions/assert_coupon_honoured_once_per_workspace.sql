-- Invariant 1: a coupon is used once per workspace. Two honoured redemptions of one coupon on one
-- workspace would discount it twice.
select
    coupon_id,
    workspace_id,
    count(*) as honoured_redemptions

from {{ ref('dim_coupon_redemptions') }}

where is_honoured

group by
    coupon_id,
    workspace_id

having count(*) > 1
