"""Writes the files of a release: its DuckDB file, its Parquet files, `release.json` and its report.

The DuckDB file begins as a copy of the candidate, which has the marts. Small marts are written again, in the order of
their key. If the large marts have less than half of all rows, nothing is copied, and every table is written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, date
from pathlib import Path

import duckdb

from dagster_project.digests import sha256_of
from dagster_project.home import fsync_file
from dagster_project.quoting import literal, literals, quote
from dagster_project.releases import candidate, files, reuse
from dagster_project.releases.contents import Table, comments
from dagster_project.releases.errors import ReleaseError
from dagster_project.releases.fingerprint import TableContent, content_of
from dagster_project.releases.gate import Check
from dagster_project.releases.read import open_file

ROWS_IN_ORDER = 122_880
"""A mart with at least so many rows is copied as it was built; smaller ones are written in the order of their key."""
PARQUET = (
    "format parquet, compression zstd, compression_level 1, row_group_size 122880, parquet_version v1,"
    " dictionary_size_limit 1000"  # beyond, a dictionary costs more time and space than it saves
)
GATE_RESULTS = "build.raw.gate_results"
MADE_BY = f"DuckDB {duckdb.__version__}, {candidate.STORAGE_VERSION}; {PARQUET}"


Contents = Mapping[Table, TableContent]
"""What each table of a release holds."""


def write(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    built: Path,
    contents: Contents,
    facts: Mapping[str, object],
    checks: Sequence[Check],
) -> None:
    """Write all tables of a release into a new file, leaving no write-ahead log.

    Args:
        connection: Where the build and the candidate are attached.
        path: The new file.
        built: The file of the candidate.
        contents: What each table must hold.
        facts: What the release is.
        checks: What was checked.
    """
    copied = _copied(contents)
    if copied:
        shutil.copyfile(built, path)
        connection.execute(f"attach {literal(str(path))} as target")
        _drop_all_but(connection, {table.name for table in copied})
    else:
        candidate.attach_new(connection, path, "target")
        connection.execute("create schema target.marts")
    connection.execute("create schema target.release")
    for table in contents:
        if table not in copied:
            order = ", ".join(f"{quote(name)} nulls last" for name in table.key)
            connection.execute(
                f"create table target.{table.full_name} as"
                f" select * from {table.selected} order by {order}"
            )
    connection.begin()  # a transaction for each of some 400 comments would wait for the disk as often
    for table, content in contents.items():
        said = comments(table, content.columns)
        _describe(connection, table.full_name, table.description, said)
    _write_facts(connection, facts)
    _write_contents(connection, contents)
    _write_checks(connection, checks, facts["created_at"])
    _write_delivery_checks(connection)
    connection.commit()
    detach_target(connection, path, "Run the refresh again.")


def _copied(contents: Contents) -> Collection[Table]:
    """Return the marts that are taken over in a copy of the candidate; none if most rows are in other tables."""
    rows = {table: content.rows for table, content in contents.items()}
    large = {table for table in rows if table.unique_id and rows[table] >= ROWS_IN_ORDER}
    return large if 2 * sum(rows[table] for table in large) >= sum(rows.values()) else ()


def detach_target(connection: duckdb.DuckDBPyConnection, path: Path, remedy: str) -> None:
    """Make what was written to the new file durable in it, and detach the file.

    Args:
        connection: Has the file as the database `target`.
        path: The file.
        remedy: What to do if DuckDB leaves a log beside it.

    Raises:
        ReleaseError: There is a log beside the file, which a reader would replay.
    """
    connection.execute("checkpoint target")
    connection.execute("detach target")
    log = files.log_of(path)
    if log.exists():
        raise ReleaseError(f"DuckDB left a write-ahead log at {log}.", remedy)


def _drop_all_but(connection: duckdb.DuckDBPyConnection, kept: Collection[str]) -> None:
    """Drop every mart that is written again from the new file, a copy of the candidate, and free its space."""
    for (name,) in connection.execute(
        "select table_name from duckdb_tables() where database_name = 'target'"
    ).fetchall():
        if name not in kept:
            connection.execute(f"drop table target.marts.{quote(name)}")
    connection.execute("checkpoint target")


def _describe(
    connection: duckdb.DuckDBPyConnection,
    full_name: str,
    description: str,
    columns: Mapping[str, str],
) -> None:
    connection.execute(f"comment on table target.{full_name} is {literal(description)}")
    for name, text in columns.items():
        if text:
            connection.execute(
                f"comment on column target.{full_name}.{quote(name)} is {literal(text)}"
            )


def _write_facts(connection: duckdb.DuckDBPyConnection, facts: Mapping[str, object]) -> None:
    connection.execute(
        "create table target.release.release (release_id varchar, as_of_date date,"
        " created_at timestamp, code_version varchar, engine varchar, reporting_time_zone varchar,"
        " content_hash varchar, duckdb_version varchar, dbt_invocation_id varchar)"
    )
    connection.execute(f"insert into target.release.release values ({literals(facts.values())})")
    _describe(
        connection,
        '"release"."release"',
        "One row: what this release is and what made it.",
        {
            "release_id": "Identifies the release; later releases have greater ids.",
            "as_of_date": "Last day whose events count.",
            "created_at": "When it was published, in UTC.",
            "code_version": "What calculated the marts: product version and fingerprint of the models.",
            "engine": "Database engine that calculated the marts.",
            "reporting_time_zone": "Where days and months begin in it, as an IANA name.",
            "content_hash": "Fingerprint of everything in it apart from when it was made.",
            "duckdb_version": "Version of DuckDB that wrote the file.",
            "dbt_invocation_id": "The dbt invocations whose results were checked; none if nothing had to run.",
        },
    )


def _write_contents(connection: duckdb.DuckDBPyConnection, contents: Contents) -> None:
    connection.execute(
        "create table target.release.tables (table_schema varchar, table_name varchar,"
        " row_count bigint, fingerprint varchar, primary_key varchar)"
    )
    for table, content in contents.items():
        connection.execute(
            "insert into target.release.tables values ("
            + literals(
                [table.schema, table.name, content.rows, content.fingerprint, ", ".join(table.key)]
            )
            + ")"
        )
    _describe(
        connection,
        '"release"."tables"',
        "One row per table of the release: what it must hold.",
        {
            "table_schema": "Schema of the table.",
            "table_name": "Name of the table.",
            "row_count": "Number of its rows.",
            "fingerprint": "Method, and sum modulo 2^64 of DuckDB's hash() of the rows, in any order.",
            "primary_key": "Columns that identify a row.",
        },
    )


def _write_checks(
    connection: duckdb.DuckDBPyConnection, checks: Sequence[Check], created_at: object
) -> None:
    connection.execute(
        "create table target.release.checks (name varchar, severity varchar, failures bigint,"
        " status varchar, table_name varchar, description varchar, checked_by varchar,"
        " checked_at timestamp)"
    )
    if checks:
        rows = [
            (
                check.name,
                check.severity,
                check.failures,
                check.status,
                check.table_name,
                check.description,
                check.checked_by,
                _ran_at(check, created_at),
            )
            for check in checks
        ]
        connection.execute(
            "insert into target.release.checks values "
            + ", ".join(f"({literals(row)})" for row in rows)
        )
    _describe(
        connection,
        '"release"."checks"',
        "One row per check of this release and what it found.",
        {
            "name": "Name of the check.",
            "severity": "error: it must pass, or nothing is published (of the supplier gate: the"
            " file is refused); warn: it is shown.",
            "failures": "Rows that violate it; for the supplier gate, files.",
            "status": "pass, or how it failed.",
            "checked_by": "dbt, or the supplier gate that looks at each delivery.",
            "checked_at": "When the refresh began in which a check by dbt ran, in UTC; if that is earlier than"
            " this release, it ran over the same rows.",
            "table_name": "Table or feed it is about.",
            "description": "What it asserts.",
        },
    )


def _write_delivery_checks(connection: duckdb.DuckDBPyConnection) -> None:
    """Write what the supplier gate found in single files; nothing if the build has none of its results."""
    connection.execute(
        "create table target.release.delivery_checks (delivery_id varchar, feed varchar,"
        " file_name varchar, name varchar, severity varchar, observed varchar)"
    )
    if has_gate_results(connection):
        connection.execute(
            "insert into target.release.delivery_checks"
            " select results.delivery_id, results.feed, deliveries.file_name, results.check_name,"
            f" results.severity, results.observed from {GATE_RESULTS} as results"
            " join build.intermediate.int_deliveries_reconciled as deliveries"
            " using (delivery_sequence) where not results.passed order by 2, 3, 4, 1"
        )
    _describe(
        connection,
        '"release"."delivery_checks"',
        "One row per check of the supplier gate that a delivered file did not pass.",
        {
            "delivery_id": "The delivery.",
            "feed": "Feed it belongs to.",
            "file_name": "Path of the file in the landing folder.",
            "name": "Name of the check.",
            "severity": "error: the file was refused; warn: it was loaded.",
            "observed": "What the check found: counts, and some values that are not personal data.",
        },
    )


def has_gate_results(connection: duckdb.DuckDBPyConnection) -> bool:
    """Return whether the attached build has results of the supplier gate."""
    return bool(
        connection.execute(
            "select 1 from duckdb_tables() where database_name = 'build' and schema_name = 'raw'"
            " and table_name = 'gate_results'"
        ).fetchall()
    )


def _ran_at(check: Check, created_at: object) -> object:
    """Return when a data test ran; None for a check on arrival, whose time is not known."""
    if check.checked_by != "dbt":
        return None
    if check.checked_at is None:
        return created_at
    return check.checked_at.astimezone(UTC).replace(tzinfo=None)


def read_back(connection: duckdb.DuckDBPyConnection, path: Path, contents: Contents) -> None:
    """Open the new file as a reader would and compare its rows, in any order, with what they must be.

    Args:
        connection: Gets the file as the database `written`.
        path: The file.
        contents: What each table must hold.

    Raises:
        ReleaseError: A table holds anything else.
    """
    connection.execute(f"attach {literal(str(path))} as written (read_only)")
    for table, wanted in contents.items():
        found = content_of(connection, f"written.{table.full_name}")
        if found != wanted:
            raise ReleaseError(
                f"Table {table.name} has {found.rows} rows with fingerprint {found.fingerprint}, not"
                f" {wanted.rows} with {wanted.fingerprint}: something changed it after the data tests, or it"
                " was not copied whole.",
                "Check the disk and run again: what was changed is built again.",
            )


def write_parquet(
    connection: duckdb.DuckDBPyConnection,
    home: Path,
    folder: Path,
    contents: Contents,
    before: reuse.Before | None,
) -> dict[str, reuse.Copy]:
    """Write the marts as Parquet: same content, same bytes (stored order of rows, fixed options).

    Returns:
        What was written, by mart.
    """
    copies = {}
    for table, content in contents.items():
        if table.schema != "marts":
            continue
        file = folder / f"{table.name}.parquet"
        about = {
            "table_comment": table.description,
            "column_comments": json.dumps(comments(table, content.columns), ensure_ascii=False),
        }
        kept = reuse.linked(home, before, file, content, about)
        if kept is None:
            metadata = ", ".join(f"{name}: {literal(text)}" for name, text in about.items())
            connection.execute(
                f"copy (from written.{table.full_name}) to {literal(str(file))}"
                f" ({PARQUET}, kv_metadata {{{metadata}}})"
            )
            file.chmod(files.FILE_MODE)
            fsync_file(file)
            kept = reuse.Copy(content, about, sha256_of(file))
        copies[table.name] = kept
    connection.execute("detach written")
    return copies


def write_about(folder: Path, facts: Mapping[str, object]) -> None:
    """Write `release.json`, which describes the release; its Parquet files describe only their own tables."""
    told = {
        name: value.isoformat() if isinstance(value, date) else value
        for name, value in facts.items()
    }
    file = folder / files.ABOUT_NAME
    file.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    file.chmod(files.FILE_MODE)
    fsync_file(file)


def write_report(folder: Path, make: Callable[[duckdb.DuckDBPyConnection], str]) -> str:
    """Write the report of a release into its folder.

    A report that cannot be made is no reason to withhold checked numbers.

    Returns:
        Why no report could be made; empty if one was.
    """
    try:
        with open_file(folder / files.DATABASE_NAME) as connection:
            text = make(connection)
    except Exception as error:  # noqa: BLE001 (whatever goes wrong in drawing; the caller reports it)
        return " ".join(f"{type(error).__name__}: {error}".split())
    file = folder / files.REPORT_NAME
    file.write_text(text, "utf-8")
    file.chmod(files.FILE_MODE)
    fsync_file(file)
    return ""
