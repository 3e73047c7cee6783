"""The least a refresh could be: the same files loaded, the invoice mart's columns written and published.

Run as a process by the measurement of the refresh. DuckDB alone, in three steps that are timed separately:
load the invoice files as they are, write as many columns of the same types as the invoice mart has, and
copy them ordered by key into a new file that is durable. No other feed, no rule, no check.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb

from dagster_project.quoting import literal
from dagster_project.releases.candidate import STORAGE_VERSION
from tests.bench.programs.contract import RESULTS

MART = "fct_discounted_charges"
_AMOUNTS = ("list_amount", "discount_amount", "credit_amount", "tax_amount", "total_amount")
_TYPES = {"string": "varchar"}
# Columns of the mart that no invoice has, each from the invoice's column that is most like it.
_LIKE = {
    "billing_month": "date_trunc('month', cast(issued_at as timestamp))",
    "audit_status": "status",
}


def mart_columns() -> Iterator[str]:
    """Every column of the invoice mart's contract, in SQL on the loaded invoices."""
    amounts = 0
    for name, promised in RESULTS[MART].items():
        kind = _TYPES.get(promised, promised)
        if kind.startswith("decimal"):
            source = _AMOUNTS[amounts % len(_AMOUNTS)]
            amounts += 1
        else:
            source = _LIKE.get(name, name)
        yield f"cast({source} as {kind}) as {name}"


def main(landing: Path, work: Path, threads: str, memory_limit: str) -> None:
    """Load, write, publish; print the seconds of each as JSON."""
    [kind] = {path.suffix for path in (landing / "invoices").iterdir()}
    files = literal(str(landing / "invoices" / f"*{kind}"))
    source = {
        ".parquet": f"read_parquet({files}, union_by_name = true)",
        ".csv": f"read_csv({files}, all_varchar = true, header = true, union_by_name = true)",
    }[kind]
    work.mkdir(parents=True)
    published = work / "published.duckdb"
    connection = duckdb.connect(
        str(work / "warehouse.duckdb"),
        config={
            "threads": threads,
            "memory_limit": memory_limit,
            "temp_directory": str(work / "tmp"),
            "storage_compatibility_version": STORAGE_VERSION,
        },
    )
    connection.execute("set preserve_insertion_order = false; set TimeZone = 'UTC'")
    steps = {
        "load": [f"create table invoices as select * from {source}"],
        "write": [f"create table mart as select {', '.join(mart_columns())} from invoices"],
        "publish": [
            f"attach {literal(str(published))} as target (storage_version {literal(STORAGE_VERSION)})",
            "create table target.mart as select * from mart order by invoice_id",
            "checkpoint target",
            "detach target",
        ],
    }
    seconds = {}
    for step, statements in steps.items():
        began = time.monotonic()
        for statement in statements:
            connection.execute(statement)
        if step == "publish":
            with published.open("rb+") as file:
                os.fsync(file.fileno())
        seconds[step] = round(time.monotonic() - began, 3)
    connection.close()
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
