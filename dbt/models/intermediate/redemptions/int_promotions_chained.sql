with recursive

-- R4: the redemption that another one follows. If there are several, it is the first one at whose end the follow-up
-- starts, or else the first. A follow-up on record joins no chain while the redemption before it has not ended.
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

-- A promotion is a redemption that follows none, with all its follow-ups. Each redemption is walked back to the
-- beginning of its chain or, because backdated redemptions can follow each other in a circle, to one already passed.
walked as (

    select
        redemption_id,
        redemption_id as reached_redemption_id,
        started_at as reached_started_at,
        predecessor_redemption_id as next_redemption_id,
        concat(chr(31), redemption_id, chr(31)) as passed_redemptions,
        0 as steps,
        false as is_passed_again

    from links

    union all

    select
        walked.redemption_id,
        walked.next_redemption_id as reached_redemption_id,
        links.started_at as reached_started_at,
        links.predecessor_redemption_id as next_redemption_id,
        concat(walked.passed_redemptions, walked.next_redemption_id, chr(31)) as passed_redemptions,
        walked.steps + 1 as steps,
        contains(walked.passed_redemptions, concat(chr(31), walked.next_redemption_id, chr(31))) as is_passed_again

    from walked

    left join links
        on walked.next_redemption_id = links.redemption_id

    where
        walked.next_redemption_id is not null
        and not walked.is_passed_again

),

walks as (

    select
        redemption_id,
        reached_redemption_id,
        reached_started_at,
        next_redemption_id,
        steps,
        is_passed_again,
        max(case when is_passed_again then reached_redemption_id end) over (
            partition by redemption_id
        ) as redemption_passed_again

    from walked

),

circles_found as (

    select
        *,
        min(case when reached_redemption_id = redemption_passed_again then steps end) over (
            partition by redemption_id
        ) as steps_to_circle

    from walks

),

-- A circle begins with its redemption that starts first.
beginnings as (

    select
        redemption_id,
        reached_redemption_id as promotion_id,
        row_number() over (
            partition by redemption_id
            order by reached_started_at, reached_redemption_id
        ) as beginning_number

    from circles_found

    where
        (redemption_passed_again is null and next_redemption_id is null)
        or (not is_passed_again and steps >= steps_to_circle)

),

final as (

    select
        redemption_id,
        promotion_id

    from beginnings

    where beginning_number = 1

)

select * from final
