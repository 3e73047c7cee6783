{{ config(severity='warn') }}

select
    finding_id,
    description

from {{ ref('fct_audit_findings') }}

where finding_type = 'prior_coupon'
