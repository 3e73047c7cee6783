-- No mart has users, so this test reads an intermediate model.
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
