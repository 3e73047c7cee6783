select findings.finding_id

from {{ ref('fct_audit_findings') }} as findings

left join {{ ref('fct_discounted_charges') }} as charges
    on findings.invoice_id = charges.invoice_id

left join {{ ref('dim_coupon_redemptions') }} as redemptions
    on findings.redemption_id = redemptions.redemption_id

left join {{ ref('fct_credit_notes') }} as credit_notes
    on findings.credit_note_id = credit_notes.credit_note_id

left join {{ ref('dim_coupons') }} as coupons
    on findings.coupon_id = coupons.coupon_id

where
    case
        when findings.credit_note_id is not null then credit_notes.workspace_id
        else coalesce(charges.workspace_id, redemptions.workspace_id)
    end is distinct from findings.workspace_id
    or (findings.credit_note_id is not null and credit_notes.credit_note_id is null)
    or (findings.credit_note_id is null and findings.invoice_id is not null and charges.invoice_id is null)
    or (findings.redemption_id is not null and redemptions.redemption_id is null)
    or (findings.finding_type = 'coupon_terms_changed' and coupons.coupon_id is null)
    or (
        findings.finding_type <> 'acceptance_unmatched'
        and coalesce(findings.invoice_id, findings.redemption_id, findings.credit_note_id, findings.coupon_id) is null
    )
    or findings.description is null
    or findings.amount_at_stake < 0

union all

select charges.invoice_id as finding_id

from {{ ref('fct_discounted_charges') }} as charges

left join {{ ref('fct_audit_findings') }} as findings
    on charges.invoice_id = findings.invoice_id
    and findings.finding_type in (
        'over_discounted',
        'under_discounted',
        'discount_after_expiry',
        'discount_on_refused_redemption',
        'discount_without_coupon',
        'credit_over_drawn',
        'credit_under_drawn'
    )

where
    charges.audit_status <> 'matched'
    and findings.invoice_id is null
