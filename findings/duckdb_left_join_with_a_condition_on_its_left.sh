#!/usr/bin/env bash
# DuckDB 1.5.6: a left join on an equality and a further condition on only its left side compares every row of one side
# with every row of the other: 20,000 by 20,000 rows are 400 million comparisons. With the same condition in an inner
# join, or on the right side, it remains a hash join. A wide plan drawn as text hides this, because it shortens the
# name of the join to BLOCKWIS..., and a search for BLOCKWISE_NL_JOIN finds nothing.
# Expected: a hash join on the equality that looks up only rows for which the other condition holds.
# Output seen:
#   DuckDB 1.5.6
#   left join r on l.id = r.id: HASH_JOIN, 0.01 s of CPU
#   left join r on l.id = r.id and r.flag: HASH_JOIN, 0.00 s of CPU
#   inner join r on l.id = r.id and l.flag: HASH_JOIN, 0.00 s of CPU
#   left join r on l.id = r.id and l.flag: BLOCKWISE_NL_JOIN, 0.70 s of CPU
#   left join r on case when l.flag then l.id end = r.id: HASH_JOIN, 0.00 s of CPU
#   in a wide plan drawn as text: named False, shortened True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==1.5.6
"$work/venv/bin/python" - <<'PYTHON'
import re
import sys
import time

import duckdb

JOIN = re.compile(r'"name": *"(\w+_JOIN)')
CASES = [
    ("left join r on l.id = r.id", "HASH_JOIN"),
    ("left join r on l.id = r.id and r.flag", "HASH_JOIN"),
    ("inner join r on l.id = r.id and l.flag", "HASH_JOIN"),
    ("left join r on l.id = r.id and l.flag", "BLOCKWISE_NL_JOIN"),
    ("left join r on case when l.flag then l.id end = r.id", "HASH_JOIN"),
]
connection = duckdb.connect()
for table in "lr":
    connection.execute(
        f"create table {table} as select range as id, range % 100 = 0 as flag from range(20000)"
    )
print("DuckDB", duckdb.__version__)
changed = False
for join, expected in CASES:
    query = f"select * from l {join}"
    [(_, plan)] = connection.execute(f"explain (format json) {query}").fetchall()
    [found] = JOIN.findall(plan)
    begun = time.process_time()
    connection.execute(f"select count(r.flag) from l {join}").fetchall()
    print(f"{join}: {found}, {time.process_time() - begun:.2f} s of CPU")
    changed |= found != expected
wide = "select * from l left join r on l.id = r.id and l.flag"
for number in range(14):
    wide = f"select * from ({wide}) as a{number} left join (select max(id) as m{number} from r) on id = m{number}"
[(_, drawn)] = connection.execute(f"explain {wide}").fetchall()
is_named, is_shortened = "BLOCKWISE_NL_JOIN" in drawn, bool(re.search(r"BLOCKWIS\w*\.\.\.", drawn))
print(f"in a wide plan drawn as text: named {is_named}, shortened {is_shortened}")
sys.exit(changed or is_named or not is_shortened)
PYTHON
