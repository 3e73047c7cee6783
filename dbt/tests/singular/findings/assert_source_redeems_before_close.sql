-- Expected of the billing system: a coupon is redeemed before it closes. A breach is an error of that
-- system and a finding: it warns and never stops a release.
{{ config(severity='warn') }}

select
    finding_id,
    description

from {{ ref('fct_audit_findings') }}

where finding_type = 'redeemed_after_close'
