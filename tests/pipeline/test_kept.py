"""A refresh carries on from the one before, and starts from nothing wherever that could be wrong."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from dagster_project.arrival.warehouse import create_tables, drop_tables, raw_rows
from dagster_project.product import SAMPLE
from dagster_project.refresh import as_left, carrying_on, standing
from dagster_project.refresh.dbt_build import RunningBuild, prepare, read_receipt
from dagster_project.refresh.standing import DataTests
from dagster_project.releases import candidate, open_release
from dagster_project.releases.files import log_of
from dagster_project.releases.fingerprint import sum_of_hashes
from dagster_project.settings import Settings
from tests.dbt import violations
from tests.pipeline.conftest import AS_OF, LAST_DAY, LATER, SampleRun, TwoDays, in_process

CODE = "1+code"


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """A warehouse with two deliveries, from which models were built."""
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        create_tables(connection, raw_rows(path))
        deliver(connection, 1, 3)
    carrying_on.leave(path, CODE, AS_OF)
    return path


def deliver(
    connection: duckdb.DuckDBPyConnection, *sequences: int, verdict: str = "loaded"
) -> None:
    for sequence in sequences:
        connection.execute(
            "insert into raw.deliveries (delivery_sequence, delivery_id, feed, verdict)"
            f" values ({sequence}, 'd{sequence}', 'none', '{verdict}')"
        )


class TestTheNote:
    """What a build may carry on from."""

    def test_the_same_day_with_nothing_new(self, warehouse: Path) -> None:
        assert carrying_on.take(warehouse, CODE, AS_OF) == carrying_on.Kept(3, AS_OF, 0)

    def test_a_later_day_with_more_deliveries(self, warehouse: Path) -> None:
        with duckdb.connect(str(warehouse)) as connection:
            deliver(connection, 4, 5)
        assert carrying_on.take(warehouse, CODE, AS_OF + timedelta(days=9)) == carrying_on.Kept(
            3, AS_OF, 0
        )

    def test_a_file_that_was_refused_between_is_none_that_was_loaded(self, warehouse: Path) -> None:
        with duckdb.connect(str(warehouse)) as connection:
            deliver(connection, 2, verdict="refused")
        assert carrying_on.take(warehouse, CODE, AS_OF) is not None

    def test_it_is_gone_until_a_build_has_passed(self, warehouse: Path) -> None:
        assert carrying_on.take(warehouse, CODE, AS_OF) is not None
        assert carrying_on.take(warehouse, CODE, AS_OF) is None
        carrying_on.leave(warehouse, CODE, AS_OF)
        assert carrying_on.take(warehouse, CODE, AS_OF) is not None

    def test_there_is_none_in_a_warehouse_that_was_never_built(self, tmp_path: Path) -> None:
        path = tmp_path / "warehouse.duckdb"
        with duckdb.connect(str(path)) as connection:
            create_tables(connection, raw_rows(path))
        assert carrying_on.take(path, CODE, AS_OF) is None

    def test_after_a_month_of_days_one_starts_from_nothing(self, warehouse: Path) -> None:
        carried = 0
        while (before := carrying_on.take(warehouse, CODE, AS_OF)) is not None:
            carried += 1
            carrying_on.leave(warehouse, CODE, AS_OF, before)
        assert carried == carrying_on.MOST_TIMES
        carrying_on.leave(warehouse, CODE, AS_OF)
        assert carrying_on.take(warehouse, CODE, AS_OF) is not None

    def test_an_earlier_day_starts_from_nothing(self, warehouse: Path) -> None:
        assert carrying_on.take(warehouse, CODE, AS_OF - timedelta(days=1)) is None

    def test_other_code_starts_from_nothing(self, warehouse: Path) -> None:
        assert carrying_on.take(warehouse, CODE + "x", AS_OF) is None

    def test_another_duckdb_starts_from_nothing(
        self, warehouse: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(duckdb, "__version__", "9.9.9")
        assert carrying_on.take(warehouse, CODE, AS_OF) is None

    @pytest.mark.parametrize(
        "change",
        [
            "delete from raw.deliveries where delivery_sequence = 1",
            "update raw.deliveries set delivery_id = 'other' where delivery_sequence = 1",
            "update raw.deliveries set verdict = 'refused' where delivery_sequence = 3",
            "update raw.deliveries set delivery_sequence = 2 where delivery_sequence = 3",
            "insert into raw.deliveries (delivery_sequence, delivery_id, feed, verdict)"
            " values (2, 'd2', 'none', 'loaded')",
        ],
    )
    def test_other_deliveries_before_the_last_start_from_nothing(
        self, warehouse: Path, change: str
    ) -> None:
        with duckdb.connect(str(warehouse)) as connection:
            connection.execute(change)
        assert carrying_on.take(warehouse, CODE, AS_OF) is None

    def test_rows_filled_anew_from_the_archive_start_from_nothing(self, warehouse: Path) -> None:
        with duckdb.connect(str(warehouse)) as connection:
            drop_tables(connection)
            create_tables(connection, raw_rows(warehouse))
            deliver(connection, 1, 3)
        assert carrying_on.take(warehouse, CODE, AS_OF) is None


def test_the_sample_in_two_days_is_the_sample_at_once(
    two_days: TwoDays, sample_run: SampleRun
) -> None:
    first, second = two_days.told
    assert "changed since" not in first
    assert "; what changed since 2025-06-30" in second, second
    assert " left as they were, " in second, "of feeds without deliveries in between"
    assert marts(two_days.home) == marts(sample_run.home)
    rows_are_known(Settings(home=two_days.home))


def rows_are_known(settings: Settings) -> None:
    """Assert that the recorded content of all tables that tests read is right, even if not read again."""
    tests = DataTests(prepare(settings).manifest)
    of_tables = {one: name for one, name in tests.relations.items() if one not in tests.feeds}
    with duckdb.connect(str(settings.warehouse), read_only=True) as connection:
        candidate.attach(connection, settings.candidate)
        [(text,)] = connection.execute("select checked from kept.build").fetchall()
        noted = standing.read(text)
        rows = standing.fingerprints(connection, of_tables, noted.columns, {})
        assert noted.rows == rows | standing.fingerprints_of_files(connection, tests.feeds)
    assert noted.columns.keys() == noted.results.keys() == tests.reads.keys()


def test_each_mart_is_published_as_the_data_tests_passed_over_it(sample_run: SampleRun) -> None:
    settings = Settings(home=sample_run.home)
    (results,) = (settings.build / "dbt").iterdir()
    tested = read_receipt(settings, results.name).tested
    with open_release(sample_run.home) as connection:
        published = {
            f"model.coupon_ledger.{name}": sum_of_hashes(connection, f"marts.{name}")
            for name in marts(sample_run.home)
        }
    assert len(published) > 15
    assert published == {name: tested[name] for name in published}


def test_rows_altered_by_hand_are_found_and_everything_is_built_from_nothing(
    own_home: Path, sample_run: SampleRun
) -> None:
    with duckdb.connect(str(own_home / "build" / "candidate.duckdb")) as connection:
        [(changed,)] = connection.execute(
            "update marts.dim_workspaces set workspace_name = workspace_name || '.'"
            " where workspace_id = 'ws_00014'"
        ).fetchall()
    assert changed == 1, "which no data test minds"
    done = in_process("run", "--always", "--home", own_home)
    assert done.returncode == 0, done.stderr
    assert (
        "everything was built from nothing: rows are not those that the build before left in"
        " dim_workspaces" in done.stdout
    )
    assert "left as they were" not in done.stdout and "ran before" not in done.stdout
    assert marts(own_home) == marts(sample_run.home)


@pytest.mark.parametrize(
    ("alteration", "altered"),
    [
        ("update marts.fct_discounted_charges set plan = plan || '.'", ("fct_discounted_charges",)),
        ("drop table marts.fct_discounted_charges", ("fct_discounted_charges",)),
        (
            "alter table marts.fct_discounted_charges drop column plan",
            ("fct_discounted_charges",),
        ),
        (  # it is built whole, from earlier rows of the months in which no bill has changed
            "update marts.fct_program_performance_monthly set active_workspaces = active_workspaces + 1",
            ("fct_program_performance_monthly",),
        ),
        ("update marts.dim_workspaces set workspace_name = '.'", ()),  # it is built whole
    ],
)
def test_what_a_later_day_keeps_is_found_if_it_was_altered_by_hand(
    own_home: Path, alteration: str, altered: tuple[str, ...]
) -> None:
    settings = Settings(home=own_home)
    with duckdb.connect(str(settings.candidate)) as connection:
        connection.execute(alteration)
    later = LAST_DAY + timedelta(days=1)
    build = RunningBuild(settings, prepare(settings), later, "later", datetime.now(UTC))
    build.carry_on()
    assert build.altered == altered
    assert (build.carried_on_from, bool(build.left_alone)) == (
        (None, False) if altered else (LAST_DAY, True)
    )


@pytest.mark.parametrize("file", ["warehouse", "candidate"])
def test_any_write_by_another_program_is_noticed(own_home: Path, file: str) -> None:
    settings = Settings(home=own_home)
    path: Path = getattr(settings, file)
    table = {"warehouse": "int_discounts_applied", "candidate": "fct_discounted_charges"}[file]
    assert as_left.are_as_left(settings)
    before = path.stat()
    with duckdb.connect(str(path)) as connection:
        schema = {"warehouse": "intermediate", "candidate": "marts"}[file]
        connection.execute(f"select count(*) from {schema}.{table}")
    assert as_left.are_as_left(settings), "reading is no writing"
    for change in (" || '.'", "[:-2]"):  # the second one restores the rows
        with duckdb.connect(str(path)) as connection:
            connection.execute(f"update {schema}.{table} set invoice_id = invoice_id{change}")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert not as_left.are_as_left(settings)


def test_a_log_beside_a_file_may_hold_another_write(own_home: Path) -> None:
    settings = Settings(home=own_home)
    log_of(settings.candidate).write_bytes(b"")
    assert not as_left.are_as_left(settings)


def test_what_the_product_writes_keeps_the_files_known_unless_it_fails(own_home: Path) -> None:
    settings = Settings(home=own_home)

    def write(path: Path) -> None:
        with duckdb.connect(str(path)) as connection:
            connection.execute("create or replace table written as select 1 as one")

    with as_left.kept_up(settings):
        write(settings.warehouse)
    assert as_left.are_as_left(settings)
    with as_left.kept_up(settings):
        write(settings.candidate)
    assert not as_left.are_as_left(settings), "the product writes to the warehouse only"
    as_left.note(settings)
    with pytest.raises(ZeroDivisionError), as_left.kept_up(settings):
        write(settings.warehouse)
        raise ZeroDivisionError
    assert not as_left.are_as_left(settings)
    with as_left.kept_up(settings):
        write(settings.warehouse)
    assert not as_left.are_as_left(settings)
    as_left.note(settings)
    with pytest.raises(ZeroDivisionError), as_left.forgotten_on_failure(settings):
        raise ZeroDivisionError
    assert not as_left.are_as_left(settings)


def test_of_files_that_are_as_they_were_left_no_kept_row_is_read(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=own_home)
    later = LAST_DAY + timedelta(days=1)
    build = RunningBuild(settings, prepare(settings), later, "later", datetime.now(UTC))
    monkeypatch.setattr(standing, "sums_of_hashes", lambda *_: pytest.fail("rows are read"))
    build.carry_on()
    assert build.carried_on_from == LAST_DAY and not build.altered


@pytest.mark.parametrize("what", ["gone", "cut", "random"])
def test_without_the_marts_built_last_everything_is_built_from_nothing(
    own_home: Path, what: str
) -> None:
    path = own_home / "build" / "candidate.duckdb"
    content = path.read_bytes()
    if what == "gone":
        path.unlink()
    elif what == "cut":
        path.write_bytes(content[:5000])
    else:
        path.write_bytes(os.urandom(len(content)))
    settings = Settings(home=own_home)
    build = RunningBuild(settings, prepare(settings), LAST_DAY, "again", datetime.now(UTC))
    build.carry_on()
    assert build.carried_on_from is None
    candidate.begin(path)
    assert candidate.can_be_read(path)


def test_a_log_of_another_file_beside_the_marts_does_no_harm(own_home: Path) -> None:
    path = own_home / "build" / "candidate.duckdb"
    path.with_name(path.name + ".wal").write_bytes(os.urandom(5000))
    settings = Settings(home=own_home)
    build = RunningBuild(settings, prepare(settings), LAST_DAY, "again", datetime.now(UTC))
    build.carry_on()
    assert (build.carried_on_from, build.altered) == (LAST_DAY, ())


def test_marts_are_built_in_the_order_of_their_key(sample_run: SampleRun) -> None:
    """A release of many rows is a copy of them."""
    with duckdb.connect(str(sample_run.home / "build" / "candidate.duckdb"), read_only=True) as one:
        tables = one.execute("select table_name from duckdb_tables()").fetchall()
        assert len(tables) > 15
        with open_release(sample_run.home) as release:
            for (name,) in tables:
                told = f"from marts.{name}"
                assert one.execute(told).fetchall() == release.execute(told).fetchall(), name


def test_on_a_later_day_a_violation_is_found_and_tests_of_other_columns_stand(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=own_home)
    later = LAST_DAY + timedelta(days=20)  # an honoured redemption ends before then
    build = RunningBuild(settings, prepare(settings), later, "later", datetime.now(UTC))
    forget_rows = RunningBuild._forget_rows
    planted = "assert_no_credit_outside_window"

    def plant(build: RunningBuild) -> None:
        with duckdb.connect(str(settings.candidate)) as connection:
            for statement in violations.SINGULAR[planted]:  # in dim_coupon_redemptions
                connection.execute(statement)
        forget_rows(build)

    monkeypatch.setattr(RunningBuild, "_forget_rows", plant)
    for _ in build.events():
        pass
    outcome = build.outcome()
    assert not outcome.is_success
    ended = {one.split(".")[2]: status for one, status in outcome.build.statuses.items()}
    assert ended[planted] == "fail"
    stand = {one.split(".")[2] for one in build.standing}
    assert "assert_coupon_honoured_once_per_workspace" in stand - ended.keys()


def marts(home: Path) -> dict[str, tuple[int, str]]:
    """Rows and fingerprint of every mart that does not depend on what was published before."""
    with open_release(home) as connection:
        return {
            name: (rows, fingerprint)
            for name, rows, fingerprint in connection.execute(
                "select table_name, row_count, fingerprint from release.tables"
                " where table_schema = 'marts' and table_name <> 'fct_restatements'"
            ).fetchall()
        }


def test_the_days_are_those_of_the_sample() -> None:
    assert date(2025, 6, 30) < LAST_DAY
    names = {path.name for path in (SAMPLE / "landing").rglob("*") if path.is_file()}
    assert names >= LATER


def test_after_a_damaged_block_was_met_everything_is_built_from_nothing(
    own_home: Path, sample_run: SampleRun
) -> None:
    settings = Settings(home=own_home)
    with duckdb.connect(str(settings.candidate), read_only=True) as connection:
        [(block, start)] = connection.execute(
            "select block_id, block_offset from pragma_storage_info('marts.fct_discounted_charges')"
            " where column_name = 'net_amount' and segment_type <> 'VALIDITY'"
        ).fetchall()
    with settings.candidate.open("r+b") as file:
        file.seek(12_288 + block * 262_144 + 8 + start)
        file.write(b"\xff" * 64)
    later = (LAST_DAY + timedelta(days=1)).isoformat()
    assert as_left.are_as_left(settings), "which only reading the block tells"
    failed = in_process("run", "--home", own_home, "--as-of", later)
    assert failed.returncode != 0
    assert "damaged on the disk. Run again" in " ".join(failed.stderr.split())
    assert not as_left.are_as_left(settings)
    with duckdb.connect(str(settings.warehouse)) as connection:
        connection.execute("create schema marts; create table marts.of_an_earlier_version (i int)")
    done = in_process("run", "--home", own_home, "--as-of", LAST_DAY.isoformat(), "--always")
    assert done.returncode == 0, done.stderr
    assert marts(own_home) == marts(sample_run.home)
    with duckdb.connect(str(settings.warehouse)) as connection:
        schemas = connection.execute(
            "select schema_name from duckdb_schemas() where database_name = current_database()"
        ).fetchall()
    assert ("intermediate",) in schemas and ("marts",) not in schemas
