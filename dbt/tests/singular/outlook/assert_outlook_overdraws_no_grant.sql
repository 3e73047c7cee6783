with

drawn as (

    select
        draws.grant_id,
        sum(draws.draw_minor) as drawn_minor,
        min(draws.issued_at) as first_drawn_at,
        max(draws.issued_at) as last_drawn_at

    from {{ ref('int_credit_draws') }} as draws

    where draws.draw_minor <> 0

    group by draws.grant_id

),

drawn_by_bill as (

    select
        invoice_id,
        sum(draw_minor) as credit_minor

    from {{ ref('int_credit_draws') }}

    where is_expected

    group by invoice_id

)

select
    drawn.grant_id,
    cast(null as {{ dbt.type_string() }}) as invoice_id

from drawn

left join {{ ref('int_credit_grants_scheduled') }} as scheduled_grants
    on drawn.grant_id = scheduled_grants.grant_id

where
    coalesce(drawn.drawn_minor > scheduled_grants.grant_minor, true)
    or drawn.first_drawn_at < scheduled_grants.grant_started_at
    or drawn.last_drawn_at >= scheduled_grants.grant_ended_at

union all

select
    cast(null as {{ dbt.type_string() }}) as grant_id,
    bills.invoice_id

from {{ ref('int_bills_looked_ahead') }} as bills

left join drawn_by_bill
    on bills.invoice_id = drawn_by_bill.invoice_id

where bills.credit_minor <> coalesce(drawn_by_bill.credit_minor, 0)
