"""What tests of releases and runs share: small hand-made builds, and one real run on the sample."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project.cli import main
from dagster_project.cli.reading import READING
from dagster_project.product import SAMPLE
from dagster_project.releases import (
    Build,
    Publication,
    candidate,
    close,
    current_release,
    publish,
)
from dagster_project.releases.fingerprint import sum_of_hashes
from dagster_project.releases.gate import Result
from dagster_project.settings import CHECKOUT, Settings
from tests.pipeline import ahead
from tests.shared import Shared

LAST_DAY = date.fromisoformat(json.loads((SAMPLE / "truth.json").read_text("utf-8"))["last_day"])
"""The last day of the sample."""

AS_OF = date(2026, 3, 31)
NOW = datetime(2026, 4, 1, 5, 0, tzinfo=UTC)

Charge = tuple[str, str, str]  # invoice_id, currency, list_amount


@dataclass
class HandMade:
    """A build as dbt would leave it, but small, and every part of it can be broken."""

    home: Path
    charges: Sequence[Charge] = (("in_1", "USD", "120.00"), ("in_2", "EUR", "80.50"))
    as_of: date = AS_OF
    invocation_id: str = "invocation-1"
    statuses: dict[str, str] = field(
        default_factory=lambda: {
            "model.p.fct_discounted_charges": "success",
            "model.p.dim_coupons": "success",
            "test.p.assert_adds_up": "pass",
            "test.p.assert_source_is_right": "pass",
        }
    )
    marts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Further marts of the warehouse with their keys, which the manifest promises too."""
    standing: Mapping[str, Result] = field(default_factory=dict)
    """Results of tests that did not run again."""
    tested: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """The content of the tables that the data tests passed over, as far as it is known."""

    @property
    def warehouse(self) -> Path:
        """Where the build is, except its marts."""
        return self.home / "build" / "warehouse.duckdb"

    @property
    def candidate(self) -> Path:
        """Where its marts are."""
        return self.home / "build" / "candidate.duckdb"

    @property
    def results_path(self) -> Path:
        """Where dbt's results file is."""
        return self.home / "build" / "dbt" / "run" / "run_results.json"

    @property
    def build(self) -> Build:
        """What the dbt step knows of it."""
        return Build(
            {self.invocation_id: self.results_path.parent},
            dict(self.statuses),
            standing=self.standing,
            tested=self.tested,
        )

    @property
    def manifest(self) -> dict[str, Any]:
        """A manifest of two marts, a blocking test and a warning one."""
        return {
            "nodes": {
                "model.p.fct_discounted_charges": _mart(
                    "fct_discounted_charges",
                    "One row per counted invoice's charge.",
                    {"invoice_id": "Identifies the invoice.", "list_amount": "It's the price."},
                    ["invoice_id"],
                ),
                "model.p.dim_coupons": _mart(
                    "dim_coupons", "One row per coupon.", {"coupon_id": "Its id."}, ["coupon_id"]
                ),
                **{f"model.p.{name}": _mart(name, "", {}, key) for name, key in self.marts.items()},
                "test.p.assert_adds_up": _test("assert_adds_up", "error"),
                "test.p.assert_source_is_right": _test("assert_source_is_right", "warn"),
            },
            "unit_tests": {
                "unit_test.p.rounds": {
                    "name": "rounds",
                    "original_file_path": "models/_units.yml",
                    "config": {},
                }
            },
        }

    def write(self) -> HandMade:
        """Write warehouse and results."""
        self.write_warehouse()
        self.write_results()
        return self

    def write_warehouse(self) -> None:
        """Write a warehouse, and a candidate whose marts hold the charges."""
        self.warehouse.parent.mkdir(parents=True, exist_ok=True)
        self.warehouse.unlink(missing_ok=True)
        candidate.begin(self.candidate)
        with duckdb.connect(str(self.candidate)) as connection:
            connection.execute(
                "create table marts.fct_discounted_charges (invoice_id varchar, currency varchar,"
                " issued_at timestamp, billing_month date, mtus bigint, list_amount decimal(18, 2),"
                " discount_amount decimal(18, 2), credit_amount decimal(18, 2),"
                " net_amount decimal(18, 2), billed_net_amount decimal(18, 2))"
            )
            columns = [[charge[place] for charge in self.charges] for place in range(3)]
            connection.execute(
                "insert into marts.fct_discounted_charges select invoice_id, currency,"
                " '2026-03-01 10:00:00.5', '2026-03-01', null, amount, 0, 0, amount, amount"
                " from (select unnest(?) as invoice_id, unnest(?) as currency, unnest(?) as amount)",
                columns,
            )
            connection.execute(
                "create table marts.dim_coupons as select 'C1' as coupon_id, true as is_open"
            )
        with duckdb.connect(str(self.warehouse)) as connection:
            for schema in ("raw", "staging", "intermediate"):
                connection.execute(f"create schema {schema}")
            connection.execute(
                "create table intermediate.int_deliveries_reconciled as select 1::bigint as"
                " delivery_sequence, 'd1' as delivery_id, 'invoices' as feed, 'invoices/a.csv' as"
                " file_name, 'd1' as sha256, timestamp '2026-04-01' as arrived_at, 'loaded' as"
                " verdict, null::varchar as refusal_reason, null::varchar as notes, 3::bigint as physical_rows, 0::bigint"
                " as blank_rows, 2::bigint as accepted_rows, 0::bigint as superseded_rows, 0::bigint"
                " as duplicate_rows, 1::bigint as rejected_rows"
            )
            connection.execute(
                "create table staging.stg_billing__rejected_rows as select 1::bigint as"
                " delivery_sequence, 'd1' as delivery_id, 'invoices' as feed, 'invoices/a.csv' as"
                " file_name, 3::bigint as row_number, 'list_amount is missing' as reasons,"
                ' \'{"invoice_id":"in_3"}\' as record'
            )
            write_lineage(connection)

    def test(self) -> None:
        """Record what the marts hold now, as if the data tests had passed over it."""
        with duckdb.connect(str(self.candidate)) as connection:
            self.tested = {
                f"model.p.{name}": sum_of_hashes(connection, f"marts.{name}")
                for name in ("fct_discounted_charges", "dim_coupons")
            }

    def write_results(self, **changes: object) -> None:
        """Write dbt's results file, with top-level parts replaced on request."""
        results = {
            "metadata": {"invocation_id": self.invocation_id},
            "args": {"vars": {"as_of_date": self.as_of.isoformat()}},
            "results": [
                {"unique_id": unique_id, "status": status, "failures": 0 if "pass" in status else 2}
                for unique_id, status in self.statuses.items()
            ],
            **changes,
        }
        self.results_path.parent.mkdir(parents=True, exist_ok=True)
        self.results_path.write_text(json.dumps(results), "utf-8")

    def publish(
        self,
        now: datetime = NOW,
        code_version: str = "1+code",
        threads: int = 2,
        report: Callable[[duckdb.DuckDBPyConnection], str] | None = None,
        reporting_time_zone: str = "UTC",
    ) -> Publication:
        """Publish it."""
        return publish(
            self.home,
            marts=self.candidate,
            built=self.warehouse,
            as_of=self.as_of,
            build=self.build,
            manifest=self.manifest,
            now=now,
            code_version=code_version,
            threads=threads,
            report=report,
            reporting_time_zone=reporting_time_zone,
        )


