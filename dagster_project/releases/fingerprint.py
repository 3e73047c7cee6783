"""Order-independent fingerprints of tables, the same on every engine.

The fingerprint of a table is the number of its method, then the sum modulo 2^64 of DuckDB's `hash()` of its rows.
Equal rows in any order and any storage give the same fingerprint; Spark's releases are fingerprinted by DuckDB, too.
DuckDB does not promise that `hash()` stays the same, but 1.4, 1.5 and 2.0 agree, which a test verifies.
Texts of 16 bytes and more are hashed a second time without their first four characters, because `hash()` gives one in
256 of the texts that differ only in their characters 8 and 16 the same number.

Methods 1 and 2 are those of earlier versions, and only check tables with such a fingerprint. Both take 64 bits of the
md5 of a row's text. In method 2, used up to version 0.4, the text is the values of all columns that are not text,
separated by a character that none of them contains, then the length of each text in bytes, then the texts; a null is
N. In method 1, used up to version 0.1.0, whose number is not written, it is the text of every column after its length.
"""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb

from dagster_project.quoting import literal, quote
from dagster_project.releases.errors import LaterMethod

MODULUS = 1 << 64
METHOD = "3-"
"""What a fingerprint begins with."""
_METHOD_2 = "2-"
_NUMBERED = re.compile("[0-9]+-")
_PUBLISHED = ("VARCHAR", "TIMESTAMP", "DATE", "BOOLEAN")


@dataclass(frozen=True)
class Column:
    """A column of a table: its name and DuckDB's name of its type."""

    name: str
    type: str


@dataclass(frozen=True)
class TableContent:
    """What a table holds, as three values that can be compared.

    Attributes:
        rows: Number of rows.
        fingerprint: The number of the method and 16 hexadecimal digits.
        columns: Its columns, in order.
    """

    rows: int
    fingerprint: str
    columns: tuple[Column, ...]


def parquet(file: Path) -> str:
    """Return SQL for the rows of a Parquet file; DuckDB would read brackets in its name as a pattern."""
    return f"read_parquet({literal(glob.escape(str(file)))})"


def _as_text(column: Column) -> str:
    name = quote(column.name)
    if column.type == "TIMESTAMP":
        name = f"epoch_us({name})"
    return name if column.type == "VARCHAR" else f"cast({name} as varchar)"


def _row_text_2(columns: Sequence[Column]) -> str:
    texts = [quote(column.name) for column in columns if column.type == "VARCHAR"]
    values = [_as_text(column) for column in columns if column.type != "VARCHAR"]
    values += [f"cast(strlen({text}) as varchar)" for text in texts]
    given = ", '|', ".join(f"coalesce({value}, 'N')" for value in values)
    return f"concat({given}, '|', {', '.join(texts)})" if texts else f"concat({given})"


def _row_text_1(columns: Sequence[Column]) -> str:
    parts = []
    for column in columns:
        text = _as_text(column)
        parts.append(f"coalesce(strlen({text}) || ':' || {text}, 'N')")
    return " || ".join(parts)


def columns_of(connection: duckdb.DuckDBPyConnection, relation: str) -> tuple[Column, ...]:
    """Return the columns of a relation, which is already quoted SQL."""
    rows = connection.execute(f"describe (select * from {relation})").fetchall()
    return tuple(Column(str(row[0]), str(row[1])) for row in rows)


def tables_of(
    connection: duckdb.DuckDBPyConnection, database: str
) -> dict[tuple[str, str], tuple[Column, ...]]:
    """Return the columns of all tables and views of a database, by schema and name.

    Args:
        connection: Has the database.
        database: Its name.
    """
    found: dict[tuple[str, str], list[Column]] = {}
    for schema, name, column, kind in connection.execute(
        "select schema_name, table_name, column_name, data_type from duckdb_columns()"
        f" where database_name = {literal(database)} and not internal"
        " order by schema_name, table_name, column_index"
    ).fetchall():
        found.setdefault((schema, name), []).append(Column(column, kind))
    return {key: tuple(columns) for key, columns in found.items()}


def content_of(
    connection: duckdb.DuckDBPyConnection, relation: str, like: str = METHOD
) -> TableContent:
    """Count and fingerprint a relation, which is already quoted SQL.

    Args:
        connection: The connection that has the relation.
        relation: The relation.
        like: A fingerprint to compare with, whose method is used.

    Raises:
        ValueError: A column has a type that is not published.
        LaterMethod: The fingerprint to compare with is by a method that this version does not know.
    """
    columns = columns_of(connection, relation)
    if like.startswith(METHOD):
        return content_from(*sum_of_hashes(connection, relation, columns), columns)
    is_method_2 = like.startswith(_METHOD_2)
    if not is_method_2 and _NUMBERED.match(like):
        raise LaterMethod(f"Fingerprint {like} is of a method that this version does not know.")
    text = (_row_text_2 if is_method_2 else _row_text_1)(columns)
    number = f"cast('0x' || substr(md5({text}), 1, 16) as ubigint)"
    rows, total = _numbers(connection, f"select count(*), {_sum_of(number)} from {relation}")
    return TableContent(rows, f"{_METHOD_2 if is_method_2 else ''}{total % MODULUS:016x}", columns)


