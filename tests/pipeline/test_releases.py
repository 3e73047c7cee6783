"""Releases: what is published is checked, whole and durable, and what was served stays served."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from dagster_project import releases
from dagster_project.cli import app
from dagster_project.defs.release import outcome
from dagster_project.releases import files, fingerprint, publishing, reuse, writing
from dagster_project.releases.files import FILE_MODE
from dagster_project.releases.fingerprint import (
    MODULUS,
    Column,
    content_hash_of,
    content_of,
    row_hash,
)
from dagster_project.releases.gate import Build, Problem, Result, in_words, judge
from dagster_project.settings import CHECKOUT
from tests.pipeline.conftest import AS_OF, NOW, HandMade


def rows(home: Path, sql: str, release_id: str | None = None) -> list[tuple[Any, ...]]:
    """Query a release."""
    with releases.open_release(home, release_id) as connection:
        return connection.execute(sql).fetchall()


def _packed(_: duckdb.DuckDBPyConnection, folder: Path) -> dict[str, str]:
    (folder / "bills.txt").write_text("2", "utf-8")
    return {}


class TestPublication:
    """A build that passed becomes a release."""

    def test_current_is_a_relative_link_to_a_read_only_file(self, hand_made: HandMade) -> None:
        published = hand_made.publish()
        target = os.readlink(hand_made.home / "current")
        assert target == f"releases/{published.release_id}/coupon_ledger.duckdb"
        assert stat.S_IMODE(published.path.stat().st_mode) == FILE_MODE
        assert not list(hand_made.home.rglob("*.wal"))
        assert not list(hand_made.home.rglob("*.tmp"))

    def test_the_file_has_a_storage_version_that_older_readers_open(
        self, hand_made: HandMade
    ) -> None:
        published = hand_made.publish()
        with duckdb.connect() as connection:
            connection.execute(f"attach '{published.path}' as written (read_only)")
            row = connection.execute(
                "select tags['storage_version'] from duckdb_databases()"
                " where database_name = 'written'"
            ).fetchone()
        assert row is not None and str(row[0]).startswith("v1.4.0")

    def test_rows_lie_in_key_order(self, home: Path) -> None:
        charges = [(f"in_{number:03}", "USD", "1.00") for number in (7, 3, 9, 1)]
        HandMade(home, charges).write().publish()
        found = rows(home, "select invoice_id from marts.fct_discounted_charges")
        assert [row[0] for row in found] == ["in_001", "in_003", "in_007", "in_009"]

    def test_descriptions_are_comments(self, hand_made: HandMade) -> None:
        """Those of amounts and instants also say what readers get wrong."""
        hand_made.publish()
        assert rows(
            hand_made.home,
            "select comment from duckdb_tables() where table_name = 'fct_discounted_charges'",
        ) == [("One row per counted invoice's charge.",)]
        columns = (
            "select comment from duckdb_columns() where table_name = 'fct_discounted_charges'"
            " and column_name in ('invoice_id', 'list_amount', 'issued_at') order by column_index"
        )
        assert rows(hand_made.home, columns) == [
            ("Identifies the invoice.",),
            ("In UTC.",),
            ("It's the price. Per currency: never add amounts of different currencies.",),
        ]

    def test_the_parquet_copy_says_what_it_is(self, hand_made: HandMade) -> None:
        published = hand_made.publish()
        folder = files.parquet_dir(hand_made.home, published.release_id)
        metadata = pq.read_metadata(folder / "fct_discounted_charges.parquet").metadata
        about = json.loads((folder / files.ABOUT_NAME).read_text("utf-8"))
        assert about["release_id"] == published.release_id
        assert about["as_of_date"] == AS_OF.isoformat()
        assert metadata[b"table_comment"].decode() == "One row per counted invoice's charge."
        in_parquet = json.loads(metadata[b"column_comments"])
        assert in_parquet["list_amount"].startswith("It's the price. Per currency")
        assert (
            dict(
                rows(
                    hand_made.home,
                    "select column_name, comment from duckdb_columns() where comment is not null"
                    " and table_name = 'fct_discounted_charges'",
                )
            )
            == in_parquet
        )

    def test_every_table_and_column_of_the_pedigree_is_described(self, hand_made: HandMade) -> None:
        hand_made.publish()
        assert (
            rows(
                hand_made.home,
                "select table_name, column_name from duckdb_columns() where schema_name = 'release'"
                " and comment is null",
            )
            == []
        )
        assert (
            rows(
                hand_made.home,
                "select table_name from duckdb_tables() where schema_name = 'release'"
                " and comment is null",
            )
            == []
        )

    def test_it_says_what_it_is(self, hand_made: HandMade) -> None:
        published = hand_made.publish()
        assert rows(
            hand_made.home,
            "select release_id, as_of_date, created_at, code_version, engine from release.release",
        ) == [(published.release_id, AS_OF, NOW.replace(tzinfo=None), "1+code", "duckdb")]
        assert rows(
            hand_made.home, "select feed, physical_rows, rejected_rows from release.deliveries"
        ) == [("invoices", 3, 1)]
        assert rows(hand_made.home, "select row_number, reasons from release.rejected_rows") == [
            (3, "list_amount is missing")
        ]
        assert rows(
            hand_made.home, "select name, severity, failures from release.checks order by name"
        ) == [("assert_adds_up", "error", 0), ("assert_source_is_right", "warn", 0)]
        assert rows(
            hand_made.home, "select table_schema, table_name, row_count from release.tables"
        ) == [
            ("marts", "dim_coupons", 1),
            ("marts", "fct_discounted_charges", 2),
            ("marts", "fct_restatements", 0),
            ("release", "deliveries", 1),
            ("release", "rejected_rows", 1),
            ("release", "superseded_rows", 0),
            ("release", "invoices_not_counted", 0),
            ("release", "coupon_versions", 0),
        ]

    def test_results_of_the_suppliers_gate_are_among_the_checks(self, hand_made: HandMade) -> None:
        with duckdb.connect(str(hand_made.warehouse)) as connection:
            connection.execute(
                "create table raw.gate_results as select *, 'd1' as delivery_id from (values"
                " (1, 'invoices', 'totals_add_up', 'error', false, '1 of 3 rows'),"
                " (2, 'invoices', 'totals_add_up', 'error', true, '0 of 3 rows'),"
                " (1, 'invoices', 'row_count_as_usual', 'warn', true, 'rows: 99% of usual'))"
                " as gate (delivery_sequence, feed, check_name, severity, passed, observed)"
            )
        hand_made.publish()
        assert rows(
            hand_made.home,
            "select name, severity, failures, status from release.checks"
            " where checked_by = 'supplier gate' order by name",
        ) == [
            ("row_count_as_usual", "warn", 0, "pass"),
            ("totals_add_up", "error", 1, "refused"),
        ]
        assert rows(hand_made.home, "from release.delivery_checks") == [
            ("d1", "invoices", "invoices/a.csv", "totals_add_up", "error", "1 of 3 rows")
        ]
        assert releases.verify(hand_made.home).problems == ()

    def test_the_parquet_copy_has_the_same_bytes_for_the_same_content(self, tmp_path: Path) -> None:
        charges = [(f"in_{number:03}", "USD", f"{number}.25") for number in range(200)]
        copies = []
        for name, order in (("a", charges), ("b", charges[::-1])):
            published = HandMade(tmp_path / name, order).write().publish()
            folder = files.parquet_dir(tmp_path / name, published.release_id)
            copies.append({path.name: path.read_bytes() for path in folder.glob("*.parquet")})
        assert set(copies[0]) == {
            "dim_coupons.parquet",
            "fct_discounted_charges.parquet",
            "fct_restatements.parquet",
        }
        assert copies[0] == copies[1]

    def test_the_parquet_copy_depends_neither_on_threads_nor_on_how_rows_lay(
        self, tmp_path: Path
    ) -> None:
        copies = []
        for name, order, threads in (("a", "asc", 1), ("b", "desc", 4)):
            made = HandMade(tmp_path / name).write()
            with duckdb.connect(str(made.candidate)) as connection:
                connection.execute(
                    "insert into marts.fct_discounted_charges by name select 'in_' || hash(n) as"
                    " invoice_id, 'USD' as currency, n as list_amount from range(100000) as r (n)"
                    f" order by n {order}"
                )
            published = made.publish(threads=threads)
            file = files.parquet_dir(made.home, published.release_id)
            copies.append((file / "fct_discounted_charges.parquet").read_bytes())
        assert copies[0] == copies[1]

    def test_a_report_lies_beside_the_parquet_files_from_the_start(
        self, hand_made: HandMade
    ) -> None:
        def report(connection: duckdb.DuckDBPyConnection) -> str:
            assert files.current_release(hand_made.home) is None
            found = connection.execute("select release_id from release.release").fetchone()
            return f"report of {found[0] if found else None}"

        published = hand_made.publish(report=report)
        told = (published.path.parent / files.REPORT_NAME).read_text("utf-8")
        assert told == f"report of {published.release_id}"
        assert published.without_report == ""

    def test_a_report_that_cannot_be_made_stops_no_numbers_and_is_told(
        self, hand_made: HandMade
    ) -> None:
        def report(_: duckdb.DuckDBPyConnection) -> str:
            raise ValueError("no chart has so many bars")

        published = hand_made.publish(report=report)
        assert files.current_release(hand_made.home) == published.release_id
        assert not (published.path.parent / files.REPORT_NAME).exists()
        assert outcome(published).endswith(
            "without its report, which cannot be made: ValueError: no chart has so many bars"
        )

    def test_all_files_are_for_their_publisher_and_a_group_of_readers(
        self, hand_made: HandMade
    ) -> None:
        before = os.umask(0)
        try:
            published = hand_made.publish(report=lambda _: "a report")
            releases.close(hand_made.home, date(2026, 3, 1), by="Ada", now=NOW, pack=_packed)
        finally:
            os.umask(before)
        written = [
            *(path for path in files.releases_dir(hand_made.home).rglob("*") if path.is_file()),
            files.closes_path(hand_made.home),
        ]
        modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in written}
        appended = {"history.jsonl": "0o640", "closes.jsonl": "0o640"}
        parquet = ("dim_coupons", "fct_discounted_charges", "fct_restatements")
        assert modes == {
            **appended,
            "coupon_ledger.duckdb": "0o440",
            "report.html": "0o440",
            "release.json": "0o440",
            **dict.fromkeys(("bills.txt", "fingerprints.json", "register.json"), "0o440"),
            **{f"{name}.parquet": "0o440" for name in parquet},
        }
        assert oct(stat.S_IMODE(published.path.parent.stat().st_mode)) == "0o750"

    def test_everything_is_durable_before_it_is_served(
        self, hand_made: HandMade, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The order in which contents, and the names given to them, reach the disk."""
        happened: list[str] = []
        sync, replace = os.fsync, os.replace

        def synced(descriptor: int) -> None:
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            happened.append(f"sync {path.relative_to(hand_made.home)}")
            sync(descriptor)

        def replaced(source: Path, target: Path) -> None:
            happened.append(f"name {Path(target).relative_to(hand_made.home)}")
            replace(source, target)

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "replace", replaced)
        release_id = hand_made.publish().release_id
        release = f"releases/{release_id}"
        assert happened == [
            f"sync {release}.tmp/dim_coupons.parquet",
            f"sync {release}.tmp/fct_discounted_charges.parquet",
            f"sync {release}.tmp/fct_restatements.parquet",
            f"sync {release}.tmp/release.json",
            f"sync {release}.tmp/coupon_ledger.duckdb",
            f"sync {release}.tmp",
            f"name {release}",
            "sync releases",
            "name current",
            "sync .",
            "sync releases/history.jsonl",
            "sync releases",
        ]

    def test_a_home_with_hostile_characters_works(self, tmp_path: Path) -> None:
        home = tmp_path / "it's [a] home; -- *"
        published = HandMade(home).write().publish()
        assert releases.verify(home).problems == ()
        assert files.current_release(home) == published.release_id


