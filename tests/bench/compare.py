"""What other programs take for the same results: first whether the results are equal, then the cost.

Running the programs of `programs/` beside each other belongs here. All start from the same Parquet
files, the current records after arrival and staging, judge redemptions themselves (R2 to R4), and end
with the same five marts as Parquet, the columns of `RESULTS`; none checks the data. Each run is a process
of its own, from its start to its end: Python, imports and dbt's start are in it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from dagster_project.quoting import literal
from dagster_project.releases.fingerprint import TableContent, content_of
from dagster_project.settings import Settings
from tests.bench import inputs, machine, measure, store
from tests.bench.programs.contract import INPUTS, RESULTS, source, target

GIB = 2**30
BASE = "duckdb"
# What is compared, each with its name for people; its module is programs/<key>_program.py.
PROGRAMS: Mapping[str, str] = {
    BASE: "Coupon Ledger on DuckDB",
    "polars": "Polars",
    "pandas": "pandas",
    "spark": "Coupon Ledger on Spark",
}
_PACKAGES = ("duckdb", "dbt-core", "polars", "pandas", "numpy", "pyarrow")
_SPARK_PACKAGES = ("pyspark", "dbt-spark")
_SHOWN = 3


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        invoices: About how many.
        programs: Those compared.
        rounds: How often each is measured, in turns.
        threads: How many each may use.
        memory_limit: The limit of DuckDB and of Spark's JVM; the other programs have none.
        most_bytes: Memory at which a program is ended.
    """

    invoices: int
    programs: tuple[str, ...]
    rounds: int
    threads: int
    memory_limit: str
    most_bytes: int

    def environment(self) -> dict[str, str]:
        """The limits as environment variables of the programs."""
        threads = str(self.threads)
        return {
            "COUPON_LEDGER_THREADS": threads,
            "COUPON_LEDGER_MEMORY_LIMIT": self.memory_limit,
            "POLARS_MAX_THREADS": threads,
            "OMP_NUM_THREADS": threads,  # Arrow's and NumPy's
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this measurement."""
    parser.add_argument("--invoices", type=int, nargs="+", default=[1_000, 1_000_000, 10_000_000])
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--rounds", type=int, default=3, help="0 only compares the results")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--memory-limit",
        default=Settings.model_fields["memory_limit"].default,
        help="DuckDB's, and that of Spark's JVM",
    )
    parser.add_argument("--most-gib", type=float, default=20, help="what ends a program")


def main(options: argparse.Namespace) -> None:
    """Compare and measure each size; print and keep."""
    for invoices in options.invoices:
        case = Case(
            invoices, tuple(options.programs), options.rounds, options.threads,
            options.memory_limit, int(options.most_gib * GIB),
        )  # fmt: skip
        result = measured(case)
        print(block(result), flush=True)
        if options.rounds:
            print(f"Kept in {store.keep('compare', result)}")


def measured(case: Case, folder: Path = store.FOLDER) -> dict[str, Any]:
    """Compare the results of the programs, then measure them in turns.

    Returns:
        The record of it. A program that held too much memory, or failed, is in it with the reason.

    Raises:
        AssertionError: Two programs differ in a result.
    """
    given, sample = inputs.prepared(case.invoices, folder)
    as_of = store.last_day(sample).isoformat()
    facts = machine.described(_PACKAGES + (_SPARK_PACKAGES if "spark" in case.programs else ()))
    outputs, failed = folder / "work" / "outputs", dict[str, str]()
    contents: dict[str, dict[str, TableContent]] = {}
    for name in case.programs:
        _progress(f"{case.invoices:,} invoices: the results of {PROGRAMS[name]}")
        try:
            _run(case, name, given, outputs / name, as_of)
        except measure.RunFailed as error:
            failed[name] = error.reason
            _progress(str(error))
            continue
        contents[name] = contents_of(outputs / name)
        first = next(iter(contents))
        if name != first:
            assert_equal((outputs / first, contents[first]), (outputs / name, contents[name]))
            shutil.rmtree(outputs / name)
    shutil.rmtree(outputs, ignore_errors=True)
    runs: dict[str, list[measure.Measured]] = {name: [] for name in case.programs}
    for number in range(1, case.rounds + 1):
        for name in case.programs:
            if name in failed:
                continue
            _progress(f"round {number} of {case.rounds}: {PROGRAMS[name]}")
            try:
                runs[name].append(_run(case, name, given, outputs / name, as_of))
            except measure.RunFailed as error:
                failed[name] = error.reason
            shutil.rmtree(outputs / name)
    return {
        **facts,
        "invoices": pq.read_metadata(source(given, "invoices")).num_rows,
        "asked_invoices": case.invoices,
        "input_bytes": sum(source(given, name).stat().st_size for name in INPUTS),
        "result_rows": {
            mart: content.rows for mart, content in next(iter(contents.values()), {}).items()
        },
        "equal": list(contents),
        "threads": case.threads,
        "memory_limit": case.memory_limit,
        "most_bytes": case.most_bytes,
        "rounds": case.rounds,
        "programs": {
            name: {"failed": failed[name]}
            if name in failed
            else {
                "seconds": [round(run.seconds, 2) for run in each],
                "median_seconds": measure.median([run.seconds for run in each]),
                "peak_bytes": max(run.peak_bytes for run in each),
            }
            for name, each in runs.items()
            if each or name in failed
        },
    }


def contents_of(outputs: Path) -> dict[str, TableContent]:
    """Rows, fingerprint and columns of each result."""
    with duckdb.connect() as connection:
        connection.execute("set memory_limit = '4GB'; set TimeZone = 'UTC'")
        return {mart: content_of(connection, _relation(outputs, mart)) for mart in RESULTS}


def assert_equal(
    first: tuple[Path, Mapping[str, TableContent]], second: tuple[Path, Mapping[str, TableContent]]
) -> None:
    """Assert that two programs wrote the same results: the same columns, and the same rows in any order.

    Args:
        first: The folder of one program's results, and what they hold.
        second: The other's.

    Raises:
        AssertionError: They differ; shows rows that only one of them has.
    """
    (one, of_one), (other, of_other) = first, second
    for mart in RESULTS:
        if of_one[mart] == of_other[mart]:
            continue
        lines = [f"{one.name} and {other.name} differ in {mart}:"]
        for found in (of_one[mart], of_other[mart]):
            types = ", ".join(f"{column.name} {column.type}" for column in found.columns)
            lines.append(f"  {found.rows:,} rows, {found.fingerprint}: {types}")
        with duckdb.connect() as connection:
            for this, that in ((one, other), (other, one)):
                rows = connection.execute(
                    f"from {_relation(this, mart)} except all from {_relation(that, mart)}"
                    f" limit {_SHOWN}"
                ).fetchall()
                lines += [f"  only {this.name} has {row}" for row in rows]
        raise AssertionError("\n".join(lines))


def block(result: Mapping[str, Any]) -> str:
    """A result for people."""
    programs = result["programs"]
    rows = sum(result["result_rows"].values())
    lines = [
        f"{result['invoices']:,} invoices, {result['input_bytes'] / 1e6:,.0f} MB of Parquet in,"
        f" {len(result['result_rows'])} marts with {rows:,} rows out;"
        f" equal, cell for cell: {', '.join(PROGRAMS[name] for name in result['equal'])}",
    ]
    if programs:
        lines += [
            f"{result['threads']} threads, memory limit {result['memory_limit']} for DuckDB and Spark;"
            f" {measure.rounds_in_words(result['rounds'])}",
            machine.sentence(dict(result)),
            f"  {'':<24} {'seconds':>8} {'range':>15} {'peak':>8}",
        ]
    base = programs.get(BASE, {}).get("median_seconds")
    for name, each in programs.items():
        if "failed" in each:
            lines.append(f"  {PROGRAMS[name]:<24} {each['failed']}")
            continue
        seconds = each["median_seconds"]
        ratio = f"{seconds / base:5.2f} x {PROGRAMS[BASE]}" if base else ""
        lines.append(
            f"  {PROGRAMS[name]:<24} {seconds:>8.1f} {measure.spread(each['seconds']):>15}"
            f" {each['peak_bytes'] / 1e9:>5.2f} GB  {ratio}"
        )
    return "\n".join(lines)


def _run(case: Case, name: str, given: Path, outputs: Path, as_of: str) -> measure.Measured:
    shutil.rmtree(outputs, ignore_errors=True)
    outputs.mkdir(parents=True)
    module = f"tests.bench.programs.{name}_program"
    return measure.run(
        [sys.executable, "-m", module, str(given), str(outputs), as_of],
        outputs.parent / f"{name}.log",
        case.environment(),
        case.most_bytes,
    )


def _relation(outputs: Path, mart: str) -> str:
    path = target(outputs, mart)
    columns = ", ".join(RESULTS[mart])
    files = literal(str(path / "*.parquet" if path.is_dir() else path))
    return f"(select {columns} from read_parquet({files}))"


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
