#!/usr/bin/env bash
# DuckDB 1.5.6: `x in (...)` compares with each constant if there are up to four; with five or more it becomes a hash
# join with a table of the constants. A query with sixty such lists then takes fifty times as long over ten
# rows, and more than twice as long over a million. The setting disabled_optimizers = 'in_clause' keeps the
# comparisons. Expected: a fifth constant costs about as much as the fourth.
# Output seen:
#   DuckDB 1.5.6
#   four constants: no join; five: a join; five, in_clause disabled: no join
#   sixty lists over ten rows, processor's seconds: four 0.003, five 0.141, five with in_clause disabled 0.002
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==1.5.6
"$work/venv/bin/python" - <<'PYTHON'
import statistics
import sys
import time

import duckdb

LISTS = 60


def lists(constants):
    """Return sixty `in` conditions, each with different constants."""
    texts = (", ".join(f"'{one}_{two}'" for two in range(constants)) for one in range(LISTS))
    return ", ".join(f"x in ({text}) as c{number}" for number, text in enumerate(texts))


def looked_at(constants, **config):
    """Return whether the plan has a join, and the median CPU seconds of nine runs of the query."""
    connection = duckdb.connect(config={"threads": 1, **config})
    connection.execute("create table words as select 'word ' || i as x from range(10) as r(i)")
    query = f"select {lists(constants)} from words"
    [(_, plan)] = connection.execute(f"explain {query}").fetchall()
    seconds = []
    for _ in range(9):
        before = time.process_time()
        connection.execute(query).fetchall()
        seconds.append(time.process_time() - before)
    return "JOIN" in plan, statistics.median(seconds)


four, five = looked_at(4), looked_at(5)
without = looked_at(5, disabled_optimizers="in_clause")
told = {True: "a join", False: "no join"}
print("DuckDB", duckdb.__version__)
print(f"four constants: {told[four[0]]}; five: {told[five[0]]}; five, in_clause disabled: {told[without[0]]}")
print(
    f"{LISTS} lists over ten rows, processor's seconds: four {four[1]:.3f}, five {five[1]:.3f},"
    f" five with in_clause disabled {without[1]:.3f}"
)
sys.exit(
    (four[0], five[0], without[0]) != (False, True, False)
    or five[1] < 10 * four[1]
    or five[1] < 10 * without[1]
)
PYTHON
