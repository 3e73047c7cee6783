"""Which data tests need not run again: those whose SQL and rows, in the columns that they read, are unchanged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project.feeds import feeds
from dagster_project.refresh.compiled import Moment
from dagster_project.refresh.left_alone import macros_of
from dagster_project.refresh.standing import (
    ALL,
    Checked,
    DataTests,
    fingerprints,
    fingerprints_of_files,
    read,
    written,
)
from dagster_project.releases.gate import Result
from tests.dbt import violations
from tests.dbt.compiled import CompiledModels
from tests.dbt.conftest import Built

THEN = datetime(2026, 3, 1, 5, 0, tzinfo=UTC)
AS_BEFORE, OTHER = {ALL: "as before"}, {ALL: "other rows"}
VIEWS = {"stg_billing__invoices", "stg_billing__workspaces"}
"""Views whose rows depend on nothing but the relations that they read."""
_RELATION = re.compile(r'"warehouse"\."(\w+)"\."(\w+)"')


@pytest.fixture(scope="module")
def tests(compiled: CompiledModels) -> DataTests:
    """The data tests of the project."""
    return DataTests(compiled.manifest)


@pytest.fixture(scope="module")
def before(tests: DataTests) -> Checked:
    """A build in which every test passed."""
    results = dict.fromkeys(tests.reads, Result("pass", 0, THEN))
    return Checked(results, rows=dict.fromkeys(tests.relations, AS_BEFORE))


@pytest.fixture(scope="module")
def columns(built: Built, tests: DataTests) -> dict[str, dict[str, str]]:
    """The columns that the data tests of the project read."""
    queries = {node.unique_id: node.compiled_code for node in built.test_nodes.values()}
    with duckdb.connect(str(built.path), read_only=True) as connection:
        return tests.columns(connection, queries)


def test_what_a_test_is_known_to_read_is_all_that_it_names(
    compiled: CompiledModels, tests: DataTests
) -> None:
    sql = {node.name: node.sql for node in compiled.of_questions.tests}
    views = {name: compiled.of_questions.nodes[name].sql for name in VIEWS}

    def named(query: str) -> set[str]:
        found = set()
        for schema, name in _RELATION.findall(query):
            found |= named(views[name]) if name in views else {f"{schema}.{name}"}
        return found

    for unique_id, reads in tests.reads.items():
        known = {tests.relations[one].replace('"', "").removeprefix("candidate.") for one in reads}
        read = named(sql[name_of(compiled, unique_id)])
        assert read and read <= known, unique_id
        assert not {one.partition(".")[2] for one in known} & VIEWS


def test_if_nothing_has_changed_every_result_stands(tests: DataTests, before: Checked) -> None:
    assert tests.standing(before, before.rows, is_same_day=True) == before.results


def test_a_test_of_rows_that_have_changed_runs(tests: DataTests, before: Checked) -> None:
    for changed in tests.relations:
        now = {**before.rows, changed: OTHER}
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
    known = replace(before, columns={"test": {"one": "a, b"}}, rows={"one": {"a, b": "1 2 3"}})
    assert read(written(known)) == known


def test_nothing_else_is_read_of_what_a_test_names(
    compiled: CompiledModels, tests: DataTests, columns: dict[str, dict[str, str]]
) -> None:
    assert columns.keys() == tests.reads.keys()
    of = {name_of(compiled, one): read for one, read in columns.items()}
    first_bills = of["assert_first_bill_after_end_is_at_list"]
    assert first_bills["model.coupon_ledger.dim_coupon_redemptions"] == (
        "ends_at, is_honoured, redemption_id, started_at, workspace_id"
    )
    read_whole = {
        name_of(compiled, test)
        for test, read in columns.items()
        if not tests.reads[test] - tests.feeds.keys() <= read.keys()
    }
    assert read_whole == {
        "assert_accepted_rows_are_current_records",  # it counts rows, which a plan does not show
        "assert_bridge_agrees_with_charges",
        "assert_invoices_of_later_days_do_not_count",  # it reads invoices through a view
        "assert_outlook_adds_up",
    }


@pytest.mark.parametrize("name", violations.SINGULAR)
def test_a_test_runs_once_its_violation_is_there(
    built: Built, tests: DataTests, columns: dict[str, dict[str, str]], name: str
) -> None:
    must_run_again(built, tests, columns, name, violations.SINGULAR[name])


@pytest.mark.parametrize(("name", "broken"), violations.FURTHER, ids=str)
def test_a_test_runs_whichever_of_its_conditions_is_violated(
    built: Built, tests: DataTests, columns: dict[str, dict[str, str]], name: str, broken: str
) -> None:
    must_run_again(built, tests, columns, name, violations.FURTHER[name, broken])


def must_run_again(
    built: Built,
    tests: DataTests,
    columns: dict[str, dict[str, str]],
    name: str,
    violation: tuple[str, ...],
) -> None:
    """The result of a data test stands while nothing changes, but not once the violation is planted."""
    test = str(built.test_nodes[name].unique_id)
    relations = {
        one: tests.relations[one].removeprefix("candidate.")
        for one in tests.reads[test] - tests.feeds.keys()
    }
    files = dict.fromkeys(tests.reads[test] & tests.feeds.keys(), AS_BEFORE)
    results = {test: Result("pass", 0, THEN)}
    with duckdb.connect(str(built.copy())) as connection:
        rows = fingerprints(connection, relations, columns, {})
        before = Checked(results, columns, rows | files)
        connection.execute("begin")
        assert tests.standing(before, before.rows, is_same_day=True) == results
        for statement in violation:
            connection.execute(statement)
        now = fingerprints(connection, relations, columns, rows)
        connection.execute("rollback")
    assert tests.standing(before, now | files, is_same_day=True) == {}


QUERIES = {
    "of two columns": "select name from warehouse.main.one where amount < 0",
    "of the number of rows": "select count(*) from warehouse.main.one",
    "of all columns": "select * from warehouse.main.one where amount < 0",
    "by a filter alone": "select 1 from warehouse.main.one where note = 'wrong'",
}
WHOLE = {"of all columns", "of the number of rows"}
ROWS = "(values (1, 'a', null, 'x'), (2, 'b', 10.5, 'y'), (2, 'b', 10.5, 'y')) as one (id, name, amount, note)"


@pytest.mark.parametrize(
    ("alteration", "run"),
    [
        ("update one set id = id", set()),
        ("update one set id = 3 where id = 1", WHOLE),
        ("update one set note = 'z' where id = 1", {*WHOLE, "by a filter alone"}),
        ("update one set name = 'c' where id = 1", {*WHOLE, "of two columns"}),
        ("update one set amount = 0 where id = 1", {*WHOLE, "of two columns"}),
        (  # both columns have the same values as before, in other rows
            "update one set name = case name when 'a' then 'b' else 'a' end"
            " where rowid in (select min(rowid) from one group by id)",
            {*WHOLE, "of two columns"},
        ),
        (  # whole rows exchange places, as far as this test reads them
            "update one set id = case id when 1 then 2 else 1 end, note = case note when 'x' then 'y' else 'x' end"
            " where rowid in (select min(rowid) from one group by id)",
            WHOLE,
        ),
        ("delete from one where rowid = (select max(rowid) from one)", QUERIES.keys()),
        ("insert into one from one where id = 1", QUERIES.keys()),
        ("alter table one alter id type bigint", WHOLE),
        ("alter table one add column more integer", WHOLE),
    ],
)
def test_only_what_a_test_reads_makes_it_run(
    alteration: str, run: set[str], tmp_path: Path
) -> None:
    tests = DataTests(manifest_of(QUERIES))
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute(f"create table one as select * from {ROWS}")
        columns = tests.columns(connection, QUERIES)
        rows = fingerprints(connection, tests.relations, columns, {})
        before = Checked(dict.fromkeys(QUERIES, Result("pass", 0, THEN)), columns, rows)
        connection.execute(alteration)
        now = fingerprints(connection, tests.relations, columns, rows)
    standing = tests.standing(before, now, is_same_day=True)
    assert QUERIES.keys() - standing.keys() == run


def test_what_a_test_reads_through_a_view_too_is_read_whole(tmp_path: Path) -> None:
    query = "select id from warehouse.main.one where id in (select id from warehouse.main.shown where note = 'z')"
    manifest = manifest_of({"both": query})
    manifest["nodes"]["model.shown"] = {
        **manifest["nodes"]["model.one"],
        "name": "shown",
        "alias": "shown",
        "raw_code": "",
        "config": {"materialized": "view"},
        "depends_on": {"nodes": ["model.one"]},
    }
    manifest["nodes"]["both"]["depends_on"]["nodes"].append("model.shown")
    tests = DataTests(manifest)
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute(f"create table one as select * from {ROWS}")
        connection.execute("create view shown as select id, note from one")
        columns = tests.columns(connection, {"both": query})
        rows = fingerprints(connection, tests.relations, columns, {})
        before = Checked({"both": Result("pass", 0, THEN)}, columns, rows)
        assert tests.standing(before, rows, is_same_day=True) == before.results
        connection.execute("update one set note = 'z' where id = 1")
        now = fingerprints(connection, tests.relations, columns, rows)
    assert tests.standing(before, now, is_same_day=True) == {}


def manifest_of(queries: dict[str, str]) -> dict[str, Any]:
    """The manifest of a project with one model and some data tests on it."""
    model = {
        "resource_type": "model",
        "name": "one",
        "alias": "one",
        "schema": "main",
        "config": {},
    }
    nodes = {
        name: {
            "resource_type": "test",
            "name": name,
            "raw_code": query,
            "config": {},
            "depends_on": {"nodes": ["model.one"]},
        }
        for name, query in queries.items()
    }
    return {
        "metadata": {"project_name": "any"},
        "macros": {},
        "sources": {},
        "nodes": {"model.one": model, **nodes},
    }


def test_if_all_columns_are_unchanged_sets_of_columns_are_not_read_again() -> None:
    columns = {"test": {"one": "id"}}
    with duckdb.connect() as connection:
        connection.execute("create table there as select 1 as id, 2 as amount")
        rows = fingerprints(connection, {"one": "there"}, columns, {})
        assert rows["one"].keys() == {ALL, "id"}
        known = {"one": {**rows["one"], "id": "known"}}
        assert fingerprints(connection, {"one": "there"}, columns, known) == known
        connection.execute("update there set amount = 3")
        now = fingerprints(connection, {"one": "there"}, columns, known)
    assert now["one"]["id"] == rows["one"]["id"] and now["one"][ALL] != rows["one"][ALL]


def test_in_a_large_table_with_more_rows_no_columns_are_read_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its tests run on that day, and stand on the next if no row has changed."""
    monkeypatch.setattr("dagster_project.refresh.standing.MANY", 3)
    queries = {"of two columns": QUERIES["of two columns"]}
    tests = DataTests(manifest_of(queries))
    results = {"of two columns": Result("pass", 0, THEN)}
    columns = {"of two columns": {"model.one": "amount, name"}}
    with duckdb.connect() as connection:
        connection.execute(f"create schema if not exists main; create table one as from {ROWS}")
        read = partial(fingerprints, connection, tests.relations, columns)
        first = read({})
        connection.execute("insert into one from one limit 1")
        second = read(first)
        assert second["model.one"].keys() == {ALL}
        assert tests.standing(Checked(results, columns, first), second, is_same_day=True) == {}
        third = read(second)
        before = Checked(results, columns, second)
        assert tests.standing(before, third, is_same_day=True) == results
        connection.execute("update one set note = 'z'")
        fourth = read(third)
        assert fourth["model.one"].keys() == {ALL, "amount, name"}
        assert tests.standing(before, fourth, is_same_day=True) == {}
        connection.execute("update one set note = 'w'")
        before = Checked(results, columns, fourth)
        assert tests.standing(before, read(fourth), is_same_day=True) == results
        connection.execute("delete from one where rowid = (select max(rowid) from one)")
        assert read(fourth)["model.one"].keys() == {ALL, "amount, name"}, "three rows are few"


