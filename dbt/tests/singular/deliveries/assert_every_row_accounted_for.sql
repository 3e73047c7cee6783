-- Invariant 6: per file, accepted, superseded, duplicate and rejected rows add up to the records
-- counted on arrival. A file without rows has zeros; a refused file has only its count.
select
    delivery_id,
    file_name,
    physical_rows,
    accepted_rows,
    superseded_rows,
    duplicate_rows,
    rejected_rows

from {{ ref('int_deliveries_reconciled') }}

where
    (
        verdict = 'loaded'
        and physical_rows is distinct from accepted_rows + superseded_rows + duplicate_rows + rejected_rows
    )
    or (verdict <> 'loaded' and accepted_rows + superseded_rows + duplicate_rows + rejected_rows <> 0)
    or coalesce(least(accepted_rows, superseded_rows, duplicate_rows, rejected_rows) < 0, true)