def write_lineage(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the other tables that the pedigree is copied from, empty: versions, and what does not count."""
    from dagster_project.releases.contents import pedigree_sources

    for source, columns in pedigree_sources().items():
        if source.startswith("intermediate.") and "reconciled" not in source:
            listed = ", ".join(f"null::varchar as {name}" for name in columns)
            connection.execute(f"create or replace table {source} as select {listed} where false")


def _mart(
    name: str, description: str, columns: Mapping[str, str], key: Sequence[str]
) -> dict[str, Any]:
    return {
        "resource_type": "model",
        "name": name,
        "alias": name,
        "schema": "marts",
        "description": description,
        "columns": {column: {"description": text} for column, text in columns.items()},
        "config": {"materialized": "table", "meta": {"primary_key": list(key)}},
        "original_file_path": f"models/marts/{name}.sql",
        "depends_on": {"nodes": []},
    }


def _test(name: str, severity: str) -> dict[str, Any]:
    return {
        "resource_type": "test",
        "name": name,
        "description": f"{name} holds.",
        "config": {"severity": severity},
        "original_file_path": f"tests/singular/{name}.sql",
        "depends_on": {"nodes": ["model.p.fct_discounted_charges"]},
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty data home."""
    return tmp_path / "home"


@pytest.fixture
def hand_made(home: Path) -> HandMade:
    """A build that may be published."""
    return HandMade(home).write()


DUCKDB_LINES = {line: Path(sys.prefix) / f"duckdb-{line}" for line in ("1.4", "2")}
"""Lines of DuckDB beside the one that is locked, each in a folder of its own."""


def without_duckdb(line: str) -> str:
    """Why a line of DuckDB cannot be used; empty if it can, as the locked one always can."""
    folder = DUCKDB_LINES.get(line)
    is_there = folder is None or (folder / "duckdb").is_dir()
    return "" if is_there else f"DuckDB {line} is not in {folder}: make install-test"


def with_duckdb_2() -> dict[str, str]:
    """The environment in which Python finds DuckDB's next line."""
    # PYTHONPATH comes before what is installed.
    return {"PYTHONPATH": os.pathsep.join([str(DUCKDB_LINES["2"]), str(CHECKOUT)])}


def needs(missing: str) -> None:
    """If something is missing, fail in CI, which must test everything, and skip elsewhere."""
    if missing and os.environ.get("CI"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


def coupon_ledger(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would, without this shell's settings."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COUPON_LEDGER_", "DAGSTER_")) and name != "COLUMNS"
    }
    return subprocess.run(
        [sys.executable, "-m", "dagster_project.cli", *map(str, arguments)],
        cwd=CHECKOUT,
        env={**inherited, "PYTHONIOENCODING": "utf-8", **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=900,  # seconds: a build on Spark on a busy machine
    )


def in_process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, which has already made the imports of a new one.

    Its output goes through the same streams as for a user; they are files here.
    """
    given = ["coupon-ledger", *map(str, arguments)]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8") as err,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in (("argv", given), ("stdout", out), ("stderr", err)):
            patch.setattr(sys, name, value)
        patch.delenv("COLUMNS", raising=False)
        patch.setenv("PYTHONSAFEPATH", "1")  # main() sets it, and this process goes on
        for name in ("freeze", "set_threshold"):
            patch.setattr(gc, name, lambda *_: None)  # this process goes on
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        for stream in (out, err):
            stream.seek(0)
        return subprocess.CompletedProcess(given, code, out.read(), err.read())


ASKED: Mapping[str, tuple[str, ...]] = {
    "workspace": ("ws_00014",),
    "explain": ("in_00005_007",),
    "prove": ("in_00005_007", "--out", "proof"),
    "burndown": (),
    "variance": (),
    "findings": (),
    "expiring": (),
    "outlook": (),
    "programs": (),
    "bridge": (),
    "top": (),
    "cohorts": (),
    "export": ("--out", "exported"),
    "query": ("select * from marts.fct_discounted_charges order by all", "--csv"),
    "deliveries": (),
    "rejected": (),
    "releases": (),
    "verify": (),
    "diff": ("A", "B"),
    "closes": (),
}
"""The arguments of each reading command on the sample; `A` and `B` stand for ids of releases."""


def reading_commands(*without: str) -> list[tuple[str, ...]]:
    """Every reading command with its arguments, except some."""
    assert set(ASKED) == set(READING), "say above what a new reading command is asked"
    return [(name, *ASKED[name]) for name in READING if name not in without]


@dataclass(frozen=True)
class SampleRun:
    """A finished run on the sample."""

    home: Path
    result: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def sample_run(shared: Shared) -> SampleRun:
    """One real run of the whole pipeline on the committed sample, for all tests that read it.

    No test writes into its data home: the workers share it. `own_home` is a copy.
    """

    def make(folder: Path) -> None:
        ran = coupon_ledger("run", "--home", folder / "home")
        told = {"args": ran.args, "code": ran.returncode, "out": ran.stdout, "err": ran.stderr}
        (folder / "told.json").write_text(json.dumps(told), "utf-8")

    folder = shared.made("sample", make)
    told = json.loads((folder / "told.json").read_text("utf-8"))
    result = subprocess.CompletedProcess(told["args"], told["code"], told["out"], told["err"])
    return SampleRun(folder / "home", result)


LATER = {
    *("coupons-2025-01-03.csv", "redemptions-ended.csv", "redemptions-2025.csv"),
    *("workspaces-second-half.csv", "invoices-2025h2.parquet", "invoices-2025h2-yen.csv"),
    *("invoices-restated.csv", "invoices-again-2024-01-01.csv"),
}
"""Files of the sample that come on the second day: late, restated, voided, with other terms."""
CLOSED = date(2024, 1, 1)
"""The month that is closed on the first day."""


@dataclass(frozen=True)
class TwoDays:
    """The sample, delivered and refreshed on two days.

    Attributes:
        home: The data home, which no test changes.
        first: The release of the first day.
        contents: What that release held, as `crashes.contents` returns it.
        told: What the run of each day printed.
    """

    home: Path
    first: str
    contents: Mapping[tuple[str, str], tuple[int, str]]
    told: tuple[str, str]


@pytest.fixture(scope="session")
def two_days(shared: Shared) -> TwoDays:
    """Two real runs: on a part of the sample, after which a month is closed, and on all of it."""

    def make(folder: Path) -> None:
        from tests import crashes

        home, landing = folder / "home", folder / "landing"
        arguments = ("run", "--landing", landing, "--home", home, "--as-of")
        shutil.copytree(SAMPLE / "landing", landing, ignore=lambda _, names: LATER & {*names})
        first = in_process(*arguments, "2025-06-30")
        assert first.returncode == 0, first.stderr
        release_id, contents = current_release(home), crashes.contents(home)
        why = "the sample has errors in every month"
        now = datetime.now(UTC)
        close(home, CLOSED, by="Ada", now=now, with_open_findings=True, reason=why)
        shutil.copytree(SAMPLE / "landing", landing, dirs_exist_ok=True)
        second = in_process(*arguments, LAST_DAY.isoformat())
        assert second.returncode == 0, second.stderr
        made = (release_id, [*contents.items()], (first.stdout, second.stdout))
        (folder / "made.json").write_text(json.dumps(made), "utf-8")

    folder = shared.made("two-days", make)
    first, contents, told = json.loads((folder / "made.json").read_text("utf-8"))
    held = {(schema, name): (rows, found) for (schema, name), (rows, found) in contents}
    return TwoDays(folder / "home", first, held, tuple(told))


@pytest.fixture(scope="session")
def ahead_home(shared: Shared) -> Path:
    """A data home with the release of the workspaces invented in `ahead.py`, to be copied."""

    def make(folder: Path) -> None:
        from dagster_project.cli.run import refresh

        settings = Settings(home=folder / "home", landing=ahead.write(folder / "landing"))
        assert refresh(settings, ahead.AS_OF)

    return shared.made("ahead", make) / "home"


@pytest.fixture
def own_home(sample_run: SampleRun, tmp_path: Path) -> Path:
    """A copy of the sample's data home that may be changed."""
    assert sample_run.result.returncode == 0, sample_run.result.stderr
    return Path(shutil.copytree(sample_run.home, tmp_path / "home", symlinks=True))


def view_models() -> set[str]:
    """The models that are views: rows nobody has counted."""
    models = (CHECKOUT / "dbt" / "models").rglob("*.sql")
    return {path.stem for path in models if "materialized='view'" in path.read_text("utf-8")}


NOT_ON_SPARK = "The Spark half did not run"
_JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC"
QUICK_JAVA: Mapping[str, str] = {
    "spark.driver.extraJavaOptions": _JAVA_OPTIONS,
    "spark.executor.extraJavaOptions": _JAVA_OPTIONS,
}
"""Options for Java processes that end within a minute or two: only the quicker compiler runs. Its default code
cache of 48 MB would fill up during a build, and discarded code would have to be compiled again."""
QUICK_SPARK: Mapping[str, str] = {
    **QUICK_JAVA,
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
"""Settings for tables of a few thousand rows: little code is generated and compiled."""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Report at the very end, where nobody overlooks it, that nothing was tested on Spark."""
    told = {
        str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        for report in terminalreporter.getreports("skipped")
        if NOT_ON_SPARK in str(report.longrepr)
    }
    for text in sorted(told):
        terminalreporter.write_sep("=", NOT_ON_SPARK.upper(), red=True, bold=True)
        terminalreporter.write_line(text, red=True)
