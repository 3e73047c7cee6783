"""`query`: a question in SQL to a release, which can be read and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from dagster_project.answers.asking import Connection, Row, facts


def query(connection: Connection, sql: str) -> Row:
    """Return the answer to one select.

    Args:
        connection: The release.
        sql: The select.

    Returns:
        `columns` has the names as selected; in a row a name that was there before gets its place behind
        it, as in `id:2`.

    Raises:
        ValueError: It is not exactly one statement.
        duckdb.Error: DuckDB cannot run it.
    """
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        what = f"{len(statements)} statements" if statements else "none"
        raise ValueError(f"Give exactly one SELECT statement; this contains {what}.")
    cursor = connection.execute(statements[0])
    names = [str(column[0]) for column in cursor.description or []]
    found = cursor.fetchall()
    distinct = [
        name if name not in names[:place] else f"{name}:{place + 1}"
        for place, name in enumerate(names)
    ]
    return {
        **facts(connection),
        "columns": names,
        "rows": [dict(zip(distinct, map(_plain, row), strict=True)) for row in found],
    }


def _plain(value: Any) -> Any:
    """Return a value of any type of DuckDB as one that JSON has, or that is printed as amounts and days are."""
    if value is None or isinstance(value, bool | int | str | Decimal | datetime | date):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.hex() if isinstance(value, bytes) else str(value)
