"""The same deliveries give the same release on DuckDB 1.5, on DuckDB 2.0 and on Spark, cell for cell.

Two data sets go the whole way, arrival to publication, on each engine: the committed sample, and
generated histories with rows that try every cast. The sample is built by Spark in one process, the
histories by Spark with a driver and two executor processes, between which rows are shuffled.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project import spark
from dagster_project.feeds import feeds
from dagster_project.releases.fingerprint import columns_of, literal, quote
from dagster_project.settings import SAMPLE_LANDING
from tests.dbt.test_staging import CASES, VALID
from tests.pipeline.conftest import (
    NOT_ON_SPARK,
    coupon_ledger,
    needs,
    with_duckdb_2,
    without_duckdb_2,
)
from tests.reference import histories

WORLDS = 200
SAMPLE_DAY = date.fromisoformat(
    json.loads((SAMPLE_LANDING.parent / "truth.json").read_text("utf-8"))["last_day"]
)
# Casts that engines are known to take differently, or could.
MORE_CASES: Sequence[tuple[str, dict[str, str]]] = [
    ("invoices", {"issued_at": text})
    for text in (
        "0000-01-01", "0001-01-01", "1582-10-10", "1900-01-01T00:00:00Z", "1969-12-31T23:59:59.5Z",
        "9999-12-31T23:59:59.999999Z", "10000-01-01", "2024-02-29T23:59:59.9999999Z",
        "2024-01-01T00:00:00.1Z", "2024-01-01T00:00:00.123456789Z", "2024-01-01T00:00:60Z",
        "2024-01-01T10:00:00+14:00", "2024-01-01T10:00:00-18:00", "2024-01-01T10:00:00+15:59",
        "2024-01-01T10:00:00+25:00", "2024-01-01T10:00:00+05:60", "2024-01-01T10:00:00z",
        "2024-13-01", "2024-00-01", "2024-01-00", "2024-1-1", "-2024-01-01", "2024-01-01T10",
    )
] + [
    ("invoices", {"period_start": text})
    for text in ("0000-01-01", "0001-01-01", "1582-10-10", "2024-02-29", "2023-02-29", "epoch", "today")
] + [
    ("workspaces", {"workspace_name": text})
    for text in (
        "caf\u00e9", "cafe\u0301", "\U0001f600", "a\\b", 'a"b', "a'b", "a/b", "tab\there", "line\nbreak",
        "\u2028", "\u007f", "\u0001", "</script>", "NULL", "null", "%s {{ }}", "\u00df\u1e9e", "\ufeffbom",
    )
] + [
    ("workspaces", {"workspace_name": text, "created_at": "never"})
    for text in ("\u0001\u001f", "\u007f\u0085", "a/b\\c\"d'e", "\u2028\u2029", "\U0001f600\u00e9")
] + [
    ("invoices", {"workspace_id": "\U0001f600" * 200}),
    ("invoices", {"workspace_id": "\U0001f600" * 201}),
    ("invoices", {"mtus": "999999999999999"}),
    ("invoices", {"mtus": "9999999999999999"}),
    ("invoices", {"total_amount": "-99999999999999.99"}),
    ("coupons", {"percent_off": "0.00001"}),
    ("coupons", {"percent_off": "99.9999"}),
    ("redemptions", {"application_order": "-999999999999999"}),
]  # fmt: skip

# What suits tables of a few thousand rows: little is compiled, and by the quicker compiler.
SMALL = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    "DuckDB 1.5": {},
    "DuckDB 2": with_duckdb_2(),
    "Spark": {"COUPON_LEDGER_SPARK_CONF": json.dumps(SMALL)},
    "Spark, two executors": {
        "COUPON_LEDGER_SPARK_MASTER": "local-cluster[2,1,1024]",
        "COUPON_LEDGER_SPARK_CONF": json.dumps(SMALL),
    },
}
COMPARED = [
    ("sample", "DuckDB 2"),
    ("sample", "Spark"),
    ("histories", "DuckDB 2"),
    ("histories", "Spark, two executors"),
]
MISSING = {
    "DuckDB 2": without_duckdb_2(),
    "Spark": ""
    if spark.has_java()
    else f"{NOT_ON_SPARK}: there is no Java. As root, make install-test installs it; else"
    " apt-get install openjdk-17-jre-headless.",
}
MISSING["Spark, two executors"] = MISSING["Spark"]


@dataclass(frozen=True)
class Build:
    """A finished run.

    Attributes:
        home: Its data home.
        result: What the command said.
    """

    home: Path
    result: subprocess.CompletedProcess[str]


def deliver_histories(landing: Path) -> None:
    """Write generated histories as CSV, and the rows that try the casts as JSON Lines."""
    records = histories.combine(histories.sample_worlds(WORLDS, seed=7))
    tried: dict[str, list[dict[str, str]]] = {feed: [] for feed in feeds()}
    cases = [(feed, changes) for feed, changes, _ in CASES] + list(MORE_CASES)
    for number, (feed, changes) in enumerate(cases):
        key = next(iter(VALID[feed]))
        tried[feed].append({**VALID[feed], key: f"{VALID[feed][key]}{number}", **changes})
    for feed, rows in histories.as_deliveries(records).items():
        folder = landing / feed
        folder.mkdir(parents=True)
        with (folder / f"{feed}-histories.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, feeds()[feed].column_names)
            writer.writeheader()
            writer.writerows(rows)
        lines = [json.dumps(row) for row in tried[feed]]
        (folder / f"{feed}-tried.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


@pytest.fixture(scope="module")
def builds(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[tuple[str, str], Future[Build]]]:
    """Every data set on every engine, two runs at a time: each leaves a core idle now and then.

    Each data set arrives once, so that deliveries and the instants of their arrival are the same.
    """
    root = tmp_path_factory.mktemp("engines")
    deliver_histories(root / "landing")
    landings = {"sample": SAMPLE_LANDING, "histories": root / "landing"}
    days = {"sample": SAMPLE_DAY, "histories": histories.AS_OF}
    bases: dict[str, Future[Build]] = {}

    def run(data: str, engine: str, *options: str) -> Build:
        home = root / data / engine
        if data in bases:
            base = bases[data].result().home
            shutil.copytree(base / "archive", home / "archive")
            if engine.startswith("Spark"):
                shutil.copytree(base / "build", home / "build")
        given = ("--landing", landings[data], "--as-of", str(days[data]), "--home", home)
        return Build(home, coupon_ledger("run", *given, *options, **ENVIRONMENTS[engine]))

    with ThreadPoolExecutor(2) as pool:
        for data in landings:
            bases[data] = pool.submit(run, data, "DuckDB 1.5")
        yield {(data, "DuckDB 1.5"): base for data, base in bases.items()} | {
            (data, engine): pool.submit(
                run, data, engine, *(["--engine", "spark"] if engine.startswith("Spark") else [])
            )
            for data, engine in reversed(COMPARED)
            if not MISSING[engine]
        }


def published(home: Path) -> dict[str, Any]:
    """Rows, fingerprint and columns of every table that a release copies from its build."""
    with duckdb.connect(str(home / "current"), read_only=True) as connection:
        rows = connection.execute(
            "select table_schema, table_name, row_count, fingerprint from release.tables order by all"
        ).fetchall()
        return {
            f"{schema}.{name}": (
                count,
                fingerprint,
                columns_of(connection, f"{quote(schema)}.{quote(name)}"),
            )
            for schema, name, count, fingerprint in rows
        }


def differing_rows(one: Path, other: Path, table: str) -> str:
    """The first rows of a table that only one of two releases has."""
    with duckdb.connect() as connection:
        for alias, home in (("one", one), ("other", other)):
            connection.execute(f"attach {literal(str(home / 'current'))} as {alias} (read_only)")
        return "\n".join(
            str(
                connection.execute(
                    f"from {left}.{table} except from {right}.{table} order by all limit 5"
                ).fetchall()
            )
            for left, right in (("one", "other"), ("other", "one"))
        )


class TestEveryEngineGivesTheSameRelease:
    """A data set built on another engine than DuckDB 1.5."""

    @pytest.mark.parametrize(("data", "engine"), COMPARED)
    def test_the_run_publishes(
        self, builds: Mapping[tuple[str, str], Future[Build]], data: str, engine: str
    ) -> None:
        needs(MISSING[engine])
        for run in (builds[data, "DuckDB 1.5"].result(), builds[data, engine].result()):
            assert run.result.returncode == 0, run.result.stderr + run.result.stdout
            assert run.result.stderr == ""

    @pytest.mark.parametrize(("data", "engine"), COMPARED)
    def test_every_table_is_equal_cell_for_cell(
        self, builds: Mapping[tuple[str, str], Future[Build]], data: str, engine: str
    ) -> None:
        needs(MISSING[engine])
        here, there = builds[data, "DuckDB 1.5"].result().home, builds[data, engine].result().home
        expected, found = published(here), published(there)
        assert len([name for name in expected if name.startswith("marts.")]) >= 13
        empty = {name for name, (rows, _, _) in expected.items() if not rows}
        assert empty == {"marts.fct_restatements"}, "nothing to compare"
        assert found.keys() == expected.keys()
        differing = [name for name in expected if found[name] != expected[name]]
        assert not differing, "\n".join(
            f"{name}\n{differing_rows(here, there, name)}" for name in differing
        )
