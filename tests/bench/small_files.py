"""What many small files cost: arrival with its gate, and a whole run, beside another checkout's.

Measuring files of one row belongs here, as engines that write in parts deliver them. CPU seconds are those
of the process and its children, which a busy machine changes less than the time by the clock.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dagster_project.settings import CHECKOUT
from tests.bench import machine, store

AS_OF = "2025-12-31"
WORKSPACES = "workspace_id,workspace_name,created_at,updated_at\nws_1,Acme,2025-01-01,2025-01-01\n"
HEADER = (
    "invoice_id,workspace_id,status,plan,billing_interval,currency,period_start,period_end,issued_at,"
    "list_amount,discount_amount,credit_amount,tax_amount,total_amount,mtus,updated_at"
)
ROW = (
    "in_{0:05d},ws_1,paid,team,month,USD,2025-01-01,2025-02-01,2025-01-01T00:00:00Z,"
    "120.00,0.00,0.00,0.00,120.00,10000,2025-01-01T06:00:00Z"
)
ARRIVAL = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from dagster_project.arrival import arrive
reports = arrive(Path(sys.argv[1]), Path(sys.argv[2]), "run", datetime(2026, 1, 1, tzinfo=UTC))
print(sum(report.verdict == "loaded" for report in reports))
"""
PACKAGES = ("duckdb", "pyarrow", "great-expectations")


@dataclass(frozen=True)
class Cost:
    """What a process and its children took.

    Attributes:
        cpu_seconds: User and system time.
        seconds: By the clock.
    """

    cpu_seconds: float
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this measurement."""
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument(
        "--against", type=Path, metavar="CHECKOUT", help="another checkout with a .venv"
    )
    parser.add_argument("--runs", action="store_true", help="also whole runs")


def main(options: argparse.Namespace) -> None:
    """Measure, print, keep."""
    checkouts = [CHECKOUT, *([options.against.resolve()] if options.against else [])]
    with tempfile.TemporaryDirectory(prefix="small-files-") as name:
        landing = delivered(Path(name) / "landing", options.files)
        costs = {
            what: [asdict(taken(of, landing, Path(name) / "home", what)) for of in checkouts]
            for what in ("arrival", *(["run"] if options.runs else []))
        }
    result: dict[str, Any] = {
        **machine.described(PACKAGES),
        "files": options.files,
        "against": _commit(checkouts[1]) if options.against else None,
        "costs": costs,
    }
    print(told(result))
    print(f"Kept in {store.keep('small_files', result)}")


def delivered(landing: Path, files: int) -> Path:
    """Write a landing folder: one workspace, and a file for each invoice.

    Args:
        landing: The folder to make.
        files: How many invoices.
    """
    (landing / "invoices").mkdir(parents=True)
    (landing / "workspaces").mkdir()
    (landing / "workspaces" / "all.csv").write_text(WORKSPACES, "utf-8")
    for number in range(files):
        text = f"{HEADER}\n{ROW.format(number)}\n"
        (landing / "invoices" / f"{number:05d}.csv").write_text(text, "utf-8")
    return landing


def taken(checkout: Path, landing: Path, home: Path, what: str) -> Cost:
    """What a checkout takes for a landing folder, in a data home that is thrown away.

    Args:
        checkout: Has a .venv.
        landing: What is delivered.
        home: The data home; it must not exist.
        what: `arrival`, or `run` for all of it.
    """
    folder = checkout / ".venv" / "bin"
    command = {
        "arrival": [folder / "python", "-c", ARRIVAL, landing, home],
        "run": [
            *(folder / "coupon-ledger", "run", "--as-of", AS_OF),
            *("--landing", landing, "--home", home),
        ],
    }[what]
    before, started = os.times(), time.monotonic()
    ended = subprocess.run(
        [str(part) for part in command],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds, after = time.monotonic() - started, os.times()
    shutil.rmtree(home, ignore_errors=True)
    if ended.returncode:
        sys.exit(f"{checkout}: {what} ended with {ended.returncode}: {ended.stderr[-2_000:]}")
    cpu = (
        after.children_user
        + after.children_system
        - (before.children_user + before.children_system)
    )
    return Cost(round(cpu, 2), round(seconds, 2))


def told(result: dict[str, Any]) -> str:
    """The result in words."""
    lines = [f"{result['files']:,} files of one row"]
    for what, (ours, *others) in result["costs"].items():
        line = f"  {what}: {ours['cpu_seconds']:.1f} CPU s, {ours['seconds']:.1f} s by the clock"
        for other in others:
            share = ours["cpu_seconds"] / other["cpu_seconds"]
            line += (
                f"; {result['against']}: {other['cpu_seconds']:.1f} CPU s,"
                f" {other['seconds']:.1f} s; CPU 1 : {1 / share:.1f}"
            )
        lines.append(line)
    return "\n".join([*lines, machine.sentence(result)])


def _commit(checkout: Path) -> str:
    found = subprocess.run(
        ["git", "-C", str(checkout), "describe", "--always"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip()
