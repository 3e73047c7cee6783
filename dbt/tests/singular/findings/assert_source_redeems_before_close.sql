{{ config(severity='warn') }}

select
    finding_id,
    description

from {{ ref('fct_audit_findings') }}

where finding_type = 'redeemed_after_close'
