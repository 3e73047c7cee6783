with

bills as (

    select * from {{ of_recalculated_workspaces(ref('int_bills_looked_ahead')) }}

),

final as (

    select
        workspace_id,
        currency,
        billing_month as outlook_month,
        count(*) as expected_bills,
        {{ published_amount(sum_minor('list_minor')) }} as list_amount,
        {{ published_amount(sum_minor('percent_off_minor')) }} as percent_off_amount,
        {{ published_amount(sum_minor('amount_off_minor')) }} as amount_off_amount,
        {{ published_amount(sum_minor('discount_minor')) }} as discount_amount,
        {{ published_amount(sum_minor('credit_minor')) }} as credit_amount,
        {{ published_amount(sum_minor('net_minor')) }} as net_amount

    from bills

    group by
        workspace_id,
        currency,
        minor_per_major,
        billing_month

)

select * from final
