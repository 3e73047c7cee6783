"""What the previous build left in the warehouse, from which the next build may carry on.

This module decides whether dbt's models may calculate only what has changed (`macros/carrying_on.sql`) or must
start from nothing. A note in the warehouse says what its models were calculated from. It is removed before a
build begins, and written when the whole build has passed, every data test included. Everything is rebuilt after a
crash or failure, with other code or another DuckDB, for an earlier as-of date, and if deliveries are gone; also after
`MOST_TIMES` builds in a row, because tables from which rows were deleted become fragmented. The note also has the
results of the data tests, with fingerprints of the rows that they read (`standing`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import duckdb

from dagster_project.databases import open_to_write
from dagster_project.quoting import literals, quote
from dagster_project.refresh import standing
from dagster_project.refresh.left_alone import states_of_sources
from dagster_project.refresh.standing import Checked

MOST_TIMES = 30
"""How many builds in a row may carry on."""
MOST_DELETED = 0.25
"""The share of stored rows that may be deleted ones before a build that carries on clears them out."""
_NOTE = "kept.build"


@dataclass(frozen=True)
class Kept:
    """A build to carry on from.

    Attributes:
        delivery_sequence: That of the last delivery it includes.
        as_of_date: Last day whose events count in it.
        times: How many builds have carried on since the last one from nothing.
        sources: The content of its sources, as `states_of_sources` returns it.
        sources_now: Their content now.
        checked: What its data tests found, and fingerprints of the rows that they read.
    """

    delivery_sequence: int
    as_of_date: date
    times: int
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    sources_now: Mapping[str, str] = field(default_factory=dict, compare=False)
    checked: Checked = field(default_factory=Checked, compare=False)

    def as_variable(self) -> dict[str, object]:
        """Return the value of dbt's variable `kept`."""
        return {
            "delivery_sequence": self.delivery_sequence,
            "as_of_date": self.as_of_date.isoformat(),
        }


def take(warehouse: Path, made_by: str, as_of: date) -> Kept | None:
    """Remove the note, and return what a build of this day may carry on from, if anything.

    Args:
        warehouse: The DuckDB file, created by arrival.
        made_by: What calculates the models; see `Project.code_version`.
        as_of: Last day whose events count in the build that begins.
    """
    with open_to_write(warehouse) as connection:
        if not _is_there(connection):
            return None
        [found] = connection.execute(f"from {_NOTE}").fetchall()
        connection.execute(f"drop table {_NOTE}")
        made_by_before, day, last, deliveries, times, *more = found
        is_same = (made_by_before, deliveries) == (_maker(made_by), _loaded(connection, last)[1])
        may = is_same and day <= as_of and times < MOST_TIMES
        if not may or len(more) < 2:  # a note of an earlier version has fewer columns
            return None
        sources, checked = more
        return Kept(
            last,
            day,
            times,
            json.loads(sources),
            states_of_sources(connection),
            standing.read(checked),
        )


def is_left(connection: duckdb.DuckDBPyConnection, made_by: str, as_of: date) -> bool:
    """Return whether every model in the warehouse was calculated for a day, from all loaded deliveries.

    Args:
        connection: The warehouse.
        made_by: What calculates the models.
        as_of: The day.
    """
    if not _is_there(connection):
        return False
    [(made_by_before, day, last, deliveries, *_)] = connection.execute(f"from {_NOTE}").fetchall()
    found = (made_by_before, day, last, deliveries)
    return found == (_maker(made_by), as_of, *_loaded(connection))


def is_fragmented(connection: duckdb.DuckDBPyConnection) -> bool:
    """Return whether so many of the stored rows are deleted that it is worth clearing them out.

    Until then, scans skip them.

    Args:
        connection: Has the databases of a build.
    """
    stored = there = 0
    for *names, rows in connection.execute(
        "select database_name, schema_name, table_name, estimated_size from duckdb_tables()"
        " where not internal"
    ).fetchall():
        table = ".".join(map(quote, names))
        there += connection.execute(f"select count(*) from {table}").fetchall()[0][0]
        stored += rows
    return stored - there > MOST_DELETED * stored


def leave(
    warehouse: Path,
    made_by: str,
    as_of: date,
    before: Kept | None = None,
    checked: Checked | None = None,
) -> None:
    """Note that every model in the warehouse was calculated for this day, from all loaded deliveries.

    Args:
        warehouse: The DuckDB file.
        made_by: What calculated the models.
        as_of: Last day whose events count in them.
        before: The build they carried on from, if any.
        checked: What the data tests found, and fingerprints of the rows that they read.
    """
    with open_to_write(warehouse) as connection:
        last, deliveries = _loaded(connection)
        connection.execute("create schema if not exists kept")
        sources = json.dumps(states_of_sources(connection))
        times = before.times + 1 if before else 0
        of_tests = standing.written(checked or Checked())
        noted = literals([_maker(made_by), as_of, last, deliveries, times, sources, of_tests])
        connection.execute(
            f"create or replace table {_NOTE} as from (values ({noted})) as noted"
            " (made_by, as_of_date, delivery_sequence, deliveries, times, sources, checked)"
        )


def _maker(made_by: str) -> str:
    return f"{made_by}, DuckDB {duckdb.__version__}"


def _is_there(connection: duckdb.DuckDBPyConnection) -> bool:
    return bool(
        connection.execute(
            "select 1 from duckdb_tables() where database_name = current_database()"
            " and schema_name = 'kept' and table_name = 'build'"
        ).fetchall()
    )


def _loaded(connection: duckdb.DuckDBPyConnection, last: int | None = None) -> tuple[int, str]:
    """Return the number of the last loaded delivery and an identifier of all loaded ones, up to `last` if given."""
    [row] = connection.execute(
        "select coalesce(max(delivery_sequence), 0), coalesce(sha256(string_agg("
        "concat_ws(' ', delivery_sequence, delivery_id), ',' order by delivery_sequence)), '')"
        " from raw.deliveries where verdict = 'loaded'"
        + ("" if last is None else f" and delivery_sequence <= {int(last)}")
    ).fetchall()
    return int(row[0]), str(row[1])
