"""The same deliveries give the same release on DuckDB 1.5, on DuckDB 2.0 and on Spark, cell for cell.

The deliveries are the committed sample, generated histories, and rows that try every cast; they go the
whole way, arrival to publication, on each engine. Spark works with a driver and two executor processes,
with the plans that large tables would have: every join moves its rows; the log of events shows by what.
Its tables are at an address, from which the marts are fetched as from object storage. What Spark makes of
small tables in one process is compared with the reference model in `tests/bench/test_programs.py`.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from dagster_project import releases
from dagster_project.cli import app
from dagster_project.feeds import feeds
from dagster_project.product import DBT_PROJECT
from dagster_project.quoting import literal, quote
from dagster_project.refresh import spark
from dagster_project.releases.fingerprint import columns_of
from dagster_project.settings import SAMPLE_LANDING
from tests.dbt.test_staging import CASES, LOCAL_TIMES, VALID, VALUES
from tests.pipeline.conftest import (
    LAST_DAY,
    NOT_ON_SPARK,
    QUICK_JAVA,
    QUICK_SPARK,
    coupon_ledger,
    needs,
    reading_commands,
    view_models,
    with_duckdb_2,
    without_duckdb,
)
from tests.pipeline.spark_events import (
    Execution,
    executions,
    gathered,
    moved,
    shuffled_rows,
    told_to,
)
from tests.reference import histories

WORLDS = 200
# Casts that engines are known to treat differently, or could.
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
] + [
    (feed, {column: text}) for feed, column, text, _ in VALUES
] + [
    ("redemptions", {"eligible_until": text}) for _, text, _ in LOCAL_TIMES
]  # fmt: skip
# Instants within one millisecond, in which versions of a record differ.
INSTANTS = ("2025-01-02T00:00:00.123456Z", "2025-01-02T00:00:00.123789Z")
DIFFERING = (("coupons", "redeem_by"), ("invoices", "issued_at"), ("redemptions", "redeemed_at"))
# The feed of those times is read on a clock that is put forward and back.
LOCAL_ZONE = {"COUPON_LEDGER_FEED_TIME_ZONE": json.dumps({"redemptions": "Europe/Berlin"})}

# Makes Spark plan for tables too large to be sent whole, and log its plans in full.
LARGE = {
    "spark.sql.autoBroadcastJoinThreshold": "-1",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.debug.maxToStringFields": "1000",
}
BASE, COMPARED = "DuckDB 1.5", ("Spark", "DuckDB 2")
MISSING = {
    "DuckDB 2": without_duckdb("2"),
    "Spark": ""
    if spark.has_java()
    else f"{NOT_ON_SPARK}: there is no Java. As root, make install-test installs it; else"
    " apt-get install openjdk-17-jre-headless.",
}


@dataclass(frozen=True)
class Build:
    """A finished run.

    Attributes:
        home: Its data home.
        result: The result of the command.
        events: Folder of Spark's log of events, if it was told to keep one.
    """

    home: Path
    result: subprocess.CompletedProcess[str]
    events: Path

    @property
    def log(self) -> Path:
        """Spark's log of events."""
        (log,) = self.events.iterdir()
        return log


def environment(engine: str, events: Path) -> Mapping[str, str]:
    """The settings of a run on an engine; Spark's events go to the folder."""
    if engine == "DuckDB 2":
        return with_duckdb_2()
    if engine == "Spark":
        conf = {**QUICK_SPARK, **LARGE, **told_to(events)}
        return {
            "COUPON_LEDGER_SPARK_MASTER": "local-cluster[2,1,1024]",
            "COUPON_LEDGER_SPARK_CONF": json.dumps(conf),
            "COUPON_LEDGER_SPARK_STORAGE": (events.parent / "storage").as_uri(),
        }
    return {}


