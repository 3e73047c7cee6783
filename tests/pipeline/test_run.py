"""The whole way, as a user goes it: the command line, the Dagster job, real dbt, the sample."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import duckdb
import pytest

from dagster_project import releases
from dagster_project.cli import run
from dagster_project.definitions import load
from dagster_project.defs.automation import run_config
from dagster_project.feeds import feeds
from dagster_project.refresh import dbt_build
from dagster_project.releases import files, gate
from dagster_project.settings import CHECKOUT, SAMPLE_LANDING, Settings
from tests.pipeline.conftest import LAST_DAY, SampleRun, in_process


def told(answer: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What a command answered in JSON."""
    assert (answer.returncode, answer.stderr) == (0, "")
    found = json.loads(answer.stdout)
    assert isinstance(found, dict)
    return found


class TestRunOnTheSample:
    """`coupon-ledger run` publishes a release and says what is in it."""

    def test_it_ends_well(self, sample_run: SampleRun) -> None:
        assert sample_run.result.returncode == 0, sample_run.result.stderr
        assert sample_run.result.stderr == ""

    def test_current_is_the_release_as_of_the_samples_last_day(self, sample_run: SampleRun) -> None:
        assert (sample_run.home / "current").is_symlink()
        with duckdb.connect(str(sample_run.home / "current"), read_only=True) as connection:
            assert connection.execute("select as_of_date from release.release").fetchone() == (
                LAST_DAY,
            )
            schemas = connection.execute(
                "select distinct schema_name from duckdb_tables() order by all"
            ).fetchall()
        assert schemas == [("marts",), ("release",)]

    def test_every_mart_of_the_project_is_in_it(self, sample_run: SampleRun) -> None:
        manifest = dbt_build.prepare(Settings(home=sample_run.home)).manifest
        promised = {
            node["name"]
            for node in manifest["nodes"].values()
            if node["resource_type"] == "model" and node["schema"] == "marts"
        }
        with releases.open_release(sample_run.home) as connection:
            found = connection.execute(
                "select table_name from release.tables where table_schema = 'marts'"
            ).fetchall()
        assert {name for (name,) in found} == promised | {"fct_restatements"}
        assert "fct_discounted_charges" in promised

    def test_no_personal_data_is_published(self, sample_run: SampleRun) -> None:
        personal = {
            column.name for feed in feeds().values() for column in feed.columns if column.personal
        }
        with releases.open_release(sample_run.home) as connection:
            names = connection.execute("select column_name from duckdb_columns()").fetchall()
            records = connection.execute("select record from release.rejected_rows").fetchall()
        assert personal
        assert not personal & {name for (name,) in names}
        assert records
        assert not any(name in record for (record,) in records for name in personal)

    def test_each_step_shows_its_seconds_and_counts(self, sample_run: SampleRun) -> None:
        steps = re.findall(r"^  (\w+) +\d+\.\d s  (.+)$", sample_run.result.stdout, re.MULTILINE)
        assert [step for step, _ in steps] == ["prepare", "arrival", "dbt_build", "release"]
        assert all(re.search(r"\d", outcome) for _, outcome in steps[1:])

    def test_the_summary_answers_what_an_analyst_asks_first(self, sample_run: SampleRun) -> None:
        shown = sample_run.result.stdout
        release_id = releases.current_release(sample_run.home)
        for wanted in (
            f"Release {release_id}, as of {LAST_DAY}, is current",
            str(sample_run.home / "current"),
            "Rows in",
            "rejected",
            "Given so far",
            "startup      USD",
            "Credit left",
            f"will lapse by {LAST_DAY + timedelta(days=90)}",
            "Findings",
            "Checks:",
            "assert_source_redeems_once_per_user",
            "Seconds: prepare",
        ):
            assert wanted in shown

    def test_the_summary_fits_80_columns(self, sample_run: SampleRun) -> None:
        lines = sample_run.result.stdout.splitlines()
        wide = [line for line in lines if len(line) > 80 and str(sample_run.home) not in line]
        assert wide == []

    def test_the_summary_says_what_the_release_says(self, sample_run: SampleRun) -> None:
        with releases.open_release(sample_run.home) as connection:
            row = connection.execute(
                "select sum(rejected_rows), sum(physical_rows) from release.deliveries"
                " where feed = 'invoices' and verdict = 'loaded'"
            ).fetchone()
            (drawn,) = connection.execute(
                "select -sum(amount) from marts.fct_credit_ledger inner join marts.dim_coupons"
                " using (coupon_id) where entry_type = 'draw' and program = 'startup'"
            ).fetchall()[0]
        assert row is not None
        (line,) = re.findall(r"^  invoices +.*$", sample_run.result.stdout, re.MULTILINE)
        assert (line.split()[-1], line.split()[2]) == (f"{row[0]:,}", f"{row[1]:,}")
        assert f"{drawn:,}" in sample_run.result.stdout

    def test_the_noise_is_in_a_log_file(self, sample_run: SampleRun) -> None:
        (log,) = (sample_run.home / "logs").glob("*.log")
        assert "dbt_build: " in log.read_text("utf-8")

    def test_rows_lie_in_key_order_in_the_release_and_its_parquet_copy(
        self, sample_run: SampleRun
    ) -> None:
        release_id = str(releases.current_release(sample_run.home))
        folder = files.parquet_dir(sample_run.home, release_id)
        with duckdb.connect(str(sample_run.home / "current"), read_only=True) as connection:
            tables = connection.execute(
                "select table_schema, table_name, primary_key from release.tables"
            ).fetchall()
            for schema, name, key in tables:
                relations = [f"{schema}.{name}"]
                if schema == "marts":
                    relations.append(f"'{folder / name}.parquet'")
                order = ", ".join(f"{column} nulls last" for column in key.split(", "))
                for relation in relations:
                    rows = connection.execute(f"select {key} from {relation}").fetchall()
                    wanted = f"select {key} from {relation} order by {order}"
                    assert rows == connection.execute(wanted).fetchall(), relation
        assert len([name for schema, name, _ in tables if schema == "marts"]) == 18
        assert {name for schema, name, _ in tables if schema == "release"} == {
            "deliveries",
            "rejected_rows",
            "superseded_rows",
            "invoices_not_counted",
            "coupon_versions",
        }

    def test_every_mart_and_column_is_described_in_the_release(self, sample_run: SampleRun) -> None:
        with duckdb.connect(str(sample_run.home / "current"), read_only=True) as connection:
            nameless = connection.execute(
                "select table_name, null from duckdb_tables() where not internal and comment is"
                " null union all"
                " select table_name, column_name from duckdb_columns() where not internal and comment"
                " is null"
            ).fetchall()
        assert nameless == []

    def test_the_release_is_sound(self, sample_run: SampleRun) -> None:
        assert releases.verify(sample_run.home).problems == ()


