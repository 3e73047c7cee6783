select
    invoice_id,
    list_amount,
    discount_amount,
    credit_amount,
    net_amount

from {{ ref('fct_discounted_charges') }}

where
    coalesce(discount_amount < 0, true)
    or coalesce(credit_amount < 0, true)
    or coalesce(net_amount < 0 and list_amount >= 0, true)
    or coalesce(list_amount < 0 and (discount_amount <> 0 or credit_amount <> 0), true)
    or coalesce(discount_amount > discountable_amount, true)
    or credit_amount > creditable_amount
    or list_amount is distinct from discount_amount + credit_amount + net_amount
    or discount_amount is distinct from percent_off_amount + amount_off_amount
    or billed_net_amount is distinct from list_amount - billed_discount_amount - billed_credit_amount
    or billed_net_after_notes_amount is distinct from billed_net_amount - credited_amount
    or discount_variance_amount is distinct from billed_discount_amount - discount_amount
