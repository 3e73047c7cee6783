"""Publication: a checked build becomes a new file, is read back, and only then becomes current.

The order matters and is defined in `publish`: gate, copy aside, checkpoint, read back and compare, make
durable, rename, flip. If the process is killed at any point, the current release stays current and whole.

Of a mart that held the rows of the release before when the data tests passed over it, no row is read before
the new file is read back. In each other table only the rows that differ from the release before are
fingerprinted. Where most rows are as before, the new file begins as a copy of that release's file, and only
what differs is written: rows of a large table that mostly is as it was, other tables whole, in the order of
their key. Elsewhere tables that equal those of the release before are copied from it (`reuse`). The Parquet
copy of such a table is the file of the release before under one more name. If that release turns out to be
damaged, all is written again from the build.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from dagster_project.digests import sha256_of
from dagster_project.releases import files, restatements, reuse
from dagster_project.releases.errors import PublishRefused, ReleaseError
from dagster_project.releases.fingerprint import (
    Column,
    Known,
    columns_of,
    content_hash_of,
    known_by_difference,
    known_of,
    literal,
    literals,
    quote,
    row_hash,
    sum_of_hashes,
)
from dagster_project.releases.gate import Build, Check, judge
from dagster_project.releases.machine import explained, explanation
from dagster_project.releases.read import open_file, read_pedigree, verify

STORAGE_VERSION = "v1.4.0"  # the oldest version that ignores the log of another file
PARQUET = (
    "format parquet, compression zstd, compression_level 1, row_group_size 122880, parquet_version v1,"
    " dictionary_size_limit 1000"  # beyond, a dictionary costs more time and space than it saves
)
MADE_BY = f"DuckDB {duckdb.__version__}, {STORAGE_VERSION}; {PARQUET}"

# The pedigree's tables that are copied from the build: name, source, order, columns and meaning.
_DELIVERIES = {
    "delivery_id": "Identifies the delivery.",
    "feed": "Feed it belongs to.",
    "file_name": "Path of the file in the landing folder.",
    "sha256": "Fingerprint of its bytes, under which the archive keeps it.",
    "arrived_at": "When a run first saw it, in UTC.",
    "verdict": "Whether the file was loaded or refused.",
    "refusal_reason": "Why it was refused, if it was.",
    "notes": "What it has that was taken and is worth a word, with counts by column.",
    "physical_rows": "Records in the file, counted independently.",
    "blank_rows": "Blank lines in the file, which are no records.",
    "accepted_rows": "Records that count.",
    "superseded_rows": "Records with a later version.",
    "duplicate_rows": "Records that repeat another one exactly.",
    "rejected_rows": "Records rejected with a reason.",
}
_REJECTED = {
    "delivery_id": "Delivery the row came in.",
    "feed": "Feed of the delivery.",
    "file_name": "Path of the file in the landing folder.",
    "row_number": "Row as in the file: 1 is the first record after the header.",
    "reasons": "Every reason why it was rejected.",
    "record": "The row as delivered, without personal data.",
}
_SUPERSEDED = {
    "delivery_id": "Delivery the row came in.",
    "feed": "Feed of the delivery.",
    "file_name": "Path of the file in the landing folder.",
    "row_number": "Row as in the file: 1 is the first record after the header.",
    "record_id": "Id of the record the row is a version of.",
    "updated_at": "When the source says the version was made, in UTC.",
}
_NOT_COUNTED = {
    "invoice_id": "Identifies the invoice.",
    "workspace_id": "The workspace billed.",
    "status": "Status of its current version.",
    "reason": "draft or void; after_as_of_date: issued after the last day whose events count.",
    "plan": "The plan billed.",
    "billing_interval": "The unit in which the plan is billed.",
    "interval_count": "How many of these units each bill is for.",
    "currency": "Currency of its amounts.",
    "period_start": "Start of the period billed.",
    "period_end": "End of the period billed.",
    "issued_at": "When it was or will be issued, in UTC.",
    "list_amount": "Its list amount, before discounts and credit.",
    "billed_discount_amount": "The discount it shows.",
    "billed_credit_amount": "The credit it shows.",
    "updated_at": "When the source says its current version was made, in UTC.",
    "delivery_id": "Delivery its current version came in.",
    "delivery_row": "Row of that file: 1 is the first record after the header.",
}
_COUPON_VERSIONS = {
    "coupon_id": "Identifies the coupon.",
    "version_number": "Place among the versions of the coupon, from 1 on.",
    "updated_at": "When the source says the version was made, in UTC.",
    "is_current": "Whether it is the version that holds, for the past too.",
    "coupon_name": "Name for people.",
    "program": "The program it belongs to.",
    "discount_type": "percent_off, amount_off or credit.",
    "percent_off": "Percentage taken off, 0 to 100.",
    "amount_off": "Amount taken off, in major units.",
    "amount_off_per": "Whether amount_off is per invoice or per month of its period.",
    "credit_amount": "Credit granted per period, in major units.",
    "credit_period_months": "Months a grant of credit is valid.",
    "credit_max_periods": "How many grants there are at most.",
    "credit_priority": "Order in which grants are drawn on, lowest first.",
    "currency": "Currency of its amounts.",
    "applies_to_plan": "The only plan it applies to, if any.",
    "applies_to_interval": "The only billing interval it applies to, if any.",
    "duration": "once, repeating or forever.",
    "duration_months": "Months it lasts.",
    "duration_invoices": "Invoices it lasts for.",
    "redeem_by": "Last instant it may be redeemed, in UTC.",
    "max_redemptions": "How often it may be redeemed.",
    "requires_no_prior_coupon": "Whether it is only for those who had no other coupon.",
    "once_per": "What may redeem it only once.",
    "follow_up_coupon_id": "The coupon that starts the moment it expires.",
    "delivery_id": "Delivery the version came in.",
    "delivery_row": "Row of that file: 1 is the first record after the header.",
}


@dataclass(frozen=True, eq=False)
class Table:
    """A table of a release.

    Attributes:
        schema: `marts` or `release`.
        name: Its name.
        source: The relation in the build it is copied from, as quoted SQL.
        columns: Columns to copy with their descriptions; None copies all.
        key: Columns that identify a row; rows written at once are written in this order.
        description: What a row is.
        unique_id: dbt's id of the model that the table copies with all columns, if any.
    """

    schema: str
    name: str
    source: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    description: str
    unique_id: str = ""

    @property
    def full_name(self) -> str:
        """Schema and name, as quoted SQL."""
        return f"{quote(self.schema)}.{quote(self.name)}"


@dataclass(frozen=True)
class _Source:
    """What a table of the build holds.

    Attributes:
        known: Its content and hashes.
        is_as_before: Whether the release before holds the same rows, written in the same order.
        differing: The temporary table with the rows that differ from the release before (`known_by_difference`),
            where they are so few that only they are written; otherwise None.
        patches: How often only such rows have been written in a row, this time included.
        is_unread: Whether its content is known from the data tests and the record of the release before alone.
    """

    known: Known
    is_as_before: bool
    differing: str | None = None
    patches: int = 0
    is_unread: bool = False


class _BeforeDamaged(Exception):
    """What was taken from the release before without being read is not what that release is recorded to hold."""


@dataclass(frozen=True)
class Publication:
    """What a publication did.

    Attributes:
        release_id: The release now current.
        path: Its file.
        is_new: False if the content was recognised as that of an existing release.
        rows: Rows by mart.
        checks: The data tests of the build.
        without_report: Why it has no report although one was to be made; empty otherwise.
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
    as_of: date,
    build: Build,
    manifest: Mapping[str, Any],
    now: datetime,
    code_version: str,
    engine: str = "duckdb",
    reporting_time_zone: str = "UTC",
    built: Path | None = None,
    threads: int = 2,
    memory_limit: str = "4GB",
    report: Callable[[duckdb.DuckDBPyConnection], str] | None = None,
) -> Publication:
    """Publish the warehouse as a new release, or recognise that a release has its content already.

    The caller holds the data home's lock (`one_writer`).

    Args:
        home: The data home.
        as_of: Last day whose events count in this build.
        build: The dbt invocation that made the marts.
        manifest: dbt's manifest: which marts there are, their keys and descriptions.
        now: When this happens, for the id and the record.
        code_version: What calculated the marts.
        engine: The engine that did.
        reporting_time_zone: Where days and months began in it.
        built: The DuckDB file that has the marts; the warehouse unless given.
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
    with explained(home, "Publication failed", remedy):
        files.releases_dir(home).mkdir(parents=True, exist_ok=True)
        files.remove_leftovers(home)
        _remember_unrecorded(home, now)
        attempt = partial(
            _published,
            home,
            as_of=as_of,
            build=build,
            checks=judgement.checks,
            manifest=manifest,
            now=now,
            code_version=code_version,
            engine=engine,
            reporting_time_zone=reporting_time_zone,
            built=built or home / "build" / "warehouse.duckdb",
            threads=threads,
            memory_limit=memory_limit,
            report=report,
        )
        try:
            return attempt(reuse.recall(home, MADE_BY))
        except _BeforeDamaged:
            return attempt(None)


def _published(
    home: Path,
    before: reuse.Before | None,
    *,
    as_of: date,
    build: Build,
    checks: tuple[Check, ...],
    manifest: Mapping[str, Any],
    now: datetime,
    code_version: str,
    engine: str,
    reporting_time_zone: str,
    built: Path,
    threads: int,
    memory_limit: str,
    report: Callable[[duckdb.DuckDBPyConnection], str] | None,
) -> Publication:
    """Publish a build that passed its checks, with what can be taken from the release before.

    Raises:
        _BeforeDamaged: That cannot be taken from it.
    """
    with _engine(home, threads, memory_limit) as connection:
        connection.execute(f"attach {literal(str(built))} as build (read_only)")
        marts = mart_tables(manifest)
        restatements.compute(
            connection, home, {mart.name: mart.key for mart in marts}, reporting_time_zone
        )
        marts = sorted([*marts, _restatements_table()], key=lambda table: table.name)
        tables = [*marts, *_pedigree_tables()]
        with reuse.attached(connection, home, before) as readable:
            sources = {
                table: _examined(connection, table, readable, build.tested.get(table.unique_id))
                for table in tables
            }
        described = {
            (table.schema, table.name): found.known.content for table, found in sources.items()
        }
        content_hash = content_hash_of(as_of, code_version, engine, described, reporting_time_zone)
        rows = {
            table.name: found.known.content.rows
            for table, found in sources.items()
            if table.schema == "marts"
        }
        existing = _already_there(home, content_hash)
        if existing is not None:
            if existing != files.current_release(home):
                files.flip(home, existing)
                files.remember(home, "served again", existing, now)
            return Publication(existing, files.release_path(home, existing), False, rows, checks)
        release_id = files.next_release_id(home, now, content_hash)
        gates = _gate_results(connection)
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
            try:
                with reuse.attached(connection, home, before) as readable:
                    begin_with = _beginning(connection, home, readable, sources)
                    _write(connection, database, sources, facts, [*checks, *gates], begin_with)
                _read_back(connection, database, sources)
            except (OSError, duckdb.Error, ReleaseError) as error:
                is_unread = any(source.is_unread for source in sources.values())
                if is_unread and explanation(home, error) is None:
                    raise _BeforeDamaged from error
                raise
            copies = _write_parquet(connection, home, temporary, sources, before)
            _write_about(temporary, facts)
            without_report = _write_report(temporary, report) if report else ""
        except BaseException:
            files.remove_leftovers(home)
            raise
    serve(home, release_id)
    files.remember(home, "published", release_id, now, content_hash=content_hash)
    reuse.remember(
        home,
        release_id,
        MADE_BY,
        {
            (one.schema, one.name): (
                found.known,
                one.key,
                found.patches if begin_with else 0,
            )
            for one, found in sources.items()
        },
        copies,
    )
    path = files.release_path(home, release_id)
    return Publication(release_id, path, True, rows, checks, without_report)


def mart_tables(manifest: Mapping[str, Any]) -> list[Table]:
    """Return the marts a manifest promises, by name.

    Raises:
        ReleaseError: There is no mart, or a mart has no `config.meta.primary_key`.
    """
    tables = []
    for unique_id, node in manifest["nodes"].items():
        if node["resource_type"] != "model" or node["schema"] != "marts":
            continue
        key = (node["config"].get("meta") or {}).get("primary_key")
        if not key:
            raise ReleaseError(
                f"The mart {node['name']} ({node['original_file_path']}) has no key.",
                "Give it config.meta.primary_key, the list of columns that identify a row.",
            )
        tables.append(
            Table(
                schema="marts",
                name=str(node["alias"]),
                source=f"build.marts.{quote(str(node['alias']))}",
                columns={
                    name: _one_line(column["description"])
                    for name, column in node["columns"].items()
                },
                key=tuple([key] if isinstance(key, str) else key),
                description=_one_line(node["description"]),
                unique_id=unique_id,
            )
        )
    if not tables:
        raise ReleaseError(
            "The dbt project has no model in schema marts.", "Check dbt_project.yml."
        )
    return sorted(tables, key=lambda table: table.name)


def _restatements_table() -> Table:
    return Table(
        schema="marts",
        name=restatements.NAME,
        source=restatements.SOURCE,
        columns=restatements.COLUMNS,
        key=restatements.KEY,
        description=restatements.DESCRIPTION,
    )


def _pedigree_tables() -> list[Table]:
    return [
        Table(
            schema="release",
            name="deliveries",
            source="build.intermediate.int_deliveries_reconciled",
            columns=_DELIVERIES,
            key=("arrived_at", "feed", "file_name", "delivery_id"),
            description="One row per delivered file: what became of it and of its rows.",
        ),
        Table(
            schema="release",
            name="rejected_rows",
            source="build.staging.stg_billing__rejected_rows",
            columns=_REJECTED,
            key=("delivery_id", "feed", "row_number", "reasons", "record"),
            description="One row per delivered row that was rejected, as it came.",
        ),
        Table(
            schema="release",
            name="superseded_rows",
            source="build.intermediate.int_rows_superseded",
            columns=_SUPERSEDED,
            key=("feed", "record_id", "updated_at", "delivery_id", "row_number"),
            description="One row per delivered row of a record that has a later version.",
        ),
        Table(
            schema="release",
            name="invoices_not_counted",
            source="build.intermediate.int_invoices_not_counted",
            columns=_NOT_COUNTED,
            key=("invoice_id",),
            description="One row per invoice on record that does not count, with the reason (R1).",
        ),
        Table(
            schema="release",
            name="coupon_versions",
            source="build.intermediate.int_coupon_versions_delivered",
            columns=_COUPON_VERSIONS,
            key=("coupon_id", "version_number"),
            description="One row per delivered version of a coupon, with its terms.",
        ),
    ]


def pedigree_sources() -> dict[str, Mapping[str, str]]:
    """Return the models that a release copies besides the marts, each with the columns copied."""
    return {table.source.removeprefix("build."): table.columns for table in _pedigree_tables()}


def pedigree_tables() -> set[tuple[str, str]]:
    """Return schema and name of the models that a release copies besides the marts."""
    return {
        (schema, name) for schema, _, name in (one.partition(".") for one in pedigree_sources())
    }


def _one_line(text: object) -> str:
    return " ".join(str(text or "").split())


def _selected(table: Table) -> str:
    if table.schema == "marts":
        return table.source
    return f"(select {', '.join(map(quote, table.columns))} from {table.source})"


def _examined(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    before: reuse.Before | None,
    tested: tuple[int, int] | None,
) -> _Source:
    """Return what a table of the build holds, from the release before where that is the same or nearly.

    Args:
        connection: Where the build and the release before are attached.
        table: The table.
        before: The release before, if it can be read.
        tested: Number and sum of hashes of the rows that the data tests passed over, if they are known.

    Raises:
        ReleaseError: There is no such table, its columns cannot be published, or its rows were changed after
            the data tests.
    """
    try:
        found = _found(connection, table, before, tested)
    except duckdb.CatalogException as error:
        raise ReleaseError(
            f"The build has no table {table.source}: {error}", "Run the refresh again."
        ) from error
    except ValueError as error:
        raise ReleaseError(f"Table {table.name}: {error}") from error
    hashes = found.known.hashes
    if tested not in (None, hashes):
        raise ReleaseError(
            f"Table {table.name} is not what the data tests passed over: {hashes[0]} rows, sum of hashes"
            f" {hashes[1]}. Something changed it after the tests.",
            "Run again: what was changed is built again.",
        )
    return found


def _found(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    before: reuse.Before | None,
    tested: tuple[int, int] | None,
) -> _Source:
    relation, name = _selected(table), (table.schema, table.name)
    known = before.tables.get(name) if before else None
    if before and known and known.content.columns == columns_of(connection, relation):
        if tested == known.hashes and before.keys[name] == table.key:
            return _Source(known, True, patches=before.patches[name], is_unread=True)
        with suppress(duckdb.Error):  # if the release before is damaged, all rows are read
            differing = f"differing {table.schema} {table.name}"
            found = known_by_difference(
                connection, table.source, reuse.relation(*name), known, differing
            )
            if found is not None:
                return _compared(connection, table, before, known, found, differing)
    return _Source(known_of(connection, relation), False)


def _compared(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    before: reuse.Before,
    known: Known,
    found: Known,
    differing: str,
) -> _Source:
    """Return what a table holds whose rows were compared with those of the release before."""
    name = (table.schema, table.name)
    patches = before.patches[name]
    if before.keys[name] != table.key:
        return _Source(found, False)
    if found == known:
        return _Source(found, True, patches=patches)
    rows = found.content.rows
    [(many,)] = connection.execute(f"select count(*) from {quote(differing)}").fetchall()
    if rows < reuse.LEAST_PATCHED or 5 * many > rows or patches >= reuse.MOST_PATCHES:
        return _Source(found, False)
    return _Source(found, False, differing, patches + 1)


def _already_there(home: Path, content_hash: str) -> str | None:
    """Return the newest or the current release, if its content equals the given one."""
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


@contextmanager
def _engine(home: Path, threads: int, memory_limit: str) -> Iterator[duckdb.DuckDBPyConnection]:
    scratch = home / "build" / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": threads,
            "memory_limit": memory_limit,
            "temp_directory": str(scratch),
            "preserve_insertion_order": True,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    try:
        yield connection
    finally:
        connection.close()


def _beginning(
    connection: duckdb.DuckDBPyConnection,
    home: Path,
    before: reuse.Before | None,
    sources: Mapping[Table, _Source],
) -> Path | None:
    """The file of the release before, if a copy of it is most of the new file; None to write all anew."""
    rows = sum(source.known.content.rows for source in sources.values())
    same = sum(
        source.known.content.rows
        for source in sources.values()
        if source.is_as_before or source.differing
    )
    if before is None or 2 * same < rows or reuse.has_holes(connection):
        return None
    return files.release_path(home, before.release_id)


def _write(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    sources: Mapping[Table, _Source],
    facts: Mapping[str, object],
    checks: Sequence[Check],
    begin_with: Path | None = None,
) -> None:
    """Write all tables of a release into a new file, leaving nothing in a log.

    Args:
        connection: Where the build and the release before are attached.
        path: The new file.
        sources: What each table is to hold.
        facts: What the release is.
        checks: What was checked.
        begin_with: The file of the release before, if the new file is to begin as a copy of it.
    """
    if begin_with is None:
        connection.execute(
            f"attach {literal(str(path))} as target (storage_version {literal(STORAGE_VERSION)})"
        )
        connection.execute("create schema target.marts")
        connection.execute("create schema target.release")
    else:
        shutil.copyfile(begin_with, path)
        connection.execute(f"attach {literal(str(path))} as target")
        kept = {
            (one.schema, one.name)
            for one, source in sources.items()
            if source.is_as_before or source.differing
        }
        _drop_all_but(connection, kept)
    for table, source in sources.items():
        order = ", ".join(f"{quote(name)} nulls last" for name in table.key)
        rows = f"{_selected(table)} order by {order}"
        if source.is_as_before:
            rows = reuse.relation(table.schema, table.name)
        if begin_with is not None and source.differing:
            _patch(connection, table, source, order)
        elif begin_with is None or not source.is_as_before:
            connection.execute(f"create table target.{table.full_name} as select * from {rows}")
    connection.begin()  # a transaction for each of some 400 comments would wait for the disk as often
    for table, source in sources.items():
        _describe(connection, table.full_name, table.description, _comments(table, source))
    _write_facts(connection, facts)
    _write_contents(connection, sources)
    _write_checks(connection, checks, facts["created_at"])
    connection.commit()
    detach_target(connection, path, "Run the refresh again.")


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
    log = path.with_name(path.name + ".wal")
    if log.exists():
        raise ReleaseError(f"DuckDB left a write-ahead log at {log}.", remedy)


def _patch(
    connection: duckdb.DuckDBPyConnection, table: Table, source: _Source, order: str
) -> None:
    """Delete from a table of the new file, a copy, the rows that have gone, and add those that have come."""
    assert source.differing is not None
    columns, differing = source.known.content.columns, quote(source.differing)
    listed = ", ".join(quote(column.name) for column in columns)
    connection.execute(
        f"delete from target.{table.full_name} where {row_hash(columns)} in"
        f" (select removed from {differing} where removed is not null)"
    )
    connection.execute(
        f"insert into target.{table.full_name} select {listed} from {table.source} where rowid in"
        f" (select added from {differing} where added is not null) order by {order}"
    )


def _drop_all_but(connection: duckdb.DuckDBPyConnection, kept: Collection[tuple[str, str]]) -> None:
    """Drop from the new file, a copy, every table that is written again; its space is free from then on."""
    there = connection.execute(
        "select schema_name, table_name from duckdb_tables() where database_name = 'target'"
    ).fetchall()
    for schema, name in there:
        if (schema, name) not in kept:
            connection.execute(f"drop table target.{quote(schema)}.{quote(name)}")
    connection.execute("checkpoint target")


def is_amount(column: Column) -> bool:
    """Return whether a column holds amounts of money; percentages and quantities are no money."""
    return column.type.startswith("DECIMAL") and "amount" in column.name.split("_")


def _comments(table: Table, source: _Source) -> dict[str, str]:
    """Return the columns' comments; those of amounts and instants say what readers get wrong.

    A reader who adds up a column sees its comment, not this project: currencies are never added, and
    an instant has no zone of its own in the file.
    """
    comments = {}
    for column in source.known.content.columns:
        text = table.columns.get(column.name, "")
        if is_amount(column) and "per currency" not in text.lower():
            text = f"{text} Per currency: never add amounts of different currencies."
        if column.type == "TIMESTAMP" and "UTC" not in text:
            text = f"{text} In UTC."
        if text:
            comments[column.name] = text.strip()
    return comments


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


def _write_contents(
    connection: duckdb.DuckDBPyConnection, sources: Mapping[Table, _Source]
) -> None:
    connection.execute(
        "create table target.release.tables (table_schema varchar, table_name varchar,"
        " row_count bigint, fingerprint varchar, primary_key varchar)"
    )
    for table, source in sources.items():
        content = source.known.content
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
            "fingerprint": "Method, and sum over the rows of 64 bits of their md5, modulo 2^64; order-free.",
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


def _ran_at(check: Check, created_at: object) -> object:
    """Return when a data test ran; nothing is known of it for what is checked on arrival."""
    if check.checked_by != "dbt":
        return None
    if check.checked_at is None:
        return created_at
    return check.checked_at.astimezone(UTC).replace(tzinfo=None)


def _gate_results(connection: duckdb.DuckDBPyConnection) -> list[Check]:
    """Return the supplier gate's results, if this build has any: failed files by feed and check."""
    try:
        rows = connection.execute(
            "select feed, check_name, severity, count(*) filter (where not passed)"
            " from build.raw.gate_results group by all order by all"
        ).fetchall()
    except duckdb.CatalogException:
        return []
    return [
        Check(
            name=str(name),
            severity=str(severity),
            status="pass" if not failures else ("warn" if severity == "warn" else "refused"),
            failures=int(failures),
            table_name=str(feed),
            description="Deliveries that violate it; with severity error, they were refused.",
            checked_by="supplier gate",
        )
        for feed, name, severity, failures in rows
    ]