class TestNotes:
    """What a person should know about the as-of date of a release."""

    HOME = Path("/srv/home")
    BEFORE = ("20260401T050000Z-0123abcd", date(2026, 3, 31))

    def test_an_earlier_day_than_that_of_the_release_before(self) -> None:
        (note,) = run.notes(self.HOME, date(2026, 3, 30), self.BEFORE, date(2026, 4, 1))
        assert "as of 2026-03-30, the previous one as of 2026-03-31" in note
        assert "`coupon-ledger restore 20260401T050000Z-0123abcd --home " in note

    def test_a_day_that_is_not_over(self) -> None:
        (note,) = run.notes(self.HOME, date(2026, 4, 2), self.BEFORE, date(2026, 4, 1))
        assert "2026-04-02 is not over yet; today is 2026-04-01 (UTC)" in note

    def test_today_is_the_day_of_the_reporting_time_zone(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The zone's date differs from that in UTC, and will for some time."""
        zone = "Etc/GMT-14" if datetime.now(UTC).hour >= 11 else "Etc/GMT+12"
        monkeypatch.setenv("COUPON_LEDGER_REPORTING_TIME_ZONE", zone)
        days: list[date] = []

        def refresh(_: object, day: date, *, always: bool) -> bool:
            days.append(day)
            return not always

        monkeypatch.setattr(run, "refresh", refresh)
        (tmp_path / "landing").mkdir()
        where = ("--landing", tmp_path / "landing", "--home", tmp_path / "home")
        assert in_process("run", *where).returncode == 0
        assert days == [datetime.now(ZoneInfo(zone)).date()]
        assert days != [datetime.now(UTC).date()]

    @pytest.mark.parametrize("before", [None, BEFORE])
    def test_any_other_day_is_as_it_should_be(self, before: tuple[str, date] | None) -> None:
        for day in (date(2026, 3, 31), date(2026, 4, 1)):
            assert run.notes(self.HOME, day, before, date(2026, 4, 1)) == []


class TestReadingCommands:
    """Every command answers from the release."""

    def test_deliveries_lists_every_file(self, sample_run: SampleRun) -> None:
        shown = in_process("deliveries", "--home", sample_run.home)
        deliveries = [path for path in SAMPLE_LANDING.rglob("*") if path.is_file()]
        assert shown.returncode == 0
        listed = [line for line in shown.stdout.splitlines() if re.match(r"\d{4}-\d\d-\d\d ", line)]
        assert len(listed) == len(deliveries)
        assert max(map(len, shown.stdout.splitlines())) <= 80

    def test_rejected_tells_row_and_reasons_and_writes_csv(
        self, sample_run: SampleRun, tmp_path: Path
    ) -> None:
        shown = in_process("rejected", "--home", sample_run.home, "--feed", "invoices")
        assert re.search(r"^invoices/.+, row \d+$", shown.stdout, re.MULTILINE)
        file = tmp_path / "rejected.csv"
        written = in_process("rejected", "--home", sample_run.home, "--csv", file)
        with file.open(encoding="utf-8", newline="") as lines:
            records = list(csv.DictReader(lines))
        assert written.stdout.startswith(f"{len(records):,} rejected rows")
        assert all(record["reasons"] for record in records)

    def test_query_answers_as_table_and_as_csv(self, sample_run: SampleRun) -> None:
        sql = "select currency, count(*) as invoices from marts.fct_discounted_charges group by all"
        table = in_process("query", sql, "--home", sample_run.home)
        plain = in_process("query", sql, "--csv", "--home", sample_run.home)
        assert table.stdout.splitlines()[0].split() == ["currency", "invoices"]
        assert plain.stdout.splitlines()[0] == "currency,invoices"

    def test_deliveries_and_rejected_rows_for_machines(self, sample_run: SampleRun) -> None:
        home = ("--home", sample_run.home)
        with releases.open_release(sample_run.home) as connection:
            counted = connection.execute("select count(*) from release.deliveries").fetchone()
            rows = connection.execute(
                "select count(*) from release.rejected_rows where feed = 'invoices'"
            ).fetchone()
        data = told(in_process("deliveries", "--json", *home))
        assert data["release_id"] == releases.current_release(sample_run.home)
        assert data["as_of_date"] == LAST_DAY.isoformat()
        assert (len(data["deliveries"]),) == counted
        assert data["deliveries"][0]["arrived_at"].endswith("Z")
        data = told(in_process("rejected", "--feed", "invoices", "--json", *home))
        assert (data["total"],) == (len(data["rejected_rows"]),) == rows
        assert all(row["reasons"] for row in data["rejected_rows"])

    def test_releases_verify_and_diff_for_machines(self, sample_run: SampleRun) -> None:
        home = ("--home", sample_run.home)
        release_id = str(releases.current_release(sample_run.home))
        data = told(in_process("releases", "--json", *home))
        (kept,) = data["releases"]
        assert (kept["release_id"], kept["is_current"], kept["problem"]) == (release_id, True, None)
        with releases.open_release(sample_run.home) as connection:
            totals = connection.execute(
                "select currency, sum(net_amount)::varchar from marts.fct_discounted_charges"
                " group by currency order by currency"
            ).fetchall()
        assert totals == [
            (one["currency"], one["net_amount"]) for one in kept["totals_by_currency"]
        ]
        assert data["events"][0]["event"] == "published"
        assert told(in_process("verify", "--json", *home))["is_sound"] is True
        both = (release_id, release_id, "--table", "dim_coupons")
        data = told(in_process("diff", *both, "--json", *home))
        assert data["is_equal"] is True
        assert data["before"] == {"release_id": release_id, "as_of_date": LAST_DAY.isoformat()}
        assert (data["tables"][0]["table_name"], data["cells"]) == ("dim_coupons", [])

    def test_query_for_machines(self, sample_run: SampleRun) -> None:
        sql = (
            "select 2023 as n, 1200.50::decimal(18, 2) as amount, 'nan'::double as n,"
            " [date '2026-01-31'] as days, {'at': timestamp '2026-01-31 10:00:00'} as x, null as y,"
            " 'a'::blob as b, interval 1 day as i"
        )
        data = told(in_process("query", sql, "--json", "--home", sample_run.home))
        assert data["rows"] == [
            {
                "n": 2023,
                "amount": "1200.50",
                "n:3": "nan",
                "days": ["2026-01-31"],
                "x": {"at": "2026-01-31T10:00:00Z"},
                "y": None,
                "b": "61",
                "i": "1 day, 0:00:00",
            }
        ]

    @pytest.mark.parametrize(
        "arguments",
        [
            ("query", "select 1", "--csv"),
            ("rejected", "--csv", "rows.csv"),
            ("deliveries", "--page", "page.html"),
        ],
    )
    def test_json_and_another_form_at_once_are_refused(
        self, sample_run: SampleRun, arguments: tuple[str, ...]
    ) -> None:
        shown = in_process(*arguments, "--json", "--home", sample_run.home)
        assert (shown.returncode, shown.stdout) == (2, "")
        assert "--json, not both" in shown.stderr

    def test_query_prints_whole_numbers_as_they_are_and_amounts_with_separators(
        self, sample_run: SampleRun
    ) -> None:
        sql = "select 2023 as of_year, 1234567.50::decimal(18, 2) as amount"
        shown = in_process("query", sql, "--home", sample_run.home)
        assert shown.stdout.splitlines()[1].split() == ["2023", "1,234,567.50"]

    @pytest.mark.parametrize(
        ("sql", "said"),
        [
            ("", "Give exactly one SELECT statement; this contains none."),
            (" ; ", "Give exactly one SELECT statement; this contains none."),
            ("/* nothing */", "Give exactly one SELECT statement; this contains none."),
            (
                "select 1; select 2",
                "Give exactly one SELECT statement; this contains 2 statements.",
            ),
        ],
    )
    def test_query_takes_one_statement(self, sample_run: SampleRun, sql: str, said: str) -> None:
        shown = in_process("query", sql, "--home", sample_run.home)
        assert (shown.returncode, shown.stdout, shown.stderr) == (2, "", f"{said}\n")

    @pytest.mark.parametrize("is_closed", [False, True], ids=["full", "closed"])
    @pytest.mark.parametrize("is_unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
    @pytest.mark.parametrize("arguments", [("query", "select 1"), ("burndown",)])
    def test_an_output_that_takes_nothing_is_told(
        self, sample_run: SampleRun, arguments: tuple[str, ...], is_closed: bool, is_unbuffered: str
    ) -> None:
        command = [sys.executable, "-m", "dagster_project.cli", *arguments]
        output = ">&-" if is_closed else "> /dev/full"
        shown = subprocess.run(
            ["/bin/sh", "-c", f'"$@" {output}', "sh", *command, "--home", str(sample_run.home)],
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONUNBUFFERED": is_unbuffered},
            capture_output=True,
            text=True,
            check=False,
        )
        assert shown.returncode == 1
        said = (
            "Standard output is closed" if is_closed else "The output cannot be written: No space"
        )
        assert shown.stderr.startswith(said)
        assert len(shown.stderr.splitlines()) == 1

    def test_a_sample_that_cannot_be_written_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        shown = in_process("sample", "--out", tmp_path / "file" / "x", "--workspaces", "5")
        assert shown.returncode == 2
        assert f"{tmp_path / 'file' / 'x'} cannot be written: Not a directory" in shown.stderr
        assert "--out" in shown.stderr

    def test_query_can_only_read(self, sample_run: SampleRun) -> None:
        for sql in ("delete from marts.dim_coupons", "from read_csv('/etc/passwd')"):
            assert in_process("query", sql, "--home", sample_run.home).returncode == 2

    def test_releases_verify_diff_and_prune_answer(self, sample_run: SampleRun) -> None:
        release_id = str(releases.current_release(sample_run.home))
        home = ("--home", sample_run.home)
        assert f"* {release_id}" in in_process("releases", *home).stdout
        assert "is sound" in in_process("verify", *home).stdout
        assert "are equal" in in_process("diff", release_id, release_id, *home).stdout
        assert "There is nothing to remove" in in_process("prune", "--keep", "3", *home).stdout

    def test_what_is_not_there_is_exit_code_2(self, sample_run: SampleRun, tmp_path: Path) -> None:
        home = ("--home", sample_run.home)
        for arguments, said in (
            (("verify", "20200101T000000Z-00000000", *home), "There is no release"),
            (("rejected", "--feed", "invoice", *home), "There is no feed"),
            (("rejected", "--delivery", "none.csv", *home), "There is no delivery 'none.csv'"),
            (("deliveries", "--home", tmp_path), "No release has been published"),
            (("run", "--landing", tmp_path / "none", *home), "There is no landing folder"),
            (("run", "--as-of", "31.12.2025", *home), "YYYY-MM-DD"),
            (("run", "--home", SAMPLE_LANDING / "home"), "only read"),
            (("prune", "--keep", "0", *home), "--keep"),
            (("nonsense",), "nonsense"),
        ):
            shown = in_process(*arguments)
            assert shown.returncode == 2, arguments
            assert said in shown.stderr

    def test_help_imports_nothing_heavy(self) -> None:
        code = (
            "import sys, dagster_project.cli;"
            "print({'dagster', 'dbt', 'duckdb', 'pandas', 'pydantic', 'rich'} & set(sys.modules))"
        )
        shown = subprocess.run(
            [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
        )
        assert shown.stdout.strip() == "set()"
        assert in_process("--help").returncode == 0


class TestFailure:
    """What fails says what, what it means for readers, and what to do."""

    @pytest.fixture
    def served(self, own_home: Path) -> Path:
        """A data home of its own with the sample's release."""
        return own_home

    def test_a_failing_data_test_and_an_erroring_model_are_named_and_the_old_release_stays(
        self,
        served: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        project = tmp_path / "dbt"
        shutil.copytree(CHECKOUT / "dbt", project, ignore=shutil.ignore_patterns("target"))
        (project / "tests" / "singular" / "assert_there_are_no_coupons.sql").write_text(
            "select coupon_id from {{ ref('dim_coupons') }}", "utf-8"
        )
        (project / "models" / "intermediate" / "int_errors_made.sql").write_text(
            "select cast(coupon_id as integer) as n from {{ ref('stg_billing__coupons') }}", "utf-8"
        )
        monkeypatch.setattr(dbt_build, "DBT_PROJECT", project)
        before = releases.current_release(served)
        assert not run.refresh(Settings(home=served), LAST_DAY)
        said = " ".join(capsys.readouterr().err.split())
        assert "tests/singular/assert_there_are_no_coupons.sql" in said
        assert re.search(r"\d+ rows do not hold", said)
        assert "model int_errors_made: " in said and "Could not convert string" in said
        assert "models/intermediate/int_errors_made.sql" in said
        assert f"the release of {LAST_DAY} ({before}) is still current" in said
        assert "What to do:" in said
        assert releases.current_release(served) == before
        assert releases.release_ids(served) == [before]

    def test_causes_come_before_what_was_skipped_because_of_them(self) -> None:
        skipped = [releases.Problem("test", f"t{n}", "skipped", "", "t.sql") for n in range(30)]
        cause = releases.Problem("model", "m", "error", "Catalog Error: no such table", "m.sql")
        assert gate.in_words([*skipped, cause]) == [
            "model m: Catalog Error: no such table (m.sql)",
            "30 models and tests after them were skipped",
        ]

    def test_a_landing_folder_without_deliveries_publishes_no_empty_release(
        self, tmp_path: Path
    ) -> None:
        home, landing = tmp_path / "home", tmp_path / "landing"
        (landing / "invoices").mkdir(parents=True)
        result = in_process("run", "--home", home, "--landing", landing)
        assert result.returncode == 1
        told = " ".join(result.stderr.split())
        assert (
            f"invoices/, credit_notes/ or budgets/ of {landing}, and none was ever delivered"
            in told
        )
        assert "What to do: Name the folder that has them with --landing" in told
        assert releases.release_ids(home) == []

    def test_an_earlier_day_is_noted_and_ends_well(
        self, served: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = releases.current_release(served)
        assert run.refresh(Settings(home=served), LAST_DAY - timedelta(days=31))
        last = " ".join(capsys.readouterr().out.split("\n\n")[-1].split())
        assert last.startswith("Note: this release is as of")
        assert f"`coupon-ledger restore {before} --home" in last

    def test_too_little_memory_is_told_with_the_settings_that_help(
        self, served: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = os.readlink(served / "current")
        monkeypatch.setenv("COUPON_LEDGER_MEMORY_LIMIT", "30MB")
        earlier = (LAST_DAY - timedelta(days=1)).isoformat()  # so everything is built from nothing
        result = in_process("run", "--home", served, "--as-of", earlier)
        assert result.returncode == 1
        assert "Out of Memory Error" in result.stderr
        assert "Possible solutions" not in result.stderr  # DuckDB's, for people who write SQL
        told = " ".join(result.stderr.split())
        assert "What to do: Let DuckDB use more memory (COUPON_LEDGER_MEMORY_LIMIT" in told
        assert os.readlink(served / "current") == before

    def test_a_run_while_another_runs_is_told_so(self, served: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from dagster_project.releases import one_writer\n"
            "with one_writer(Path(sys.argv[1]), 'the first'): print('held', flush=True);"
            " sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(served)],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as holder:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            second = in_process("run", "--home", served)
        assert second.returncode == 1
        assert f"process {holder.pid}" in second.stderr
        assert "is still current" in " ".join(second.stderr.split())

    def test_a_release_step_without_a_build_of_its_own_run_refuses(self, served: Path) -> None:
        settings = Settings(home=served)
        job = dg.define_asset_job("only_release", selection=dg.AssetSelection.assets("release"))
        definitions = dg.Definitions.merge(
            load(settings, dbt_build.prepare(settings)), dg.Definitions(jobs=[job])
        )
        with dg.DagsterInstance.ephemeral() as instance, pytest.raises(releases.PublishRefused):
            definitions.resolve_job_def("only_release").execute_in_process(
                run_config=run_config(settings, LAST_DAY), instance=instance
            )

    def test_asking_for_one_table_builds_all_and_shows_all_as_built(self, served: Path) -> None:
        settings = Settings(home=served)
        one = dg.AssetSelection.assets(["marts", "dim_coupons"])
        definitions = dg.Definitions.merge(
            load(settings, dbt_build.prepare(settings)),
            dg.Definitions(jobs=[dg.define_asset_job("only_one", selection=one)]),
        )
        with dg.DagsterInstance.ephemeral() as instance:
            job = definitions.resolve_job_def("only_one")
            config = run_config(settings, LAST_DAY)
            assert job.execute_in_process(run_config=config, instance=instance).success
            for name in ("dim_coupons", "fct_discounted_charges"):
                built = instance.get_latest_materialization_event(dg.AssetKey(["marts", name]))
                assert built is not None
                assert built.asset_materialization is not None
                assert built.asset_materialization.metadata["dagster/row_count"].value
            check = dg.AssetCheckKey(
                dg.AssetKey(["marts", "dim_coupons"]), "primary_key_dim_coupons_coupon_id"
            )
            storage = instance.event_log_storage
            [record] = storage.get_asset_check_execution_history(check, limit=1)
            assert record.event is not None and record.event.dagster_event is not None
            found = record.event.dagster_event.asset_check_evaluation_data
            assert found.passed
            assert "ran_in_refresh_of" in found.metadata, "of the same rows, in an earlier refresh"
            file = max((served / "build" / "raw").rglob("*.parquet"))
            file.write_bytes(file.read_bytes() + b"PAR1")
            with pytest.raises(releases.ReleaseError, match="is not the file that was stored"):
                job.execute_in_process(run_config=config, instance=instance)


class TestPreparedProject:
    """The dbt project is parsed when it has changed, and only then."""

    @pytest.fixture(autouse=True)
    def _small_project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "dbt" / "models").mkdir(parents=True)
        for name in ("dbt_project.yml", "profiles.yml"):
            shutil.copy(CHECKOUT / "dbt" / name, tmp_path / "dbt" / name)
        (tmp_path / "dbt" / "models" / "one.sql").write_text("select 1 as one", "utf-8")
        monkeypatch.setattr(dbt_build, "DBT_PROJECT", tmp_path / "dbt")

    def test_a_changed_file_is_parsed_again(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path / "home")
        first = dbt_build.prepare(settings)
        assert "model.coupon_ledger.one" in first.manifest["nodes"]
        parsed_at = (first.folder / "manifest.json").stat().st_mtime_ns
        same = dbt_build.prepare(settings)
        assert (same.folder / "manifest.json").stat().st_mtime_ns == parsed_at
        (tmp_path / "dbt" / "models" / "two.sql").write_text("select 2 as two", "utf-8")
        second = dbt_build.prepare(settings)
        assert second.code_version != first.code_version
        assert "model.coupon_ledger.two" in second.manifest["nodes"]

    def test_a_project_that_cannot_be_parsed_says_why(self, tmp_path: Path) -> None:
        (tmp_path / "dbt" / "models" / "one.sql").write_text("select {{ ref('none') }}", "utf-8")
        with pytest.raises(dbt_build.DbtFailed, match="none"):
            dbt_build.prepare(Settings(home=tmp_path / "home"))


def test_a_ledger_in_which_nothing_was_given_says_so() -> None:
    assert run._given({"given": []}) == ["Given so far: nothing"]
