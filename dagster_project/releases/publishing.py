"""Publication: a checked build becomes a new file, is read back, and only then becomes current.

The order matters and is defined in `publish`: gate, copy aside, checkpoint, read back and compare, make
durable, rename, flip. If the process is killed at any point, the current release stays current and whole.

The new file begins as a copy of the candidate, the file into which the marts were built (`writing`). What a mart built
on DuckDB must hold is known from the fingerprint taken when the data tests passed, so its rows are not read again for
that. The Parquet copy of an unchanged mart is a hard link to that of the previous release (`reuse`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb

from dagster_project.databases import NO_VACUUM
from dagster_project.home import fsync_file, fsync_folder
from dagster_project.quoting import literal
from dagster_project.releases import candidate, files, restatements, reuse
from dagster_project.releases.contents import (
    Table,
    mart_tables,
    pedigree_contents,
    restatements_table,
)
from dagster_project.releases.errors import PublishRefused, ReleaseError
from dagster_project.releases.fingerprint import (
    TableContent,
    columns_of,
    content_from,
    content_hash_of,
    content_of,
)
from dagster_project.releases.gate import Build, Check, judge
from dagster_project.releases.machine import explained
from dagster_project.releases.read import read_pedigree, verify
from dagster_project.releases.writing import (
    GATE_RESULTS,
    MADE_BY,
    has_gate_results,
    read_back,
    write,
    write_about,
    write_parquet,
    write_report,
)


@dataclass(frozen=True)
class Publication:
    """What a publication did.

    Attributes:
        release_id: The release now current.
        path: Its file.
        is_new: False if the content was recognised as that of an existing release.
        rows: Rows by mart.
        checks: The data tests of the build.
        without_report: Why it has no report although one was asked for; empty otherwise.
    """

    release_id: str
    path: Path
    is_new: bool
    rows: Mapping[str, int]
    checks: tuple[Check, ...]
    without_report: str = ""


def publish(
    home: Path,
    *,
    marts: Path,
    built: Path,
    as_of: date,
    build: Build,
    manifest: Mapping[str, Any],
    now: datetime,
    code_version: str,
    engine: str = "duckdb",
    reporting_time_zone: str = "UTC",
    threads: int = 2,
    memory_limit: str = "4GB",
    report: Callable[[duckdb.DuckDBPyConnection], str] | None = None,
) -> Publication:
    """Publish a build as a new release, or recognise that a release has its content already.

    The caller holds the data home's lock (`one_writer`).

    Args:
        home: The data home.
        marts: The DuckDB file of the candidate (`candidate`), with the marts.
        built: The DuckDB file with what the build has besides these.
        as_of: Last day whose events count in this build.
        build: The build that made the marts, for the gate.
        manifest: dbt's manifest: which marts there are, their keys and descriptions.
        now: When this happens, for the id and the record.
        code_version: What calculated the marts.
        engine: The engine that did.
        reporting_time_zone: Where days and months began in it.
        threads: DuckDB's threads.
        memory_limit: DuckDB's memory limit.
        report: Makes the report that is stored beside the Parquet files; no report unless given.

    Raises:
        PublishRefused: The build did not pass its checks.
        ReleaseError: Writing or reading back failed. The current release stays current.
    """
    judgement = judge(build, manifest, as_of)
    if judgement.problems:
        raise PublishRefused(judgement.problems)
    remedy = f"Run again; if it fails in the same way, delete {home / 'build'}, which is rebuilt."
    with (
        explained(home, "Publication failed", remedy),
        _engine(home, threads, memory_limit) as connection,
    ):
        files.releases_dir(home).mkdir(parents=True, exist_ok=True)
        files.remove_leftovers(home)
        _remember_unrecorded(home, now)
        candidate.attach_compact(connection, marts)
        connection.execute(f"attach {literal(str(built))} as build (read_only)")
        promised = mart_tables(manifest)
        restatements.compute(
            connection, home, {mart.name: mart.key for mart in promised}, reporting_time_zone
        )
        listed = sorted([*promised, restatements_table()], key=lambda table: table.name)
        contents = {
            table: _examined(connection, table, build.tested.get(table.unique_id))
            for table in [*listed, *pedigree_contents()]
        }
        described = {(table.schema, table.name): content for table, content in contents.items()}
        content_hash = content_hash_of(as_of, code_version, engine, described, reporting_time_zone)
        rows = {table.name: contents[table].rows for table in listed}
        existing = _already_there(home, content_hash)
        if existing is not None:
            if existing != files.current_release(home):
                files.flip(home, existing)
                files.remember(home, "served again", existing, now)
            path = files.release_path(home, existing)
            return Publication(existing, path, False, rows, judgement.checks)
        release_id = files.next_release_id(home, now, content_hash)
        checks = [*judgement.checks, *_gate_results(connection)]
        facts: dict[str, object] = {
            "release_id": release_id,
            "as_of_date": as_of,
            "created_at": now.astimezone(UTC).replace(tzinfo=None),
            "code_version": code_version,
            "engine": engine,
            "reporting_time_zone": reporting_time_zone,
            "content_hash": content_hash,
            "duckdb_version": duckdb.__version__,
            "dbt_invocation_id": ", ".join(build.invocations) or None,
        }
        temporary = files.temporary_dir(home, release_id)
        database = temporary / files.DATABASE_NAME
        try:
            temporary.mkdir()
            temporary.chmod(files.FOLDER_MODE)
            write(connection, database, marts, contents, facts, checks)
            read_back(connection, database, contents)
            before = reuse.recall(home, MADE_BY)
            copies = write_parquet(connection, home, temporary, contents, before)
            write_about(temporary, facts)
            without_report = write_report(temporary, report) if report else ""
        except BaseException:
            files.remove_leftovers(home)
            raise
        serve(home, release_id)
        files.remember(home, "published", release_id, now, content_hash=content_hash)
        reuse.remember(home, release_id, MADE_BY, copies)
    path = files.release_path(home, release_id)
    return Publication(release_id, path, True, rows, judgement.checks, without_report)


def _examined(
    connection: duckdb.DuckDBPyConnection, table: Table, tested: tuple[int, int] | None
) -> TableContent:
    """Return the content of a table of the build, without reading its rows if their hashes are known.

    Args:
        connection: Where the build and the candidate are attached.
        table: The table.
        tested: Number of the rows over which the data tests passed, and sum of their hashes, if known.

    Raises:
        ReleaseError: There is no such table, or its columns cannot be published.
    """
    try:
        if tested is None:
            return content_of(connection, table.selected)
        return content_from(*tested, columns_of(connection, table.selected))
    except duckdb.CatalogException as error:
        raise ReleaseError(
            f"The build has no table {table.source}: {error}", "Run the refresh again."
        ) from error
    except ValueError as error:
        raise ReleaseError(f"Table {table.name}: {error}") from error


def _already_there(home: Path, content_hash: str) -> str | None:
    """Return the current or the newest release, if its content equals the given one and it is undamaged."""
    current = files.current_release(home)
    newest = files.release_ids(home)[-1:]
    for release_id in dict.fromkeys([*([current] if current else []), *newest]):
        try:
            if read_pedigree(home, release_id)["content_hash"] == content_hash:
                verify(home, release_id).raise_unless_sound()
                return release_id
        except (duckdb.Error, ReleaseError, KeyError):
            continue  # damaged or of an earlier version: a new release replaces it
    return None


def _remember_unrecorded(home: Path, now: datetime) -> None:
    """Record the current release if a crash came between flipping to it and recording it."""
    current = files.current_release(home)
    history = files.read_history(home)
    recorded = [
        str(event["release_id"]) for event in history if event.get("event") in files.SERVING
    ]
    if current is not None and recorded[-1:] != [current]:
        files.remember(home, "found served", current, now)


def _engine(home: Path, threads: int, memory_limit: str) -> duckdb.DuckDBPyConnection:
    scratch = home / "build" / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    return duckdb.connect(
        ":memory:",
        config={
            **NO_VACUUM,
            "threads": threads,
            "memory_limit": memory_limit,
            "temp_directory": str(scratch),
            "preserve_insertion_order": True,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )


def _gate_results(connection: duckdb.DuckDBPyConnection) -> list[Check]:
    """Return the supplier gate's results, if this build has any: failed files by feed and check."""
    if not has_gate_results(connection):
        return []
    rows = connection.execute(
        "select feed, check_name, severity, count(*) filter (where not passed)"
        f" from {GATE_RESULTS} group by all order by all"
    ).fetchall()
    return [
        Check(
            name=str(name),
            severity=str(severity),
            status="pass" if not failures else ("warn" if severity == "warn" else "refused"),
            failures=int(failures),
            table_name=str(feed),
            description="Deliveries that violate it, listed in release.delivery_checks; with severity"
            " error, they were refused.",
            checked_by="supplier gate",
        )
        for feed, name, severity, failures in rows
    ]


def serve(home: Path, release_id: str) -> None:
    """Give the finished folder its name, durably, and flip `current`."""
    temporary = files.temporary_dir(home, release_id)
    database = temporary / files.DATABASE_NAME
    database.chmod(files.FILE_MODE)
    fsync_file(database)
    log = files.log_of(database)
    if log.exists():
        raise ReleaseError(
            f"There is a write-ahead log beside the new release: {log}.",
            "No reader may open a release read-write; remove the log and run again.",
        )
    fsync_folder(temporary)
    os.replace(temporary, files.releases_dir(home) / release_id)
    fsync_folder(files.releases_dir(home))
    files.flip(home, release_id)
