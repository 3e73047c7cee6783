{%- set before = ref('int_program_performance_before') -%}
{%- set again = ref('int_months_recalculated') -%}
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
        redemptions.program,
        given.invoice_id,
        given.workspace_id,
        given.currency,
        given.minor_per_major,
        given.billing_month,
        given.list_minor,
        given.discount_minor,
        given.credit_minor

    from {{ of_recalculated_months(ref('int_benefits_given')) }} as given

    inner join redemptions
        on given.redemption_id = redemptions.redemption_id

    where not given.is_expected

),

-- Few invoices benefit from several redemptions; only these are aggregated.
shared_invoices as (

    select
        invoice_id,
        {{ sum_minor('discount_minor + credit_minor') }} as benefit_minor

    from {{ of_recalculated_months(ref('int_benefits_given')) }}

    where not is_expected

    group by invoice_id

    having count(*) > 1

),

-- One row per program and invoice that it touched, so that no invoice counts twice in a program. The net of the
-- invoice is what is left after all discounts and credit, those of other programs included.
touched_invoices as (

    select
        benefits.program,
        benefits.workspace_id,
        benefits.currency,
        benefits.minor_per_major,
        benefits.billing_month,
        benefits.list_minor,
        benefits.discount_minor,
        benefits.credit_minor,
        benefits.list_minor - benefits.discount_minor - benefits.credit_minor as net_minor

    from benefits

    left join shared_invoices
        on benefits.invoice_id = shared_invoices.invoice_id

    where shared_invoices.invoice_id is null

    union all

    select
        benefits.program,
        max(benefits.workspace_id) as workspace_id,
        max(benefits.currency) as currency,
        max(benefits.minor_per_major) as minor_per_major,
        max(benefits.billing_month) as billing_month,
        max(benefits.list_minor) as list_minor,
        {{ sum_minor('benefits.discount_minor') }} as discount_minor,
        {{ sum_minor('benefits.credit_minor') }} as credit_minor,
        max(benefits.list_minor - shared_invoices.benefit_minor) as net_minor

    from benefits

    inner join shared_invoices
        on benefits.invoice_id = shared_invoices.invoice_id

    group by
        benefits.program,
        benefits.invoice_id

),

summed_months as (

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

-- Months in which no bill was recalculated are taken over from the previous build.
billed_months as (

    select
        program,
        currency,
        performance_month,
        active_workspaces,
        {{ published_amount('list_minor', 'minor_per_major') }} as list_amount,
        {{ published_amount('discount_minor', 'minor_per_major') }} as discount_amount,
        {{ published_amount('credit_minor', 'minor_per_major') }} as credit_amount,
        {{ published_amount('net_minor', 'minor_per_major') }} as net_amount,
        {{ percent_of('discount_minor + credit_minor', 'list_minor') }} as effective_percent

    from summed_months
    {%- if keeps_workspaces() %}

    union all

    select
        program,
        currency,
        performance_month,
        active_workspaces,
        list_amount,
        discount_amount,
        credit_amount,
        net_amount,
        effective_percent

    from {{ before }}

    where
        active_workspaces > 0
        and performance_month not in (select billing_month from {{ again }})
    {%- endif %}

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
        coalesce(billed_months.list_amount, cast(0 as decimal(18, 2))) as list_amount,
        coalesce(billed_months.discount_amount, cast(0 as decimal(18, 2))) as discount_amount,
        coalesce(billed_months.credit_amount, cast(0 as decimal(18, 2))) as credit_amount,
        coalesce(billed_months.net_amount, cast(0 as decimal(18, 2))) as net_amount,
        billed_months.effective_percent

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
