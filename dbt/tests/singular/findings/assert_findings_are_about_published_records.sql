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
    or (findings.finding_type = 'coupon_terms_changed' and coupons.coupon_id is null)
    or findings.description is null
    or findings.amount_at_stake < 0

union all

select charges.invoice_id as finding_id

from {{ ref('fct_discounted_charges') }} as charges

left join {{ ref('fct_audit_findings') }} as findings
    on charges.invoice_id = findings.invoice_id

where
    charges.audit_status <> 'matched'
    and findings.invoice_id is null
