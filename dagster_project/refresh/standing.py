"""Which data tests need not run again, since they passed over the very rows that are there now.

A data test depends on its code, on the rows of what it reads and, if its SQL names the as-of date, on that
date. The code is that of the build before, or no build would carry on (`carrying_on`). When the tests of a
build have passed, the rows that they read are fingerprinted table by table; when the models of the next build
are there, the rows are fingerprinted again. Where all fingerprints that concern a test are the same, its result
stands. After a build from nothing, every test runs.

A fingerprint is the number of rows and the sum of DuckDB's hashes of them, which is comparable within one version
of DuckDB; with another version a build starts from nothing. The rows of a feed are in files, of which a digest costs
a fifth.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import duckdb

from dagster_project.arrival.warehouse import digests_of
from dagster_project.feeds import Feed, feeds
from dagster_project.refresh.left_alone import (
    depends_on_build,
    macros_of,
    names_day,
    parents_of,
    texts_of,
)
from dagster_project.releases import candidate
from dagster_project.releases.fingerprint import columns_of, quote, sum_of_hashes
from dagster_project.releases.gate import Result

_PASSED = ("pass", "warn")


@dataclass(frozen=True)
class Checked:
    """What the data tests of a build found.

    Attributes:
        results: Their results by unique id.
        rows: Fingerprints of the rows that they read, by unique id of what holds the rows.
    """

    results: Mapping[str, Result] = field(default_factory=dict)
    rows: Mapping[str, str] = field(default_factory=dict)


class DataTests:
    """The data tests of the project, each with what its result depends on.

    Attributes:
        reads: Unique ids of the models, seeds and sources that each test reads, by the test's unique id.
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
        self._manifest = manifest
        self._of_day: set[str] = set()
        self._of_build: set[str] = set()
        self.reads: dict[str, frozenset[str]] = {}
        for unique_id, node in nodes.items():
            if node["resource_type"] != "test":
                continue
            texts = list(texts_of(node, macros))
            self.reads[unique_id] = frozenset(parents_of(node, texts, by_name))
            if names_day(texts):
                self._of_day.add(unique_id)
            if depends_on_build(texts):
                self._of_build.add(unique_id)

    @cached_property
    def relations(self) -> dict[str, str]:
        """Everything that tests read, by unique id, as quoted SQL."""
        found = {}
        for unique_id in sorted(set().union(*self.reads.values())):
            nodes = self._manifest["sources" if unique_id.startswith("source.") else "nodes"]
            node = nodes[unique_id]
            name = node.get("alias") or node["identifier"]
            is_feed = node["resource_type"] == "source" and name in feeds()
            schema = "landed" if is_feed else node["schema"]  # as arrival stored them
            found[unique_id] = f"{quote(schema)}.{quote(name)}"
            if node["database"] == candidate.DATABASE:
                found[unique_id] = f"{candidate.DATABASE}.{found[unique_id]}"
        return found

    @cached_property
    def feeds(self) -> dict[str, Feed]:
        """The feeds among what tests read, by unique id."""
        names = {one: one.rpartition(".")[2] for one in self.relations if one.startswith("source.")}
        return {one: feeds()[name] for one, name in names.items() if name in feeds()}

    def standing(
        self, before: Checked, rows: Mapping[str, str], *, is_same_day: bool
    ) -> dict[str, Result]:
        """Return the results that still hold, by unique id.

        Args:
            before: What the build before found.
            rows: Fingerprints of the rows that are there now.
            is_same_day: Whether the build before had the same as-of date.
        """
        return {
            unique_id: before.results[unique_id]
            for unique_id, reads in self.reads.items()
            if unique_id in before.results
            and before.results[unique_id].status in _PASSED
            and unique_id not in self._of_build
            and (is_same_day or unique_id not in self._of_day)
            and reads
            and all(one in rows and before.rows.get(one) == rows[one] for one in reads)
        }


def fingerprints(
    connection: duckdb.DuckDBPyConnection, relations: Mapping[str, str]
) -> dict[str, str]:
    """Return a fingerprint of the rows of each relation that is there.

    Args:
        connection: The warehouse.
        relations: Relations as quoted SQL, by unique id.
    """
    found = {}
    for unique_id, relation in relations.items():
        try:
            columns = columns_of(connection, relation)
        except duckdb.CatalogException:  # it was never built
            continue
        rows, hashes = sum_of_hashes(connection, relation, columns)
        types = json.dumps([[column.name, column.type] for column in columns])
        found[unique_id] = f"{rows} {hashes} {hashlib.sha256(types.encode()).hexdigest()[:16]}"
    return found


def fingerprints_of_files(
    connection: duckdb.DuckDBPyConnection, read: Mapping[str, Feed]
) -> dict[str, str]:
    """Return a fingerprint of the files of each feed, in which its rows are, as arrival stored them.

    The files are not read: every arrival makes sure that they are what was stored, or everything starts from nothing.

    Args:
        connection: The warehouse.
        read: Feeds by unique id.
    """
    found = {}
    for unique_id, feed in read.items():
        files = "".join(f"{name} {sha256}\n" for name, sha256 in digests_of(connection, feed))
        found[unique_id] = hashlib.sha256(files.encode()).hexdigest()
    return found


def rows_and_hashes(fingerprint: str) -> tuple[int, int]:
    """Return the number of rows and the sum of their hashes in the fingerprint of a table."""
    rows, hashes, _ = fingerprint.split()
    return int(rows), int(hashes)


def written(checked: Checked) -> str:
    """Return what tests found as text."""
    results = {
        unique_id: [result.status, result.failures, result.checked_at.isoformat()]
        for unique_id, result in checked.results.items()
    }
    return json.dumps({"results": results, "rows": dict(checked.rows)})


def read(text: str) -> Checked:
    """Return what tests found, from text that `written` returned."""
    content = json.loads(text)
    results = {
        unique_id: Result(status, failures, datetime.fromisoformat(checked_at))
        for unique_id, (status, failures, checked_at) in content["results"].items()
    }
    return Checked(results, content["rows"])
