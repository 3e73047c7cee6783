with

entries as (

    select * from {{ of_recalculated_workspaces(ref('int_credit_entries_posted')) }}

),

final as (

    select
        entry_id,
        grant_id,
        redemption_id,
        coupon_id,
        workspace_id,
        currency,
        entry_type,
        invoice_id,
        effective_at,
        {{ published_amount('signed_minor') }} as amount,
        {{ published_amount('balance_minor') }} as balance_amount,
        {{ month_of('effective_at') }} as effective_month

    from entries

)

select * from final
