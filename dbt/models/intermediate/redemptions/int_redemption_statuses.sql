with

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

    where not is_to_come

),

totals as (

    select * from {{ ref('int_redemption_benefits_totalled') }}

),

grants as (

    select
        redemption_id,
        min(case when not is_issued then grant_started_at end) as next_grant_at

    from {{ ref('int_credit_grants_scheduled') }}

    group by redemption_id

),

balances as (

    select
        redemption_id,
        {{ sum_minor('balance_minor') }} as balance_minor

    from {{ ref('int_grants_looked_ahead') }}

    group by redemption_id

),

described as (

    select
        redemptions.redemption_id,
        redemptions.started_at,
        redemptions.ended_at,
        redemptions.ended_by,
        redemptions.is_honoured,
        redemptions.is_ever_in_force,
        redemptions.has_started,
        redemptions.has_ended,
        redemptions.is_honoured and redemptions.has_started and not redemptions.has_ended as is_in_force,
        grants.next_grant_at,
        coalesce(balances.balance_minor, 0) as balance_minor,
        case when redemptions.is_honoured then redemptions.invoice_limit - totals.invoices_used end as uses_left,
        coalesce(
            redemptions.discount_type = 'credit'
            and coalesce(balances.balance_minor, 0) = 0
            and grants.next_grant_at is null,
            false
        ) as is_drawn_up

    from redemptions

    inner join totals
        on redemptions.redemption_id = totals.redemption_id

    left join grants
        on redemptions.redemption_id = grants.redemption_id

    left join balances
        on redemptions.redemption_id = balances.redemption_id

),

-- R11: the first status that applies.
final as (

    select
        redemption_id,
        is_in_force,
        balance_minor,
        cast(uses_left as bigint) as uses_left,
        case
            when not is_honoured then 'refused'
            when has_ended and ended_by = 'revocation' then 'revoked'
            when has_ended and ended_by = 'eligibility' then 'ineligible'
            when has_ended then 'expired'
            when not has_started then 'scheduled'
            when uses_left <= 0 or is_drawn_up then 'exhausted'
            else 'active'
        end as status,
        case
            when not is_honoured or has_ended or not is_ever_in_force then null
            when not has_started then 'start'
            when next_grant_at < ended_at or (ended_at is null and next_grant_at is not null) then 'grant'
            else ended_by
        end as next_event,
        case
            when not is_honoured or has_ended or not is_ever_in_force then null
            when not has_started then started_at
            when next_grant_at < ended_at or (ended_at is null and next_grant_at is not null) then next_grant_at
            else ended_at
        end as next_event_at

    from described

)

select * from final
