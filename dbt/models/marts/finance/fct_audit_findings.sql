with

redemption_findings as (

    select * from {{ ref('int_redemption_findings_raised') }}

),

invoice_findings as (

    select
        *,
        {{ amount_in_words('at_stake_minor') }} as at_stake_text,
        {{ amount_in_words('found_minor') }} as found_text,
        {{ amount_in_words('expected_minor') }} as expected_text

    from {{ ref('int_invoice_findings_raised') }}

),

credit_note_findings as (

    select
        *,
        {{ amount_in_words('at_stake_minor') }} as at_stake_text,
        {{ amount_in_words('found_minor') }} as found_text,
        {{ amount_in_words('expected_minor') }} as expected_text

    from {{ ref('int_credit_note_findings_raised') }}

),

coupon_findings as (

    select * from {{ ref('int_coupon_findings_raised') }}

),

deliveries as (

    select * from {{ ref('stg_arrival__deliveries') }}

),

accepted_findings as (

    select * from {{ ref('stg_arrival__accepted_findings') }}

),

described_redemptions as (

    select
        concat(finding_type, ':', redemption_id) as finding_id,
        finding_type,
        severity,
        workspace_id,
        redemption_id,
        cast(null as {{ dbt.type_string() }}) as invoice_id,
        coupon_id,
        occurred_at,
        currency,
        cast(null as decimal(18, 2)) as amount_at_stake,
        concat(
            'Redemption ', redemption_id, ' of coupon ', coupon_id, ' on workspace ', workspace_id,
            case finding_type
                when 'unknown_coupon' then ' is refused: there is no such coupon.'
                when 'unknown_workspace' then ' is refused: there is no such workspace.'
                when 'redeemed_after_close' then ' is refused: the coupon could no longer be redeemed.'
                when 'duplicate_for_workspace' then case
                    when is_once_per_subscription then ' is refused: the subscription had redeemed this coupon before.'
                    else ' is refused: the workspace had redeemed this coupon before.'
                end
                when 'duplicate_for_user' then ' is refused: the same user had redeemed this coupon before.'
                when 'prior_coupon' then ' is refused: the coupon is only for those who had no other before.'
                when 'over_redeemed' then ' is refused: the coupon had been redeemed as often as it may be.'
                when 'follow_up_not_immediate' then ' does not start the moment the coupon it follows expired.'
            end
        ) as description,
        cast(null as {{ dbt.type_string() }}) as credit_note_id

    from redemption_findings

),

described_invoices as (

    select
        concat(finding_type, ':', invoice_id) as finding_id,
        finding_type,
        severity,
        workspace_id,
        cast(null as {{ dbt.type_string() }}) as redemption_id,
        invoice_id,
        cast(null as {{ dbt.type_string() }}) as coupon_id,
        occurred_at,
        currency,
        {{ published_amount('at_stake_minor') }} as amount_at_stake,
        case finding_type
            when 'over_discounted'
                then concat('Invoice ', invoice_id, ' was discounted ', found_text, ' ', currency, ' where ', expected_text, ' was due: ', at_stake_text, ' too much.')
            when 'under_discounted'
                then concat('Invoice ', invoice_id, ' was discounted ', found_text, ' ', currency, ' where ', expected_text, ' was due: ', at_stake_text, ' too little.')
            when 'discount_after_expiry'
                then concat('Invoice ', invoice_id, ' was discounted ', found_text, ' ', currency, ' after its coupon had ended, with none in force.')
            when 'discount_on_refused_redemption'
                then concat('Invoice ', invoice_id, ' was discounted ', found_text, ' ', currency, ' for a redemption the rules refuse.')
            when 'discount_without_coupon'
                then concat('Invoice ', invoice_id, ' was discounted ', found_text, ' ', currency, ' though no discount coupon of the workspace was in force.')
            when 'credit_over_drawn'
                then concat('Invoice ', invoice_id, ' drew ', found_text, ' ', currency, ' of credit where ', expected_text, ' could be drawn: ', at_stake_text, ' too much.')
            when 'credit_under_drawn'
                then concat('Invoice ', invoice_id, ' drew ', found_text, ' ', currency, ' of credit where ', expected_text, ' could be drawn: ', at_stake_text, ' too little.')
            when 'invoice_does_not_add_up'
                then concat('Invoice ', invoice_id, ' charged ', found_text, ' ', currency, ' where its own lines come to ', expected_text, '.')
        end as description,
        cast(null as {{ dbt.type_string() }}) as credit_note_id

    from invoice_findings

),

