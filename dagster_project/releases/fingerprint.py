"""Order-free fingerprints of tables, the same on every engine and version.

Each row becomes a text that no other row has: the values of all columns that are not text, separated
by a character that none of them contains, then the length of each text in bytes, then the texts; a null
is N. The md5 of that text is folded to 64 bits; the fingerprint is the number of this method, then the
sum over the rows modulo 2^64. Equal rows in any order, in any storage, on any engine with md5 give the
same fingerprint. DuckDB's own hash() is stable within one version of DuckDB only, and costs a tenth or
less: it compares copies, and finds the rows that differ from a table whose fingerprint is known.

Method 1, whose number is not written, is that of releases up to version 0.1.0: the text of every column
after its length. It is used only to check tables that carry such a fingerprint.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb

MODULUS = 1 << 64
METHOD = "2-"
"""What a fingerprint begins with; one of method 1 has no such beginning."""


@dataclass(frozen=True)
class Column:
    """A column of a table: its name and DuckDB's name of its type."""

    name: str
    type: str


@dataclass(frozen=True)
class TableContent:
    """What a table holds, in three values that can be compared.

    Attributes:
        rows: Number of rows.
        fingerprint: The number of the method and 16 hexadecimal digits.
        columns: Its columns, in order.
    """

    rows: int
    fingerprint: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Known:
    """What a table was found to hold, by md5 and by DuckDB's own hash.

    Attributes:
        content: Its content.
        hashes: Number of its rows and sum of their hashes, as `sum_of_hashes` returns them.
    """

    content: TableContent
    hashes: tuple[int, int]


def quote(name: str) -> str:
    """Quote a name as a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text as a SQL string."""
    return "'" + text.replace("'", "''") + "'"


def literals(values: Iterable[object]) -> str:
    """Quote values as SQL, separated by commas.

    Bound as parameters, they would make DuckDB import pandas, which takes longer than the statement.

    Args:
        values: Texts, whole numbers, truth values, days, instants and nulls.
    """
    return ", ".join(map(_literal_of, values))


def _literal_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, datetime):
        return f"timestamp {literal(value.isoformat(' '))}"
    if isinstance(value, date):
        return f"date {literal(value.isoformat())}"
    if isinstance(value, int):  # a truth value too
        return str(value).lower()
    assert isinstance(value, str), type(value)
    return literal(value)


def parquet(file: Path) -> str:
    """Return SQL for the rows of a Parquet file; to DuckDB, a name with brackets is a pattern."""
    return f"read_parquet({literal(glob.escape(str(file)))})"


def _as_text(column: Column) -> str:
    name, kind = quote(column.name), column.type
    if kind == "VARCHAR":
        return name
    if kind == "TIMESTAMP":
        return f"cast(epoch_us({name}) as varchar)"
    if kind in ("DATE", "BOOLEAN") or "INT" in kind or kind.startswith("DECIMAL"):
        return f"cast({name} as varchar)"
    raise ValueError(
        f"Column {column.name} has type {kind}, whose text differs between engines: publish it"
        " as a decimal, whole number, date, timestamp, boolean or text."
    )


