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
