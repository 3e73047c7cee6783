with

workspaces as (

    select * from {{ ref('stg_billing__workspaces') }}

),

invoice_spans as (

    select
        workspace_id,
        min(issued_at) as first_invoice_at,
        max(issued_at) as last_invoice_at

    from {{ ref('fct_discounted_charges') }}

    group by workspace_id

),

discounted_workspaces as (

    select distinct redemptions.workspace_id

    from {{ ref('int_redemptions_with_terms') }} as redemptions

    inner join {{ ref('int_redemption_statuses') }} as statuses
        on redemptions.redemption_id = statuses.redemption_id
        and statuses.is_in_force

),

final as (

    select
        workspaces.workspace_id,
        workspaces.workspace_name,
        workspaces.created_at,
        invoice_spans.first_invoice_at,
        invoice_spans.last_invoice_at,
        discounted_workspaces.workspace_id is not null as is_discounted

    from workspaces

    left join invoice_spans
        on workspaces.workspace_id = invoice_spans.workspace_id

    left join discounted_workspaces
        on workspaces.workspace_id = discounted_workspaces.workspace_id

)

select * from final
