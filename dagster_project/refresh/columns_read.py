"""Which columns of tables and views a query reads, according to DuckDB's plan of the query.

With the optimizers disabled that depend on rows or move filters, a plan scans exactly the columns on which the result
can depend. Where the plan is silent, a column counts as read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import duckdb

from dagster_project.quoting import literal, quote
from dagster_project.releases.fingerprint import Column

Tables = Mapping[tuple[str, str], Sequence[Column]]
"""Columns by schema and table."""

_NOT_OF_COLUMNS: Final = (
    *("statistics_propagation", "empty_result_pullup", "in_clause"),
    *("filter_pushdown", "cte_filter_pusher"),
)
"""DuckDB's optimizers that make a plan depend on the rows of tables, or move filters into scans."""


@contextmanager
def without_rows(databases: Mapping[str, Tables]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to empty copies of databases, in which each table and view is a table without rows.

    Args:
        databases: Tables and views by the name of their database.
    """
    with duckdb.connect(config={"threads": 1}) as connection:
        _disable(connection, _NOT_OF_COLUMNS)
        connection.execute("set explain_output = 'physical_only'")
        for database, tables in databases.items():
            connection.execute(f"attach ':memory:' as {quote(database)}")
            connection.execute(f"use {quote(database)}")
            for schema in sorted({schema for schema, _ in tables}):
                connection.execute(f"create schema if not exists {quote(schema)}")
            for (schema, name), columns in tables.items():
                typed = ", ".join(f"{quote(column.name)} {column.type}" for column in columns)
                connection.execute(f"create table {quote(schema)}.{quote(name)} ({typed})")
        yield connection


def columns_read(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, list[str]]:
    """Return the columns that a query reads, by table name; a table that is not named is read in all columns.

    Args:
        connection: As `without_rows` yields it.
        query: The query as SQL.
    """
    try:
        [(_, plan)] = connection.execute(f"explain (format json) {query}").fetchall()
    except duckdb.Error:  # the query names a table that the build does not have
        return {}
    read: dict[str, set[str]] = {}
    whole = set()
    for scan in _scans(json.loads(plan)):
        name = str(scan["Table"]).rsplit(".", 1)[-1]
        columns = scan.get("Projections")
        read.setdefault(name, set()).update(
            [columns] if isinstance(columns, str) else columns or ()
        )
        if not columns or scan.get("Filters"):
            whole.add(name)
    return {name: sorted(columns) for name, columns in read.items() if name not in whole}


def _disable(connection: duckdb.DuckDBPyConnection, optimizers: Iterable[str]) -> None:
    """Disable those of the optimizers that this version of DuckDB has."""
    disabled = ""
    for optimizer in optimizers:
        with suppress(duckdb.ParserException):
            connection.execute(f"set disabled_optimizers = {literal(disabled + optimizer)}")
            disabled += f"{optimizer},"


def _scans(plan: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the facts that a plan states about each scan of a table."""
    for operator in plan:
        facts = operator.get("extra_info", {})
        if "Table" in facts:
            yield facts
        yield from _scans(operator.get("children", []))
