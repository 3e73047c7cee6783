-- depends_on: {{ ref('int_invoices_recalculated') }}
with

-- R9: differences above one minor unit, and totals that are not the sum of their lines: few invoices.
differing_invoices as (

    select * from {{ ref('int_invoices_charged') }}

    where
        abs(discount_variance_minor) > 1
        or abs(credit_variance_minor) > 1
        or total_minor <> billed_net_minor + tax_minor

),

-- Percent-off and dollar-off redemptions; a refused redemption of an unknown coupon could be either.
redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

    where
        coalesce(discount_type, 'unknown') <> 'credit'
        and not is_to_come

),

-- The state of the workspace's redemptions when the invoice was issued, in one pass for all types of finding.
surrounded as (

    select
        invoices.invoice_id,
        invoices.workspace_id,
        invoices.issued_at,
        invoices.currency,
        invoices.minor_per_major,
        invoices.discount_minor,
        invoices.billed_discount_minor,
        invoices.discount_variance_minor,
        invoices.billed_credit_minor,
        invoices.credit_variance_minor,
        invoices.total_minor,
        invoices.billed_net_minor + invoices.tax_minor as sum_minor,
        max(
            case
                when redemptions.is_honoured
                    and redemptions.started_at <= invoices.issued_at
                    and (redemptions.ended_at is null or redemptions.ended_at > invoices.issued_at)
                    then 1
                else 0
            end
        ) = 1 as is_honoured_in_force,
        max(
            case
                when redemptions.is_honoured
                    and redemptions.is_ever_in_force
                    and redemptions.ended_at <= invoices.issued_at
                    then 1
                else 0
            end
        ) = 1 as is_honoured_ended_before,
        max(
            case
                when not redemptions.is_honoured
                    and redemptions.started_at <= invoices.issued_at
                    and (redemptions.ended_at is null or redemptions.ended_at > invoices.issued_at)
                    then 1
                else 0
            end
        ) = 1 as is_refused_in_force

    from differing_invoices as invoices

    left join redemptions
        on invoices.workspace_id = redemptions.workspace_id

    group by
        invoices.invoice_id,
        invoices.workspace_id,
        invoices.issued_at,
        invoices.currency,
        invoices.minor_per_major,
        invoices.discount_minor,
        invoices.billed_discount_minor,
        invoices.discount_variance_minor,
        invoices.billed_credit_minor,
        invoices.credit_variance_minor,
        invoices.total_minor,
        invoices.billed_net_minor,
        invoices.tax_minor

),

-- An invoice can have at most three findings: on its discount, on its credit and on its total.
kinds as (

    select
        *,
        {{ each_whole_number('1', '3') }} as kind

    from surrounded

),

raised as (

    select
        *,
        case
            when kind = 3 then 'invoice_does_not_add_up'
            when kind = 2 and credit_variance_minor > 0 then 'credit_over_drawn'
            when kind = 2 then 'credit_under_drawn'
            when is_honoured_in_force and discount_variance_minor > 0 then 'over_discounted'
            when is_honoured_in_force then 'under_discounted'
            when is_honoured_ended_before then 'discount_after_expiry'
            when is_refused_in_force then 'discount_on_refused_redemption'
            else 'discount_without_coupon'
        end as finding_type,
        case kind when 1 then billed_discount_minor when 2 then billed_credit_minor else total_minor end as found_minor,
        case
            when kind = 1 then discount_minor
            when kind = 2 then billed_credit_minor - credit_variance_minor
            else sum_minor
        end as expected_minor

    from kinds

    where
        (kind = 1 and abs(discount_variance_minor) > 1)
        or (kind = 2 and abs(credit_variance_minor) > 1)
        or (kind = 3 and total_minor <> sum_minor)

),

final as (

    select
        finding_type,
        'error' as severity,
        workspace_id,
        invoice_id,
        issued_at as occurred_at,
        currency,
        minor_per_major,
        abs(found_minor - expected_minor) as at_stake_minor,
        found_minor,
        expected_minor

    from raised

)

select * from final
