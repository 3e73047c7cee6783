with

active as (

    select
        redemptions.redemption_id,
        redemptions.discount_type,
        redemptions.ended_at,
        statuses.uses_left

    from {{ ref('int_redemptions_with_terms') }} as redemptions

    inner join {{ ref('int_redemption_statuses') }} as statuses
        on redemptions.redemption_id = statuses.redemption_id
        and statuses.status = 'active'

),

grants as (

    select
        *,
        row_number() over (
            partition by redemption_id
            order by used_up_at desc nulls last, last_invoice_id desc nulls last
        ) as used_up_back

    from {{ ref('int_grants_looked_ahead') }}

    where redemption_id in (select redemption_id from active)

),

-- The last bill that takes a grant of the redemption to zero, if it is in the outlook.
last_used_up as (

    select
        redemption_id,
        used_up_at,
        last_invoice_id

    from grants

    where
        used_up_back = 1
        and is_used_up_in_outlook

),

-- R12: that bill leaves every grant of the redemption at zero if the other grants are used up or have ended.
used_up as (

    select
        grants.redemption_id,
        max(last_used_up.used_up_at) as used_up_at,
        max(last_used_up.last_invoice_id) as last_invoice_id

    from grants

    inner join last_used_up
        on grants.redemption_id = last_used_up.redemption_id

    group by grants.redemption_id

    having
        min(
            case
                when grants.used_up_at is not null or grants.grant_ended_at <= last_used_up.used_up_at then 1
                else 0
            end
        ) = 1

),

-- R12: a credit ends with its last grant.
grant_ends as (

    select
        redemption_id,
        case when count(*) = count(grant_ended_at) then max(grant_ended_at) end as last_grant_ended_at

    from grants

    group by redemption_id

),

limited as (

    select redemption_id

    from active

    where uses_left is not null

),

uses as (

    select
        covered.redemption_id,
        covered.issued_at,
        row_number() over (
            partition by covered.redemption_id
            order by covered.issued_at, covered.invoice_id
        ) as use_number

    from {{ ref('int_redemption_invoices_covered') }} as covered

    where
        covered.is_expected
        and covered.is_use
        and covered.redemption_id in (select redemption_id from limited)

),

joined as (

    select
        active.redemption_id,
        case
            when active.discount_type = 'credit' then grant_ends.last_grant_ended_at
            else active.ended_at
        end as ends_at,
        uses.issued_at as uses_end_at,
        used_up.used_up_at as credit_ends_at,
        used_up.last_invoice_id

    from active

    left join grant_ends
        on active.redemption_id = grant_ends.redemption_id

    left join uses
        on active.redemption_id = uses.redemption_id
        and active.uses_left = uses.use_number

    left join used_up
        on active.redemption_id = used_up.redemption_id

),

first_ends as (

    select
        *,
        least(
            coalesce(ends_at, uses_end_at, credit_ends_at),
            coalesce(uses_end_at, credit_ends_at, ends_at),
            coalesce(credit_ends_at, ends_at, uses_end_at)
        ) as runs_out_at

    from joined

),

-- R12: a redemption runs out at the earliest of its end, its last use and the end of its credit; in a tie the
-- first of the three, in this order, is the reason.
final as (

    select
        redemption_id,
        runs_out_at,
        case
            when runs_out_at = ends_at then 'end'
            when runs_out_at = uses_end_at then 'uses'
            when runs_out_at = credit_ends_at then 'credit'
        end as runs_out_by,
        last_invoice_id as credit_ended_by_invoice_id

    from first_ends

)

select * from final
