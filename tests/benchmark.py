"""How long a refresh from about a million invoices takes, beside a floor; run by `make bench`.

The floor is DuckDB reading the same invoice files and writing as many columns, of the same types, as
the invoice mart has, and nothing else: no other feed, no rule, no check, no release. Refresh and floor
run in turns, each in a process of its own and each time from nothing; medians are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import duckdb

from dagster_project.sample import generate_sample

ROOT = Path(__file__).resolve().parents[1]

FLOOR = """
import sys, duckdb
files, target = sys.argv[1], sys.argv[2]
connection = duckdb.connect(target, config={"threads": 2, "memory_limit": "4GB"})
connection.execute("set preserve_insertion_order = false")
money = ", ".join(
    f"try_cast({column} as decimal(18, 2)) as {column}_{copy}"
    for copy in (1, 2, 3)
    for column in ("list_amount", "discount_amount", "credit_amount", "tax_amount")
)
connection.execute(f'''
    create table mart as
    select
        invoice_id, workspace_id, plan, billing_interval, currency, status, status as audit_status,
        try_cast(period_start as date) as period_start, try_cast(period_end as date) as period_end,
        try_cast(issued_at as timestamp) as issued_at,
        cast(date_trunc('month', try_cast(issued_at as timestamp)) as date) as billing_month,
        try_cast(mtus as bigint) as mtus, {money}
    from read_csv(?, all_varchar = true, union_by_name = true, null_padding = true, strict_mode = false)
''', [files])
connection.execute("checkpoint")
"""


def timed(arguments: list[str]) -> tuple[float, float]:
    """Run a command and return its seconds and the peak memory of its process in GB."""
    started = time.monotonic()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, env=dict(os.environ))
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    if status != 0:
        raise SystemExit(f"{arguments[:3]} failed with status {status}")
    return seconds, usage.ru_maxrss / 1e6


def main() -> None:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspaces", type=int, default=22_400)
    parser.add_argument("--months", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="coupon-ledger-bench-") as name:
        folder = Path(name)
        sample = generate_sample(
            options.workspaces, options.months, 1, folder / "sample", date(2021, 7, 1)
        )
        landing = folder / "sample" / "landing"
        runs: dict[str, list[tuple[float, float]]] = {"floor": [], "refresh": []}
        for _ in range(options.rounds):
            (folder / "floor.duckdb").unlink(missing_ok=True)
            runs["floor"].append(
                timed(
                    [
                        sys.executable,
                        "-c",
                        FLOOR,
                        str(landing / "invoices" / "*.csv"),
                        str(folder / "floor.duckdb"),
                    ]
                )
            )
            shutil.rmtree(folder / "home", ignore_errors=True)
            runs["refresh"].append(
                timed(
                    [
                        *(sys.executable, "-m", "dagster_project.cli", "run"),
                        *("--landing", str(landing), "--home", str(folder / "home")),
                        *("--as-of", sample.last_day.isoformat()),
                    ]
                )
            )
        size = sum(path.stat().st_size for path in (landing / "invoices").iterdir())
        print(
            f"{sample.invoices:,} invoices of {sample.workspaces:,} workspaces,"
            f" {size / 1e6:,.0f} MB of CSV; {os.cpu_count()} cores,"
            f" Python {platform.python_version()}, DuckDB {duckdb.__version__};"
            f" medians of {options.rounds} runs in turns"
        )
        medians = {step: statistics.median(run[0] for run in each) for step, each in runs.items()}
        for step, each in runs.items():
            peak = max(run[1] for run in each)
            ratio = medians[step] / medians["floor"]
            print(f"  {step:<8} {medians[step]:6.1f} s  {peak:4.1f} GB  {ratio:5.1f} x the floor")
        print(json.dumps({step: [round(run[0], 2) for run in each] for step, each in runs.items()}))


if __name__ == "__main__":
    main()