class TestIdenticalContent:
    """The same content is recognised, and anything else is not."""

    def test_the_same_build_again_makes_no_new_release(self, hand_made: HandMade) -> None:
        first = hand_made.publish()
        hand_made.invocation_id = "invocation-2"
        hand_made.charges = hand_made.charges[::-1]
        hand_made.write()
        again = hand_made.publish(NOW + timedelta(days=1))
        assert (again.release_id, again.is_new) == (first.release_id, False)
        assert files.release_ids(hand_made.home) == [first.release_id]

    @pytest.mark.parametrize("what", ["a cent", "the day", "the code"])
    def test_another_content_makes_one(self, hand_made: HandMade, what: str) -> None:
        first = hand_made.publish()
        if what == "a cent":
            hand_made.charges = [("in_1", "USD", "120.01"), ("in_2", "EUR", "80.50")]
        if what == "the day":
            hand_made.as_of = AS_OF + timedelta(days=1)
        hand_made.write()
        again = hand_made.publish(NOW, "2+code" if what == "the code" else "1+code")
        assert again.is_new
        assert again.release_id > first.release_id
        assert files.current_release(hand_made.home) == again.release_id

    def test_after_a_restore_either_release_is_recognised(self, hand_made: HandMade) -> None:
        first, charges = hand_made.publish(), hand_made.charges
        hand_made.charges = [("in_1", "USD", "1.00")]
        second = hand_made.write().publish()
        releases.restore(hand_made.home, first.release_id, NOW)
        again = hand_made.publish()
        assert (again.release_id, again.is_new) == (second.release_id, False)
        assert files.current_release(hand_made.home) == second.release_id
        releases.restore(hand_made.home, first.release_id, NOW)
        hand_made.charges = charges
        again = hand_made.write().publish()
        assert (again.release_id, again.is_new) == (first.release_id, False)
        assert files.current_release(hand_made.home) == first.release_id

    @pytest.mark.parametrize("damaged", ["the file", "a copy"])
    def test_a_damaged_release_is_not_recognised_but_replaced(
        self, hand_made: HandMade, damaged: str
    ) -> None:
        first = hand_made.publish()
        path = first.path
        if damaged == "a copy":
            path = files.parquet_dir(hand_made.home, first.release_id) / "dim_coupons.parquet"
        path.chmod(0o600)
        content = bytearray(path.read_bytes())
        content[len(content) // 2 :] = b"\0" * (len(content) - len(content) // 2)
        path.write_bytes(content)
        again = hand_made.publish()
        assert again.is_new
        assert releases.verify(hand_made.home).problems == ()


class TestIds:
    """Later releases have greater ids, whatever the clock does."""

    def test_a_clock_that_goes_back_does_not_take_ids_back(self, hand_made: HandMade) -> None:
        first = hand_made.publish(NOW)
        hand_made.charges = [("in_1", "USD", "1.00")]
        second = hand_made.write().publish(NOW - timedelta(days=400))
        assert second.release_id > first.release_id

    def test_a_pruned_id_is_not_given_again(self, hand_made: HandMade) -> None:
        first = hand_made.publish(NOW)
        hand_made.charges = [("in_1", "USD", "1.00")]
        second = hand_made.write().publish(NOW)
        releases.restore(hand_made.home, first.release_id, NOW)
        files.remember(hand_made.home, "pruned", second.release_id, NOW)
        second.path.unlink()
        hand_made.charges = [("in_1", "USD", "2.00")]
        third = hand_made.write().publish(NOW)
        assert third.release_id > second.release_id

    def test_part_of_an_id_is_enough_when_it_is_the_only_one(self, hand_made: HandMade) -> None:
        first = hand_made.publish().release_id
        hand_made.charges = [("in_1", "USD", "1.00")]
        second = hand_made.write().publish().release_id
        assert files.resolve(hand_made.home, first[-8:]) == first
        altered = first[:-2] + ("00" if first[-2:] != "00" else "11")
        for asked, told in (
            ("2026", f"'2026' matches 2 releases in .*, the newest {first}, {second}"),
            (
                first[-5:],
                f"'{first[-5:]}' is too short: give at least 8 characters of .*: {first}",
            ),
            (altered, f"no release '{altered}' in .*; use one of: .*{first}"),
            (altered[-8:], f"no release '{altered[-8:]}' in .*; use one of: {first}"),
            ("nonsense", f"no release 'nonsense' in .*; use one of: {first}, {second}"),
        ):
            with pytest.raises(releases.NoRelease, match=told):
                files.resolve(hand_made.home, asked)


def _without_results(made: HandMade) -> None:
    made.results_path.unlink()


def _of_another_run(made: HandMade) -> None:
    made.write_results(metadata={"invocation_id": "yesterday's"})


def _of_another_day(made: HandMade) -> None:
    made.write_results(args={"vars": {"as_of_date": "2020-01-01"}})


def _cut_off(made: HandMade) -> None:
    text = made.results_path.read_text("utf-8")
    made.results_path.write_text(text[: len(text) // 2], "utf-8")


def _not_an_object(made: HandMade) -> None:
    made.results_path.write_text("[]", "utf-8")


def _edited_by_hand(made: HandMade) -> None:
    made.statuses["test.p.assert_adds_up"] = "fail"
    text = made.results_path.read_text("utf-8")
    assert '"fail"' not in text


def _with(unique_id: str, status: str | None) -> Callable[[HandMade], None]:
    def spoil(made: HandMade) -> None:
        if status is None:
            del made.statuses[unique_id]
        else:
            made.statuses[unique_id] = status
        made.write_results()

    return spoil


SPOILT = {
    "no results": (_without_results, "missing"),
    "results of another run": (_of_another_run, "stale"),
    "results of another day": (_of_another_day, "stale"),
    "results cut off": (_cut_off, "altered"),
    "results of another form": (_not_an_object, "altered"),
    "results edited by hand": (_edited_by_hand, "altered"),
    "a failing test": (_with("test.p.assert_adds_up", "fail"), "2 rows do not hold"),
    "an erroring test": (_with("test.p.assert_adds_up", "error"), "error"),
    "a skipped test": (_with("test.p.assert_adds_up", "skipped"), "skipped"),
    "a test without result": (_with("test.p.assert_adds_up", None), "missing"),
    "a blocking test that only warns": (_with("test.p.assert_adds_up", "warn"), "warn"),
    "an erroring warning": (_with("test.p.assert_source_is_right", "error"), "error"),
    "an erroring model": (_with("model.p.dim_coupons", "error"), "models/marts/dim_coupons.sql"),
    "a skipped model": (_with("model.p.dim_coupons", "skipped"), "skipped"),
    "a model without result": (_with("model.p.dim_coupons", None), "missing"),
    "a failing unit test": (_with("unit_test.p.rounds", "fail"), "rounds"),
}


class TestRefusal:
    """What did not pass is not published, and what was served stays served."""

    @pytest.mark.parametrize("what", SPOILT)
    def test_it_is_refused_and_the_old_release_stays(self, hand_made: HandMade, what: str) -> None:
        first = hand_made.publish()
        hand_made.charges = [("in_1", "USD", "1.00")]
        hand_made.write()
        spoil, said = SPOILT[what]
        spoil(hand_made)
        with pytest.raises(releases.PublishRefused, match=said) as refusal:
            hand_made.publish()
        assert refusal.value.problems
        assert files.current_release(hand_made.home) == first.release_id
        assert files.release_ids(hand_made.home) == [first.release_id]

    def test_a_model_that_was_left_as_it_was_needs_no_result_and_a_test_needs_one(
        self, hand_made: HandMade
    ) -> None:
        for unique_id in ("model.p.dim_coupons", "test.p.assert_adds_up"):
            del hand_made.statuses[unique_id]
        hand_made.write_results()
        build = replace(hand_made.build, left_alone=tuple(hand_made.manifest["nodes"]))
        [problem] = judge(build, hand_made.manifest, AS_OF).problems
        assert (problem.name, problem.status) == ("assert_adds_up", "missing")

    def test_a_test_whose_result_stands_needs_no_run_and_is_published_with_when_it_ran(
        self, hand_made: HandMade
    ) -> None:
        earlier = NOW - timedelta(days=2)
        del hand_made.statuses["test.p.assert_source_is_right"]
        hand_made.write_results()
        hand_made.standing = {"test.p.assert_source_is_right": Result("warn", 3, earlier)}
        hand_made.publish()
        assert rows(
            hand_made.home,
            "select name, status, failures, checked_at from release.checks order by name",
        ) == [
            ("assert_adds_up", "pass", 0, NOW.replace(tzinfo=None)),
            ("assert_source_is_right", "warn", 3, earlier.replace(tzinfo=None)),
        ]

    def test_a_build_that_had_nothing_to_do_stands_as_a_whole(self, hand_made: HandMade) -> None:
        nodes = hand_made.manifest["nodes"]
        build = Build(
            {},
            {},
            tuple(one for one in nodes if one.startswith("model.")),
            {one: Result("pass", 0, NOW) for one in nodes if one.startswith("test.")},
        )
        assert judge(build, hand_made.manifest, AS_OF).problems == ()
        less = replace(build, standing={})
        found = judge(less, hand_made.manifest, AS_OF).problems
        assert {problem.status for problem in found} == {"missing"} and len(found) == 2

    @pytest.mark.parametrize("status", ["fail", "warn"])
    def test_a_blocking_test_that_did_not_pass_does_not_stand(
        self, hand_made: HandMade, status: str
    ) -> None:
        del hand_made.statuses["test.p.assert_adds_up"]
        hand_made.write_results()
        standing = {"test.p.assert_adds_up": Result(status, 1, NOW)}
        build = replace(hand_made.build, standing=standing)
        [problem] = judge(build, hand_made.manifest, AS_OF).problems
        assert (problem.name, problem.status) == ("assert_adds_up", status)

    def test_a_result_of_this_run_counts_more_than_one_that_stands(
        self, hand_made: HandMade
    ) -> None:
        hand_made.statuses["test.p.assert_adds_up"] = "fail"
        hand_made.write_results()
        standing = {"test.p.assert_adds_up": Result("pass", 0, NOW)}
        build = replace(hand_made.build, standing=standing)
        [problem] = judge(build, hand_made.manifest, AS_OF).problems
        assert (problem.name, problem.status) == ("assert_adds_up", "fail")

    def test_tests_that_did_not_run_after_a_model_failed_are_no_causes(
        self, hand_made: HandMade
    ) -> None:
        hand_made.statuses["model.p.dim_coupons"] = "error"
        for name in ("assert_adds_up", "assert_source_is_right"):
            del hand_made.statuses[f"test.p.{name}"]
        hand_made.write_results()
        problems = judge(hand_made.build, hand_made.manifest, AS_OF).problems
        assert in_words(problems) == [
            "model dim_coupons: error (models/marts/dim_coupons.sql)",
            "2 models and tests after them were skipped",
        ]

    def test_a_model_that_failed_is_not_left_as_it_was(self, hand_made: HandMade) -> None:
        hand_made.statuses["model.p.dim_coupons"] = "error"
        hand_made.write_results()
        build = replace(hand_made.build, left_alone=("model.p.dim_coupons",))
        [problem] = judge(build, hand_made.manifest, AS_OF).problems
        assert (problem.name, problem.status) == ("dim_coupons", "error")

    def test_a_warning_is_published_and_shown(self, hand_made: HandMade) -> None:
        hand_made.statuses["test.p.assert_source_is_right"] = "warn"
        hand_made.write_results()
        hand_made.publish()
        assert rows(
            hand_made.home, "select name, failures from release.checks where status = 'warn'"
        ) == [("assert_source_is_right", 2)]

    def test_a_damaged_file_of_the_build_is_loaded_again_from_the_archive(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "rows.parquet"
        duckdb.execute(
            f"copy (select md5(i::varchar) as text from range(20000) as rows(i)) to '{path}'"
            " (format parquet, compression lz4_raw)"
        )
        content = bytearray(path.read_bytes())
        for place in range(len(content) // 3, len(content) // 3 + 40):
            content[place] ^= 0x5A
        path.write_bytes(content)
        with pytest.raises(duckdb.Error) as damage:
            duckdb.execute(f"select max(text) from '{path}'").fetchall()
        said = [Problem("model", "base_billing__invoices", "error", str(damage.value), "x.sql")]
        assert "coupon-ledger rebuild" in releases.PublishRefused(said).remedy
        said = [replace(said[0], message="Binder Error: no such column")]
        assert "coupon-ledger rebuild" not in releases.PublishRefused(said).remedy

    def test_a_mart_without_key_is_refused(self, hand_made: HandMade) -> None:
        manifest = hand_made.manifest
        manifest["nodes"]["model.p.dim_coupons"]["config"]["meta"] = {}
        with pytest.raises(releases.ReleaseError, match=r"dim_coupons .* has no key"):
            publishing.publish(
                hand_made.home,
                marts=hand_made.candidate,
                built=hand_made.warehouse,
                as_of=AS_OF,
                build=hand_made.build,
                manifest=manifest,
                now=NOW,
                code_version="1",
            )

    def test_a_mart_that_was_not_built_is_refused(self, hand_made: HandMade) -> None:
        with duckdb.connect(str(hand_made.candidate)) as connection:
            connection.execute("drop table marts.dim_coupons")
        with pytest.raises(releases.ReleaseError, match="dim_coupons"):
            hand_made.publish()
        assert files.current_release(hand_made.home) is None

    def test_a_float_is_refused(self, hand_made: HandMade) -> None:
        with duckdb.connect(str(hand_made.candidate)) as connection:
            connection.execute("alter table marts.dim_coupons add column share double")
        with pytest.raises(releases.ReleaseError, match="share has type DOUBLE"):
            hand_made.publish()


class TestFailure:
    """Whatever breaks on the way, the old release is served whole and the next run recovers."""

    @pytest.mark.parametrize(
        "step",
        [
            "write",
            "read_back",
            "write_parquet",
            "write_about",
            "fsync_file",
            "fsync_folder",
            "files.flip",
            "files.remember",
        ],
    )
    def test_a_crash_at_any_step_leaves_one_whole_release(
        self, hand_made: HandMade, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        first = hand_made.publish()
        hand_made.charges = [("in_1", "USD", "1.00")]
        hand_made.write()

        def crash(*_: object, **__: object) -> None:
            raise OSError("the power went")

        with monkeypatch.context() as patch:
            patch.setattr(f"dagster_project.releases.publishing.{step}", crash)
            with pytest.raises(releases.ReleaseError, match="the power went"):
                hand_made.publish()
        served = files.current_release(hand_made.home)
        assert served is not None and served >= first.release_id
        assert releases.verify(hand_made.home).problems == ()
        hand_made.publish()
        assert rows(
            hand_made.home, "select sum(list_amount) from marts.fct_discounted_charges"
        ) == [(Decimal("1.00"),)]
        assert not list(hand_made.home.rglob("*.tmp"))
        last = files.read_history(hand_made.home)[-1]
        assert last["release_id"] == files.current_release(hand_made.home)

    def test_a_copy_that_is_not_whole_is_found_out(
        self, hand_made: HandMade, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = writing.write

        def write_less(connection: Any, path: Path, *rest: Any) -> None:
            write(connection, path, *rest)
            connection.execute(f"attach '{path}' as spoilt")
            connection.execute("update spoilt.marts.fct_discounted_charges set list_amount = 0")
            connection.execute("detach spoilt")

        monkeypatch.setattr(publishing, "write", write_less)
        with pytest.raises(releases.ReleaseError, match="was not copied whole"):
            hand_made.publish()
        assert files.current_release(hand_made.home) is None
        assert not list((hand_made.home / "releases").iterdir())

    def test_what_a_killed_publication_left_is_removed(self, hand_made: HandMade) -> None:
        folder = hand_made.home / "releases"
        dead = folder / "20260101T000000Z-deadbeef"
        dead.mkdir(parents=True)
        dead.joinpath("dim_coupons.parquet").write_bytes(b"of a release whose file was removed")
        dead.with_name(dead.name + ".duckdb.tmp").write_bytes(b"half, as version 0.4 left it")
        dead.with_name(dead.name + ".duckdb.tmp.wal").write_bytes(b"half")
        half = dead.with_name("20260101T000001Z-deadbeef.tmp")
        half.mkdir()
        half.joinpath("coupon_ledger.duckdb").write_bytes(b"half")
        half.joinpath("coupon_ledger.duckdb.wal").write_bytes(b"half")
        published = hand_made.publish()
        assert sorted(path.name for path in folder.iterdir()) == sorted(
            [published.release_id, "history.jsonl"]
        )

    @pytest.mark.parametrize("is_new", [True, False])
    def test_a_log_planted_beside_the_link_is_removed(
        self, hand_made: HandMade, is_new: bool
    ) -> None:
        hand_made.publish()
        hand_made.home.joinpath("current.wal").write_bytes(b"stale")
        if is_new:
            hand_made.charges = [("in_1", "USD", "1.00")]
            hand_made.write()
        assert hand_made.publish().is_new == is_new
        assert not hand_made.home.joinpath("current.wal").exists()

    def test_a_log_planted_beside_a_release_is_not_replayed(self, hand_made: HandMade) -> None:
        published = hand_made.publish()
        published.path.with_name(published.path.name + ".wal").write_bytes(b"stale")
        with pytest.raises(releases.ReleaseError, match=r"write-ahead log .* remove that file"):
            releases.open_release(hand_made.home)
        assert not hand_made.publish().is_new
        assert releases.verify(hand_made.home).problems == ()

    def test_a_log_of_somebody_who_wrote_into_a_release_is_not_replayed(
        self, hand_made: HandMade
    ) -> None:
        published = hand_made.publish()
        code = (
            "import duckdb, os, sys; connection = duckdb.connect(sys.argv[1]);"
            "connection.execute('update marts.fct_discounted_charges set list_amount = 99');"
            "os._exit(0)"
        )
        subprocess.run([sys.executable, "-c", code, str(published.path)], check=True)
        log = published.path.with_name(published.path.name + ".wal")
        assert log.stat().st_size > 0
        hand_made.publish()
        assert not log.exists()
        assert releases.verify(hand_made.home).problems == ()
        assert rows(
            hand_made.home, "select max(list_amount) from marts.fct_discounted_charges"
        ) == [(Decimal("120.00"),)]

    def test_a_full_disk_is_named(
        self, hand_made: HandMade, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise duckdb.IOException("IO Error: Could not write file: No space left on device")

        monkeypatch.setattr(publishing, "write", full)
        with pytest.raises(releases.ReleaseError, match="is full") as error:
            hand_made.publish()
        assert "prune" in error.value.remedy

    def test_a_damaged_history_line_is_passed_over(self, hand_made: HandMade) -> None:
        published = hand_made.publish()
        with files.history_path(hand_made.home).open("a", encoding="utf-8") as file:
            file.write('{"at": "2026-04-0')
        files.remember(hand_made.home, "restored", published.release_id, NOW)
        assert [event["event"] for event in files.read_history(hand_made.home)] == [
            "published",
            "restored",
        ]

    def test_a_current_that_points_nowhere_says_what_to_do(self, hand_made: HandMade) -> None:
        published = hand_made.publish()
        published.path.unlink()
        with pytest.raises(releases.ReleaseError, match="restore ID"):
            releases.open_release(hand_made.home)


class TestReuse:
    """Content that is proven to be unchanged since the previous release, and no other, is taken from it."""

    @pytest.fixture
    def large(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> HandMade:
        """A published build with two thousand charges, which is made to count as many."""
        monkeypatch.setattr(writing, "ROWS_IN_ORDER", 1_000)
        made = HandMade(home, [(f"in_{number:04}", "USD", "1.00") for number in range(2_000)])
        made.write().publish()
        return made

    @pytest.fixture
    def read(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The tables of the build whose rows are read before the new file is written, in their order."""
        tables: list[str] = []

        def noting(connection: Any, relation: str) -> Any:
            tables.append(relation.rpartition(".")[2].strip('")'))
            return fingerprint.content_of(connection, relation)

        monkeypatch.setattr(publishing, "content_of", noting)
        return tables

    @staticmethod
    def change(made: HandMade, sql: str) -> None:
        """Alter the build."""
        with duckdb.connect(str(made.candidate)) as connection:
            connection.execute(sql)

    def same_as_anew(self, made: HandMade, published: releases.Publication) -> None:
        """Assert that it is sound, and holds and writes what a publication without reuse does."""
        assert releases.verify(made.home).problems == ()
        reuse.record_path(made.home).unlink()
        anew = made.publish(code_version="anew")
        told = "select * from release.tables"
        assert rows(made.home, told) == rows(made.home, told, published.release_id)
        first, second = (
            {
                path.name: sorted(map(str, pq.read_table(path).to_pylist()))
                for path in files.parquet_dir(made.home, one.release_id).glob("*.parquet")
            }
            for one in (published, anew)
        )
        assert first == second

    def test_the_same_tables(self, large: HandMade) -> None:
        published = large.publish(code_version="2+code")
        assert published.is_new
        self.same_as_anew(large, published)

    def test_the_copy_of_an_unchanged_mart_is_one_file_with_two_names(
        self, large: HandMade
    ) -> None:
        before = files.current_release(large.home)
        self.change(large, "update marts.dim_coupons set coupon_id = 'C2'")
        after = large.publish().release_id
        one, other = (
            {
                path.stem: path.stat().st_ino
                for path in files.parquet_dir(large.home, str(release_id)).glob("*.parquet")
            }
            for release_id in (before, after)
        )
        assert {name for name in one if one[name] == other[name]} == {
            "fct_discounted_charges",
            "fct_restatements",
        }
        shutil.rmtree(files.parquet_dir(large.home, str(before)))
        assert releases.verify(large.home).problems == ()

    @pytest.mark.parametrize("how", ["damaged", "gone", "on a disk without second names"])
    def test_a_copy_that_cannot_be_used_again_is_written(
        self, large: HandMade, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        before = str(files.current_release(large.home))
        copy = files.parquet_dir(large.home, before) / "fct_discounted_charges.parquet"
        if how == "damaged":
            copy.chmod(0o640)
            content = bytearray(copy.read_bytes())
            content[len(content) // 2] ^= 1
            copy.write_bytes(content)
        elif how == "gone":
            copy.unlink()
        else:
            monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
        large.publish(code_version="2+code")
        assert releases.verify(large.home).problems == ()

    def test_a_release_begins_as_a_copy_of_the_marts_that_were_built(
        self, large: HandMade, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copied: list[Path] = []
        copy = shutil.copyfile

        def copying(one: Path, other: Path) -> Path:
            copied.append(one)
            return copy(one, other)

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "copyfile", copying)
            for number in range(2, 9):
                self.change(large, f"update marts.dim_coupons set coupon_id = 'c{number}'")
                published = large.publish(code_version=f"{number}+code")
        assert copied == [large.candidate] * 7
        size = published.path.stat().st_size
        self.same_as_anew(large, published)
        assert size <= 1.5 * (large.home / "current").stat().st_size

    @pytest.mark.parametrize(
        "change",
        [
            "insert into charges from charges limit 0",
            "delete from charges where invoice_id like 'in_01%'",
            "update charges set list_amount = 2 where invoice_id like 'in_01%'",
            "update charges set mtus = 0 where invoice_id = 'in_0003'",
            "update charges set currency = '' where invoice_id = 'in_1999'",
            "update charges set list_amount = 2",
            "alter table charges add column note varchar",
            "alter table charges alter mtus type integer",
            "insert into charges from charges where invoice_id = 'in_0001'",
            "insert into charges select * replace (invoice_id || 'a' as invoice_id) from charges"
            " where invoice_id like '%3'",
        ],
    )
    @pytest.mark.parametrize("is_tested", [True, False])
    def test_rows_and_columns_that_differ(
        self, large: HandMade, change: str, is_tested: bool
    ) -> None:
        self.change(large, change.replace("charges ", "marts.fct_discounted_charges "))
        if is_tested:
            large.test()
        published = large.publish(code_version="2+code")
        assert published.is_new
        self.same_as_anew(large, published)

    def test_a_small_mart_is_in_the_order_of_its_key_and_a_large_one_as_it_was_built(
        self, large: HandMade, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.change(
            large, "insert into marts.fct_discounted_charges (invoice_id) values ('in_0003a')"
        )
        monkeypatch.setattr(writing, "ROWS_IN_ORDER", 2_001)
        large.publish()
        lying = rows(large.home, "select invoice_id from marts.fct_discounted_charges")
        assert lying[-1] == ("in_0003a",)
        monkeypatch.setattr(writing, "ROWS_IN_ORDER", 2_002)
        large.publish(code_version="2+code")
        lying = rows(large.home, "select invoice_id from marts.fct_discounted_charges")
        assert lying == sorted(lying)

    def test_what_a_killed_process_left_of_a_compact_build_is_removed(
        self, large: HandMade
    ) -> None:
        left = large.candidate.with_name("candidate-compact.duckdb")
        for one in (left, left.with_name(left.name + ".wal")):
            one.write_bytes(b"half of it")
        large.test()
        large.publish(code_version="2+code")
        assert not [*large.candidate.parent.glob("candidate-compact*")]

    @pytest.mark.parametrize("is_in_parts", [True, False])
    def test_free_space_of_a_build_is_no_part_of_a_release(
        self, large: HandMade, monkeypatch: pytest.MonkeyPatch, is_in_parts: bool
    ) -> None:
        """If `is_in_parts`, moving the compact build into place fails at first."""
        with duckdb.connect(str(large.candidate)) as connection:
            connection.execute(
                "create table marts.gone as select hash(n) as n from range(3_000_000) as r (n)"
            )
            connection.execute("checkpoint")
            connection.execute("create table marts.behind as from marts.gone limit 200_000")
            connection.execute("checkpoint")
            connection.execute("drop table marts.gone")
        large.test()
        holed = large.candidate.stat().st_size
        assert holed > 20_000_000
        if is_in_parts:
            with monkeypatch.context() as patch:
                patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
                with pytest.raises(releases.ReleaseError, match="no space"):
                    large.publish(code_version="2+code")
            assert large.candidate.stat().st_size == holed
            assert not [*large.candidate.parent.glob("candidate-compact*")]
        published = large.publish(code_version="2+code")
        assert published.path.stat().st_size < holed / 5
        assert large.candidate.stat().st_size < holed / 5
        self.same_as_anew(large, published)

    @pytest.mark.parametrize("is_changed", [True, False])
    def test_of_marts_that_the_data_tests_passed_over_no_row_is_read(
        self, large: HandMade, read: list[str], is_changed: bool
    ) -> None:
        if is_changed:
            self.change(
                large,
                "update marts.fct_discounted_charges set list_amount = 2 where invoice_id = 'in_0007'",
            )
        large.test()
        published = large.publish(code_version="2+code")
        assert len(read) == 6
        assert not {"fct_discounted_charges", "dim_coupons"} & set(read)
        self.same_as_anew(large, published)

    @pytest.mark.parametrize("is_tested", [True, False])
    @pytest.mark.parametrize("how", ["an amount", "a bit", "a column", "a table"])
    def test_where_the_release_before_is_damaged_the_next_one_is_what_was_built(
        self, large: HandMade, how: str, is_tested: bool
    ) -> None:
        if is_tested:
            large.test()
        before = (large.home / "current").resolve()
        before.chmod(0o640)
        if how == "a bit":
            content = bytearray(before.read_bytes())
            content[content.index(b"in_0001")] ^= 1
            before.write_bytes(content)
        else:
            spoil = {
                "an amount": "update charges set list_amount = 7 where invoice_id = 'in_0001'",
                "a column": "alter table charges drop column mtus",
                "a table": "drop table charges",
            }[how]
            with duckdb.connect(str(before)) as connection:
                connection.execute(spoil.replace("charges", "marts.fct_discounted_charges"))
        published = large.publish(code_version="2+code")
        assert rows(
            large.home, "select count(*), sum(list_amount) from marts.fct_discounted_charges"
        ) == [(2_000, Decimal("2000.00"))]
        self.same_as_anew(large, published)

    @pytest.mark.parametrize(
        "change",
        [
            "update charges set list_amount = 2 where invoice_id = 'in_0007'",
            "update charges set list_amount = 2",
            "delete from charges where invoice_id = 'in_1999'",
        ],
    )
    @pytest.mark.parametrize("of", ["the first", "as before", "one with a difference"])
    def test_a_build_that_was_changed_after_its_data_tests_is_not_published(
        self, large: HandMade, change: str, of: str
    ) -> None:
        before = files.current_release(large.home)
        if of == "the first":
            reuse.record_path(large.home).unlink()
        elif of == "one with a difference":
            self.change(large, "update marts.fct_discounted_charges set mtus = 1")
        large.test()
        self.change(large, change.replace("charges ", "marts.fct_discounted_charges "))
        with pytest.raises(releases.ReleaseError, match="after the data tests") as told:
            large.publish(code_version="2+code")
        assert "run again" in told.value.remedy
        assert files.current_release(large.home) == before
        assert not list(large.home.rglob("*.tmp"))

    @pytest.mark.parametrize(
        "spoil",
        ["cut", "list", "copies as a list", "fingerprints", "of another DuckDB", "release gone"],
    )
    def test_without_a_record_that_fits_copies_are_written_anew(
        self, large: HandMade, spoil: str
    ) -> None:
        before = str(files.current_release(large.home))
        record = reuse.record_path(large.home)
        text = record.read_text()
        if spoil == "cut":
            record.write_text(text[:-9])
        elif spoil == "list":
            record.write_text("[]")
        elif spoil == "copies as a list":
            record.write_text(json.dumps({**json.loads(text), "copies": []}))
        elif spoil == "fingerprints":
            record.write_text(
                re.sub('"fingerprint": "3-[0-9a-f]{4}', '"fingerprint": "3-5401', text)
            )
        elif spoil == "of another DuckDB":
            record.write_text(text.replace("DuckDB ", "DuckDB 9"))
        else:
            (large.home / "current").resolve().unlink()
            (large.home / "current").unlink()
        published = large.publish(code_version="2+code")
        one, other = (
            {path.stat().st_ino for path in files.parquet_dir(large.home, name).glob("*.parquet")}
            for name in (before, published.release_id)
        )
        assert not one & other
        self.same_as_anew(large, published)

    def test_a_release_that_closed_a_month_is_one_to_start_from_too(self, large: HandMade) -> None:
        releases.close(large.home, date(2026, 3, 1), by="Ada", now=NOW)
        self.change(
            large,
            "update marts.fct_discounted_charges set list_amount = 2 where invoice_id = 'in_0007'",
        )
        published = large.publish()
        assert rows(
            large.home,
            "select record_key, closed_amount, current_amount from marts.fct_restatements",
        ) == [("in_0007", Decimal("1.00"), Decimal("2.00"))]
        self.same_as_anew(large, published)


class TestReaders:
    """Readers open the release, and nothing but the release."""

    @pytest.mark.parametrize(
        "sql",
        [
            "create table marts.mine (a int)",
            "delete from marts.dim_coupons",
            "select * from read_csv('/etc/passwd')",
            "select * from read_text('/etc/passwd')",
            "attach '/tmp/other.duckdb' as other",
            "copy marts.dim_coupons to '/tmp/stolen.csv'",
            "set enable_external_access = true",
            "set threads = 1",
            "install httpfs",
            "load httpfs",
        ],
    )
    def test_a_reader_can_read_and_nothing_else(self, hand_made: HandMade, sql: str) -> None:
        hand_made.publish()
        with releases.open_release(hand_made.home) as connection:
            with pytest.raises(duckdb.Error):
                connection.execute(sql)
            assert connection.execute("select count(*) from marts.dim_coupons").fetchone() == (1,)

    def test_readers_see_whole_releases_that_never_go_back(self, hand_made: HandMade) -> None:
        hand_made.publish()
        long_lived = releases.open_release(hand_made.home)
        before = long_lived.execute("select * from marts.fct_discounted_charges").fetchall()
        seen: list[list[str]] = [[] for _ in range(4)]
        problems: list[str] = []
        stop = threading.Event()

        def read(mine: list[str]) -> None:
            while not stop.is_set():
                try:
                    with releases.open_release(hand_made.home) as connection:
                        found = connection.execute(
                            "select (select release_id from release.release),"
                            " count(distinct list_amount), sum(list_amount) / count(*)"
                            " from marts.fct_discounted_charges"
                        ).fetchone()
                    assert found is not None
                    if mine and found[1] != 1:
                        problems.append(f"mixed: {found}")
                    mine.append(str(found[0]))
                except Exception as error:  # noqa: BLE001 (any error at all is the finding)
                    problems.append(repr(error))
                    return

        readers = [threading.Thread(target=read, args=(mine,)) for mine in seen]
        hand_made.charges = [(f"in_{place}", "USD", "1.00") for place in range(50)]
        hand_made.write().publish()
        for reader in readers:
            reader.start()
        for number in range(2, 6):
            hand_made.charges = [(f"in_{place}", "USD", f"{number}.00") for place in range(50)]
            hand_made.write().publish()
        stop.set()
        for reader in readers:
            reader.join(timeout=30)
        assert problems == []
        assert all(mine and mine == sorted(mine) for mine in seen)
        assert long_lived.execute("select * from marts.fct_discounted_charges").fetchall() == before
        long_lived.close()

    def test_no_release_yet_says_how_to_make_one(self, home: Path) -> None:
        with pytest.raises(releases.NoRelease, match="coupon-ledger run"):
            releases.open_release(home)


HOLD = """
import sys
from pathlib import Path
from dagster_project.releases import one_writer
with one_writer(Path(sys.argv[1]), "coupon-ledger run, held by a test"):
    print("held", flush=True)
    sys.stdin.read()
"""


class TestOneWriter:
    """One process writes at a time, and the second learns who does."""

    def test_the_second_process_is_told_who_holds_the_lock(self, home: Path) -> None:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(home)],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(releases.Busy, match=f"process {holder.pid} .*held by a test"),
            releases.one_writer(home, "the second"),
        ):
            pass
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
        with releases.one_writer(home, "the third", wait_seconds=10):
            pass

    def test_the_holder_may_take_it_again(self, home: Path) -> None:
        with releases.one_writer(home, "outer"):
            with releases.one_writer(home, "inner"):
                pass
            holder = json.loads((home / "refresh.holder.json").read_text("utf-8"))
            assert (holder["pid"], holder["command"]) == (os.getpid(), "outer")
        assert not (home / "refresh.holder.json").exists()


class TestKeeping:
    """Releases are restored, verified and pruned on request, never by accident."""

    @pytest.fixture
    def three(self, hand_made: HandMade) -> list[str]:
        """Three releases, the last one served."""
        ids = []
        for number in (1, 2, 3):
            hand_made.charges = [("in_1", "USD", f"{number}.00")]
            ids.append(hand_made.write().publish().release_id)
        return ids

    def test_a_restore_is_served_and_recorded(self, home: Path, three: list[str]) -> None:
        assert releases.restore(home, three[0], NOW, by="ada") == three[0]
        assert rows(home, "select list_amount from marts.fct_discounted_charges") == [
            (Decimal("1.00"),)
        ]
        last = files.read_history(home)[-1]
        assert (last["event"], last["release_id"], last["previous"], last["by"]) == (
            "restored",
            three[0],
            three[2],
            "ada",
        )

    def test_a_restore_tells_what_was_served_and_what_the_next_run_does(
        self, home: Path, three: list[str]
    ) -> None:
        told = CliRunner().invoke(app, ["restore", three[0], "--home", str(home)])
        assert told.exit_code == 0
        assert f"Release {three[0]} is current instead of {three[2]}:" in told.stdout
        assert "The next run that succeeds makes its own release current again." in told.stdout
        again = CliRunner().invoke(app, ["restore", three[0], "--home", str(home)])
        assert "was already current" in again.stdout
        events = files.read_history(home)
        assert [event["event"] for event in events].count("restored") == 1

    @pytest.mark.parametrize("is_link", [True, False])
    def test_one_is_listed_and_restored_where_current_leads_to_no_release(
        self, home: Path, three: list[str], is_link: bool
    ) -> None:
        current = home / "current"
        current.unlink()
        current.symlink_to("releases/gone") if is_link else current.write_text("x", "utf-8")
        listed = CliRunner().invoke(app, ["releases", "--home", str(home)])
        assert listed.exit_code == 1
        assert all(release_id in listed.stdout for release_id in three)
        assert f"{current} {'points to' if is_link else 'is not a symlink'}" in listed.stderr
        told = CliRunner().invoke(app, ["restore", three[0], "--home", str(home)])
        assert (told.exit_code, files.current_release(home)) == (0, three[0]), told.output

    def test_a_damaged_release_is_not_restored(self, home: Path, three: list[str]) -> None:
        (files.parquet_dir(home, three[0]) / "dim_coupons.parquet").unlink()
        with pytest.raises(releases.ReleaseError, match="Parquet copy of dim_coupons is missing"):
            releases.restore(home, three[0], NOW)
        assert files.current_release(home) == three[2]

    def test_pruning_keeps_the_newest_and_the_served(self, home: Path, three: list[str]) -> None:
        releases.restore(home, three[0], NOW)
        pruned = releases.prune(home, 1, NOW)
        assert pruned.removed == (three[1],)
        assert pruned.spared == {three[0]: "it is current"}
        assert files.release_ids(home) == [three[0], three[2]]
        assert not files.parquet_dir(home, three[1]).exists()

    @pytest.mark.parametrize("form", ["of this version", "of an earlier version"])
    def test_pruning_spares_what_is_being_read(
        self, home: Path, three: list[str], form: str
    ) -> None:
        if form == "of an earlier version":  # its file lies beside its folder
            beside = files.releases_dir(home) / f"{three[0]}.duckdb"
            files.release_path(home, three[0]).rename(beside)
        with files.release_path(home, three[0]).open("rb"):
            pruned = releases.prune(home, 1, NOW)
        assert pruned.removed == (three[1],)
        assert str(os.getpid()) in pruned.spared[three[0]]
        last = files.read_history(home)[-1]
        assert (last["event"], last["release_id"]) == ("pruned", three[1])

    def test_pruning_all_is_refused(self, home: Path, three: list[str]) -> None:
        with pytest.raises(ValueError, match="at least 1"):
            releases.prune(home, 0, NOW)
        assert files.release_ids(home) == three

    def test_a_changed_cell_is_found_by_verification(self, home: Path, three: list[str]) -> None:
        path = files.release_path(home, three[0])
        path.chmod(0o600)
        with duckdb.connect(str(path)) as connection:
            connection.execute("update marts.fct_discounted_charges set list_amount = 99")
        found = releases.verify(home, three[0])
        assert any("fct_discounted_charges has 1 rows" in problem for problem in found.problems)

    @pytest.mark.parametrize(
        "change",
        [
            "update release.release set as_of_date = as_of_date - 1",
            "update release.release set code_version = '9+other'",
            "update release.release set content_hash = 'other'",
            "update release.release set release_id = '20260101T000000Z-00000000'",
            "delete from release.tables where table_name = 'rejected_rows'",
            "alter table release.rejected_rows add column more varchar",
        ],
    )
    def test_a_changed_pedigree_is_found_by_verification(
        self, home: Path, three: list[str], change: str
    ) -> None:
        with duckdb.connect(str(files.release_path(home, three[0]))) as connection:
            connection.execute(change)
        assert releases.verify(home, three[0]).problems

    def test_a_release_of_a_later_method_is_not_called_damaged(
        self, home: Path, three: list[str]
    ) -> None:
        with duckdb.connect(str(files.release_path(home, three[0]))) as connection:
            connection.execute("update release.release set code_version = '9.1.0+abc'")
            connection.execute(
                "update release.tables set fingerprint = '14-' || substr(fingerprint, 3)"
                " where table_name = 'rejected_rows'"
            )
        for ask in (
            lambda: releases.verify(home, three[0]),
            lambda: releases.restore(home, three[0], NOW, by="me"),
        ):
            with pytest.raises(releases.ReleaseError) as caught:
                ask()
            assert "cannot be verified by this version" in caught.value.message
            assert "9.1.0+abc" in caught.value.remedy
        assert releases.current_release(home) == three[2]

    def test_what_lies_beside_the_parquet_files_is_found_by_verification_if_it_is_of_another(
        self, home: Path, three: list[str]
    ) -> None:
        about = files.parquet_dir(home, three[1]) / files.ABOUT_NAME
        about.chmod(0o640)
        about.write_bytes((files.parquet_dir(home, three[0]) / files.ABOUT_NAME).read_bytes())
        [problem] = releases.verify(home, three[1]).problems
        assert f"its release.json is that of release {three[0]}" in problem
        about.write_text("{}")
        [problem] = releases.verify(home, three[1]).problems
        assert "its release.json cannot be read" in problem

    def test_a_release_under_the_name_of_another_is_found_by_verification(
        self, home: Path, three: list[str]
    ) -> None:
        shutil.rmtree(files.parquet_dir(home, three[1]))
        shutil.copytree(files.parquet_dir(home, three[0]), files.parquet_dir(home, three[1]))
        (problem,) = releases.verify(home, three[1]).problems
        assert problem == f"it is release {three[0]} under another name"

    def test_an_amount_changed_together_with_its_fingerprint_is_found_by_verification(
        self, home: Path, three: list[str]
    ) -> None:
        table = "marts.fct_discounted_charges"
        with duckdb.connect(str(files.release_path(home, three[0]))) as connection:
            connection.execute(f"update {table} set list_amount = 99")
            found = content_of(connection, table).fingerprint
            connection.execute(
                "update release.tables set fingerprint = ?"
                " where table_name = 'fct_discounted_charges'",
                [found],
            )
            copy = files.parquet_dir(home, three[0]) / "fct_discounted_charges.parquet"
            copy.unlink()
            connection.execute(f"copy {table} to '{copy}'")
        (problem,) = releases.verify(home, three[0]).problems
        assert "another hash than at its publication" in problem

    def test_the_list_shows_totals_and_a_damaged_one_as_such(
        self, home: Path, three: list[str]
    ) -> None:
        path = files.release_path(home, three[1])
        path.chmod(0o600)
        path.write_bytes(b"no database")
        listed = releases.list_releases(home)
        assert [one.release_id for one in listed] == three[::-1]
        assert [one.is_current for one in listed] == [True, False, False]
        assert listed[0].totals == {
            "USD": (Decimal("3.00"), Decimal("0.00"), Decimal("0.00"), Decimal("3.00"))
        }
        assert listed[0].as_of_date == AS_OF
        assert listed[1].problem
        shown = CliRunner().invoke(app, ["releases", "--home", str(home)]).stdout.splitlines()
        assert shown[:5] == [
            f"* {three[2]}  as of 2026-03-31  2 rows (+0)",
            "             list  discount  credit    net",
            "    USD      3.00      0.00    0.00   3.00",
            "    change  +2.00                    +2.00",
            "",
        ]
        told = f" {three[1]} DAMAGED: {' '.join(str(listed[1].problem).split())}"
        assert "".join(told.split()) in "".join("".join(shown).split())
        assert f"  {three[0]}  as of 2026-03-31  2 rows" in shown
        assert shown[-1] == f"  2026-04-01 05:00 UTC  published {three[2]}"


class TestDifference:
    """Two releases are compared by key, by totals, by cell."""

    @pytest.fixture
    def two(self, home: Path) -> tuple[str, str]:
        """One row the same, one changed, one gone, one added."""
        same, changed = ("in_1", "USD", "10.00"), ("in_2", "USD", "20.00")
        made = HandMade(home, [same, changed, ("in_3", "EUR", "30.00")]).write()
        first = made.publish().release_id
        made.charges = [same, ("in_2", "USD", "25.00"), ("in_4", "GBP", "40.00")]
        return first, made.write().publish().release_id

    def test_rows_are_compared_by_key(self, home: Path, two: tuple[str, str]) -> None:
        coupons, charges, restated = releases.diff(home, *two)
        assert coupons.is_equal and restated.is_equal
        assert (charges.added, charges.gone, charges.changed) == (1, 1, 1)
        assert (charges.rows_before, charges.rows_after) == (3, 3)

    def test_totals_are_compared_by_currency(self, home: Path, two: tuple[str, str]) -> None:
        (charges,) = releases.diff(home, *two, table="fct_discounted_charges")
        listed = {
            amount.currency: (amount.before, amount.after)
            for amount in charges.amounts
            if amount.column == "list_amount"
        }
        assert listed == {
            "EUR": (Decimal("30.00"), Decimal("0")),
            "GBP": (Decimal("0"), Decimal("40.00")),
            "USD": (Decimal("30.00"), Decimal("35.00")),
        }

    def test_cells_are_compared_by_key(self, home: Path, two: tuple[str, str]) -> None:
        cells = releases.diff_cells(home, *two, table="fct_discounted_charges")
        assert [(cell.key, cell.column, cell.before, cell.after) for cell in cells] == [
            (("in_2",), "list_amount", "20.00", "25.00"),
            (("in_2",), "net_amount", "20.00", "25.00"),
            (("in_2",), "billed_net_amount", "20.00", "25.00"),
            (("in_3",), "-row", None, None),
            (("in_4",), "+row", None, None),
        ]

    def test_it_is_laid_out_for_reading(self, home: Path, two: tuple[str, str]) -> None:
        arguments = ["diff", *two, "--table", "fct_discounted_charges", "--home", str(home)]
        shown = CliRunner().invoke(app, arguments)
        assert shown.stdout.splitlines() == [
            f"A  {two[0]}  as of 2026-03-31",
            f"B  {two[1]}  as of 2026-03-31",
            "",
            "Rows",
            "  table                   in A  in B  added  gone  changed",
            "  fct_discounted_charges     3     3      1     1        1",
            "",
            "Totals that differ",
            "  table and column              in A   in B   B - A",
            "  fct_discounted_charges",
            "    list_amount           EUR  30.00   0.00  -30.00",
            "    net_amount            EUR  30.00   0.00  -30.00",
            "    billed_net_amount     EUR  30.00   0.00  -30.00",
            "    list_amount           GBP   0.00  40.00  +40.00",
            "    net_amount            GBP   0.00  40.00  +40.00",
            "    billed_net_amount     GBP   0.00  40.00  +40.00",
            "    list_amount           USD  30.00  35.00   +5.00",
            "    net_amount            USD  30.00  35.00   +5.00",
            "    billed_net_amount     USD  30.00  35.00   +5.00",
            "",
            "Cells, A → B",
            "in_2: list_amount 20.00 → 25.00",
            "in_2: net_amount 20.00 → 25.00",
            "in_2: billed_net_amount 20.00 → 25.00",
            "in_3: only in A",
            "in_4: only in B",
        ]

    def test_a_wrong_table_gets_a_near_match(self, home: Path, two: tuple[str, str]) -> None:
        with pytest.raises(releases.NoRelease, match="fct_discounted_charges"):
            releases.diff(home, *two, table="discounted_charges")


def folded(texts: list[str]) -> str:
    """The fingerprint of rows of these texts, without DuckDB."""
    total = sum(int(hashlib.md5(text.encode()).hexdigest()[:16], 16) for text in texts)
    return f"{total % MODULUS:016x}"


class TestFingerprint:
    """Tables have the same fingerprint if they have the same rows in any order, and only then."""

    @pytest.fixture
    def typed(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Table `t`, with a column of each type that is published."""
        with duckdb.connect() as connection:
            connection.execute(
                "create table t (a varchar, b decimal(18, 2), c timestamp, d date, e boolean)"
            )
            connection.execute(
                "insert into t values ('é', 1.50, '1970-01-01 00:00:01', '2026-01-31', true),"
                " (null, -0.05, null, null, false)"
            )
            yield connection

    def test_those_of_earlier_versions_can_be_computed_without_duckdb(
        self, typed: duckdb.DuckDBPyConnection
    ) -> None:
        texts = ["1.50|1000000|2026-01-31|true|2|é", "-0.05|N|N|false|N|"]
        found = content_of(typed, "t", like="2-" + "0" * 16)
        assert (found.rows, found.fingerprint) == (2, f"2-{folded(texts)}")
        texts = ["2:é4:1.507:100000010:2026-01-314:true", "N5:-0.05NN5:false"]
        assert content_of(typed, "t", like="0" * 16).fingerprint == folded(texts)

    def test_it_is_what_duckdb_has_calculated_since_version_1_4(
        self, typed: duckdb.DuckDBPyConnection
    ) -> None:
        """If this fails, a release's tables need a fingerprint of another method."""
        typed.execute(
            "create table more as from t, (values (9::bigint, 7.5::decimal(9, 4), 'one of 16 or more'),"
            " (null, -1234.5678, '')) as other (f, g, h)"
        )
        assert content_of(typed, "more").fingerprint == "3-458caf43cd8818b3"

    def test_a_type_whose_values_differ_between_engines_has_none(self) -> None:
        with duckdb.connect() as connection, pytest.raises(ValueError, match="DOUBLE"):
            content_of(connection, "(select 0.1::double as share)")

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("values ('a', 'b')", "values ('ab', '')"),
            ("values (null, 'a')", "values ('', 'a')"),
            ("values (null, 'a')", "values ('N', 'a')"),
            ("values ('1:a', 'b')", "values ('1', 'a1:b')"),
            ("values ('a', 'b')", "values ('b', 'a')"),
            ("values ('a|', '|b')", "values ('a', '||b')"),
            ("values (1, 12, 'a')", "values (11, 2, 'a')"),
            ("values (1, null, 'a')", "values (1, null, 'Na')"),
            ("values ('a', 'b')", "values ('a', 'b'), ('a', 'b')"),
        ],
    )
    def test_different_rows_differ(self, one: str, other: str) -> None:
        with duckdb.connect() as connection:
            first = content_of(connection, f"({one})")
            assert first.fingerprint != content_of(connection, f"({other})").fingerprint

    def test_texts_that_duckdb_gives_the_same_hash_differ(self) -> None:
        """Of texts that differ in their characters 8 and 16 alone, one in 256 has another's hash."""
        one, other = ("('in_04822_009r-11')", "('in_04825_009r-16')")
        with duckdb.connect() as connection:
            [hashes] = connection.execute(f"select hash({one}), hash({other})").fetchall()
            assert hashes[0] == hashes[1], "Texts need not be hashed twice any longer."
            ids = "select 'in_0482' || a || '_009r-1' || b as id from range(10) as t(a), range(10) as u(b)"
            found = connection.execute(
                f"select count(distinct {row_hash([Column('id', 'VARCHAR')])}) from ({ids})"
            )
            assert found.fetchall() == [(100,)]
            first = content_of(connection, f"(values {one})")
            assert first.fingerprint != content_of(connection, f"(values {other})").fingerprint

    def test_the_order_of_rows_does_not_matter(self) -> None:
        with duckdb.connect() as connection:
            connection.execute("create table t as select range as a from range(10000)")
            forward = content_of(connection, "(select * from t order by a)")
            assert forward == content_of(connection, "(select * from t order by a desc)")

    def test_an_empty_table_has_one(self) -> None:
        with duckdb.connect() as connection:
            empty = content_of(connection, "(select 1 as a where false)")
        assert (empty.rows, empty.fingerprint) == (0, "3-" + "0" * 16)


def test_the_day_is_part_of_the_content() -> None:
    hashes = {content_hash_of(day, "1", "duckdb", {}) for day in (date(2026, 1, 1), AS_OF)}
    assert len(hashes) == 2
