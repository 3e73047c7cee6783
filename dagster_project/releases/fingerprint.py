"""Order-free fingerprints of tables, the same on every engine and version.

A row becomes one text, so that no two rows give the same: the values of all columns that are no text,
separated by a sign that none of them has, then the length of each text in bytes, then the texts; a null
is N. Its md5 is folded to 64 bits; the fingerprint is the sum over the rows modulo 2^64, behind the
number of this method. Equal rows in any order, in any storage, on any engine with md5 give the same;
DuckDB's own hash() does not promise that, and costs a thirtieth: it compares within one process.

Method 1, without its number before it, is that of releases up to version 0.1.0: every column's text
behind its length. It is asked only of what carries such a fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import duckdb

MODULUS = 1 << 64
METHOD = "2-"
"""What a fingerprint begins with; one of method 1 has nothing there."""


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


def quote(name: str) -> str:
    """A SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A SQL string."""
    return "'" + text.replace("'", "''") + "'"


def _as_text(column: Column) -> str:
    name, kind = quote(column.name), column.type
    if kind == "VARCHAR":
        return name
    if kind == "TIMESTAMP":
        return f"cast(epoch_us({name}) as varchar)"
    if kind in ("DATE", "BOOLEAN") or "INT" in kind or kind.startswith("DECIMAL"):
        return f"cast({name} as varchar)"
    raise ValueError(
        f"Column {column.name} has type {kind}, whose text differs between engines: publish a"
        " decimal, whole number, date, timestamp, boolean or text."
    )


def row_text(columns: Sequence[Column]) -> str:
    """SQL that gives one row's text: values, lengths of texts, texts."""
    texts = [quote(column.name) for column in columns if column.type == "VARCHAR"]
    values = [_as_text(column) for column in columns if column.type != "VARCHAR"]
    values += [f"cast(strlen({text}) as varchar)" for text in texts]
    given = ", ".join(f"coalesce({value}, 'N')" for value in values)
    fixed = f"concat_ws('|', {given})"
    return f"concat({fixed}, '|', {', '.join(texts)})" if texts else fixed


def _row_text_1(columns: Sequence[Column]) -> str:
    parts = []
    for column in columns:
        text = _as_text(column)
        parts.append(f"coalesce(strlen({text}) || ':' || {text}, 'N')")
    return " || ".join(parts)


def columns_of(connection: duckdb.DuckDBPyConnection, relation: str) -> tuple[Column, ...]:
    """The columns of a relation, which is already quoted SQL."""
    rows = connection.execute(f"describe (select * from {relation})").fetchall()
    return tuple(Column(str(row[0]), str(row[1])) for row in rows)


def content_of(
    connection: duckdb.DuckDBPyConnection, relation: str, like: str = METHOD
) -> TableContent:
    """Count and fingerprint a relation, which is already quoted SQL.

    Args:
        connection: Where it is.
        relation: The relation.
        like: A fingerprint to compare with, whose method is used.
    """
    columns = columns_of(connection, relation)
    method = METHOD if like.startswith(METHOD) else ""
    text = row_text(columns) if method else _row_text_1(columns)
    row = connection.execute(
        f"select count(*), coalesce(sum(cast('0x' || substr(md5({text}), 1, 16)"
        f" as ubigint)), 0) from {relation}"
    ).fetchone()
    assert row is not None
    return TableContent(int(row[0]), f"{method}{int(row[1]) % MODULUS:016x}", columns)


def sum_of_hashes(connection: duckdb.DuckDBPyConnection, relation: str) -> tuple[int, int]:
    """Count of a relation's rows and sum of DuckDB's own hashes, to compare within this process.

    Args:
        connection: Where it is.
        relation: The relation, which is already quoted SQL.
    """
    names = ", ".join(quote(column.name) for column in columns_of(connection, relation))
    row = connection.execute(
        f"select count(*), coalesce(sum(cast(hash({names}) as hugeint)), 0) from {relation}"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def content_hash_of(
    as_of: date,
    code_version: str,
    engine: str,
    contents: Mapping[tuple[str, str], TableContent],
) -> str:
    """Fingerprint of everything in a release apart from when it was made.

    Args:
        as_of: Last day whose events count.
        code_version: What calculated the marts.
        engine: Which engine did.
        contents: What its tables hold by schema and name, in the order they were written in.
    """
    described = [
        [*name, found.rows, found.fingerprint, [[one.name, one.type] for one in found.columns]]
        for name, found in contents.items()
    ]
    facts = json.dumps([as_of.isoformat(), code_version, engine, described])
    return hashlib.sha256(facts.encode()).hexdigest()
