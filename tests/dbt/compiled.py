"""Runs the compiled models straight in DuckDB's memory, without dbt: fast enough for Hypothesis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa

from dagster_project.feeds import Feed, feeds
from dagster_project.refresh.compiled import Models, Moment, nodes_of, variables
from dagster_project.refresh.concerned import RECORDED, SUMMED, calculate, of_concerned
from dagster_project.refresh.what_if import Asking, Change
from tests.dbt.warehouse import TextRows, dbt, fill_raw_tables, load_deliveries
from tests.reference.agreement import KEYS

# What stands in SQL for the build before, and is replaced by what was true of it.
_LAST_DELIVERY, _DAY_BEFORE = 987_654_321, date(1987, 6, 5)


@dataclass(frozen=True)
class _Model:
    """A compiled model: its relation, its query, and what it forgets before it adds, if it is kept."""

    relation: str
    query: str
    is_kept: bool
    forgets: str


@dataclass(frozen=True)
class _Project:
    """What is the same for every day, zone and way of building.

    Attributes:
        manifest: The project as dbt's `parse` gives it: what a model depends on does not change with
            the variables, and a run parses once for both ways of building too.
        currencies: The seed.
    """

    manifest: Any
    currencies: pa.Table


@cache
def _project() -> _Project:
    """Parse the project and load its seed, once for a process."""
    with TemporaryDirectory() as folder:
        warehouse = Path(folder) / "warehouse.duckdb"
        manifest = dbt(warehouse, date(2025, 12, 31), "parse").result
        outcome = dbt(warehouse, date(2025, 12, 31), "seed", manifest=manifest.deepcopy())
        assert outcome.success, outcome.exception
        with duckdb.connect(str(warehouse), read_only=True) as connection:
            currencies = connection.execute("select * from staging.iso_4217_currencies")
            return _Project(manifest, currencies.to_arrow_table())


class CompiledModels:
    """The project's models as SQL, for one as-of date or, day by day, for others.

    Attributes:
        as_of: The as-of date they were compiled for.
        time_zone: The reporting time zone they were compiled for.
        statements: `create table` statements in the order of their dependencies.
    """

    def __init__(self, folder: Path, as_of: date, time_zone: str = "UTC") -> None:
        """Compile the models as they are built from nothing.

        Builds of other as-of dates, and builds that carry on, are for the time zone UTC alone.
        """
        self.as_of = as_of
        self.time_zone = time_zone
        self._warehouse = folder / "warehouse.duckdb"
        self.statements = [
            f"create table {model.relation} as {model.query}" for model in self._compiled()
        ]

    @cached_property
    def _next_day(self) -> list[_Model]:
        """The models as they carry on from the build of the day before."""
        kept = {"delivery_sequence": _LAST_DELIVERY, "as_of_date": _DAY_BEFORE.isoformat()}
        return self._compiled(kept)

    @cached_property
    def of_questions(self) -> Models:
        """The models and data tests as questions about other terms run them."""
        manifest = _project().manifest.deepcopy()
        manifest.build_flat_graph()
        outcome = dbt(
            self._warehouse,
            self.as_of,
            *("compile", "--exclude", "resource_type:unit_test"),
            manifest=manifest,
            variables=variables(self.time_zone, {}),
        )
        assert outcome.success, outcome.exception
        return Models(
            nodes_of(
                (result.node for result in outcome.result.results),
                manifest.writable_manifest().to_dict(),
            )
        )

    def _compiled(self, kept: dict[str, object] | None = None) -> list[_Model]:
        refresh = [] if kept else ["--full-refresh"]
        manifest = _project().manifest.deepcopy()  # compiling writes into it
        manifest.build_flat_graph()
        outcome = dbt(
            self._warehouse,
            self.as_of,
            *("compile", "--select", "path:models", *refresh),
            kept=kept,
            manifest=manifest,
            time_zone=self.time_zone,
        )
        assert outcome.success, outcome.exception
        return [
            _Model(
                node.relation_name,
                node.compiled_code,
                node.config.materialized == "incremental",
                _forgotten(node),
            )
            for node in (result.node for result in outcome.result.results)
            if node.resource_type == "model"
        ]

    def run(self, deliveries: Sequence[TextRows]) -> dict[str, list[dict[str, object]]]:
        """The marts that come of the deliveries, amounts as Decimal."""
        with self.built(deliveries) as connection:
            return _marts(connection)

    def run_day_by_day(
        self, days: Sequence[tuple[date, TextRows]]
    ) -> dict[str, list[dict[str, object]]]:
        """The marts after some days, each carrying on from the one before; amounts as Decimal.

        Args:
            days: The as-of date of each day with what is delivered on it.
        """
        with self.database() as connection:
            fill_raw_tables(connection, [])
            sequence, before = 0, None
            for as_of, delivery in days:
                last = sequence
                sequence = load_deliveries(connection, [delivery], after=last)
                if before is None:
                    self.build(connection, as_of)
                else:
                    self._carry_on(connection, as_of, last, before)
                before = as_of
            return _marts(connection)

    def run_question(
        self,
        deliveries: Sequence[TextRows],
        changes: Sequence[Change],
        holds_from: date | None = None,
    ) -> dict[str, list[dict[str, object]]]:
        """The marts of the same day under other terms, of which only concerned workspaces are calculated.

        Findings, which are those of the deliveries, are left out.

        Args:
            deliveries: What is recorded.
            changes: What is other than recorded.
            holds_from: The day from which on bills are issued under these terms, if not all are.

        Raises:
            WrongTerms: The changes cannot be asked.
        """
        first = None if holds_from is None else datetime.combine(holds_from, time())
        with self.built(deliveries) as connection:
            (last,) = connection.execute(
                "select coalesce(max(delivery_sequence), 0) from raw.deliveries"
            ).fetchall()[0]
            rows, _ = Asking(connection, self.as_of, first).rows(changes)
            connection.execute("attach ':memory:' as recorded")
            connection.execute("copy from database warehouse to recorded")
            connection.execute("use memory; detach warehouse")
            connection.execute("attach ':memory:' as warehouse; use warehouse")
            end = datetime.combine(self.as_of + timedelta(days=1), time())
            calculate(connection, self.of_questions, Moment(self.as_of, end, last, first), rows)
            return _answered(connection)

    @contextmanager
    def built(self, deliveries: Sequence[TextRows]) -> Iterator[duckdb.DuckDBPyConnection]:
        """A database of the deliveries with all models built."""
        with self.database() as connection:
            fill_raw_tables(connection, deliveries)
            self.build(connection)
            yield connection

    def build(self, connection: duckdb.DuckDBPyConnection, as_of: date | None = None) -> None:
        """Build the models in a database named `warehouse` that has the raw tables."""
        for schema in ("staging", "intermediate", "marts"):
            connection.execute(f"create schema {schema}")
        connection.register("currencies_given", _project().currencies)
        connection.execute(
            "create table staging.iso_4217_currencies as select * from currencies_given"
        )
        for statement in self.statements:
            connection.execute(self._on(statement, as_of or self.as_of))

    def _carry_on(
        self,
        connection: duckdb.DuckDBPyConnection,
        as_of: date,
        last: int,
        before: date,
    ) -> None:
        for model in self._next_day:
            query = self._on(model.query, as_of)
            query = query.replace(str(_LAST_DELIVERY), str(last))
            query = query.replace(
                f"{_DAY_BEFORE + timedelta(days=1)} ", f"{before + timedelta(days=1)} "
            )
            if model.is_kept:
                if model.forgets:
                    connection.execute(model.forgets.replace(str(_LAST_DELIVERY), str(last)))
                connection.execute(f"insert into {model.relation} by name {query}")
            else:
                connection.execute(f"create or replace table {model.relation} as {query}")

    def _on(self, query: str, as_of: date) -> str:
        """A query for another as-of date than it was compiled for."""
        day, end = (f"'{one.isoformat()}" for one in (self.as_of, self.as_of + timedelta(days=1)))
        query = query.replace(f"{end} 00:00:00'", f"'{as_of + timedelta(days=1)} 00:00:00'")
        return query.replace(f"{day}'", f"'{as_of.isoformat()}'")

    def database(self) -> duckdb.DuckDBPyConnection:
        """An empty database in memory, of the name the models know."""
        connection = duckdb.connect()
        connection.execute("attach ':memory:' as warehouse")
        connection.execute("use warehouse")
        connection.execute("set threads = 2; set disabled_optimizers = 'in_clause'")  # as dbt does
        return connection


def _forgotten(node: object) -> str:
    """What the macros `forget_recalculated` and `forget_fates` say, which dbt does not show."""
    hooks = "".join(hook.sql for hook in node.config.pre_hook)  # type: ignore[attr-defined]
    relation = node.relation_name  # type: ignore[attr-defined]
    if "forget_recalculated" in hooks:
        return (
            f"delete from {relation} where invoice_id in"
            " (select invoice_id from intermediate.int_invoices_recalculated)"
        )
    if "forget_fates" in hooks:
        conditions = " or ".join(
            f"(feed = '{feed.name}' and record_id in (select {_record_id(feed)} from"
            f" staging.base_billing__{feed.name} where delivery_sequence > {_LAST_DELIVERY}))"
            for feed in feeds().values()
        )
        return f"delete from {relation} where {conditions}"
    assert not hooks
    return ""


def _record_id(feed: Feed) -> str:
    """What the macro `record_id` says."""
    if len(feed.key_names) == 1:
        return feed.key.name
    return f"concat_ws(' ', {', '.join(f'cast({name} as varchar)' for name in feed.key_names)})"


def _answered(connection: duckdb.DuckDBPyConnection) -> dict[str, list[dict[str, object]]]:
    """All marts under other terms but the findings: those of workspaces not concerned as recorded."""
    found = {}
    for (name,) in connection.execute(
        "select distinct table_name from duckdb_tables() where database_name = 'recorded'"
        " and schema_name = 'marts'"
    ).fetchall():
        columns = [
            row[0] for row in connection.execute(f"describe recorded.marts.{name}").fetchall()
        ]
        of_these = of_concerned(columns)
        rows = f"from warehouse.marts.{name}"
        if name in SUMMED:
            rows = f"from warehouse.all_workspaces.{name}"
        elif of_these:
            rows = (
                f"from (from recorded.marts.{name} where ({of_these}) is not true"
                f" union all by name from warehouse.marts.{name})"
            )
        if name in KEYS and name not in RECORDED:
            found[name] = connection.execute(rows).to_arrow_table().to_pylist()
    return found


def _marts(connection: duckdb.DuckDBPyConnection) -> dict[str, list[dict[str, object]]]:
    published = {
        row[0]
        for row in connection.execute(
            "select table_name from information_schema.tables where table_schema = 'marts'"
        ).fetchall()
    }
    return {
        name: connection.execute(f"select * from marts.{name}").to_arrow_table().to_pylist()
        for name in KEYS
        if name in published
    }
