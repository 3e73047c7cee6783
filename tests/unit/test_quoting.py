"""Names and values quoted as SQL text."""

from __future__ import annotations

from datetime import date, datetime

import duckdb

from dagster_project.quoting import literals, quote


def test_values_quoted_as_sql_come_back_as_they_are() -> None:
    values = (
        *("it's; -- a text", "", None, True, False, 0, -(2**62)),
        *(date(2024, 2, 29), datetime(2026, 1, 1, 0, 0, 0, 1)),
    )
    assert duckdb.connect().execute(f"select {literals(values)}").fetchone() == values


def test_a_name_quoted_as_sql_names_a_column() -> None:
    name = 'a "column", or not'
    found = duckdb.connect().execute(f"select 1 as {quote(name)}")
    assert [column[0] for column in found.description or []] == [name]