def test_if_rows_were_added_only_these_are_read() -> None:
    columns = {"test": {"one": "id"}, "other": {"one": "amount"}}
    with duckdb.connect() as connection:
        connection.execute(
            "create table there as select i as id, 2 as amount from range(5) as _ (i)"
        )
        read = partial(fingerprints, connection, {"one": "there"}, columns)
        first = read({})
        connection.execute("insert into there values (7, null), (8, 3)")
        whole = read({})
        assert read(first, {"one": "id > 4"}) == whole
        assert read(first, {"one": "id > 7"}) != whole
        assert read(whole, {"one": "id > 8"}) == whole, "no rows came"
        known = {"one": {part: first["one"][part] for part in (ALL, "id")}}
        assert read(known, {"one": "id > 4"})["one"].keys() == {ALL, "id"}


@cache
def fingerprint_of(relation: str) -> str:
    """The fingerprint of a relation's rows."""
    with duckdb.connect() as connection:
        connection.execute(f"create table there as select * from {relation}")
        return fingerprints(connection, {"one": '"there"'}, {}, {})["one"][ALL]


@pytest.mark.parametrize(
    "altered",
    [
        f"(from {ROWS} where id = 1)",
        f"(select distinct * from {ROWS})",
        f"(from {ROWS} union all from {ROWS})",
        f"(select * replace (coalesce(amount, 0) as amount) from {ROWS})",
        f"(select * replace (name || ' ' as name) from {ROWS})",
        f"(select id, amount, name, note from {ROWS})",
        f"(select * rename (name as title) from {ROWS})",
        f"(select * replace (cast(id as bigint) as id) from {ROWS})",
        "(values (1, 'b', null, 'x'), (2, 'a', 10.5, 'y'), (2, 'b', 10.5, 'y')) as one (id, name, amount, note)",
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
"""Statements that alter what is stored for a feed."""


def test_the_fingerprint_of_a_feed_notices_other_files(stored: duckdb.DuckDBPyConnection) -> None:
    def of_files() -> str:
        return fingerprints_of_files(stored, {"one": feeds()["coupons"]})["one"][ALL]

    seen = {of_files()}
    for altered, statement in ALTERED.items():
        stored.execute(statement)
        assert of_files() not in seen, altered
        seen.add(of_files())


def test_what_tests_read_of_feeds_is_known_by_its_files(tests: DataTests) -> None:
    assert [feed.name for feed in tests.feeds.values()] == ["invoices"]


def test_a_kept_table_loses_rows_by_one_statement_which_says_how_many(
    compiled: CompiledModels,
) -> None:
    macros = macros_of(compiled.manifest)
    hooks = [
        hook["sql"]
        for node in compiled.manifest["nodes"].values()
        if node["config"].get("materialized") == "incremental"
        for hook in node["config"]["pre-hook"]
    ]
    assert len(hooks) > 15
    for hook in hooks:
        called = re.fullmatch(r"\{\{ (forget_\w+)\(this[^()]*\) \}\}", hook)
        assert called, hook
        macro = macros[called[1]]
        assert macro.count("delete from") == 1 and ";" not in macro


def test_what_was_never_built_has_no_fingerprint() -> None:
    with duckdb.connect() as connection:
        assert fingerprints(connection, {"one": '"there"'}, {}, {}) == {}


def test_what_lacks_a_column_has_no_fingerprint_of_it() -> None:
    columns = {"test": {"one": "amount, id"}, "other": {"one": "id"}}
    with duckdb.connect() as connection:
        connection.execute("create table there as select 1 as id, 2 as amount")
        rows = fingerprints(connection, {"one": "there"}, columns, {})
        connection.execute("alter table there drop column amount")
        for before in ({}, rows):
            now = fingerprints(connection, {"one": "there"}, columns, before)["one"]
            assert now.keys() == {ALL, "id"} and now["id"] == rows["one"]["id"]
            assert now[ALL] != rows["one"][ALL]


def test_what_is_damaged_has_no_fingerprint(tmp_path: Path) -> None:
    path, relations = tmp_path / "warehouse.duckdb", {"one": "damaged", "other": "whole"}
    with duckdb.connect(str(path)) as connection:
        for name in relations.values():
            connection.execute(
                f"create table {name} as select hash(i) as id from range(9000) as _ (i)"
            )
            connection.execute("checkpoint")
        rows = fingerprints(connection, relations, {}, {})
        [(block,)] = connection.execute(
            "select max(block_id) from pragma_storage_info('damaged') where segment_type = 'UBIGINT'"
        ).fetchall()
    with path.open("r+b") as file:
        file.seek(3 * 4096 + block * 256 * 1024 + 1000)
        file.write(b"damaged")
    assert rows.keys() == relations.keys()
    with duckdb.connect(str(path)) as connection:
        assert fingerprints(connection, relations, {}, rows) == {"other": rows["other"]}


def name_of(compiled: CompiledModels, unique_id: str) -> str:
    """The name of a data test."""
    return str(compiled.manifest["nodes"][unique_id]["name"])


def moments() -> list[Moment]:
    """Two days."""
    return [
        Moment(day, datetime.combine(day + timedelta(days=1), datetime.min.time()), 1, None)
        for day in (date(2026, 3, 1), date(2026, 3, 2))
    ]
