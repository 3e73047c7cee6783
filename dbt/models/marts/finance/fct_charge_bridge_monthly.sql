with

charges as (

    select * from {{ of_recalculated_months(ref('fct_discounted_charges')) }}

),

-- From list to what was billed and kept, all in the month of the invoice.
final as (

    select
        currency,
        billing_month as bridge_month,
        plan,
        count(*) as invoices,
        cast(sum(list_amount) as decimal(18, 2)) as list_amount,
        cast(sum(percent_off_amount) as decimal(18, 2)) as percent_off_amount,
        cast(sum(amount_off_amount) as decimal(18, 2)) as amount_off_amount,
        cast(sum(credit_amount) as decimal(18, 2)) as credit_amount,
        cast(sum(net_amount) as decimal(18, 2)) as net_amount,
        cast(sum(billed_net_amount - net_amount) as decimal(18, 2)) as billing_error_amount,
        cast(sum(billed_net_amount) as decimal(18, 2)) as billed_net_amount,
        cast(sum(credited_amount) as decimal(18, 2)) as credited_amount,
        cast(sum(billed_net_after_notes_amount) as decimal(18, 2)) as billed_net_after_notes_amount

    from charges

    group by
        currency,
        billing_month,
        plan

)

select * from final
