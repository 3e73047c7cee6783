"""Rows of a Parquet file with its columns' types have the same result as the same rows in a CSV file."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.arrival.parquet_worker import read_parquet
from dagster_project.arrival.report import Limits
from dagster_project.arrival.rows import Form, has_values
from dagster_project.arrival.warehouse import (
    RawRows,
    landed_relation,
    landed_text,
    notes_of,
    relation,
)
from dagster_project.feeds import Column, Feed, feeds
from tests.dbt.compiled import CompiledModels
from tests.dbt.test_staging import VALID
from tests.dbt.warehouse import fill_raw_tables

WORDS = [
    "x",
    "x",
    "a b",
    "NA",
    "null",
    "7.0",
    "i~expected-1",
    "r~follow-up",
    "a\tb",
    "é" * 201,
    None,
]
AMOUNTS = ["0", "0.5", "-0.01", "5", "120.05", "9999999999999.99", "-10000000000000", None]
NUMBERS: Mapping[str, Sequence[Any]] = {
    "whole": [0, 1, -1, 5, 1200, 1201, 10**18 - 1, 1 - 10**18, None],
    "amount": [*(text and Decimal(text) for text in AMOUNTS), Decimal("99999999999999.99")],
    "decimal": [Decimal(0), Decimal("0.0001"), Decimal(20), Decimal("100.0001"), None],
    "boolean": [True, False, None],
    "date": [date(1, 1, 1), date(2025, 1, 1), date(2025, 2, 28), date(9999, 12, 31), None],
    "instant": [
        datetime(1, 1, 1), datetime(2025, 1, 1), datetime(2025, 1, 1, 9, 5, 7, 120_000),
        datetime(9999, 12, 31, 23, 59, 59, 999_999), datetime(2025, 3, 30, 2, 30), None,
    ],
}  # fmt: skip
"""Values of every type, some of which break a rule of their column."""
KINDS: Mapping[str, Sequence[pa.DataType]] = {
    "whole": [pa.int64()],
    "amount": [pa.decimal128(18, 2), pa.decimal64(18, 2), pa.decimal128(38, 9)],
    "decimal": [pa.decimal128(18, 4), pa.decimal128(20, 6)],
    "boolean": [pa.bool_()],
    "date": [pa.date32(), pa.date64()],
    "instant": [pa.timestamp("us")],
}


@dataclass(frozen=True)
class Delivered:
    """The same rows as a Parquet file and as text."""

    feed: Feed
    table: pa.Table
    texts: list[dict[str, str | None]]


def text_of(column: Column, value: Any, is_local: bool) -> str | None:
    """The text of a value in a CSV file, without insignificant zeros."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, datetime):
        text = value.isoformat()
        return (text.rstrip("0") if "." in text else text) + ("" if is_local else "Z")
    return str(value).lower()


@st.composite
def delivered(draw: st.DrawFn, feed: Feed) -> Delivered:
    """A few rows of a feed, most of them valid except in some columns; sometimes a column is text."""
    is_local = draw(st.booleans())
    as_text = draw(st.sampled_from([None, None, None, *feed.column_names]))
    rows = [
        {
            column.name: draw(st.sampled_from(values_of(column)))
            if draw(st.integers(0, 9)) == 0
            else valid(feed, column)
            for column in feed.columns
        }
        for _ in range(draw(st.integers(1, 4)))
    ]
    arrays = {}
    for column in feed.columns:
        kind = draw(st.sampled_from(KINDS.get(column.type, [pa.string()])))
        values = [row[column.name] for row in rows]
        if column.name == as_text:
            kind = pa.string()
            values = [text_of(column, value, is_local) for value in values]
        elif column.type == "instant" and not is_local:
            kind = pa.timestamp("us", "UTC")
            values = [value and value.replace(tzinfo=UTC) for value in values]
        arrays[column.name] = pa.array(values, kind)
    names = {column.name: column for column in feed.columns}
    texts = [
        {name: text_of(names[name], value, is_local) for name, value in row.items()} for row in rows
    ]
    return Delivered(feed, pa.table(arrays), texts)


def values_of(column: Column) -> Sequence[Any]:
    """Values to draw from: valid, invalid, and none."""
    if column.type == "currency":
        return ["USD", "JPY", "JPY", "KWD", "EURO", "usd", None]
    return [*column.values, *NUMBERS.get(column.type, WORDS)]


def valid(feed: Feed, column: Column) -> Any:
    """The value of a valid row."""
    text = VALID[feed.name].get(column.name) or None
    if text is None or not has_values(column):
        return text
    if column.type in ("amount", "decimal"):
        return Decimal(text)
    if column.type == "whole":
        return int(text)
    day = datetime.fromisoformat(text).replace(tzinfo=None)
    return day.date() if column.type == "date" else day


@st.composite
def all_feeds(draw: st.DrawFn) -> list[Delivered]:
    """Some deliveries of every feed."""
    return [
        draw(delivered(feed)) for feed in feeds().values() for _ in range(draw(st.integers(1, 5)))
    ]


