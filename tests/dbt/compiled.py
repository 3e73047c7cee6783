"""Runs the compiled models straight in DuckDB's memory, without dbt: fast enough for Hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import duckdb

from tests.dbt.warehouse import TextRows, dbt, fill_raw_tables
from tests.reference.agreement import KEYS


class CompiledModels:
    """The project's models as SQL, for one as-of date.

    Attributes:
        as_of: The as-of date they were compiled for.
        statements: `create table` statements in the order of their dependencies.
    """

    def __init__(self, folder: Path, as_of: date) -> None:
        """Compile the models; the only time dbt is needed."""
        self.as_of = as_of
        warehouse = folder / "warehouse.duckdb"
        with duckdb.connect(str(warehouse)) as connection:
            fill_raw_tables(connection, [])
        outcome = dbt(warehouse, as_of, "build", "--exclude-resource-type", "unit_test", "test")
        assert outcome.success, outcome.exception
        self.statements = [
            f"create table {node.relation_name} as {node.compiled_code}"
            for node in (result.node for result in outcome.result.results)
            if node.resource_type == "model"
        ]
        with duckdb.connect(str(warehouse), read_only=True) as connection:
            self._currencies = connection.execute(
                "select * from staging.iso_4217_currencies"
            ).to_arrow_table()

    def run(self, deliveries: Sequence[TextRows]) -> dict[str, list[dict[str, object]]]:
        """The marts that come of the deliveries, amounts as Decimal."""
        with duckdb.connect() as connection:
            connection.execute("attach ':memory:' as warehouse")
            connection.execute("use warehouse")
            connection.execute("set threads = 2")
            fill_raw_tables(connection, deliveries)
            self.build(connection)
            return {
                name: connection.execute(f"select * from marts.{name}").to_arrow_table().to_pylist()
                for name in KEYS
            }

    def build(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Build the models in a database named `warehouse` that has the raw tables."""
        for schema in ("staging", "intermediate", "marts"):
            connection.execute(f"create schema {schema}")
        connection.register("currencies_given", self._currencies)
        connection.execute(
            "create table staging.iso_4217_currencies as select * from currencies_given"
        )
        for statement in self.statements:
            connection.execute(statement)
