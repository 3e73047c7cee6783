with

ends as (

    select * from {{ ref('int_redemption_ends_looked_ahead') }}

),

redemptions as (

    select * from {{ of_recalculated_workspaces(ref('int_redemptions_with_terms')) }}

),

covered_currencies as (

    select
        redemption_id,
        min(currency) as first_currency,
        max(currency) as last_currency,
        max(minor_per_major) as minor_per_major

    from {{ of_recalculated_workspaces(ref('int_redemption_invoices_covered')) }}

    where redemption_id in (select redemption_id from ends)

    group by redemption_id

),

-- R12: the currency of a redemption's amounts also depends on the expected bills that the redemption covers.
currencies as (

    select
        ends.redemption_id,
        redemptions.workspace_id,
        case
            when redemptions.coupon_currency is not null then redemptions.coupon_currency
            when covered_currencies.first_currency = covered_currencies.last_currency then covered_currencies.first_currency
        end as currency,
        case
            when redemptions.coupon_currency is not null then redemptions.coupon_minor_per_major
            when covered_currencies.first_currency = covered_currencies.last_currency then covered_currencies.minor_per_major
            else 100
        end as minor_per_major,
        coalesce(
            covered_currencies.first_currency = covered_currencies.last_currency
            and covered_currencies.first_currency = coalesce(redemptions.coupon_currency, covered_currencies.first_currency),
            true
        ) as is_one_currency

    from ends

    inner join redemptions
        on ends.redemption_id = redemptions.redemption_id

    left join covered_currencies
        on ends.redemption_id = covered_currencies.redemption_id

),

benefits as (

    select * from {{ of_recalculated_workspaces(ref('int_benefits_given')) }}

    where workspace_id in (select workspace_id from {{ ref('int_workspaces_looked_ahead') }})

),

bills as (

    select
        invoice_id,
        {{ sum_minor('discount_minor + credit_minor') }} as benefit_minor

    from benefits

    group by invoice_id

),

benefits_that_end as (

    select
        benefits.*,
        ends.credit_ended_by_invoice_id

    from benefits

    inner join ends
        on benefits.redemption_id = ends.redemption_id

),

last_instants as (

    select
        redemption_id,
        max(issued_at) as issued_at

    from benefits_that_end

    group by redemption_id

),

numbered_benefits as (

    select
        benefits_that_end.*,
        row_number() over (
            partition by benefits_that_end.redemption_id
            order by benefits_that_end.invoice_id desc
        ) as benefits_back

    from benefits_that_end

    inner join last_instants
        on benefits_that_end.redemption_id = last_instants.redemption_id
        and benefits_that_end.issued_at = last_instants.issued_at

),

-- The last bill on which a redemption gives something.
last_given as (

    select
        numbered_benefits.*,
        bills.benefit_minor,
        coalesce(numbered_benefits.invoice_id = numbered_benefits.credit_ended_by_invoice_id, false)
        and numbered_benefits.list_minor > bills.benefit_minor as is_partly_paid

    from numbered_benefits

    inner join bills
        on numbered_benefits.invoice_id = bills.invoice_id

    where numbered_benefits.benefits_back = 1

),

-- R12: where a bill uses up a credit and leaves something to pay, the bill before it in its line is the last
-- benefit.
earlier_benefits as (

    select
        last_given.redemption_id,
        earlier.invoice_id,
        earlier.issued_at,
        row_number() over (
            partition by last_given.redemption_id
            order by earlier.issued_at desc, earlier.invoice_id desc
        ) as benefits_back

    from last_given

    inner join benefits_that_end as earlier
        on last_given.redemption_id = earlier.redemption_id
        and last_given.invoice_id <> earlier.invoice_id
        and last_given.subscription_id is not distinct from earlier.subscription_id
        and last_given.plan = earlier.plan
        and last_given.billing_interval = earlier.billing_interval
        and last_given.interval_count = earlier.interval_count
        and last_given.currency = earlier.currency

    where last_given.is_partly_paid

),

last_benefits_before as (

    select
        earlier_benefits.redemption_id,
        earlier_benefits.invoice_id,
        earlier_benefits.issued_at,
        bills.benefit_minor

    from earlier_benefits

    inner join bills
        on earlier_benefits.invoice_id = bills.invoice_id

    where earlier_benefits.benefits_back = 1

),

last_benefits as (

    select
        last_given.redemption_id,
        coalesce(earlier.invoice_id, last_given.invoice_id) as invoice_id,
        coalesce(earlier.issued_at, last_given.issued_at) as issued_at,
        coalesce(earlier.benefit_minor, last_given.benefit_minor) as benefit_minor,
        last_given.invoice_id as last_given_invoice_id,
        last_given.issued_at as last_given_at,
        last_given.workspace_id,
        last_given.subscription_id,
        last_given.plan,
        last_given.billing_interval,
        last_given.interval_count,
        last_given.currency

    from last_given

    left join last_benefits_before as earlier
        on last_given.redemption_id = earlier.redemption_id

),

-- R12: the next expected bill of that line.
next_bills as (

    select
        last_benefits.redemption_id,
        bills.discount_minor + bills.credit_minor as benefit_minor,
        row_number() over (
            partition by last_benefits.redemption_id
            order by bills.issued_at, bills.invoice_id
        ) as bill_number

    from last_benefits

    inner join {{ ref('int_bills_looked_ahead') }} as bills
        on last_benefits.workspace_id = bills.workspace_id
        and last_benefits.subscription_id is not distinct from bills.subscription_id
        and last_benefits.plan = bills.plan
        and last_benefits.billing_interval = bills.billing_interval
        and last_benefits.interval_count = bills.interval_count
        and last_benefits.currency = bills.currency
        and (
            last_benefits.last_given_at < bills.issued_at
            or (last_benefits.last_given_at = bills.issued_at and last_benefits.last_given_invoice_id < bills.invoice_id)
        )

),

raised as (

    select
        last_benefits.*,
        case
            when last_benefits.currency = currencies.currency then last_benefits.benefit_minor - next_bills.benefit_minor
        end as rise_minor

    from last_benefits

    inner join currencies
        on last_benefits.redemption_id = currencies.redemption_id

    left join next_bills
        on last_benefits.redemption_id = next_bills.redemption_id
        and next_bills.bill_number = 1

),

-- R12: the rise of a bill once the redemption has run out, and that rise per month.
final as (

    select
        currencies.redemption_id,
        currencies.workspace_id,
        currencies.currency,
        currencies.minor_per_major,
        currencies.is_one_currency,
        raised.invoice_id as last_benefit_invoice_id,
        raised.issued_at as last_benefit_at,
        raised.rise_minor,
        {{ divide_rounded(
            'cast(raised.rise_minor as ' ~ wide_integer() ~ ") * case raised.billing_interval when 'week' then 52 when 'day' then 365 else 1 end",
            "(case raised.billing_interval when 'month' then 1 else 12 end * cast(coalesce(raised.interval_count, 1) as " ~ wide_integer() ~ "))"
        ) }} as monthly_rise_minor

    from currencies

    left join raised
        on currencies.redemption_id = raised.redemption_id

)

select * from final
