with

applications as (

    select
        invoice_id,
        application_rank,
        base_amount,
        discount_amount,
        remaining_amount,
        row_number() over (partition by invoice_id order by application_rank) as expected_rank,
        lag(remaining_amount) over (partition by invoice_id order by application_rank) as left_before

    from {{ ref('fct_discount_applications') }}

)

select
    applications.invoice_id,
    applications.application_rank

from applications

left join {{ ref('fct_discounted_charges') }} as charges
    on applications.invoice_id = charges.invoice_id

where
    applications.application_rank is distinct from applications.expected_rank
    or applications.base_amount is distinct from coalesce(applications.left_before, charges.discountable_amount)
    or applications.remaining_amount is distinct from applications.base_amount - applications.discount_amount
    or coalesce(applications.discount_amount <= 0, true)
