#!/usr/bin/env bash
# DuckDB 2.0.0 and 2.0.1: a LIMIT without ORDER BY and OFFSET disappears from the plan, and all rows are returned, if
# it applies to a left join whose right side has no rows according to the statistics of its columns: here no value of
# feed is 'invoices'. It does not matter what surrounds it: a common table expression, a condition after the join, IN.
# The result is correct with ORDER BY, with OFFSET, as a percentage, over a full join, in 1.5.6, and without the
# optimizer statistics_propagation. A scalar subquery with such a LIMIT 1 fails with "More than one row returned by a
# subquery used as an expression".
# This affects programs that look at some rows of a view, and depends on the data: a single row of the feed in the
# table hides it.
# Expected: two rows.
# Output seen:
#   DuckDB 1.5.6
#   limit 2: 2
#   condition after the join, limit 2: 2
#   in (... limit 2): 2
#   order by, limit 2: 2
#   limit 2 offset 1: 2
#   limit 2 without statistics_propagation: 2
#   DuckDB 2.0.0, and the same of 2.0.1
#   limit 2: 1000
#   condition after the join, limit 2: 1000
#   in (... limit 2): 1000
#   order by, limit 2: 2
#   limit 2 offset 1: 2
#   limit 2 without statistics_propagation: 2
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/limits.py" <<'PYTHON'
import sys

import duckdb

connection = duckdb.connect()
connection.execute("create table records as select range as id from range(1000)")
connection.execute("create table repeated as select range as id, 'coupons' as feed from range(10)")
joined = "select records.id from records left join repeated on records.id = repeated.id and feed = 'invoices'"
cases = {
    "limit 2": f"from ({joined} limit 2)",
    "condition after the join, limit 2": f"from ({joined} where feed is null limit 2)",
    "in (... limit 2)": f"from records where id in ({joined} limit 2)",
    "order by, limit 2": f"from ({joined} order by all limit 2)",
    "limit 2 offset 1": f"from ({joined} limit 2 offset 1)",
    "limit 2 without statistics_propagation": f"from ({joined} limit 2)",
}
print("DuckDB", duckdb.__version__)
found = []
for name, query in cases.items():
    if "without" in name:
        connection.execute("set disabled_optimizers = 'statistics_propagation'")
    [(rows,)] = connection.execute(f"select count(*) {query}").fetchall()
    print(f"{name}: {rows}")
    found.append(rows)
is_lost = duckdb.__version__.startswith("2.")
sys.exit(found != [1000 if is_lost else 2] * 3 + [2] * 3)
PYTHON
for version in 1.5.6 2.0.0 2.0.1; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install --quiet --disable-pip-version-check "duckdb==$version"
    "$work/$version/bin/python" "$work/limits.py"
done
