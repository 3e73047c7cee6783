-- What the source should do: a coupon for newcomers is redeemed by newcomers. A breach is the source's, a finding:
-- it warns, and never stops a release.
{{ config(severity='warn') }}

select
    finding_id,
    description

from {{ ref('fct_audit_findings') }}

where finding_type = 'prior_coupon'
