#!/usr/bin/env bash
# DuckDB 1.5.6 with pandas 3.1.1 installed: a statement with a bound parameter imports pandas, whatever the
# parameter is, which costs a short program a fifth of a second or more. The same statement without one does not.
# Expected: a whole number is bound without pandas, as it is if pandas is not installed.
# Output seen:
#   DuckDB 1.5.6, pandas 3.1.1
#   select 1: pandas imported: False
#   select ?, a whole number: pandas imported: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==1.5.6 pandas==3.1.1
"$work/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import duckdb

connection = duckdb.connect()
print(f"DuckDB {version('duckdb')}, pandas {version('pandas')}")
found = []
for name, statement in (
    ("select 1", ("select 1",)),
    ("select ?, a whole number", ("select ?", [1])),
):
    assert connection.execute(*statement).fetchall() == [(1,)]
    found.append("pandas" in sys.modules)
    print(f"{name}: pandas imported: {found[-1]}")
sys.exit(found != [False, True])
PYTHON
