"""The candidate: the DuckDB file of a build's marts, which becomes a release once they have passed their checks.

dbt builds the marts into this file, and publication copies it instead of writing the rows again. So it has the
storage format of a release, and holds nothing that a release may not show.
"""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

from dagster_project.databases import open_to_write
from dagster_project.quoting import literal
from dagster_project.releases.files import log_of

DATABASE = "candidate"
"""The name under which the file is attached."""
STORAGE_VERSION = "v1.4.0"  # the oldest version that ignores the log of another file
_FEW_BLOCKS = 64  # of 256 KiB each: less free space is not worth a copy


def begin(path: Path) -> None:
    """Replace the file with an empty one.

    Args:
        path: The file.
    """
    _remove(path)
    with duckdb.connect() as connection:
        attach_new(connection, path, DATABASE)
        connection.execute(f"create schema {DATABASE}.marts")


def attach_new(connection: duckdb.DuckDBPyConnection, path: Path, database: str) -> None:
    """Attach a new file in the storage format of a release.

    Args:
        connection: Gets the file.
        path: The file, which does not exist yet.
        database: The name of its database.
    """
    connection.execute(
        f"attach {literal(str(path))} as {database} (storage_version {literal(STORAGE_VERSION)})"
    )


def attach(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Attach the file for reading, after a checkpoint of its write-ahead log, if it has one.

    Args:
        connection: Gets the file as the database `candidate`.
        path: The file.
    """
    if log_of(path).exists():  # a copy of the file alone would lack it
        with open_to_write(path) as writing:
            writing.execute("checkpoint")
    connection.execute(f"attach {literal(str(path))} as {DATABASE} (read_only)")


def can_be_read(path: Path) -> bool:
    """Return whether the file exists and is a DuckDB file; its rows are not read.

    Args:
        path: The file.
    """
    if not path.is_file():
        return False
    try:
        with duckdb.connect() as connection:
            attach(connection, path)
    except duckdb.Error:
        return False
    return True


def attach_compact(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Attach the file for reading, compacted first if much of it is free space, which a copy would have too.

    Args:
        connection: Gets the file as the database `candidate`; nothing that it stores may be in use.
        path: The file.
    """
    compact = path.with_name(f"{path.stem}-compact{path.suffix}")
    _remove(compact)  # left by a process that was killed
    attach(connection, path)
    [(total, free)] = connection.execute(
        "select total_blocks, free_blocks from pragma_database_size()"
        f" where database_name = {literal(DATABASE)}"
    ).fetchall()
    if free < _FEW_BLOCKS or 3 * free < total:
        return
    try:
        attach_new(connection, compact, "compact")
        connection.execute(
            f"copy from database {DATABASE} to compact; detach compact; detach {DATABASE}"
        )
        os.replace(compact, path)
    except BaseException:
        _remove(compact)  # otherwise, a full disk would stay full
        raise
    attach(connection, path)


def _remove(path: Path) -> None:
    for one in (path, log_of(path)):
        one.unlink(missing_ok=True)