def deliver_histories(landing: Path) -> None:
    """Write generated histories as CSV, and as JSON Lines rows that try the casts, and versions of records."""
    records = histories.combine(histories.sample_worlds(WORLDS, seed=7))
    tried: dict[str, list[dict[str, str]]] = {feed: [] for feed in feeds()}
    cases = [(feed, changes) for feed, changes, _ in CASES] + list(MORE_CASES)
    for number, (feed, changes) in enumerate(cases):
        key = next(iter(VALID[feed]))
        tried[feed].append({**VALID[feed], key: f"{VALID[feed][key]}{number}", **changes})
    for feed, column in DIFFERING:
        key = next(iter(VALID[feed]))
        versions = [
            {**VALID[feed], key: f"{VALID[feed][key]}-two", column: one} for one in INSTANTS
        ]
        tried[feed] += [*versions, versions[0]]
    for feed, rows in histories.as_deliveries(records).items():
        folder = landing / feed
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{feed}-histories.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, feeds()[feed].column_names)
            writer.writeheader()
            writer.writerows(rows)
        lines = [json.dumps(row) for row in tried[feed]]
        (folder / f"{feed}-tried.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


@pytest.fixture(scope="module")
def builds(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[str, Future[Build]]]:
    """The deliveries on every engine, two runs at a time: each leaves a core idle now and then.

    They arrive once, so that deliveries and the instants of their arrival are the same.
    """
    root = tmp_path_factory.mktemp("engines")
    shutil.copytree(SAMPLE_LANDING, root / "landing")
    deliver_histories(root / "landing")

    def run(engine: str, *options: str) -> Build:
        home = root / engine / "home"
        if engine != BASE:
            base = runs[BASE].result().home
            shutil.copytree(base / "archive", home / "archive")
            if engine == "Spark":
                shutil.copytree(base / "build", home / "build")
        given = ("--landing", root / "landing", "--as-of", str(LAST_DAY), "--home", home)
        events = root / engine / "events"
        events.mkdir(parents=True)
        done = coupon_ledger("run", *given, *options, **environment(engine, events), **LOCAL_ZONE)
        return Build(home, done, events)

    runs: dict[str, Future[Build]] = {}
    with ThreadPoolExecutor(2) as pool:
        runs[BASE] = pool.submit(run, BASE)
        for engine in COMPARED:
            if not MISSING[engine]:
                options = ("--engine", "spark") if engine == "Spark" else ()
                runs[engine] = pool.submit(run, engine, *options)
        yield runs


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
    """A release built on another engine than DuckDB 1.5."""

    @pytest.mark.parametrize("engine", COMPARED)
    def test_the_run_publishes(self, builds: Mapping[str, Future[Build]], engine: str) -> None:
        needs(MISSING[engine])
        for run in (builds[BASE].result(), builds[engine].result()):
            assert run.result.returncode == 0, run.result.stderr + run.result.stdout
            assert run.result.stderr == ""

    @pytest.mark.parametrize("engine", COMPARED)
    def test_every_table_is_equal_cell_for_cell(
        self, builds: Mapping[str, Future[Build]], engine: str
    ) -> None:
        needs(MISSING[engine])
        here, there = builds[BASE].result().home, builds[engine].result().home
        expected, found = published(here), published(there)
        assert len([name for name in expected if name.startswith("marts.")]) >= 13
        empty = {name for name, (rows, _, _) in expected.items() if not rows}
        assert empty == {"marts.fct_restatements"}, "nothing to compare"
        assert found.keys() == expected.keys()
        differing = [name for name in expected if found[name] != expected[name]]
        assert not differing, "\n".join(
            f"{name}\n{differing_rows(here, there, name)}" for name in differing
        )


# What differs between two releases of the same content is their ids and when they were made.
COMMANDS = reading_commands("export", "prove", "releases", "verify", "diff")


class TestReading:
    """A release that Spark built, read as any other."""

    @pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
    def test_a_command_answers_the_same(
        self, builds: Mapping[str, Future[Build]], command: tuple[str, ...]
    ) -> None:
        needs(MISSING["Spark"])
        said = []
        for engine in (BASE, "Spark"):
            home = builds[engine].result().home
            result = CliRunner().invoke(app, [*command, "--home", str(home)])
            assert result.exit_code == 0, result.output
            release_id = releases.files.current_release(home) or ""
            said.append(result.stdout.replace(release_id, "RELEASE"))
        assert said[1] == said[0]

    def test_it_holds_what_it_says_and_where_it_came_from(
        self, builds: Mapping[str, Future[Build]], tmp_path: Path
    ) -> None:
        needs(MISSING["Spark"])
        home = builds["Spark"].result().home
        assert releases.verify(home).problems == ()
        with releases.open_release(home) as connection:
            assert connection.execute("select engine from release.release").fetchone() == ("spark",)
            checked = connection.execute(
                "select count(*) filter (where checked_by = 'dbt'),"
                " count(*) filter (where checked_by = 'supplier gate') from release.checks"
            ).fetchall()[0]
        assert min(checked) > 30
        release_id = releases.files.current_release(home)
        assert release_id is not None
        files = {
            path.stem for path in releases.files.parquet_dir(home, release_id).glob("*.parquet")
        }
        assert len(files) >= 13
        with duckdb.connect(str(home / "build" / "spark.duckdb"), read_only=True) as connection:
            # What a restatement of a closed month looks up.
            for name in [f"base_billing__{feed}" for feed in feeds()] + [
                "stg_billing__repeated_rows"
            ]:
                assert connection.execute(
                    f"select count(*) > 0 from staging.{name}"
                ).fetchone() == (True,)
        arguments = ["export", "--home", str(home), "--out", str(tmp_path / "out")]
        assert CliRunner().invoke(app, [*arguments, "--format", "csv"]).exit_code == 0


WALK = """
with recursive walk as (
    select id, 1 as step, 1 as steps from range(1100000)
    union all
    select id, 1 as step, 130 as steps from range(1100000, 1100001)
    union all
    select id, step + 1, steps from walk where step < steps
)
select count(*), max(step) from walk
"""


def test_a_walk_on_spark_has_as_many_steps_and_rows_as_it_needs(tmp_path: Path) -> None:
    """Spark's own limits are a hundred steps and a million rows; DuckDB has none.

    Only here does Spark generate code, as it does by default.
    """
    needs(MISSING["Spark"])
    script = (
        "import sys; from pathlib import Path; from dagster_project.refresh import spark;"
        " from dagster_project.settings import Settings;"
        " session = spark.start(Settings(home=Path(sys.argv[1]), engine='spark'), 1);"
        " print(tuple(session.sql(sys.argv[2]).collect()[0])); session.stop()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "home"), WALK],
        env={**os.environ, "COUPON_LEDGER_SPARK_CONF": json.dumps(QUICK_JAVA)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.stdout.strip() == "(1100130, 130)", ended.stderr


# Columns with many values, each with few rows: rows may be moved by them.
SPREAD = (
    "workspace_id", "invoice_id", "redemption_id", "predecessor_redemption_id", "grant_id", "user_id",
    "finding_id", "row_number", "credit_note_id", "promotion_id", "workspace_group", "user_group",
    "root_redemption_id", "next_redemption_id", "place", "first_place",
)  # fmt: skip
# Tables that stay small however many invoices there are; Spark sends each to every executor.
REFERENCE = (
    "deliveries",
    "stg_arrival__deliveries",
    "iso_4217_currencies",
    "base_billing__coupons",
    "stg_billing__coupons",
    "stg_billing__coupon_versions",
    "dim_coupons",
)
# Where rows are moved by columns with few values, why that is allowed, and what bounds it.
GATHERED: Mapping[tuple[str, str], str] = {
    ("intermediate.int_redemptions_judged", "rows by coupon_id"): "R2.7 counts the redemptions of a"
    " coupon with a limit in their order: three columns of one coupon's redemptions",
    ("marts.fct_program_budget_monthly", "rows by program, currency, budget_month"): "budgets meet"
    " what was given and what is expected: sums of a program, currency and month",
    ("staging.stg_billing__repeated_rows", "rows by program, currency, month"): "the versions of a"
    " budget: one program, currency and month",
    ("staging.stg_billing__coupon_versions", "rows by coupon_id"): "the versions of a coupon",
    ("intermediate.int_coupon_versions_delivered", "rows by coupon_id"): "the versions of a coupon",
    (
        "int_follow_ups_possible",
        "all rows to one task",
    ): "whether a round changed anything, asked of"
    " chains of which a link competes with another: one number of each",
    (
        "fct_charge_bridge_monthly fct_discounted_charges",
        "rows by currency, bridge_month, plan",
    ): "a test compares sums with sums",
}


class TestPlansForLargeTables:
    """How Spark plans every model and data test if no table is small."""

    @pytest.fixture(scope="class")
    def run(self, builds: Mapping[str, Future[Build]]) -> Build:
        needs(MISSING["Spark"])
        return builds["Spark"].result()

    @pytest.fixture(scope="class")
    def executed(self, run: Build) -> list[Execution]:
        return executions(run.log)

    def test_every_model_that_is_a_table_is_looked_at(self, executed: list[Execution]) -> None:
        models = {path.stem for path in (DBT_PROJECT / "models").rglob("*.sql")} - view_models()
        made = {execution.model.split(".")[-1] for execution in executed}
        assert models <= made
        assert len([one for one in executed if not one.model and one.plan.tables]) >= 40  # tests

    def test_rows_are_moved_by_workspace_or_something_as_fine(
        self, executed: list[Execution]
    ) -> None:
        found = {
            (
                execution.model or " ".join(sorted(execution.plan.tables)),
                line.partition(": Exchange")[0],
            )
            for execution in executed
            for line in gathered(execution.plan, SPREAD, REFERENCE)
        }
        assert found == set(GATHERED)

    def test_both_executors_did_their_part(self, run: Build) -> None:
        rows = shuffled_rows(run.log)
        assert set(rows) == {"0", "1"}
        assert min(rows.values()) > sum(rows.values()) / 4

    def test_what_is_moved_is_told_of_the_model(self, run: Build) -> None:
        told = moved(run.log)
        assert {"int_discounts_applied", "fct_discounted_charges", ""} <= told.keys()
        assert sum(rows for _, rows in told.values()) >= sum(shuffled_rows(run.log).values()) / 2

    def test_windows_of_the_credit_walk_move_rows_once(self, executed: list[Execution]) -> None:
        (draws,) = (
            execution.plan
            for execution in executed
            if execution.model == "intermediate.int_credit_draws"
        )
        names = [node.name for node in draws.walk()]
        assert names.count("Window") >= 3  # the first rank, and two for each further one
        assert names.count("Exchange") == 1
