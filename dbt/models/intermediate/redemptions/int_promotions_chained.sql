with recursive

-- R4: the redemption that another one follows; of several the first at whose end the follow-up starts, else the
-- first. A follow-up on record belongs to no chain as long as the redemption before it has not ended.
ranked as (

    select
        redemption_id,
        predecessor_redemption_id,
        started_at,
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
        predecessor_redemption_id,
        started_at

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

-- Redemptions dated back can follow each other in a circle, so that no beginning leads to them.
circling as (

    select
        links.redemption_id,
        links.predecessor_redemption_id,
        links.started_at

    from links

    left join chained
        on links.redemption_id = chained.redemption_id

    where chained.redemption_id is null

),

walked as (

    select
        redemption_id,
        predecessor_redemption_id as reached_redemption_id,
        concat(chr(31), predecessor_redemption_id, chr(31)) as reached_redemptions

    from circling

    union all

    select
        walked.redemption_id,
        circling.predecessor_redemption_id as reached_redemption_id,
        concat(walked.reached_redemptions, circling.predecessor_redemption_id, chr(31)) as reached_redemptions

    from walked

    inner join circling
        on walked.reached_redemption_id = circling.redemption_id

    where not contains(walked.reached_redemptions, concat(chr(31), circling.predecessor_redemption_id, chr(31)))

),

-- Such a promotion begins with the one of the circle that starts first; what hangs on the circle belongs to it.
circles_reached as (

    select
        walked.redemption_id,
        circling.redemption_id as promotion_id,
        row_number() over (
            partition by walked.redemption_id
            order by circling.started_at, circling.redemption_id
        ) as beginning_number

    from walked

    inner join circling
        on walked.reached_redemption_id = circling.redemption_id

    inner join walked as returned
        on circling.redemption_id = returned.redemption_id
        and circling.redemption_id = returned.reached_redemption_id

),

final as (

    select
        redemption_id,
        promotion_id

    from chained

    union all

    select
        redemption_id,
        promotion_id

    from circles_reached

    where beginning_number = 1

)

select * from final
