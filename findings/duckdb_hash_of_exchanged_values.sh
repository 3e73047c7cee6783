#!/usr/bin/env bash
# DuckDB 1.5.6: hash(a, b) combines the hashes of its values by exclusive or. bit_xor over the hashes of all rows, a
# common order-independent checksum of a table, therefore stays the same when rows exchange the values of a column: a
# table in which two customers have each other's balance has the same checksum as the correct one. hash(hash(a, b))
# does not have this property, and neither does a sum.
# Expected: a different pairing of values has a different checksum, except by chance.
# Output seen:
#   DuckDB 1.5.6
#   bit_xor(hash(a, b)) of (1, 10), (2, 20) and of (1, 20), (2, 10) equal: True
#   bit_xor(hash(hash(a, b))): equal: False
#   sum(hash(a, b)): equal: False
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==1.5.6
"$work/venv/bin/python" - <<'PYTHON'
import sys

import duckdb

RIGHT, EXCHANGED = "(1, 10), (2, 20)", "(1, 20), (2, 10)"
print("DuckDB", duckdb.__version__)
found = []
for checksum in ("bit_xor(hash(a, b))", "bit_xor(hash(hash(a, b)))", "sum(hash(a, b))"):
    one, other = (
        duckdb.execute(f"select {checksum} from (values {rows}) as pairs(a, b)").fetchall()
        for rows in (RIGHT, EXCHANGED)
    )
    found.append(one == other)
    about = f" of {RIGHT} and of {EXCHANGED} equal" if len(found) == 1 else ": equal"
    print(f"{checksum}{about}: {found[-1]}")
sys.exit(found != [True, False, False])
PYTHON