def staged(
    compiled: CompiledModels, connection: duckdb.DuckDBPyConnection, since: int | None = None
) -> dict[str, list[tuple[Any, ...]]]:
    """Every typed row of the raw tables, or only those of deliveries after a given one, by feed."""
    connection.execute("create schema if not exists staging")
    connection.register("currencies", compiled.currencies)
    connection.execute("create or replace table staging.iso_4217_currencies as from currencies")
    queries = compiled.queries if since is None else compiled.queries_since(since)
    bases = {
        feed: query
        for relation_name, query in queries.items()
        for feed in feeds()
        if f"base_billing__{feed}" in relation_name
    }
    assert set(bases) == set(feeds())
    return {
        feed: connection.execute(
            f"select * from ({query}) order by delivery_sequence, row_number"
        ).fetchall()
        for feed, query in bases.items()
    }


def landed(
    connection: duckdb.DuckDBPyConnection, folder: Path, deliveries: Sequence[Delivered]
) -> list[Form]:
    """Make the raw tables views of the rows as arrival stores them, and return their forms."""
    fill_raw_tables(connection, [])
    stored, forms = RawRows(folder / "raw"), []
    for sequence, delivery in enumerate(deliveries, start=1):
        file, rows = folder / f"{sequence}.parquet", folder / f"{sequence}.rows"
        pq.write_table(delivery.table, file)
        form = str(read_parquet(file, delivery.feed, Limits(), rows)["form"])
        forms.append(form)
        place = stored.place(delivery.feed.name, sequence, form)  # type: ignore[arg-type]
        place.parent.mkdir(parents=True, exist_ok=True)
        rows.rename(place)
    for feed in feeds().values():
        files = [
            stored.path(feed.name, sequence)
            for sequence, delivery in enumerate(deliveries, start=1)
            if delivery.feed == feed
        ]
        connection.execute(
            f"drop view landed.{feed.name}; drop table raw.{feed.name};"
            f" create view landed.{feed.name} as from {landed_relation(feed, files)};"
            f" create view raw.{feed.name} as from {relation(feed, files)}"
        )
    return forms  # type: ignore[return-value]


@settings(max_examples=12)
@given(deliveries=all_feeds())
def test_values_of_a_parquet_file_are_judged_as_their_text_is(
    compiled: CompiledModels, deliveries: list[Delivered]
) -> None:
    check_judged_as_text(compiled, deliveries)


def test_each_value_that_is_not_plain_is_judged(compiled: CompiledModels) -> None:
    """Each file has one row with one such value, so that no other value causes the row to be judged."""
    deliveries = []
    for feed in feeds().values():
        usual = {column.name: valid(feed, column) for column in feed.columns}
        for column in feed.columns:
            for value in dict.fromkeys([usual[column.name], *values_of(column)]):
                deliveries.append(delivery_of(feed, [usual | {column.name: value}]))
                if column.type == "amount" and "currency" in usual:
                    yen = usual | {column.name: value, "currency": "JPY"}
                    deliveries.append(delivery_of(feed, [yen]))
    forms = check_judged_as_text(compiled, deliveries)
    assert forms.count("values") > len(forms) / 2


def delivery_of(feed: Feed, rows: Sequence[dict[str, Any]]) -> Delivered:
    """Rows of a feed, with instants in UTC and each column of the first type that holds its values."""
    arrays = {
        column.name: pa.array(
            [row[column.name] for row in rows], KINDS.get(column.type, [pa.string()])[0]
        )
        for column in feed.columns
    }
    for column in feed.columns:
        if column.type == "instant":
            arrays[column.name] = arrays[column.name].cast(pa.timestamp("us", "UTC"))
    texts = [
        {column.name: text_of(column, row[column.name], is_local=False) for column in feed.columns}
        for row in rows
    ]
    return Delivered(feed, pa.table(arrays), texts)


def check_judged_as_text(compiled: CompiledModels, deliveries: Sequence[Delivered]) -> list[Form]:
    """Compare the staged rows and notes of Parquet files with those of the same rows as text; return the forms."""
    with compiled.database() as text, tempfile.TemporaryDirectory() as folder:
        fill_raw_tables(text, [])
        for sequence, delivery in enumerate(deliveries, start=1):
            names = list(delivery.feed.column_names)
            text.executemany(
                f"insert into raw.{delivery.feed.name} values (?, ?{', ?' * len(names)})",
                [
                    [sequence, number, *(row[name] for name in names)]
                    for number, row in enumerate(delivery.texts, start=1)
                ],
            )
        expected = staged(compiled, text)
        with compiled.database() as connection:
            forms = landed(connection, Path(folder), deliveries)
            for name, declared in feeds().items():
                noted = notes_of(connection, declared, f"landed.{name}")
                rows_as_text = f"({landed_text(declared, f'raw.{name}')})"
                assert noted == notes_of(text, declared, rows_as_text)
            for feed in feeds():
                rows = f"from raw.{feed} order by delivery_sequence, row_number"
                assert connection.execute(rows).fetchall() == text.execute(rows).fetchall()
            found = staged(compiled, connection)
            later = staged(compiled, connection, since=len(deliveries) // 2)
    for feed in feeds():
        assert found[feed] == expected[feed]
        assert later[feed] == [row for row in expected[feed] if row[0] > len(deliveries) // 2]
    return forms
