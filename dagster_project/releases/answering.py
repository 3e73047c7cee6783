"""The release that answers a question: a copy of the recorded one, in which only the rows that differ are written.

The row counts and fingerprints of its tables are the recorded ones, less the rows that are gone and plus those that are
new, so only the few rows that differ are hashed. The whole file is read back and compared with them before it becomes
current. An answer has no Parquet copies; `coupon-ledger export` makes them of any release.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from dagster_project.quoting import literal, literals, quote
from dagster_project.releases import files, questions
from dagster_project.releases.errors import ReleaseError
from dagster_project.releases.fingerprint import (
    METHOD,
    TableContent,
    changed_by,
    content_hash_of,
    content_of,
    row_hash,
    tables_of,
)
from dagster_project.releases.publishing import serve
from dagster_project.releases.writing import detach_target

DATABASE = "before"
"""The name under which the recorded release is attached."""


@dataclass(frozen=True)
class Mart:
    """How a mart may differ from the recorded one.

    Attributes:
        rows: New rows, as SQL.
        held: The recorded rows that they replace, as SQL.
    """

    rows: str
    held: str


def publish_answer(
    connection: duckdb.DuckDBPyConnection,
    side: Path,
    question: questions.Question,
    recorded: Path,
    pedigree: Mapping[str, Any],
    marts: Mapping[str, Mart],
    now: datetime,
) -> str:
    """Publish a question with its answer and remove earlier ones; the caller holds the lock of its data home.

    Args:
        connection: Has the marts, and the recorded release as the database `before`.
        side: The data home of the question.
        question: What was asked.
        recorded: The file of the recorded release.
        pedigree: That release's row of `release.release`.
        marts: The marts that may differ from the recorded ones, by name.
        now: When this happens.

    Returns:
        The id of its release.

    Raises:
        ReleaseError: Writing or reading back failed; an earlier question and its answer stay.
    """
    files.releases_dir(side).mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(side)
    known = _recorded_contents(connection)
    found = dict(known)
    for name, mart in marts.items():
        found["marts", name] = _differing(connection, name, mart, known["marts", name])
    content_hash = content_hash_of(
        pedigree["as_of_date"],
        str(pedigree["code_version"]),
        str(pedigree["engine"]),
        found,
        str(pedigree["reporting_time_zone"]),
    )
    release_id = files.next_release_id(side, now, content_hash)
    temporary = files.temporary_dir(side, release_id)
    try:
        temporary.mkdir()
        temporary.chmod(files.FOLDER_MODE)
        database = temporary / files.DATABASE_NAME
        shutil.copyfile(recorded, database)
        _write(connection, database, release_id, content_hash, now, marts, known, found)
        _read_back(connection, database, found)
    except BaseException:
        files.remove_leftovers(side)
        raise
    files.current_link(side).unlink(missing_ok=True)  # it may answer another question
    questions.write(side, question)
    serve(side, release_id)
    files.remember(side, "published", release_id, now, content_hash=content_hash)
    for other in files.release_ids(side):
        if other != release_id:
            shutil.rmtree(files.releases_dir(side) / other, ignore_errors=True)
    return release_id


def _recorded_contents(
    connection: duckdb.DuckDBPyConnection,
) -> dict[tuple[str, str], TableContent]:
    """Return the contents of the recorded release's tables, in the order in which it lists them."""
    columns = tables_of(connection, DATABASE)
    return {
        (schema, name): TableContent(rows, fingerprint, columns.get((schema, name), ()))
        for schema, name, rows, fingerprint in connection.execute(
            f"select table_schema, table_name, row_count, fingerprint from {DATABASE}.release.tables"
            " order by rowid"
        ).fetchall()
    }


def _differing(
    connection: duckdb.DuckDBPyConnection, name: str, mart: Mart, known: TableContent
) -> TableContent:
    """Find the rows that a mart gains and those that it loses; return its new content.

    The temporary table `differing_<mart>` has these rows, and in `is_new` whether they are gained.
    """
    columns = known.columns
    names = ", ".join(quote(column.name) for column in columns)
    typed = ", ".join(
        f"cast({quote(column.name)} as {column.type}) as {quote(column.name)}" for column in columns
    )
    [(rows,)] = connection.execute(
        f"create or replace temp table {_differing_of(name)} as"
        f" with asked as materialized (select *, {row_hash(columns)} as row_hash"
        f" from (select {typed} from {mart.rows})),"
        f" held as materialized (select {names}, {row_hash(columns)} as row_hash from {mart.held})"
        f" select {names}, true as is_new from asked"
        " where row_hash not in (select row_hash from held)"
        f" union all select {names}, false from held"
        " where row_hash not in (select row_hash from asked)"
    ).fetchall()
    if not rows:
        return known
    if not known.fingerprint.startswith(METHOD):  # by the method of an earlier version
        known = content_of(connection, f"{DATABASE}.marts.{quote(name)}")
    return changed_by(connection, known, _differing_of(name), "is_new")


