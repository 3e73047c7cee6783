"""The raw schema of the warehouse: its tables, and the statements that fill them.

Here belongs every SQL statement of arrival that writes. Rows, malformed rows, gate results and the
delivery itself are written in one transaction, so that what was loaded is known from the warehouse.
Values reach SQL as parameters; names that come from a file never do: a file's columns are called c0,
c1, … here.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import duckdb

from dagster_project.arrival.archive import SideRecord
from dagster_project.arrival.report import ArrivalError, Limits
from dagster_project.arrival.rows import ROW_NUMBER, PlainCsv, Prepared
from dagster_project.feeds import Feed, feeds

MOST_LINE_BYTES = 4 * 1024 * 1024
RAW_TABLES = {
    "malformed_rows": (
        "delivery_sequence bigint, feed varchar, row_number bigint, reason varchar, record varchar"
    ),
    "deliveries": (
        "delivery_sequence bigint, delivery_id varchar, feed varchar, file_name varchar, "
        "sha256 varchar, size_bytes bigint, modified_at timestamp, arrived_at timestamp, "
        "run_id varchar, physical_rows bigint, blank_rows bigint, unknown_columns varchar, "
        "verdict varchar, refusal_reason varchar"
    ),
    "gate_results": (
        "delivery_sequence bigint, delivery_id varchar, feed varchar, check_name varchar, "
        "severity varchar, passed boolean, observed varchar"
    ),
}


class LoadMismatch(Exception):
    """DuckDB did not read what the independent parser read."""


def identifier(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def open_warehouse(
    path: Path, limits: Limits, temporary: Path
) -> tuple[duckdb.DuckDBPyConnection, list[KnownDelivery]]:
    """Open the warehouse, make its raw tables where absent, read what it knows.

    A file that is no readable database any more is put aside as `<name>.damaged`: the warehouse is
    a cache of the archive, and arrival fills it again from there.

    Args:
        path: The warehouse.
        limits: How much memory it may use.
        temporary: Folder below which it may spill.

    Returns:
        The connection, and all deliveries that the warehouse knows, loaded or refused.

    Raises:
        ArrivalError: If it cannot be opened for any other reason.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        try:
            return _connect(path, limits, temporary)
        except duckdb.Error as error:
            if not _is_damage(error):
                raise
            os.replace(path, path.with_name(path.name + ".damaged"))
            path.with_name(path.name + ".wal").unlink(missing_ok=True)
            return _connect(path, limits, temporary)
    except duckdb.Error as error:
        raise ArrivalError(
            f"{path}: cannot be opened ({error}); "
            "wait for the other process to end, or check permissions and space"
        ) from error


def _connect(
    path: Path, limits: Limits, temporary: Path
) -> tuple[duckdb.DuckDBPyConnection, list[KnownDelivery]]:
    connection = duckdb.connect(str(path))
    try:
        connection.execute(f"set memory_limit = '{int(limits.memory_megabytes)}MB'")
        spill = str(temporary / "spill").replace("'", "''")
        connection.execute(f"set temp_directory = '{spill}'")
        create_tables(connection)
        return connection, known_deliveries(connection)
    except BaseException:
        connection.close()
        raise


DAMAGE = (
    "not a valid duckdb",
    "checksum",
    "corrupt",
    "deserializ",
    "serialization",
    "version number",
    "could not read enough bytes",
    "wal file",
    "internal error",
)


