"""Which data tests need not run again, because they passed over exactly the rows that are there now.

The result of a data test depends on its code, on the rows that it reads, in the columns that it reads, and, if its
SQL names the as-of date, on that date. A build that carries on has the same code as the previous build
(`carrying_on`). After the tests of a build, the tables that they read are fingerprinted. After the models of the next
build, the tables that may have changed are fingerprinted again; of a table that keeps all its rows, only the new rows
are read. If all fingerprints that a test depends on are unchanged, its result stands. In a build from nothing, every
test runs.

A fingerprint is the number of rows and the sum of DuckDB's hashes of them. Sums are comparable within one version of
DuckDB only; with another version, a build starts from nothing. Each table has one fingerprint of all columns, which
also reveals a change from outside, and one of each set of columns that a test reads (`columns_read`). The values of a
row are hashed together, so rows that exchange values change the fingerprint. For the rows of a feed, the digests of
their files are used instead, at a fifth of the cost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Final

import duckdb

from dagster_project.arrival.warehouse import digests_of
from dagster_project.feeds import Feed, feeds
from dagster_project.quoting import quote
from dagster_project.refresh.columns_read import columns_read, without_rows
from dagster_project.refresh.left_alone import (
    depends_on_build,
    macros_of,
    names_day,
    parents_of,
    texts_of,
)
from dagster_project.releases import candidate
from dagster_project.releases.fingerprint import Column, columns_of, sums_of_hashes, tables_of
from dagster_project.releases.gate import Result

Rows = Mapping[str, Mapping[str, str]]
"""Fingerprints of rows by unique id of the model, seed or source, then by the columns that they cover."""
Columns = Mapping[str, Mapping[str, str]]
"""The columns that tests read, separated by commas, by unique id of the test, then of the model, seed or source. A test
reads all columns of one that is not named."""
ALL: Final = "*"
"""Stands for all columns."""
MANY: Final = 2_000_000
"""The number of rows above which a table whose number of rows has changed gets no fingerprints of some of its columns.
Each of them reads the whole table, and none can be unchanged."""
_PASSED: Final = ("pass", "warn")


@dataclass(frozen=True)
class Checked:
    """What the data tests of a build found.

    Attributes:
        results: Their results by unique id.
        columns: The columns that they read.
        rows: Fingerprints of the rows that they read.
    """

    results: Mapping[str, Result] = field(default_factory=dict)
    columns: Columns = field(default_factory=dict)
    rows: Rows = field(default_factory=dict)


class DataTests:
    """The data tests of the project, each with what its result depends on.

    Attributes:
        reads: Unique ids of the models, seeds and sources whose rows each test reads, by the test's unique id. A view
            whose rows depend on nothing but the relations that it reads is replaced by these relations.
    """

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        """Find the data tests in dbt's manifest."""
        nodes = manifest["nodes"]
        macros = macros_of(manifest)
        by_name = {
            str(node["name"]): unique_id
            for unique_id, node in nodes.items()
            if node["resource_type"] in ("model", "seed")
        }
        of_views = {  # the relations that each view reads, if its rows depend on nothing else
            unique_id: parents_of(node, texts, by_name)
            for unique_id, node in nodes.items()
            if node["resource_type"] == "model" and node["config"].get("materialized") == "view"
            for texts in [list(texts_of(node, macros))]
            if not names_day(texts) and not depends_on_build(texts)
        }
        self._manifest = manifest
        self._of_day: set[str] = set()
        self._of_build: set[str] = set()
        self._in_views: dict[str, set[str]] = {}  # what each test reads through views
        self.reads: dict[str, frozenset[str]] = {}
        for unique_id, node in nodes.items():
            if node["resource_type"] != "test":
                continue
            texts = list(texts_of(node, macros))
            reads = parents_of(node, texts, by_name)
            in_views: set[str] = set()
            while views := reads & of_views.keys():
                read = set().union(*(of_views[one] for one in views))
                in_views |= read
                reads = (reads | read) - views
            self._in_views[unique_id] = in_views
            self.reads[unique_id] = frozenset(reads)
            if names_day(texts):
                self._of_day.add(unique_id)
            if depends_on_build(texts):
                self._of_build.add(unique_id)

    @cached_property
    def relations(self) -> dict[str, str]:
        """The relations that tests read, as quoted SQL by unique id."""
        found = {}
        for unique_id in sorted(set().union(*self.reads.values())):
            node, name = self._node(unique_id), self._name(unique_id)
            is_feed = node["resource_type"] == "source" and name in feeds()
            schema = "landed" if is_feed else node["schema"]  # as arrival stored them
            found[unique_id] = f"{quote(schema)}.{quote(name)}"
            if node.get("database") == candidate.DATABASE:
                found[unique_id] = f"{candidate.DATABASE}.{found[unique_id]}"
        return found

    def _node(self, unique_id: str) -> Mapping[str, Any]:
        node = self._manifest["sources" if unique_id.startswith("source.") else "nodes"][unique_id]
        assert isinstance(node, Mapping)
        return node

    def _name(self, unique_id: str) -> str:
        node = self._node(unique_id)
        return str(node.get("alias") or node["identifier"])

    @cached_property
    def feeds(self) -> dict[str, Feed]:
        """The feeds that tests read, by unique id."""
        names = {one: one.rpartition(".")[2] for one in self.relations if one.startswith("source.")}
        return {one: feeds()[name] for one, name in names.items() if name in feeds()}

    def columns(
        self, connection: duckdb.DuckDBPyConnection, queries: Mapping[str, str]
    ) -> dict[str, dict[str, str]]:
        """Return the columns that tests read, as far as the plans of their queries show them.

        A relation that a test reads through a view gets no entry: the plan shows only the columns that the test
        reads from it directly.

        Args:
            connection: Has the databases of a build.
            queries: Compiled SQL by unique id of the test.
        """
        databases = connection.execute(
            "select database_name from duckdb_databases() where not internal"
        ).fetchall()
        tables = {database: tables_of(connection, database) for (database,) in databases}
        there = {
            name: {column.name for column in columns}
            for of_database in tables.values()
            for (_, name), columns in of_database.items()
        }
        found = {}
        with without_rows(tables) as emptied:
            for test, query in queries.items():
                read = columns_read(emptied, query)
                found[test] = {
                    one: ", ".join(read[name])
                    for one in self.reads[test] - self.feeds.keys() - self._in_views[test]
                    if (name := self._name(one)) in read and set(read[name]) < there[name]
                }
        return found

    def standing(self, before: Checked, rows: Rows, *, is_same_day: bool) -> dict[str, Result]:
        """Return the results that still hold, by unique id.

        Args:
            before: What the previous build found.
            rows: Fingerprints of the rows that are there now.
            is_same_day: Whether the previous build had the same as-of date.
        """
        return {
            unique_id: before.results[unique_id]
            for unique_id, reads in self.reads.items()
            if unique_id in before.results
            and before.results[unique_id].status in _PASSED
            and unique_id not in self._of_build
            and (is_same_day or unique_id not in self._of_day)
            and reads
            and all(
                _is_any_same(before.rows.get(one, {}), rows.get(one, {}), (ALL, columns))
                for one in reads
                for columns in [before.columns.get(unique_id, {}).get(one, ALL)]
            )
        }


