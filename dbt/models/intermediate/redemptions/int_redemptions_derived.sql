with recursive

possible as (

    select * from {{ ref('int_follow_ups_possible') }}

),

contested as (

    {{ contested_chains() }}

),

{{ settle_derived() }},

-- R4: the follow-up of a refused redemption is not derived.
chains_cut as (

    select
        possible.*,
        settled.is_there as is_there_if_contested,
        coalesce(
            max(case when possible.is_refused_by_record then 1 else 0 end) over (
                partition by possible.root_redemption_id
                order by possible.chain_position
                rows between unbounded preceding and 1 preceding
            ),
            0
        ) = 0 as is_there_if_uncontested

    from possible

    left join settled
        on possible.redemption_id = settled.redemption_id

),

-- R4: the derived redemptions that exist, in the order (start, id).
counted as (

    select
        *,
        row_number() over (
            partition by coupon_id, workspace_group
            order by started_at, redemption_id
        ) as use_in_workspace,
        row_number() over (
            partition by coupon_id, user_group
            order by started_at, redemption_id
        ) as use_by_user

    from chains_cut

    where coalesce(is_there_if_contested, is_there_if_uncontested)

),

-- R4: follow-ups still to come start after all that are due, and change nothing for those.
final as (

    select
        redemption_id,
        predecessor_redemption_id,
        chain_coupons,
        coupon_id,
        workspace_id,
        user_id,
        subscription_id,
        started_at as redeemed_at,
        started_at,
        natural_end_at,
        started_at < {{ end_of_as_of_date() }} as is_due,
        case
            when is_recorded_in_workspace or use_in_workspace > 1 then 'duplicate_for_workspace'
            when is_recorded_by_user or use_by_user > 1 then 'duplicate_for_user'
        end as refusal_reason

    from counted

)

select * from final
