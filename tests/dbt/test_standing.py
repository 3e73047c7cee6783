"""Which data tests need not run again: those whose SQL and rows are what they were when they passed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache

import duckdb
import pytest

from dagster_project.feeds import feeds
from dagster_project.refresh.compiled import Moment
from dagster_project.refresh.standing import (
    Checked,
    DataTests,
    fingerprints,
    fingerprints_of_files,
    read,
    written,
)
from dagster_project.releases.gate import Result
from tests.dbt.compiled import CompiledModels

THEN = datetime(2026, 3, 1, 5, 0, tzinfo=UTC)
_RELATION = re.compile(r'"warehouse"\."(\w+)"\."(\w+)"')


@pytest.fixture(scope="module")
def tests(compiled: CompiledModels) -> DataTests:
    """The data tests of the project."""
    return DataTests(compiled.manifest)


@pytest.fixture(scope="module")
def before(tests: DataTests) -> Checked:
    """A build in which every test passed."""
    results = dict.fromkeys(tests.reads, Result("pass", 0, THEN))
    return Checked(results, dict.fromkeys(tests.relations, "as before"))


def test_what_is_known_to_be_read_is_all_that_a_test_names(
    compiled: CompiledModels, tests: DataTests
) -> None:
    sql = {node.name: node.sql for node in compiled.of_questions.tests}
    for unique_id, reads in tests.reads.items():
        named = {".".join(one) for one in _RELATION.findall(sql[name_of(compiled, unique_id)])}
        known = {tests.relations[one].replace('"', "").removeprefix("candidate.") for one in reads}
        assert named and named <= known, unique_id


def test_where_nothing_has_changed_every_result_stands(tests: DataTests, before: Checked) -> None:
    assert tests.standing(before, before.rows, is_same_day=True) == before.results


def test_a_test_of_rows_that_have_changed_runs(tests: DataTests, before: Checked) -> None:
    for changed in tests.relations:
        now = {**before.rows, changed: "other rows"}
        found = tests.standing(before, now, is_same_day=True)
        assert tests.reads.keys() - found.keys() == {
            unique_id for unique_id, reads in tests.reads.items() if changed in reads
        }


def test_a_test_of_rows_that_are_not_known_runs(tests: DataTests, before: Checked) -> None:
    for lacking in tests.relations:
        less = {one: rows for one, rows in before.rows.items() if one != lacking}
        for then, now in ((before, less), (replace(before, rows=less), before.rows)):
            found = tests.standing(then, now, is_same_day=True)
            assert not any(lacking in tests.reads[unique_id] for unique_id in found)
    assert tests.standing(Checked(), {}, is_same_day=True) == {}


def test_on_another_day_a_test_stands_only_if_its_sql_is_the_same(
    compiled: CompiledModels, tests: DataTests, before: Checked
) -> None:
    found = tests.standing(before, before.rows, is_same_day=False)
    differing = {
        node.name
        for node in compiled.of_questions.tests
        if len({compiled.of_questions.sql(node, moment) for moment in moments()}) > 1
    }
    assert differing
    assert {
        name_of(compiled, unique_id) for unique_id in tests.reads.keys() - found.keys()
    } == differing


@pytest.mark.parametrize("status", ["fail", "error", "skipped"])
def test_only_a_result_that_was_published_stands(
    tests: DataTests, before: Checked, status: str
) -> None:
    one = next(iter(tests.reads))
    then = replace(before, results={**before.results, one: Result(status, 1, THEN)})
    found = tests.standing(then, before.rows, is_same_day=True)
    assert tests.reads.keys() - found.keys() == {one}


def test_a_warning_stands_with_what_it_found(tests: DataTests, before: Checked) -> None:
    one, warned = next(iter(tests.reads)), Result("warn", 7, THEN)
    then = replace(before, results={**before.results, one: warned})
    assert tests.standing(then, before.rows, is_same_day=True)[one] == warned


def test_what_was_found_is_written_and_read(before: Checked) -> None:
    assert read(written(before)) == before


ROWS = "(values (1, 'a', null), (2, 'b', 10.5), (2, 'b', 10.5)) as rows (id, name, amount)"


@cache
def fingerprint_of(relation: str) -> str:
    """The fingerprint of a relation's rows."""
    with duckdb.connect() as connection:
        connection.execute(f"create table there as select * from {relation}")
        return fingerprints(connection, {"one": '"there"'})["one"]