def _is_any_same(before: Mapping[str, str], now: Mapping[str, str], parts: Iterable[str]) -> bool:
    return any(part in now and before.get(part) == now[part] for part in parts)


def fingerprints(
    connection: duckdb.DuckDBPyConnection,
    relations: Mapping[str, str],
    columns: Columns,
    before: Rows,
    added: Mapping[str, str] | None = None,
) -> dict[str, Mapping[str, str]]:
    """Return the fingerprints of the rows of each relation that exists and can be read.

    Args:
        connection: The warehouse.
        relations: Relations as quoted SQL, by unique id.
        columns: The columns that tests read.
        before: Earlier fingerprints. If that of all columns is unchanged, the others of the relation are taken over.
        added: SQL conditions by unique id, for relations that still have all rows of their earlier fingerprints: which
            rows were added since. Only these rows are read.
    """
    added = added or {}
    found: dict[str, Mapping[str, str]] = {}
    for unique_id, relation in relations.items():
        # Skip a relation that was never built, or whose blocks are damaged.
        with suppress(duckdb.CatalogException, duckdb.IOException):
            found[unique_id] = _fingerprints_of(
                connection,
                unique_id,
                relation,
                columns,
                before.get(unique_id),
                added.get(unique_id),
            )
    return found


def _fingerprints_of(
    connection: duckdb.DuckDBPyConnection,
    unique_id: str,
    relation: str,
    columns: Columns,
    known: Mapping[str, str] | None,
    added: str | None,
) -> Mapping[str, str]:
    there = {column.name: column for column in columns_of(connection, relation)}
    whole: dict[str, Sequence[Column]] = {ALL: [*there.values()]}
    parts = {
        part: [there[name] for name in part.split(", ")]
        for part in sorted({read[unique_id] for read in columns.values() if unique_id in read})
        if there.keys() >= {*part.split(", ")}
    }
    if known is None:
        return _fingerprints(connection, relation, whole | parts)
    if added is not None:
        came = f"(select * from {relation} where {added})"
        return _added_up(known, _fingerprints(connection, came, whole | parts))
    now = _fingerprints(connection, relation, whole)
    if now[ALL] == known[ALL]:
        return known
    rows, _ = rows_and_hashes(now)
    if rows > MANY and rows != rows_and_hashes(known)[0]:
        return now
    return now | _fingerprints(connection, relation, parts)


