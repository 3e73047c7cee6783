"""What a new release can reuse of the one published last: of tables that are the same today, or nearly.

Such a table need not be fingerprinted whole, nor written as Parquet again.
`HOME/build/published.json` records what each table held, by DuckDB's own hash. Nothing depends on that
record: if it is missing, or anything disagrees with it, everything is calculated again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from dagster_project.digests import sha256_of
from dagster_project.releases import files
from dagster_project.releases.fingerprint import (
    METHOD,
    Column,
    Known,
    TableContent,
    literal,
    quote,
)

DATABASE = "before"
"""The name under which the release before is attached."""


@dataclass(frozen=True)
class Copy:
    """The Parquet copy of a mart.

    Attributes:
        sha256: That of its bytes.
        about: What it says of itself, by name.
    """

    sha256: str
    about: Mapping[str, str]


@dataclass(frozen=True)
class Before:
    """The release published last.

    Attributes:
        release_id: Its id.
        tables: What its tables held when it was published, by schema and name.
        copies: The Parquet copies of its marts, by name.
    """

    release_id: str
    tables: Mapping[tuple[str, str], Known]
    copies: Mapping[str, Copy]


def record_path(home: Path) -> Path:
    """Return the file that records what the last release holds."""
    return home / "build" / "published.json"


def remember(
    home: Path,
    release_id: str,
    made_by: str,
    tables: Mapping[tuple[str, str], Known],
    copies: Mapping[str, Copy],
) -> None:
    """Record what a release holds; failing to record it is no failure of the run.

    Args:
        home: The data home.
        release_id: The release.
        made_by: How its files were written: versions and options.
        tables: What each table holds, by schema and name.
        copies: The Parquet copies of its marts, by name.
    """
    record = {
        "release_id": release_id,
        "made_by": made_by,
        "tables": [
            {
                "schema": schema,
                "name": name,
                "fingerprint": known.content.fingerprint,
                "columns": [[column.name, column.type] for column in known.content.columns],
                "hashes": known.hashes,
            }
            for (schema, name), known in tables.items()
        ],
        "copies": {name: [copy.sha256, dict(copy.about)] for name, copy in copies.items()},
    }
    with suppress(OSError):
        record_path(home).write_text(json.dumps(record), "utf-8")  # if cut short, it is not used


def recall(home: Path, made_by: str) -> Before | None:
    """Return the last published release, if it still exists and was written as a new one would be.

    Args:
        home: The data home.
        made_by: How a new release's files are written: versions and options.
    """
    tables = {}
    try:
        record = json.loads(record_path(home).read_text("utf-8"))
        release_id = str(record["release_id"])
        for table in record["tables"]:
            rows, total = map(int, table["hashes"])
            columns = tuple(Column(str(name), str(kind)) for name, kind in table["columns"])
            content = TableContent(rows, str(table["fingerprint"]), columns)
            if content.fingerprint.startswith(METHOD):
                tables[table["schema"], table["name"]] = Known(content, (rows, total))
        copies = {
            str(name): Copy(str(digest), dict(about))
            for name, (digest, about) in record.get("copies", {}).items()
        }
        is_alike = record["made_by"] == made_by and files.is_release_id(release_id)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not is_alike or not files.release_path(home, release_id).is_file():
        return None
    return Before(release_id, tables, copies)


@contextmanager
def attached(
    connection: duckdb.DuckDBPyConnection, home: Path, before: Before | None
) -> Iterator[Before | None]:
    """Attach the release before while it is queried; None if none can be read.

    Only those tables are known of which the record says what the release itself says.
    """
    if before is not None:
        path = literal(str(files.release_path(home, before.release_id)))
        try:
            connection.execute(f"attach {path} as {DATABASE} (read_only)")
        except duckdb.Error:
            before = None
    try:
        yield before and _confirmed(connection, before)
    finally:
        if before is not None:
            with suppress(duckdb.Error):  # the error of an earlier statement is raised instead
                connection.execute(f"detach {DATABASE}")


def _confirmed(connection: duckdb.DuckDBPyConnection, before: Before) -> Before | None:
    """Return what the record and the attached release say alike; None if the release does not say what it holds."""
    try:
        said = connection.execute(
            f"select table_schema, table_name, row_count, fingerprint from {DATABASE}.release.tables"
        ).fetchall()
    except duckdb.Error:
        return None
    tables = {
        (schema, name): known
        for schema, name, rows, fingerprint in said
        if (known := before.tables.get((schema, name))) is not None
        and (known.content.rows, known.content.fingerprint) == (rows, fingerprint)
    }
    return replace(before, tables=tables)


def linked(home: Path, before: Before | None, file: Path, about: Mapping[str, str]) -> Copy | None:
    """Give the Parquet copy of a mart in the release before one more name, if it can be used as it is.

    Its bytes are read and compared with those that were written, so that damage is not passed on.

    Args:
        home: The data home.
        before: The release before, whose mart holds the same rows.
        file: The name, in the folder of the new release.
        about: What the copy must say of itself.

    Returns:
        The copy; None if it must be written.
    """
    copy = before.copies.get(file.stem) if before else None
    if before is None or copy is None or copy.about != about:
        return None
    try:
        os.link(files.parquet_dir(home, before.release_id) / file.name, file)
    except OSError:  # it is gone, or this disk gives a file one name only
        return None
    if sha256_of(file) == copy.sha256:
        return copy
    file.unlink()
    return None


def relation(schema: str, name: str) -> str:
    """Return a table of the attached release, as quoted SQL."""
    return f"{DATABASE}.{quote(schema)}.{quote(name)}"