described_credit_notes as (

    select
        concat(finding_type, ':', coalesce(credit_note_id, invoice_id)) as finding_id,
        finding_type,
        'error' as severity,
        workspace_id,
        cast(null as {{ dbt.type_string() }}) as redemption_id,
        invoice_id,
        cast(null as {{ dbt.type_string() }}) as coupon_id,
        occurred_at,
        currency,
        {{ published_amount('at_stake_minor') }} as amount_at_stake,
        case finding_type
            when 'credited_beyond_bill'
                then concat('Credit notes take ', found_text, ' ', currency, ' off invoice ', invoice_id, ', which billed ', expected_text, ': ', at_stake_text, ' too much.')
            when 'credit_note_without_invoice'
                then
                    concat(
                        'Credit note ', credit_note_id, ' of ', found_text, ' ', currency, ' is for invoice ', invoice_id,
                        case why_not_counted
                            when 'unknown_invoice' then ', which is unknown.'
                            when 'invoice_does_not_count' then ', which does not count.'
                            when 'other_currency' then ', which is in another currency.'
                        end
                    )
        end as description,
        credit_note_id

    from credit_note_findings

),

described_coupons as (

    select
        concat(
            coupon_findings.finding_type, ':', coupon_findings.coupon_id, ':', cast(coupon_findings.occurred_at as {{ dbt.type_string() }}),
            case when coupon_findings.change_number > 1 then concat('#', cast(coupon_findings.change_number as {{ dbt.type_string() }})) else '' end
        ) as finding_id,
        coupon_findings.finding_type,
        'warn' as severity,
        cast(null as {{ dbt.type_string() }}) as workspace_id,
        cast(null as {{ dbt.type_string() }}) as redemption_id,
        cast(null as {{ dbt.type_string() }}) as invoice_id,
        coupon_findings.coupon_id,
        coupon_findings.occurred_at,
        coupon_findings.currency,
        cast(null as decimal(18, 2)) as amount_at_stake,
        concat(
            'The terms of coupon ', coupon_findings.coupon_id, ' were changed by row ', cast(coupon_findings.delivery_row as {{ dbt.type_string() }}),
            ' of ', deliveries.file_name, '; they hold for earlier bills too.'
        ) as description,
        cast(null as {{ dbt.type_string() }}) as credit_note_id

    from coupon_findings

    inner join deliveries
        on coupon_findings.delivery_sequence = deliveries.delivery_sequence

),

findings as (

    select * from described_redemptions

    union all

    select * from described_invoices

    union all

    select * from described_credit_notes

    union all

    select * from described_coupons

),

-- An acceptance holds until the end of its last day. It changes the status of a finding and never hides one.
reviewed as (

    select
        findings.finding_id,
        findings.finding_type,
        findings.severity,
        findings.workspace_id,
        findings.redemption_id,
        findings.invoice_id,
        findings.coupon_id,
        findings.occurred_at,
        findings.currency,
        findings.amount_at_stake,
        findings.description,
        case when accepted_findings.accepted_until >= {{ as_of_date() }} then 'accepted' else 'open' end as review_status,
        accepted_findings.reason as accepted_reason,
        accepted_findings.approved_by as accepted_by,
        accepted_findings.accepted_until,
        findings.credit_note_id

    from findings

    left join accepted_findings
        on findings.finding_id = accepted_findings.finding_id

),

-- An acceptance that has run out or matches no finding is itself reported as a finding.
stale_acceptances as (

    select
        case when findings.finding_id is null then 'acceptance_unmatched' else 'acceptance_expired' end as finding_type,
        accepted_findings.finding_id as accepted_finding_id,
        findings.workspace_id,
        findings.redemption_id,
        findings.invoice_id,
        findings.coupon_id,
        findings.credit_note_id,
        findings.currency,
        accepted_findings.reason,
        accepted_findings.approved_by,
        accepted_findings.accepted_until

    from accepted_findings

    left join findings
        on accepted_findings.finding_id = findings.finding_id

    where
        findings.finding_id is null
        or accepted_findings.accepted_until < {{ as_of_date() }}

),

final as (

    select * from reviewed

    union all

    select
        concat(finding_type, ':', accepted_finding_id) as finding_id,
        finding_type,
        'warn' as severity,
        workspace_id,
        redemption_id,
        invoice_id,
        coupon_id,
        {{ start_of_day('accepted_until') }} as occurred_at,
        currency,
        cast(null as decimal(18, 2)) as amount_at_stake,
        case finding_type
            when 'acceptance_expired'
                then concat('The acceptance of ', accepted_finding_id, ' has run out: review it or correct the bill.')
            else concat('The acceptance of ', accepted_finding_id, ' is about no finding: take it out of the file.')
        end as description,
        'open' as review_status,
        reason as accepted_reason,
        approved_by as accepted_by,
        accepted_until,
        credit_note_id

    from stale_acceptances

)

select * from final