def _fingerprints(
    connection: duckdb.DuckDBPyConnection, relation: str, parts: Mapping[str, Sequence[Column]]
) -> dict[str, str]:
    """Return fingerprints of the rows of a relation, one for each set of columns, by the name of the set."""
    if not parts:
        return {}
    rows, *sums = sums_of_hashes(connection, relation, [*parts.values()])
    found = {}
    for (part, columns), hashes in zip(parts.items(), sums, strict=True):
        types = json.dumps([[column.name, column.type] for column in columns])
        found[part] = f"{rows} {hashes} {hashlib.sha256(types.encode()).hexdigest()[:16]}"
    return found


def _added_up(known: Mapping[str, str], came: Mapping[str, str]) -> dict[str, str]:
    """Return the fingerprints of known and added rows together, for the sets of columns that both have."""
    found = {}
    for part in known.keys() & came.keys():
        rows, hashes, types = known[part].split()
        more_rows, more_hashes, _ = came[part].split()
        found[part] = f"{int(rows) + int(more_rows)} {int(hashes) + int(more_hashes)} {types}"
    return found


def fingerprints_of_files(
    connection: duckdb.DuckDBPyConnection, read: Mapping[str, Feed]
) -> dict[str, Mapping[str, str]]:
    """Return a fingerprint of the files in which arrival stored the rows of each feed.

    The files are not read. Every arrival verifies that they are unchanged; otherwise everything starts from nothing.

    Args:
        connection: The warehouse.
        read: Feeds by unique id.
    """
    found: dict[str, Mapping[str, str]] = {}
    for unique_id, feed in read.items():
        files = "".join(f"{name} {sha256}\n" for name, sha256 in digests_of(connection, feed))
        found[unique_id] = {ALL: hashlib.sha256(files.encode()).hexdigest()}
    return found


def rows_and_hashes(fingerprints: Mapping[str, str]) -> tuple[int, int]:
    """Return the number of rows of a table and the sum of their hashes, from its fingerprints."""
    rows, hashes, _ = fingerprints[ALL].split()
    return int(rows), int(hashes)


def written(checked: Checked) -> str:
    """Return what tests found as JSON."""
    results = {
        unique_id: [result.status, result.failures, result.checked_at.isoformat()]
        for unique_id, result in checked.results.items()
    }
    return json.dumps({"results": results, "columns": checked.columns, "rows": checked.rows})


def read(text: str) -> Checked:
    """Return what tests found, from text that `written` returned."""
    content = json.loads(text)
    results = {
        unique_id: Result(status, failures, datetime.fromisoformat(checked_at))
        for unique_id, (status, failures, checked_at) in content["results"].items()
    }
    return Checked(results, content["columns"], content["rows"])
