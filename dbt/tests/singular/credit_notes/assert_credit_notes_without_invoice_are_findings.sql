select
    credit_notes.credit_note_id,
    credit_notes.is_counted

from {{ ref('fct_credit_notes') }} as credit_notes

left join {{ ref('fct_audit_findings') }} as findings
    on credit_notes.credit_note_id = findings.credit_note_id
    and findings.finding_type = 'credit_note_without_invoice'

where coalesce(credit_notes.is_counted, true) = (findings.finding_id is not null)