@pytest.mark.parametrize(
    "altered",
    [
        f"(from {ROWS} where id = 1)",
        f"(select distinct * from {ROWS})",
        f"(from {ROWS} union all from {ROWS})",
        f"(select * replace (coalesce(amount, 0) as amount) from {ROWS})",
        f"(select * replace (name || ' ' as name) from {ROWS})",
        f"(select id, amount, name from {ROWS})",
        f"(select * rename (name as title) from {ROWS})",
        f"(select * replace (cast(id as bigint) as id) from {ROWS})",
        "(values (1, 'b', null), (2, 'a', 10.5), (2, 'b', 10.5)) as rows (id, name, amount)",
    ],
)
def test_a_fingerprint_notices_any_other_rows(altered: str) -> None:
    assert fingerprint_of(altered) != fingerprint_of(ROWS)


def test_a_fingerprint_does_not_depend_on_the_order_of_rows() -> None:
    assert fingerprint_of(f"(from {ROWS} order by id desc)") == fingerprint_of(ROWS)


@pytest.fixture
def stored() -> Iterator[duckdb.DuckDBPyConnection]:
    """Two loaded deliveries, whose files are recorded, and a refused one."""
    with duckdb.connect() as connection:
        connection.execute(
            "create schema raw; create table raw.deliveries as from (values"
            " (1, 'coupons', 'loaded', 'a'), (2, 'coupons', 'loaded', 'b'), (3, 'coupons', 'refused', 'c'))"
            " as deliveries (delivery_sequence, feed, verdict, sha256);"
            " create schema landed; create table landed.stored_files as from (values"
            " (1, 'coupons/1', '11'), (2, 'coupons/2', '22'), (3, 'coupons/3', '33'))"
            " as files (delivery_sequence, file, sha256)"
        )
        yield connection


ALTERED = {
    "other bytes": "update landed.stored_files set sha256 = '12' where delivery_sequence = 1",
    "a file less": "delete from raw.deliveries where delivery_sequence = 2",
    "a file more": "update raw.deliveries set verdict = 'loaded'",
    "values instead of text": (
        "update landed.stored_files set file = 'coupons/values/1' where delivery_sequence = 1"
    ),
}
"""What can alter what is stored of a feed."""


def test_the_fingerprint_of_a_feed_notices_other_files(stored: duckdb.DuckDBPyConnection) -> None:
    def of_files() -> str:
        return fingerprints_of_files(stored, {"one": feeds()["coupons"]})["one"]

    seen = {of_files()}
    for altered, statement in ALTERED.items():
        stored.execute(statement)
        assert of_files() not in seen, altered
        seen.add(of_files())


def test_what_tests_read_of_feeds_is_known_by_its_files(tests: DataTests) -> None:
    assert [feed.name for feed in tests.feeds.values()] == ["invoices"]


def test_what_was_never_built_has_no_fingerprint() -> None:
    with duckdb.connect() as connection:
        assert fingerprints(connection, {"one": '"there"'}) == {}


def name_of(compiled: CompiledModels, unique_id: str) -> str:
    """The name of a data test."""
    return str(compiled.manifest["nodes"][unique_id]["name"])


def moments() -> list[Moment]:
    """Two days."""
    return [
        Moment(day, datetime.combine(day + timedelta(days=1), datetime.min.time()), 1, None)
        for day in (date(2026, 3, 1), date(2026, 3, 2))
    ]
