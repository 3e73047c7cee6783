with

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

),

statuses as (

    select * from {{ ref('int_redemption_statuses') }}

),

-- R12: the outlook covers workspaces with an honoured redemption that is active or scheduled, or that has a
-- follow-up or grant still to come before the horizon.
final as (

    select redemptions.workspace_id

    from redemptions

    inner join statuses
        on redemptions.redemption_id = statuses.redemption_id
        and statuses.status in ('active', 'scheduled')

    union

    select workspace_id

    from redemptions

    where
        is_to_come
        and is_honoured

    union

    select workspace_id

    from {{ ref('int_credit_grants_scheduled') }}

    where
        not is_issued
        and grant_started_at < {{ horizon() }}

)

select * from final
