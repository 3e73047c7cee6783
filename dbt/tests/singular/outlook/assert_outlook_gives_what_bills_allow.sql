-- Invariant 7: what coupons take off an expected bill is at most what they may act on, and what credit pays at
-- most what it may pay.
select
    invoice_id,
    discount_minor,
    credit_minor

from {{ ref('int_bills_looked_ahead') }}

where
    coalesce(discount_minor not between 0 and discountable_minor, true)
    or coalesce(credit_minor not between 0 and creditable_minor, true)
    or coalesce(net_minor < 0, true)
