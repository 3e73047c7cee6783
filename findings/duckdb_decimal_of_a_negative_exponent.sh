#!/usr/bin/env bash
# DuckDB 1.5.6: casting text with a negative exponent to a decimal checks only the digits before the exponent against
# the type. 0.12 fits DECIMAL(3, 2) and can be cast from '0.12' and '0.12e0', but not from '12e-2', the same number,
# because 12 has two digits and the type has only one before its point. TRY_CAST returns null.
# Expected: a number that fits the type is cast, however it is written.
# Output seen:
#   DuckDB 1.5.6
#   try_cast('0.12' as decimal(3, 2)): 0.12
#   try_cast('0.12e0' as decimal(3, 2)): 0.12
#   try_cast('12e-2' as decimal(4, 2)): 0.12
#   try_cast('12e-2' as decimal(3, 2)): None
#   try_cast('1e-2' as decimal(3, 2)): 0.01
#   try_cast('1e-2' as decimal(2, 2)): None
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==1.5.6
"$work/venv/bin/python" - <<'PYTHON'
import sys

import duckdb

CASES = [
    ("0.12", "3, 2", "0.12"),
    ("0.12e0", "3, 2", "0.12"),
    ("12e-2", "4, 2", "0.12"),
    ("12e-2", "3, 2", None),
    ("1e-2", "3, 2", "0.01"),
    ("1e-2", "2, 2", None),
]
print("DuckDB", duckdb.__version__)
changed = False
for text, kind, expected in CASES:
    [(found,)] = duckdb.execute(f"select try_cast('{text}' as decimal({kind}))").fetchall()
    print(f"try_cast('{text}' as decimal({kind})): {found}")
    changed |= (None if found is None else str(found)) != expected
sys.exit(changed)
PYTHON
