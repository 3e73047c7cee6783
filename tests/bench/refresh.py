"""What a whole refresh costs: beside a floor, and from one day to the next.

Measuring `coupon-ledger run` as a person starts it belongs here: arrival with its gate, every model,
every data test, publication. compare.py measures other programs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb

from dagster_project.quoting import literal
from dagster_project.releases import open_release
from dagster_project.releases.restatements import NAME as RESTATEMENTS
from dagster_project.sample.deliver import EXPORTED
from dagster_project.settings import Settings
from tests.bench import machine, measure, store

_STEP = re.compile(r"^ {2}(\w+) +([0-9.]+) s {2}\S", re.MULTILINE)
_PACKAGES = ("duckdb", "dbt-core", "dbt-duckdb", "dagster", "pyarrow", "great-expectations")
FLOOR, FULL = "floor", "full rebuild"
_NOTHING, _MONTH, _RESTATED, _DAY = (
    "nothing new", "one new month", "1% restated", "nothing new, the day after",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        invoices: About how many.
        file_format: Of the deliveries.
        grouping: Which invoices share a file.
        rounds: How often each is run, in turns.
        is_next_day: Whether the runs on the days after are measured too.
        threads: DuckDB's and dbt's.
        memory_limit: DuckDB's.
        engine: What runs the models.
    """

    invoices: int
    file_format: Any
    grouping: Any
    rounds: int
    is_next_day: bool
    threads: int
    memory_limit: str
    engine: str