def _read_back(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    sources: Mapping[Table, _Source],
) -> None:
    """Open the new file as a reader would and compare its rows, in any order, with the build's."""
    connection.execute(f"attach {literal(str(path))} as written (read_only)")
    for table, source in sources.items():
        relation = f"written.{table.full_name}"
        copied, wanted = sum_of_hashes(connection, relation), source.known.hashes
        if copied != wanted or columns_of(connection, relation) != source.known.content.columns:
            raise ReleaseError(
                f"Table {table.name} was not copied whole: {copied[0]} rows of {wanted[0]},"
                f" sum of hashes {copied[1]} instead of {wanted[1]}.",
                "Check the disk and run again.",
            )
    connection.execute("detach build")


def _write_parquet(
    connection: duckdb.DuckDBPyConnection,
    home: Path,
    folder: Path,
    sources: Mapping[Table, _Source],
    before: reuse.Before | None,
) -> dict[str, reuse.Copy]:
    """Write the marts as Parquet: same content, same bytes (stored order of rows, fixed options).

    Returns:
        What was written, by mart.
    """
    copies = {}
    for table, source in sources.items():
        if table.schema != "marts":
            continue
        file = folder / f"{table.name}.parquet"
        about = {
            "table_comment": table.description,
            "column_comments": json.dumps(_comments(table, source), ensure_ascii=False),
        }
        kept = reuse.linked(home, before, file, about) if source.is_as_before else None
        if kept is None:
            metadata = ", ".join(f"{name}: {literal(text)}" for name, text in about.items())
            connection.execute(
                f"copy (from written.{table.full_name}) to {literal(str(file))}"
                f" ({PARQUET}, kv_metadata {{{metadata}}})"
            )
            file.chmod(files.FILE_MODE)
            files.fsync_file(file)
            kept = reuse.Copy(sha256_of(file), about)
        copies[table.name] = kept
    connection.execute("detach written")
    return copies


