with recursive

-- R4: the redemption that another one follows; of several the first at whose end the follow-up starts, else the
-- first. A follow-up on record belongs to no chain as long as the redemption before it has not ended.
ranked as (

    select
        redemption_id,
        predecessor_redemption_id,
        row_number() over (
            partition by redemption_id
            order by
                case when is_immediate then 0 else 1 end,
                predecessor_redeemed_at,
                predecessor_redemption_id
        ) as predecessor_number

    from {{ ref('int_follow_ups_taken') }}

    where
        is_due
        or is_derived

),

links as (

    select
        redemption_id,
        predecessor_redemption_id

    from ranked

    where predecessor_number = 1

),

beginnings as (

    select
        links.redemption_id,
        links.predecessor_redemption_id

    from links

    left join links as earlier_links
        on links.predecessor_redemption_id = earlier_links.redemption_id

    where earlier_links.redemption_id is null

),

-- A promotion is a redemption that follows none, with all its follow-ups.
chained as (

    select
        redemption_id,
        predecessor_redemption_id as promotion_id

    from beginnings

    union all

    select
        links.redemption_id,
        chained.promotion_id

    from chained

    inner join links
        on chained.redemption_id = links.predecessor_redemption_id

),

final as (

    select
        redemption_id,
        promotion_id

    from chained

)

select * from final
