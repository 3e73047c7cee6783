-- A finding names a workspace's invoice or redemption that can be looked up; amounts at stake are
-- never negative, and whatever the audit status says has a finding.
select findings.finding_id

from {{ ref('fct_audit_findings') }} as findings

left join {{ ref('fct_discounted_charges') }} as charges
    on findings.invoice_id = charges.invoice_id

left join {{ ref('dim_coupon_redemptions') }} as redemptions
    on findings.redemption_id = redemptions.redemption_id

where
    coalesce(charges.workspace_id, redemptions.workspace_id) is distinct from findings.workspace_id
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