def _is_damage(error: duckdb.Error) -> bool:
    text = str(error).lower()
    return "conflicting lock" not in text and any(sign in text for sign in DAMAGE)


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the schema raw and its tables where absent.

    Where a table has other columns than this version of the product gives it, all are made anew, and
    arrival fills them from the archive.
    """
    connection.execute("create schema if not exists raw")
    expected = {
        feed.name: [("delivery_sequence", "bigint"), ("row_number", "bigint")]
        + [(name, "varchar") for name in feed.column_names]
        for feed in feeds().values()
    }
    for name, declaration in RAW_TABLES.items():
        words = [column.split() for column in declaration.split(", ")]
        expected[name] = [(column, kind) for column, kind in words]
    found: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in connection.execute(
        "select table_name, column_name, lower(data_type) from duckdb_columns() "
        "where database_name = current_database() and schema_name = 'raw' "
        "order by table_name, column_index"
    ).fetchall():
        found.setdefault(table, []).append((column, kind))
    if any(found[table] != columns for table, columns in expected.items() if table in found):
        drop_tables(connection)
    for table, columns in expected.items():
        declared = ", ".join(f"{identifier(name)} {kind}" for name, kind in columns)
        connection.execute(f"create table if not exists raw.{identifier(table)} ({declared})")


def drop_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Remove the raw tables, and what arrival knew with them."""
    for name in (*feeds(), *RAW_TABLES):
        connection.execute(f"drop table if exists raw.{identifier(name)}")