def row_text(columns: Sequence[Column]) -> str:
    """Return SQL for one row's text: values, lengths of texts, texts."""
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
    """
    columns = columns_of(connection, relation)
    method = METHOD if like.startswith(METHOD) else ""
    text = row_text(columns) if method else _row_text_1(columns)
    rows, total = _numbers(connection, f"select count(*), {_sum_of_md5(text)} from {relation}")
    return TableContent(rows, f"{method}{total % MODULUS:016x}", columns)


def known_of(connection: duckdb.DuckDBPyConnection, relation: str) -> Known:
    """Count, fingerprint and hash a relation, which is already quoted SQL, in one scan."""
    columns = columns_of(connection, relation)
    rows, md5, hashes = _numbers(
        connection,
        f"select count(*), {_sum_of_md5(row_text(columns))}, {_sum_of(row_hash(columns))}"
        f" from {relation}",
    )
    content = TableContent(rows, f"{METHOD}{md5 % MODULUS:016x}", columns)
    return Known(content, (rows, hashes))


def known_by_difference(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    earlier: str,
    known: Known,
) -> Known | None:
    """Fingerprint a relation by only those rows in which it differs from an earlier one.

    Both relations are scanned for DuckDB's hashes of their rows; a row whose hash only one of them has
    is added to the earlier fingerprint or subtracted from it. Counts and sums of hashes must add up
    too, so that repeated rows, or a change in the earlier relation, are noticed.

    Args:
        connection: The connection that has both; its temporary tables `now`, `then` and `differing` are replaced.
        relation: The relation, a table, which is already quoted SQL.
        earlier: The earlier relation, as quoted SQL, which has the same columns that are compared.
        known: What the earlier relation held when it was fingerprinted, by this method.

    Returns:
        What the relation holds, `known` itself if that is the same; None if this method cannot
        find out, or not at less cost than by reading all rows.
    """
    hashed = row_hash(known.content.columns)
    found = []
    for name, source, numbered in (("now", relation, ", rowid as number"), ("then", earlier, "")):
        connection.execute(
            f"create or replace temp table {quote(name)} as select {hashed} as h{numbered} from {source}"
        )
        found.append(_numbers(connection, f"select count(*), {_sum_of('h')} from {quote(name)}"))
    (rows, hashes), then = found
    if then != list(known.hashes):
        return None
    if (rows, hashes) == known.hashes:
        return known
    connection.execute(
        "create or replace temp table differing as"
        ' select "now".number as added, "then".h as removed'
        ' from "now" full join "then" using (h) where "now".h is null or "then".h is null'
    )
    (many,) = _numbers(connection, "select count(*) from differing")
    if many > rows / 2:
        return None
    added, removed = (
        _numbers(
            connection,
            f"select count(*), {_sum_of(hashed)}, {_sum_of_md5(row_text(known.content.columns))}"
            f" from {source}"
            f" where {found_by} in (select {which} from differing where {which} is not null)",
        )
        for source, found_by, which in (
            (relation, "rowid", "added"),
            (earlier, hashed, "removed"),
        )
    )
    before = [*known.hashes, int(known.content.fingerprint.removeprefix(METHOD), 16)]
    *counted, md5 = (was + new - old for was, new, old in zip(before, added, removed, strict=True))
    if counted != [rows, hashes]:
        return None
    content = TableContent(rows, f"{METHOD}{md5 % MODULUS:016x}", known.content.columns)
    return Known(content, (rows, hashes))


def changed_by(
    connection: duckdb.DuckDBPyConnection, known: Known, differing: str, is_new: str
) -> Known:
    """Return what a relation holds after some rows came and others went, without reading the rest.

    Args:
        connection: The connection that has the rows.
        known: What the relation held, by this method.
        differing: The rows that came and those that went, as quoted SQL, with the same columns.
        is_new: SQL for whether a row of these came.
    """
    columns = known.content.columns
    sign = f"case when {is_new} then 1 else -1 end::hugeint"
    changes = _numbers(
        connection,
        f"select {_sum_of(sign)}, {_sum_of(f'{sign} * {row_hash(columns)}')},"
        f" {_sum_of(f'{sign} * {_md5_number(row_text(columns))}')} from {differing}",
    )
    before = [*known.hashes, int(known.content.fingerprint.removeprefix(METHOD), 16)]
    rows, hashes, md5 = (was + change for was, change in zip(before, changes, strict=True))
    content = TableContent(rows, f"{METHOD}{md5 % MODULUS:016x}", columns)
    return Known(content, (rows, hashes))


def sum_of_hashes(
    connection: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[Column] | None = None
) -> tuple[int, int]:
    """Count a relation's rows and add up DuckDB's own hashes, comparable within one DuckDB version.

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
    """Count a relation's rows and add up DuckDB's own hashes of them, as `sum_of_hashes` does, in some of its columns.

    Args:
        connection: The connection that has the relation.
        relation: The relation, which is already quoted SQL.
        parts: Columns, whose values in one row are hashed together.

    Returns:
        The number of rows, then a sum for each part.
    """
    sums = ", ".join(_sum_of(row_hash(columns)) for columns in parts)
    return _numbers(connection, f"select count(*), {sums} from {relation}")


def row_hash(columns: Sequence[Column]) -> str:
    """Return SQL for 64 bits of a row; hashed twice, as hash() combines columns by exclusive or."""
    return f"hash(hash({', '.join(quote(column.name) for column in columns)}))"


def _sum_of(number: str) -> str:
    return f"coalesce(sum(cast({number} as hugeint)), 0)"


def _sum_of_md5(text: str) -> str:
    return _sum_of(_md5_number(text))


def _md5_number(text: str) -> str:
    return f"cast('0x' || substr(md5({text}), 1, 16) as ubigint)"


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