@dataclass
class _Runs:
    """The runs of one scenario."""

    seconds: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)
    steps: list[dict[str, float]] = field(default_factory=list)

    def add(self, measured: measure.Measured, steps: Mapping[str, float]) -> None:
        self.seconds.append(round(measured.seconds, 2))
        self.peak_bytes.append(measured.peak_bytes)
        self.steps.append(dict(steps))

    def summary(self) -> dict[str, Any]:
        names = list(dict.fromkeys(name for each in self.steps for name in each))
        return {
            "seconds": self.seconds,
            "median_seconds": measure.median(self.seconds),
            "peak_bytes": max(self.peak_bytes),
            "step_seconds": {
                name: measure.median([each[name] for each in self.steps if name in each])
                for name in names
            },
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this measurement."""
    limits = Settings.model_fields
    parser.add_argument("--invoices", type=int, default=1_000_000)
    parser.add_argument("--format", choices=("parquet", "csv"), default="parquet")
    parser.add_argument("--files", choices=("year", "month", "single"), default="year")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--next-day", action="store_true", help="also the runs on the days after")
    parser.add_argument("--threads", type=int, default=limits["threads"].default)
    parser.add_argument("--memory-limit", default=limits["memory_limit"].default)
    parser.add_argument("--engine", choices=("duckdb", "spark"), default="duckdb")


def main(options: argparse.Namespace) -> None:
    """Measure, print, keep."""
    case = Case(
        options.invoices, options.format, options.files, options.rounds, options.next_day,
        options.threads, options.memory_limit, options.engine,
    )  # fmt: skip
    result = measured(case)
    print(block(result))
    print(f"Kept in {store.keep('refresh', result)}")


def measured(case: Case, folder: Path = store.FOLDER) -> dict[str, Any]:
    """Measure a case and return the record of it.

    Raises:
        RunFailed: A run failed.
        AssertionError: A release built day by day differs from a full rebuild.
    """
    sample = store.sample(
        case.invoices, case.file_format, case.grouping, hold_back=case.is_next_day, folder=folder
    )
    facts = machine.described(
        _PACKAGES + (("pyspark", "dbt-spark") if case.engine == "spark" else ())
    )
    scenarios: dict[str, _Runs] = {FLOOR: _Runs(), FULL: _Runs()}
    work = folder / "work"
    equal_marts, rows = [], 0
    for number in range(1, case.rounds + 1):
        shutil.rmtree(work, ignore_errors=True)
        _progress(f"round {number} of {case.rounds}: {FLOOR}")
        store.deliver(sample / "landing", work / "landing")
        scenarios[FLOOR].add(*_floor(case, work))
        day = store.last_day(sample)
        if case.is_next_day:
            day = day.replace(day=1) - timedelta(days=1)
        _refresh(case, work, "home", day, scenarios, FULL)
        if case.is_next_day:
            _days_after(case, sample, work, day, scenarios)
            equal_marts = _assert_equal(case, work, store.last_day(sample) + timedelta(days=1))
        rows = _published_invoices(work / "home")
    size = sum(path.stat().st_size for path in (sample / "landing" / "invoices").iterdir())
    shutil.rmtree(work)
    return {
        **facts,
        "invoices": rows,
        "asked_invoices": case.invoices,
        "format": case.file_format,
        "files": case.grouping,
        "delivered_bytes": size,
        "threads": case.threads,
        "memory_limit": case.memory_limit,
        "engine": case.engine,
        "rounds": case.rounds,
        "equal_marts": equal_marts,
        "scenarios": {name: runs.summary() for name, runs in scenarios.items()},
    }


def block(result: Mapping[str, Any]) -> str:
    """A result for people."""
    scenarios = result["scenarios"]
    floor = scenarios[FLOOR]["median_seconds"]
    full = scenarios[FULL]["median_seconds"]
    lines = [
        f"{result['invoices']:,} invoices, {result['delivered_bytes'] / 1e6:,.0f} MB of"
        f" {result['format']} by {result['files']}, engine {result['engine']};"
        f" {result['threads']} threads, DuckDB's memory limit {result['memory_limit']};"
        f" {measure.rounds_in_words(result['rounds'])}",
        machine.sentence(dict(result)),
        f"  {'':<26} {'seconds':>8} {'range':>15} {'peak':>8} {'s/million':>9}",
    ]
    for name, runs in scenarios.items():
        seconds = runs["median_seconds"]
        ratio = ""
        if name == FULL:
            ratio = f"{seconds / floor:5.2f} x the floor"
        elif name != FLOOR:
            ratio = f"{seconds / full:5.2f} of the full rebuild"
        lines.append(
            f"  {name:<26} {seconds:>8.1f} {measure.spread(runs['seconds']):>15}"
            f" {runs['peak_bytes'] / 1e9:>5.2f} GB {seconds / result['invoices'] * 1e6:>9.2f}  {ratio}"
        )
        lines.append(
            "    "
            + ", ".join(f"{step} {value:.1f}" for step, value in runs["step_seconds"].items())
        )
    if result["equal_marts"]:
        lines.append(
            f"  what came day by day equals a full rebuild: {len(result['equal_marts'])} marts, by fingerprint"
        )
    return "\n".join(lines)


def command(landing: Path, home: Path, day: date, engine: str) -> list[str]:
    """The command of a refresh, as a person starts it.

    Args:
        landing: The landing folder.
        home: The data home.
        day: Last day whose events count.
        engine: What runs the models.
    """
    return [
        *(sys.executable, "-m", "dagster_project.cli", "run", "--landing", str(landing)),
        *("--home", str(home), "--as-of", day.isoformat(), "--engine", engine),
    ]


def step_seconds(output: str) -> dict[str, float]:
    """The seconds of each step, from the lines a refresh prints."""
    return {name: float(seconds) for name, seconds in _STEP.findall(output)}


def restate(landing: Path, percent: int, target: Path) -> int:
    """Write a delivery that restates some of the invoices of a landing folder, evenly spread.

    Each is its newest version with a list price one major unit higher, updated a second after the newest
    record of all.

    Args:
        landing: A landing folder with invoices in one format.
        percent: How many of a hundred invoices.
        target: The folder that gets its files, one for each number of decimals of amounts.

    Returns:
        How many invoices are restated.
    """
    [kind] = {path.suffix for path in (landing / "invoices").iterdir()}
    files = literal(str(landing / "invoices" / f"*{kind}"))
    newest = max(path.stat().st_mtime for path in (landing / "invoices").iterdir())
    total = 0
    with duckdb.connect() as connection:
        connection.execute("set threads = 2; set memory_limit = '4GB'; set TimeZone = 'UTC'")
        connection.execute(f"set temp_directory = {literal(str(target / 'tmp'))}")
        if kind == ".parquet":
            source, now = f"read_parquet({files}, union_by_name = true)", "max(updated_at)"
            later, how = f"{now} + interval 1 second", "format parquet, compression zstd"
        else:
            source = f"read_csv({files}, all_varchar = true, header = true, union_by_name = true)"
            now = "max(cast(updated_at as timestamptz))"
            later = f"strftime({now} + interval 1 second, '%Y-%m-%dT%H:%M:%SZ')"
            how = "format csv, header"
        connection.execute(
            f"create table chosen as select {', '.join(EXPORTED['invoices'])} from {source} where hash(invoice_id) % 100 < {percent}"
            " qualify row_number() over (partition by invoice_id order by updated_at desc) = 1"
        )
        connection.execute(f"update chosen set updated_at = (select {later} from {source})")
        for name, which, places in (("", "<>", 2), ("-yen", "=", 0)):
            amounts = ", ".join(
                f"cast({column} as decimal(18, {places})){more} as {column}"
                for column, more in (
                    ("list_amount", " + 1"), ("discount_amount", ""), ("credit_amount", ""),
                    ("tax_amount", ""), ("total_amount", " + 1"),
                )
            )  # fmt: skip
            path = target / "invoices" / f"invoices-restated-{percent}-percent{name}{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            [written] = connection.execute(
                f"copy (select * replace ({amounts}) from chosen where currency {which} 'JPY')"
                f" to {literal(str(path))} ({how})"
            ).fetchall()
            total += int(written[0])
            os.utime(path, (newest + 60, newest + 60))
    return total


def _days_after(
    case: Case, sample: Path, work: Path, day: date, scenarios: dict[str, _Runs]
) -> None:
    """The runs after the first: nothing new, a month, restatements, nothing again but a new day."""
    _refresh(case, work, "home", day, scenarios, _NOTHING)
    last = store.last_day(sample)
    store.deliver(sample / "next", work / "landing")
    _refresh(case, work, "home", last, scenarios, _MONTH)
    restate(work / "landing", 1, work / "restated")
    store.deliver(work / "restated", work / "landing")
    _refresh(case, work, "home", last, scenarios, _RESTATED)
    _refresh(case, work, "home", last + timedelta(days=1), scenarios, _DAY)


def _assert_equal(case: Case, work: Path, day: date) -> list[str]:
    """Rebuild from nothing what was built day by day; return the marts that are equal, which is all."""
    _refresh(case, work, "again", day, {}, "the same from nothing")
    with open_release(work / "home") as one, open_release(work / "again") as other:
        stepwise, whole = (
            dict(
                connection.execute(
                    "select table_name, (row_count, fingerprint) from release.tables"
                    f" where table_schema = 'marts' and table_name <> {literal(RESTATEMENTS)}"
                ).fetchall()
            )
            for connection in (one, other)
        )
    different = sorted(name for name in stepwise | whole if stepwise.get(name) != whole.get(name))
    if different or not whole:
        raise AssertionError(
            f"Built day by day, {', '.join(different) or 'nothing'} differ from a full rebuild"
            f" (in {work}): the times mean nothing."
        )
    shutil.rmtree(work / "again")
    return sorted(whole)


def _floor(case: Case, work: Path) -> tuple[measure.Measured, dict[str, float]]:
    folder = work / "floor"
    result = measure.run(
        [
            *(sys.executable, "-m", "tests.bench.floor", str(work / "landing"), str(folder)),
            *(str(case.threads), case.memory_limit),
        ],
        work / "floor.log",
    )
    shutil.rmtree(folder)
    steps: dict[str, float] = json.loads(result.output.splitlines()[-1])
    return result, steps


def _refresh(
    case: Case, work: Path, home: str, day: date, scenarios: dict[str, _Runs], name: str
) -> None:
    _progress(f"  {name}")
    result = measure.run(
        command(work / "landing", work / home, day, case.engine),
        work / f"{home}-{name}.log",
        {
            "COUPON_LEDGER_THREADS": str(case.threads),
            "COUPON_LEDGER_MEMORY_LIMIT": case.memory_limit,
        },
    )
    scenarios.setdefault(name, _Runs()).add(result, step_seconds(result.output))


def _published_invoices(home: Path) -> int:
    with open_release(home) as connection:
        [row] = connection.execute("select count(*) from marts.fct_discounted_charges").fetchall()
    return int(row[0])


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
