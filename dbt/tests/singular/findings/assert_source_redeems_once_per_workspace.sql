-- What the source should do: a coupon is redeemed once per workspace. A breach is the source's, a finding:
-- it warns, and never stops a release.
{{ config(severity='warn') }}

select
    finding_id,
    description

from {{ ref('fct_audit_findings') }}

where finding_type = 'duplicate_for_workspace'
