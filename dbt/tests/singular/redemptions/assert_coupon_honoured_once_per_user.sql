-- Invariant 1: a coupon is used once per user, in whichever workspace, where its once_per asks that. Users are not in the marts, so
-- this looks where they are.
select
    coupon_id,
    user_id,
    count(*) as honoured_redemptions

from {{ ref('int_redemptions_with_terms') }}

where
    is_honoured
    and user_id is not null
    and once_per = 'user'

group by
    coupon_id,
    user_id

having count(*) > 1
