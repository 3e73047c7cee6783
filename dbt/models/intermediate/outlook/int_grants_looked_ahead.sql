with

grants as (

    select * from {{ ref('int_credit_grants_scheduled') }}

),

draws as (

    select * from {{ ref('int_credit_draws') }}

    where draw_minor > 0

),

-- The bill that takes the balance of a grant to zero, and what bills draw from the grant.
drawn as (

    select
        grant_id,
        max(case when draw_minor = balance_before_minor then invoice_id end) as last_invoice_id,
        max(case when draw_minor = balance_before_minor then issued_at end) as used_up_at,
        max(case when draw_minor = balance_before_minor and is_expected then 1 else 0 end) = 1 as is_used_up_in_outlook,
        {{ sum_minor('draw_minor') }} as drawn_minor,
        {{ sum_minor('case when not is_expected then draw_minor else 0 end') }} as drawn_to_date_minor

    from draws

    group by grant_id

),

-- R12: a grant without an end before the horizon has no breakage yet.
final as (

    select
        grants.grant_id,
        grants.redemption_id,
        grants.grant_ended_at,
        case
            when grants.is_issued and not grants.has_ended then grants.grant_minor - coalesce(drawn.drawn_to_date_minor, 0)
            else 0
        end as balance_minor,
        drawn.last_invoice_id,
        drawn.used_up_at,
        coalesce(drawn.is_used_up_in_outlook, false) as is_used_up_in_outlook,
        case
            when grants.grant_ended_at < {{ horizon() }} then grants.grant_minor - coalesce(drawn.drawn_minor, 0)
        end as breakage_minor

    from grants

    left join drawn
        on grants.grant_id = drawn.grant_id

)

select * from final
