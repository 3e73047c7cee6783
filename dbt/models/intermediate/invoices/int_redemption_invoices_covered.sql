-- depends_on: {{ ref('int_invoices_recalculated') }}
with

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

    where
        is_honoured
        and is_ever_in_force

),

-- Uses by invoices that are not recalculated, all of which precede the recalculated ones.
uses_before as (

    select * from {{ ref('int_uses_before') }}

),

-- R12: expected bills are calculated together with the counted invoices, all of which were issued before them.
invoices as (
    {%- set asked %}
        invoice_id,
        workspace_id,
        subscription_id,
        plan,
        billing_interval,
        interval_count,
        currency,
        minor_per_major,
        period_start,
        period_end,
        issued_at,
        billing_month,
        list_minor,
        discountable_minor,
        creditable_minor
    {%- endset %}

    select
        {{- asked }},
        billed_credit_minor,
        false as is_expected

    from {{ invoices_to_calculate() }}

    where list_minor >= 0

    union all

    select
        {{- asked }},
        cast(0 as bigint) as billed_credit_minor,
        true as is_expected

    from {{ ref('int_bills_expected') }}
    {%- if carries_on() %}

    where invoice_id in (select invoice_id from {{ ref('int_invoices_recalculated') }} where is_expected)
    {%- endif %}

),

-- R5: a redemption covers the counted invoices of its workspace that were issued from its start until, and not
-- including, its end and are of the plan and interval that its coupon applies to. Dollar-off and credit cover only
-- invoices in their own currency; a redemption limited to a subscription covers only that subscription. No redemption
-- covers a negative bill.
eligible as (

    select
        redemptions.redemption_id,
        redemptions.invoice_limit - coalesce(uses_before.uses, 0) as invoice_limit,
        redemptions.discount_type,
        invoices.invoice_id,
        invoices.workspace_id,
        invoices.subscription_id,
        invoices.plan,
        invoices.billing_interval,
        invoices.interval_count,
        invoices.issued_at,
        invoices.billing_month,
        invoices.currency,
        invoices.minor_per_major,
        invoices.list_minor,
        invoices.discountable_minor,
        invoices.creditable_minor,
        invoices.billed_credit_minor,
        invoices.is_expected,
        invoices.list_minor > 0
        and case
            when redemptions.discount_type = 'credit' then coalesce(invoices.creditable_minor, 1) > 0
            else invoices.discountable_minor > 0
        end as is_use,
        {{ months_of_period('invoices.period_start', 'invoices.period_end') }} as period_months

    from redemptions

    inner join invoices
        on redemptions.workspace_id = invoices.workspace_id
        and redemptions.started_at <= invoices.issued_at
        and (redemptions.ended_at is null or redemptions.ended_at > invoices.issued_at)
        and (redemptions.subscription_id is null or redemptions.subscription_id = invoices.subscription_id)
        and (redemptions.applies_to_plan is null or redemptions.applies_to_plan = invoices.plan)
        and (redemptions.applies_to_interval is null or redemptions.applies_to_interval = invoices.billing_interval)
        and (redemptions.discount_type = 'percent_off' or redemptions.coupon_currency = invoices.currency)

    left join uses_before
        on redemptions.redemption_id = uses_before.redemption_id

),

-- R3: once, or the first n invoices. An invoice on which the redemption may act on nothing is covered while
-- a use remains, and takes none. Only redemptions with a limit are sorted, with only the columns needed for that.
uses_counted as (

    select
        redemption_id,
        invoice_id,
        invoice_limit,
        coalesce(
            sum(case when is_use then 1 else 0 end) over (
                partition by redemption_id
                order by issued_at, invoice_id
                rows between unbounded preceding and 1 preceding
            ),
            0
        ) as uses_before

    from eligible

    where invoice_limit is not null

),

-- Includes the columns that later models need, so that none of them has to join the invoices again.
{%- set columns = [
    'redemption_id',
    'discount_type',
    'invoice_id',
    'workspace_id',
    'subscription_id',
    'plan',
    'billing_interval',
    'interval_count',
    'issued_at',
    'billing_month',
    'currency',
    'minor_per_major',
    'list_minor',
    'discountable_minor',
    'creditable_minor',
    'billed_credit_minor',
    'is_expected',
    'is_use',
    'period_months',
] %}
final as (

    select
        {{ columns | join(',\n        ') }}

    from eligible

    where invoice_limit is null

    union all

    select
        eligible.{{ columns | join(',\n        eligible.') }}

    from eligible

    inner join uses_counted
        on eligible.redemption_id = uses_counted.redemption_id
        and eligible.invoice_id = uses_counted.invoice_id

    where uses_counted.uses_before < uses_counted.invoice_limit

)

select * from final
