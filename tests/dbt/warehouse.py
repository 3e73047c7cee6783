"""Builds the models on records given as text rows, without arrival and without Dagster.

What tests of the SQL share belongs here: filling the raw tables, one `dbt build`, reading a mart.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import pyarrow as pa

from dagster_project.arrival.warehouse import landed_text
from dagster_project.feeds import feeds

DBT_DIR = Path(__file__).resolve().parents[2] / "dbt"

TextRows = Mapping[str, Sequence[Mapping[str, str | None]]]


def fill_raw(path: Path, deliveries: Sequence[TextRows]) -> None:
    """Write raw tables as arrival would: one delivery per feed and element, in the order given."""
    path.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as connection:
        fill_raw_tables(connection, deliveries)


def fill_raw_tables(connection: duckdb.DuckDBPyConnection, deliveries: Sequence[TextRows]) -> None:
    """Create the schema raw in a database and fill it."""
    connection.execute("create schema raw; create schema landed")
    connection.execute(
        "create table raw.deliveries (delivery_sequence bigint, delivery_id varchar, feed varchar,"
        " file_name varchar, sha256 varchar, size_bytes bigint, modified_at timestamp,"
        " arrived_at timestamp, run_id varchar, physical_rows bigint, blank_rows bigint,"
        " unknown_columns varchar, verdict varchar, refusal_reason varchar, notes varchar)"
    )
    connection.execute(
        "create table raw.malformed_rows (delivery_sequence bigint, feed varchar,"
        " row_number bigint, reason varchar, record varchar)"
    )
    connection.execute(
        "create table raw.accepted_findings (finding_id varchar, reason varchar,"
        " approved_by varchar, until varchar)"
    )
    for feed in feeds().values():
        columns = ", ".join(f"{name} varchar" for name in feed.column_names)
        connection.execute(
            f"create table raw.{feed.name} (delivery_sequence bigint, row_number bigint, {columns})"
        )
        connection.execute(
            f"create view landed.{feed.name} as {landed_text(feed, f'raw.{feed.name}')}"
        )
    load_deliveries(connection, deliveries)


def load_deliveries(
    connection: duckdb.DuckDBPyConnection,
    deliveries: Sequence[TextRows],
    after: int = 0,
    *,
    without_empty: bool = False,
) -> int:
    """Add deliveries to raw tables.

    Args:
        connection: The database, with the schema raw.
        deliveries: One delivery per feed and element, in the order given.
        after: The sequence number of the last existing delivery.
        without_empty: Whether a delivery without rows only uses up its number.

    Returns:
        The sequence number of the last of these.
    """
    sequence = after
    for delivery in deliveries:
        for feed in feeds().values():
            rows = delivery.get(feed.name, ())
            sequence += 1
            name = f"{feed.name}/{sequence}"
            if without_empty and not rows:
                continue
            connection.execute(
                "insert into raw.deliveries values (?, ?, ?, ?, ?, 0, '2020-01-01', '2020-01-01',"
                " 'test', ?, 0, '', 'loaded', null, null)",
                [sequence, f"d{sequence}", feed.name, name, f"d{sequence}", len(rows)],
            )
            if not rows:
                continue
            table: dict[str, Any] = {
                "delivery_sequence": pa.array([sequence] * len(rows), pa.int64()),
                "row_number": pa.array(range(1, len(rows) + 1), pa.int64()),
            }
            for column in feed.column_names:
                values = [row.get(column) or None for row in rows]
                table[column] = pa.array(values, pa.string())
            connection.register("rows_given", pa.table(table))
            connection.execute(f"insert into raw.{feed.name} select * from rows_given")
            connection.unregister("rows_given")
    return sequence


def dbt(
    path: Path,
    as_of: date,
    *arguments: str,
    target: Path | None = None,
    kept: Mapping[str, object] | None = None,
    manifest: Any = None,
    time_zone: str = "UTC",
    variables: Mapping[str, object] | None = None,
) -> Any:
    """Run dbt in process on the warehouse and return its result; the file is closed afterwards.

    Args:
        path: The warehouse.
        as_of: Last day whose events count.
        arguments: dbt's command and options.
        target: Where dbt writes; beside the warehouse unless given.
        kept: The variable `kept` of a build that carries on; without it, everything is built from nothing.
        manifest: The project as `parse` returns it; parsed now if none is given.
        time_zone: The reporting time zone.
        variables: Further variables of dbt.
    """
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    environment = {
        "COUPON_LEDGER_WAREHOUSE": str(path),
        "COUPON_LEDGER_CANDIDATE": str(candidate_of(path)),
        "DO_NOT_TRACK": "1",
    }
    given: dict[str, object] = {
        "as_of_date": as_of.isoformat(),
        "reporting_time_zone": time_zone,
    }
    if kept:
        given["kept"] = dict(kept)
    with mock.patch.dict(os.environ, environment):
        result = dbtRunner(manifest=manifest).invoke(
            [
                *arguments,
                "--project-dir", str(DBT_DIR),
                "--profiles-dir", str(DBT_DIR),
                "--target-path", str(target or path.parent / "target"),
                "--log-path", str(path.parent / "logs"),
                "--vars", json.dumps({**given, **(variables or {})}),
                "--quiet",
            ]
        )  # fmt: skip
    DuckDBConnectionManager.close_all_connections()
    return result


def candidate_of(path: Path) -> Path:
    """The file of the marts that are built with a warehouse."""
    return path.with_name("candidate.duckdb")


def mart(path: Path, name: str) -> list[dict[str, object]]:
    """All rows of a mart, amounts as Decimal."""
    with duckdb.connect(str(candidate_of(path)), read_only=True) as connection:
        table = connection.execute(f"select * from marts.{name}").to_arrow_table()
    rows: list[dict[str, object]] = table.to_pylist()
    return rows