@contextlib.contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All of it or nothing."""
    connection.execute("begin transaction")
    try:
        yield
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute("commit")


@dataclass(frozen=True)
class KnownDelivery:
    """A delivery as the warehouse knows it; `identity` is the sha256, or the id if it has none."""

    delivery_id: str
    feed: str
    identity: str
    size_bytes: int
    verdict: str
    delivery_sequence: int


def known_deliveries(connection: duckdb.DuckDBPyConnection) -> list[KnownDelivery]:
    """All deliveries that the warehouse knows, loaded or refused."""
    rows = connection.execute(
        "select delivery_id, feed, coalesce(sha256, delivery_id), size_bytes, verdict, "
        "delivery_sequence from raw.deliveries"
    ).fetchall()
    return [KnownDelivery(*row) for row in rows]


def load_rows(
    connection: duckdb.DuckDBPyConnection, feed: Feed, sequence: int, prepared: Prepared
) -> None:
    """Write the rows of one delivery to `raw.<feed>` and verify that they all came, in order.

    Raises:
        LoadMismatch: If DuckDB read other rows than the independent parser.
    """
    table = f"raw.{identifier(feed.name)}"
    columns = ", ".join(identifier(name) for name in feed.column_names)
    source = prepared.source
    try:
        with path_without_pattern(source.path) as path:
            if isinstance(source, PlainCsv):
                _insert_plain_csv(connection, table, columns, feed, sequence, source, path)
            else:
                connection.execute(
                    f"insert into {table} by name select cast(? as bigint) as delivery_sequence, "
                    f"{ROW_NUMBER}, {columns} from read_parquet(?)",
                    [sequence, path],
                )
    except duckdb.InvalidInputException as error:
        raise LoadMismatch(str(error)) from error
    found = connection.execute(
        "select count(*), coalesce(min(row_number), 1), coalesce(max(row_number), 0) "
        f"from {table} where delivery_sequence = ?",
        [sequence],
    ).fetchall()[0]
    if found[0] != prepared.good_rows or found[1] < 1 or found[2] > prepared.physical_rows:
        raise LoadMismatch(
            f"DuckDB read {found[0]} rows (last row number {found[2]}), "
            f"the file has {prepared.good_rows} of {prepared.physical_rows}"
        )
    if isinstance(source, PlainCsv):
        _verify_samples(connection, table, feed, sequence, source)


# No new_line: told that it is CR LF, in strict mode and with a header to skip, DuckDB 1.5 reads no row
# at all and says nothing.
def _insert_plain_csv(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    columns: str,
    feed: Feed,
    sequence: int,
    source: PlainCsv,
    path: str,
) -> None:
    places = {name: place for place, name in enumerate(source.header)}
    values = ", ".join(
        f"c{places[name]}" if name in places else "null" for name in feed.column_names
    )
    types = ", ".join(f"'c{place}': 'VARCHAR'" for place in range(len(source.header)))
    connection.execute(
        f"insert into {table} (delivery_sequence, row_number, {columns}) "
        f"select cast(? as bigint), row_number() over (), {values} from read_csv(?, "
        "auto_detect = false, all_varchar = true, header = false, skip = 1, delim = ',', "
        f"quote = '', escape = '', comment = '', strict_mode = true, "
        f"null_padding = false, ignore_errors = false, max_line_size = {MOST_LINE_BYTES}, "
        f"columns = {{{types}}})",
        [sequence, path],
    )


def _verify_samples(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    feed: Feed,
    sequence: int,
    source: PlainCsv,
) -> None:
    names = [name for name in feed.column_names if name in source.header]
    places = [source.header.index(name) for name in names]
    columns = ", ".join(f"coalesce({identifier(name)}, '')" for name in names)
    numbers = ", ".join(str(number) for number in source.samples) or "0"
    loaded = connection.execute(
        f"select row_number, {columns} from {table} "
        f"where delivery_sequence = ? and row_number in ({numbers})",
        [sequence],
    ).fetchall()
    found = {row[0]: row[1:] for row in loaded}
    for number, fields in source.samples.items():
        if found.get(number) != tuple(fields[place] for place in places):
            raise LoadMismatch(f"row {number} was not loaded as it stands in the file")


def load_malformed(
    connection: duckdb.DuckDBPyConnection, feed_name: str, sequence: int, prepared: Prepared
) -> None:
    """Write the malformed rows of one delivery to `raw.malformed_rows`."""
    if prepared.malformed is None:
        return
    with path_without_pattern(prepared.malformed) as path:
        connection.execute(
            "insert into raw.malformed_rows select cast(? as bigint), cast(? as varchar), "
            "row_number, reason, record from read_parquet(?)",
            [sequence, feed_name, path],
        )


def write_gate_results(connection: duckdb.DuckDBPyConnection, record: SideRecord) -> None:
    """Write what the gate found to `raw.gate_results`."""
    for result in record.gate or ():
        connection.execute(
            "insert into raw.gate_results values (?, ?, ?, ?, ?, ?, ?)",
            [
                record.delivery_sequence,
                record.delivery_id,
                record.feed,
                result.check_name,
                result.severity,
                result.passed,
                result.observed,
            ],
        )


def write_delivery(connection: duckdb.DuckDBPyConnection, record: SideRecord) -> None:
    """Write one delivery, judged, to `raw.deliveries`."""
    refusal = record.refusal
    arrived_at = datetime.fromisoformat(record.arrived_at).replace(tzinfo=None)
    connection.execute(
        "insert into raw.deliveries values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            record.delivery_sequence,
            record.delivery_id,
            record.feed,
            record.file_name,
            record.sha256,
            record.size_bytes,
            record.modified_at,
            arrived_at,
            record.run_id,
            record.physical_rows,
            record.blank_rows,
            ",".join(record.unknown_columns),
            record.verdict,
            str(refusal) if refusal else None,
        ],
    )


def forget_delivery(connection: duckdb.DuckDBPyConnection, delivery_id: str) -> None:
    """Remove a refused delivery that is to be judged again."""
    for table in ("deliveries", "gate_results"):
        connection.execute(f"delete from raw.{table} where delivery_id = ?", [delivery_id])


def sum_of_amounts(
    connection: duckdb.DuckDBPyConnection, feed: Feed, sequence: int, column: str
) -> Decimal:
    """Exact sum of an amount column over the rows of one delivery where it is an amount."""
    total = connection.execute(
        f"select coalesce(sum(cast({identifier(column)} as decimal(38, 8))), 0) "
        f"from raw.{identifier(feed.name)} where delivery_sequence = ? "
        f"and regexp_full_match({identifier(column)}, '-?[0-9]{{1,18}}([.][0-9]{{1,8}})?')",
        [sequence],
    ).fetchall()[0][0]
    return Decimal(total)


@contextlib.contextmanager
def path_without_pattern(path: Path) -> Iterator[str]:
    """The path of a file as DuckDB may be given it.

    DuckDB takes a path as a pattern: under a folder with brackets in its name it would read another
    file, or none. Such a file is given by a symlink under a plain name instead.
    """
    absolute = path.resolve()
    if not re.search(r"[\[\]*?{}]", str(absolute)):
        yield str(absolute)
        return
    folder = tempfile.mkdtemp(prefix="coupon-ledger-", dir="/tmp")
    try:
        link = Path(folder) / absolute.name
        link.symlink_to(absolute)
        yield str(link)
    finally:
        shutil.rmtree(folder)
