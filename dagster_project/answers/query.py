"""`query`: read-only SQL on a release, and descriptions of its tables.

A question is one SQL statement. It stops at a limit of time, rows or memory, and the answer or the error
says which. Tables need no schema: `marts` is searched first, then `release`.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import duckdb

from dagster_project.answers.asking import Connection, Row, facts, must_be, near, rows

SCHEMAS: Final = ("marts", "release")
_BATCH = 1_000
_NO_TABLE = re.compile(r'Table with name "?([^"\s]+)"? does not exist')
_NO_COLUMN = re.compile(
    r'Referenced column "([^"]+)" (?:was )?not found'
    r'|does not have a column named "([^"]+)"'
    r'|Column "([^"]+)" does not exist'
)
_DAMAGE = (
    duckdb.IOException,
    duckdb.InternalException,
    duckdb.FatalException,
    duckdb.SerializationException,
)
"""The errors that DuckDB raises for a damaged file, as opposed to a wrong question."""


@dataclass(frozen=True)
class Limits:
    """The limits of a question; 0 sets no limit.

    Attributes:
        seconds: How long DuckDB may work on it.
        rows: How many rows the answer may have.
        memory: How much memory DuckDB may use, as DuckDB writes it.
    """

    seconds: float = 0
    rows: int = 0
    memory: str = ""


class WrongQuestion(Exception):
    """DuckDB cannot run the question.

    Attributes:
        message: What is wrong, in DuckDB's words.
        near: Tables, or columns with their tables, whose names are near the unknown one.
        known: The existing tables, where an unknown one was asked for.
    """

    def __init__(self, message: str, near: list[str], known: list[str]) -> None:
        super().__init__(message)
        self.message, self.near, self.known = message, near, known


class LimitReached(Exception):
    """A question was stopped.

    Attributes:
        kind: `time`, `rows` or `memory`.
        limits: The limits in force.
    """

    def __init__(self, kind: str, limits: Limits) -> None:
        super().__init__(f"The question was stopped by its limit of {kind}")
        self.kind, self.limits = kind, limits


def configuration(limits: Limits) -> dict[str, Any]:
    """Return DuckDB's configuration under which a release is opened for a question.

    DuckDB does not spill to disk under it, so a question that does not fit in memory is stopped.
    """
    of_memory = {"memory_limit": limits.memory} if limits.memory else {}
    return {"temp_directory": "", **of_memory}


def query(connection: Connection, sql: str, limits: Limits | None = None) -> Row:
    """Return the answer to one question.

    Args:
        connection: The release.
        sql: One statement that answers with rows.
        limits: The limits at which the question stops.

    Returns:
        `columns` has the names as selected; in a row, a repeated name gets its position, as in `id:2`.
        `is_whole` is false if the answer has more rows than the limit.

    Raises:
        WrongQuestion: The text is not exactly one statement, or DuckDB cannot run it.
        LimitReached: It took too long or too much memory.
    """
    limits = limits or Limits()
    about = facts(connection)
    with asking(connection, limits):
        cursor = connection.execute(only_statement(connection, sql))
        names = [str(column[0]) for column in cursor.description or []]
        found: list[tuple[Any, ...]] = []
        while batch := cursor.fetchmany(_BATCH):
            found += batch
            if limits.rows and len(found) > limits.rows:
                break
    is_whole = not limits.rows or len(found) <= limits.rows
    distinct = [
        name if name not in names[:place] else f"{name}:{place + 1}"
        for place, name in enumerate(names)
    ]
    return {
        **about,
        "columns": names,
        "is_whole": is_whole,
        "rows": [
            dict(zip(distinct, map(_plain, row), strict=True))
            for row in found[: limits.rows or len(found)]
        ],
    }


@contextmanager
def asking(connection: Connection, limits: Limits) -> Iterator[None]:
    """Let a question name tables without their schemas, and stop it at its limits.

    Raises:
        WrongQuestion: DuckDB cannot run it.
        LimitReached: It took too long or too much memory.
        duckdb.Error: The release is damaged.
    """
    connection.execute(f"set search_path = '{','.join(SCHEMAS)}'")
    is_late = threading.Event()

    def stop() -> None:
        is_late.set()
        connection.interrupt()

    timer = threading.Timer(limits.seconds, stop) if limits.seconds else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield
    except _DAMAGE:
        raise
    except duckdb.Error as error:
        if is_late.is_set():
            raise LimitReached("time", limits) from error
        if isinstance(error, duckdb.OutOfMemoryException):
            raise LimitReached("memory", limits) from error
        raise _wrong(connection, error) from error
    finally:
        if timer is not None:
            timer.cancel()
            timer.join()  # so only the caller holds the connection, and closing it closes the file


def only_statement(connection: Connection, sql: str) -> str:
    """Return the one statement in a text, without its final semicolon.

    Raises:
        WrongQuestion: The text has no statement, or several, or bytes that are not UTF-8.
        duckdb.Error: The text is not valid SQL.
    """
    try:
        sql.encode("utf-8")
    except UnicodeEncodeError:  # Python decodes other bytes of an argument to lone surrogates
        raise WrongQuestion("The question is not UTF-8: write it in UTF-8.", [], []) from None
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        what = f"{len(statements)} statements" if statements else "none"
        message = f"Give exactly one SELECT statement; this contains {what}."
        raise WrongQuestion(message, [], [])
    return str(statements[0].query).strip().rstrip(";")


def tables(connection: Connection) -> Row:
    """Return the tables of a release, with their row counts and descriptions."""
    return {
        **facts(connection),
        "tables": rows(
            connection,
            "select tables.schema_name, tables.table_name, promised.row_count,"
            " tables.comment as description from duckdb_tables() as tables"
            " left join release.tables as promised on promised.table_schema = tables.schema_name"
            " and promised.table_name = tables.table_name"
            f" where tables.schema_name in {SCHEMAS}"
            " order by tables.schema_name, tables.table_name",
        ),
    }


def describe(connection: Connection, wanted: str) -> Row:
    """Describe a table: what a row is, what identifies it, and what each column means.

    Args:
        connection: The release.
        wanted: The name of the table, with or without its schema.

    Raises:
        NotThere: There is no such table.
    """
    known = {
        f"{row['schema_name']}.{row['table_name']}": row for row in tables(connection)["tables"]
    }
    by_name = {full.partition(".")[2]: full for full in reversed(known)}
    full = wanted if wanted in known else by_name[must_be("table", wanted, by_name)]
    schema, _, name = full.partition(".")
    (key,) = rows(
        connection,
        "select max(primary_key) as primary_key from release.tables"
        " where table_schema = ? and table_name = ?",
        [schema, name],
    )
    return {
        **facts(connection),
        **known[full],
        **key,
        "columns": rows(
            connection,
            "select column_name, lower(data_type) as data_type, comment as description"
            " from duckdb_columns() where schema_name = ? and table_name = ? order by column_index",
            [schema, name],
        ),
    }


def _wrong(connection: Connection, error: duckdb.Error) -> WrongQuestion:
    """Return what is wrong with a question, with tables or columns of similar names."""
    message = str(error).strip()
    if found := _NO_TABLE.search(message):
        names = {
            row["table_name"]: None if row["schema_name"] == "marts" else row["schema_name"]
            for row in tables(connection)["tables"]
        }
        wanted = found.group(1).rpartition(".")[2]
        alike = [f"{names[one]}.{one}" if names[one] else one for one in near(wanted, names)]
        return WrongQuestion(f"There is no table {wanted!r} in this release.", alike, list(names))
    if found := _NO_COLUMN.search(message):
        wanted = next(group for group in found.groups() if group)
        columns = rows(
            connection,
            "select column_name, list(table_name order by table_name) as tables"
            " from duckdb_columns() where schema_name = 'marts' group by column_name"
            " order by column_name",
        )
        owners = {row["column_name"]: row["tables"] for row in columns}
        exact = [wanted] if wanted in owners else near(wanted, owners)
        alike = [f"{one} ({', '.join(owners[one])})" for one in exact]
        plain = message.splitlines()[0].removeprefix("Binder Error: ") if alike else message
        return WrongQuestion(plain, alike, [])
    return WrongQuestion(message, [], [])


def _plain(value: Any) -> Any:
    """Return a value of any DuckDB type as a JSON value, or unchanged if it is an amount, day or instant."""
    if value is None or isinstance(value, bool | int | str | Decimal | datetime | date):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.hex() if isinstance(value, bytes) else str(value)
