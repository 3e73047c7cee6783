"""Names and values as SQL text."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime


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
        values: Texts, integers, Booleans, days, instants and nulls.
    """
    return ", ".join(map(_literal_of, values))


def _literal_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, datetime):
        return f"timestamp {literal(value.isoformat(' '))}"
    if isinstance(value, date):
        return f"date {literal(value.isoformat())}"
    if isinstance(value, int):  # or a Boolean
        return str(value).lower()
    assert isinstance(value, str), type(value)
    return literal(value)