def _differing_of(name: str) -> str:
    return quote(f"differing_{name}")


def _write(
    connection: duckdb.DuckDBPyConnection,
    database: Path,
    release_id: str,
    content_hash: str,
    now: datetime,
    marts: Mapping[str, Mart],
    known: Mapping[tuple[str, str], TableContent],
    found: Mapping[tuple[str, str], TableContent],
) -> None:
    """Change the copy of the recorded release into the answer, leaving no write-ahead log."""
    database.chmod(files.FILE_MODE | 0o200)
    connection.execute(f"attach {literal(str(database))} as target")
    keys = dict(
        connection.execute(
            "select table_name, primary_key from target.release.tables where table_schema = 'marts'"
        ).fetchall()
    )
    changed = [name for name in marts if found["marts", name] != known["marts", name]]
    for name in changed:
        columns = [column.name for column in found["marts", name].columns]
        _change(connection, name, columns, str(keys[name]).split(", "))
    if changed:
        contents = {name: found["marts", name] for name in changed}
        listed = ", ".join(
            f"({literals([name, content.rows, content.fingerprint])})"
            for name, content in contents.items()
        )
        connection.execute(
            "update target.release.tables as tables set row_count = changed.row_count,"
            f" fingerprint = changed.fingerprint from (values {listed})"
            " as changed (table_name, row_count, fingerprint)"
            " where tables.table_schema = 'marts' and tables.table_name = changed.table_name"
        )
    connection.execute(
        f"update target.release.release set release_id = {literal(release_id)},"
        f" content_hash = {literal(content_hash)},"
        f" created_at = {literals([now.astimezone(UTC).replace(tzinfo=None)])}"
    )
    detach_target(connection, database, "Ask again.")


def _change(
    connection: duckdb.DuckDBPyConnection, name: str, columns: list[str], key: list[str]
) -> None:
    """Update the rows of a mart that differ, delete those that are gone, and insert the new ones.

    Only the columns that differ are updated. Rows that were deleted and inserted again would leave holes, and most of
    the table would be written again to fill them.
    """
    table, differing = f"target.marts.{quote(name)}", _differing_of(name)
    came, gone = (
        f"(select * exclude (is_new) from {differing} where {condition})"
        for condition in ("is_new", "not is_new")
    )
    keys = ", ".join(map(quote, key))

    def is_same(one: str, other: str) -> str:
        return " and ".join(
            f"{one}.{quote(column)} is not distinct from {other}.{quote(column)}" for column in key
        )

    [(pairs, rows, *differs)] = connection.execute(
        f"select count(*), (select count(*) from {differing}), "
        + ", ".join(
            f"coalesce(bool_or(came.{quote(column)} is distinct from gone.{quote(column)}), false)"
            for column in columns
        )
        + f" from {came} as came inner join {gone} as gone on {is_same('came', 'gone')}"
    ).fetchall()
    values = ", ".join(
        f"{quote(column)} = came.{quote(column)}"
        for column, is_other in zip(columns, differs, strict=True)
        if is_other
    )
    if values:
        connection.execute(
            f"update {table} as held set {values} from {came} as came where {is_same('held', 'came')}"
        )
    if rows == 2 * pairs:
        return
    connection.execute(
        f"delete from {table} as held using (select {keys} from {gone} as gone where not exists"
        f" (select 1 from {came} as came where {is_same('came', 'gone')})) as gone"
        f" where {is_same('held', 'gone')}"
    )
    connection.execute(
        f"insert into {table} by name select * from {came} as came where not exists"
        f" (select 1 from {gone} as gone where {is_same('came', 'gone')})"
    )


def _read_back(
    connection: duckdb.DuckDBPyConnection,
    database: Path,
    contents: Mapping[tuple[str, str], TableContent],
) -> None:
    """Open the new file as a reader would and compare its rows with what it must hold."""
    connection.execute(f"attach {literal(str(database))} as written (read_only)")
    for (schema, name), wanted in contents.items():
        found = content_of(connection, f"written.{quote(schema)}.{quote(name)}", wanted.fingerprint)
        if found != wanted:
            raise ReleaseError(
                f"Table {name} was not written as calculated: it has {found.rows} rows with fingerprint"
                f" {found.fingerprint}, not {wanted.rows} with {wanted.fingerprint}.",
                "Ask again; if it fails in the same way, `coupon-ledger verify` tells whether the release that"
                " it was asked of is damaged.",
            )
    connection.execute("detach written")
