with

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

    where
        is_honoured
        and not is_to_come

),

totals as (

    select * from {{ ref('int_redemption_benefits_totalled') }}

),

benefits as (

    select
        benefits_given.*,
        redemptions.program,
        {{ sum_minor_over(
            'benefits_given.discount_minor + benefits_given.credit_minor',
            'partition by benefits_given.invoice_id'
        ) }} as benefit_of_invoice_minor

    from {{ ref('int_benefits_given') }} as benefits_given

    inner join redemptions
        on benefits_given.redemption_id = redemptions.redemption_id

    where not benefits_given.is_expected

),

-- One row per program and invoice that it touched, so that no invoice counts twice in a program. The net of the
-- invoice is what is left after all discounts and credit, those of other programs included.
touched_invoices as (

    select
        program,
        invoice_id,
        workspace_id,
        currency,
        minor_per_major,
        billing_month,
        list_minor,
        list_minor - benefit_of_invoice_minor as net_minor,
        {{ sum_minor('discount_minor') }} as discount_minor,
        {{ sum_minor('credit_minor') }} as credit_minor

    from benefits

    group by
        program,
        invoice_id,
        workspace_id,
        currency,
        minor_per_major,
        billing_month,
        list_minor,
        benefit_of_invoice_minor

),

billed_months as (

    select
        program,
        currency,
        billing_month as performance_month,
        max(minor_per_major) as minor_per_major,
        count(distinct workspace_id) as active_workspaces,
        {{ sum_minor('list_minor') }} as list_minor,
        {{ sum_minor('discount_minor') }} as discount_minor,
        {{ sum_minor('credit_minor') }} as credit_minor,
        {{ sum_minor('net_minor') }} as net_minor

    from touched_invoices

    group by
        program,
        currency,
        billing_month

),

new_redemptions as (

    select
        redemptions.program,
        totals.currency,
        {{ month_of('redemptions.redeemed_at') }} as performance_month,
        count(*) as new_redemptions

    from redemptions

    inner join totals
        on redemptions.redemption_id = totals.redemption_id

    group by
        redemptions.program,
        totals.currency,
        {{ month_of('redemptions.redeemed_at') }}

),

ended_redemptions as (

    select
        redemptions.program,
        totals.currency,
        {{ month_of('redemptions.ended_at') }} as performance_month,
        count(*) as ended_redemptions

    from redemptions

    inner join totals
        on redemptions.redemption_id = totals.redemption_id

    where
        redemptions.is_ever_in_force
        and redemptions.has_ended

    group by
        redemptions.program,
        totals.currency,
        {{ month_of('redemptions.ended_at') }}

),

active_months as (

    select
        program,
        currency,
        performance_month

    from billed_months

    union

    select
        program,
        currency,
        performance_month

    from new_redemptions

),

-- A redemption that has not touched an invoice yet may have no currency, so null has to match null.
final as (

    select
        active_months.program,
        active_months.currency,
        active_months.performance_month,
        coalesce(billed_months.active_workspaces, 0) as active_workspaces,
        coalesce(new_redemptions.new_redemptions, 0) as new_redemptions,
        coalesce(ended_redemptions.ended_redemptions, 0) as ended_redemptions,
        {{ published_amount('coalesce(billed_months.list_minor, 0)', 'coalesce(billed_months.minor_per_major, 100)') }} as list_amount,
        {{ published_amount('coalesce(billed_months.discount_minor, 0)', 'coalesce(billed_months.minor_per_major, 100)') }} as discount_amount,
        {{ published_amount('coalesce(billed_months.credit_minor, 0)', 'coalesce(billed_months.minor_per_major, 100)') }} as credit_amount,
        {{ published_amount('coalesce(billed_months.net_minor, 0)', 'coalesce(billed_months.minor_per_major, 100)') }} as net_amount,
        {{ percent_of('coalesce(billed_months.discount_minor + billed_months.credit_minor, 0)', 'coalesce(billed_months.list_minor, 0)') }} as effective_percent

    from active_months

    left join billed_months
        on active_months.program = billed_months.program
        and active_months.performance_month = billed_months.performance_month
        and active_months.currency is not distinct from billed_months.currency

    left join new_redemptions
        on active_months.program = new_redemptions.program
        and active_months.performance_month = new_redemptions.performance_month
        and active_months.currency is not distinct from new_redemptions.currency

    left join ended_redemptions
        on active_months.program = ended_redemptions.program
        and active_months.performance_month = ended_redemptions.performance_month
        and active_months.currency is not distinct from ended_redemptions.currency

)

select * from final
