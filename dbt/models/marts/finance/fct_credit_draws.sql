with

grants as (

    select * from {{ ref('int_credit_grants_scheduled') }}

    where is_issued

),

draws as (

    select * from {{ recalculated(ref('int_credit_draws')) }}

    where not is_expected

),

-- R7: the order in which an invoice draws on the grants that cover the invoice.
final as (

    select
        draws.grant_id,
        grants.redemption_id,
        grants.workspace_id,
        draws.invoice_id,
        grants.currency,
        cast(
            row_number() over (
                partition by draws.invoice_id
                order by {{ draw_order('grants') }}
            ) as bigint
        ) as draw_rank,
        {{ published_amount('draws.balance_before_minor', 'grants.minor_per_major') }} as balance_before_amount,
        {{ published_amount('draws.draw_minor', 'grants.minor_per_major') }} as draw_amount,
        {{ published_amount('draws.billed_balance_before_minor', 'grants.minor_per_major') }} as billed_balance_before_amount,
        {{ published_amount('draws.billed_draw_minor', 'grants.minor_per_major') }} as billed_draw_amount

    from draws

    inner join grants
        on draws.grant_id = grants.grant_id

)

select * from final