def content_from(rows: int, hashes: int, columns: tuple[Column, ...]) -> TableContent:
    """Return the content of a relation whose rows are already hashed.

    Args:
        rows: The number of its rows.
        hashes: The sum of their hashes.
        columns: Its columns.

    Raises:
        ValueError: A column has a type that is not published.
    """
    for column in columns:
        kind = column.type
        if not (kind in _PUBLISHED or "INT" in kind or kind.startswith("DECIMAL")):
            raise ValueError(
                f"Column {column.name} has type {kind}, whose values differ between engines:"
                " publish it as a decimal, whole number, date, timestamp, boolean or text."
            )
    return TableContent(rows, f"{METHOD}{hashes % MODULUS:016x}", columns)


def changed_by(
    connection: duckdb.DuckDBPyConnection, content: TableContent, differing: str, is_new: str
) -> TableContent:
    """Return the content of a relation after rows were added and removed, without reading the rest.

    Args:
        connection: The connection that has the rows.
        content: The content before, by the current method.
        differing: The added and removed rows, as quoted SQL, with the same columns.
        is_new: SQL for whether such a row was added.
    """
    sign = f"case when {is_new} then 1 else -1 end::hugeint"
    rows, hashes = _numbers(
        connection,
        f"select {_sum_of(sign)}, {_sum_of(f'{sign} * {row_hash(content.columns)}')} from {differing}",
    )
    before = int(content.fingerprint.removeprefix(METHOD), 16)
    return content_from(content.rows + rows, before + hashes, content.columns)


def sum_of_hashes(
    connection: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[Column] | None = None
) -> tuple[int, int]:
    """Count a relation's rows and add up DuckDB's hashes of them.

    Args:
        connection: The connection that has the relation.
        relation: The relation, which is already quoted SQL.
        columns: Its columns, where they are known.
    """
    rows, hashes = sums_of_hashes(
        connection, relation, [columns or columns_of(connection, relation)]
    )
    return rows, hashes


def sums_of_hashes(
    connection: duckdb.DuckDBPyConnection, relation: str, parts: Sequence[Sequence[Column]]
) -> list[int]:
    """Count a relation's rows and add up DuckDB's hashes of them, as `sum_of_hashes` does, for sets of its columns.

    Args:
        connection: The connection that has the relation.
        relation: The relation, which is already quoted SQL.
        parts: Sets of columns; the values of a set in one row are hashed together.

    Returns:
        The number of rows, then a sum for each set.
    """
    sums = ", ".join(_sum_of(row_hash(columns)) for columns in parts)
    return _numbers(connection, f"select count(*), {sums} from {relation}")


def row_hash(columns: Sequence[Column]) -> str:
    """Return SQL for a 64-bit hash of a row; it is hashed twice, since hash() combines columns by exclusive or."""
    values = []
    for column in columns:
        name = quote(column.name)
        values.append(name)
        if column.type == "VARCHAR":  # hash() reads eight bytes at a time; this shifts them
            values.append(f"case when strlen({name}) > 15 then substr({name}, 5) end")
    return f"hash(hash({', '.join(values)}))"


def _sum_of(number: str) -> str:
    return f"coalesce(sum(cast({number} as hugeint)), 0)"


def _numbers(connection: duckdb.DuckDBPyConnection, sql: str) -> list[int]:
    """Return the whole numbers of the one row that a query gives."""
    row = connection.execute(sql).fetchone()
    assert row is not None
    return [int(number) for number in row]


def content_hash_of(
    as_of: date,
    code_version: str,
    engine: str,
    contents: Mapping[tuple[str, str], TableContent],
    reporting_time_zone: str = "UTC",
) -> str:
    """Fingerprint everything in a release apart from when it was made.

    Args:
        as_of: Last day whose events count.
        code_version: What calculated the marts.
        engine: The engine that did.
        contents: What its tables hold by schema and name, in the order in which they were written.
        reporting_time_zone: Where its days and months begin.
    """
    described = [
        [*name, found.rows, found.fingerprint, [[one.name, one.type] for one in found.columns]]
        for name, found in contents.items()
    ]
    made_by = [as_of.isoformat(), code_version, engine]
    if reporting_time_zone != "UTC":  # releases of earlier versions have no other time zone
        made_by.append(reporting_time_zone)
    facts = json.dumps([*made_by, described])
    return hashlib.sha256(facts.encode()).hexdigest()