def _write_about(folder: Path, facts: Mapping[str, object]) -> None:
    """Write what the release is beside its Parquet files, which say what a table is and nothing else."""
    told = {
        name: value.isoformat() if isinstance(value, date) else value
        for name, value in facts.items()
    }
    file = folder / files.ABOUT_NAME
    file.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    file.chmod(files.FILE_MODE)
    files.fsync_file(file)


def _write_report(folder: Path, make: Callable[[duckdb.DuckDBPyConnection], str]) -> str:
    """Write the report of a release into its folder.

    A report that cannot be made is no reason to keep checked numbers back.

    Returns:
        Why no report could be made; empty if one was.
    """
    try:
        with open_file(folder / files.DATABASE_NAME) as connection:
            text = make(connection)
    except Exception as error:  # noqa: BLE001 (whatever goes wrong in drawing; the caller tells it)
        return " ".join(f"{type(error).__name__}: {error}".split())
    file = folder / files.REPORT_NAME
    file.write_text(text, "utf-8")
    file.chmod(files.FILE_MODE)
    files.fsync_file(file)
    return ""


def serve(home: Path, release_id: str) -> None:
    """Give the finished folder its name, durably, and flip `current`."""
    temporary = files.temporary_dir(home, release_id)
    database = temporary / files.DATABASE_NAME
    database.chmod(files.FILE_MODE)
    files.fsync_file(database)
    log = database.with_name(database.name + ".wal")
    if log.exists():
        raise ReleaseError(
            f"There is a write-ahead log beside the new release: {log}.",
            "No reader may open a release read-write; remove the log and run again.",
        )
    files.fsync_folder(temporary)
    os.replace(temporary, files.releases_dir(home) / release_id)
    files.fsync_folder(files.releases_dir(home))
    files.flip(home, release_id)
