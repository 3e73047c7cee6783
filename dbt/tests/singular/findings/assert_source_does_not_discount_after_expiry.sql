-- Expected of the billing system: no bill is discounted after its coupon has ended. A breach is an error of that
-- system and a finding: it warns and never stops a release.
{{ config(severity='warn') }}

select
    finding_id,
    description

from {{ ref('fct_audit_findings') }}

where finding_type = 'discount_after_expiry'
