"""Runs the compiled models straight in DuckDB's memory, without dbt: fast enough for Hypothesis."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, datetime, time, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from dagster_project.feeds import Feed, feeds
from dagster_project.refresh.asked_records import Asking
from dagster_project.refresh.changes import Change
from dagster_project.refresh.compiled import (
    Models,
    Moment,
    nodes_of,
    of_one_database,
    variables,
    with_columns,
)
from dagster_project.refresh.concerned import RECORDED, SUMMED, Calculated, calculate, of_concerned
from dagster_project.refresh.dbt_build import Project, prepare
from dagster_project.refresh.left_alone import left_alone, states_of_sources
from dagster_project.releases.fingerprint import tables_of
from dagster_project.settings import Settings
from tests.dbt.warehouse import TextRows, dbt, fill_raw_tables, load_deliveries
from tests.reference.agreement import KEYS
from tests.reference.rules import first_instant_of

# Placeholders in compiled SQL for the days and the time zone of a build.
_AS_OF = date(1983, 2, 1)
_ELSEWHERE = "Asia/Kolkata"
_LAST_DELIVERY, _DAY_BEFORE = 987_654_321, date(1987, 6, 5)

COMPILE = ("compile", "--indirect-selection", "empty", "--select")
"""dbt's command and options to compile something without its tests."""
ALL = "resource_type:model"
"""All models."""


@dataclass(frozen=True)
class _Model:
    """A compiled model: its id, relation, query, and, if it is incremental, what it deletes before it adds rows."""

    unique_id: str
    relation: str
    query: str
    is_kept: bool
    forgets: str


def parsed(folder: Path) -> Project:
    """Return the project as the product parses it, which is done once for all callers.

    What a model depends on does not change with the variables; the product too parses once for both ways of
    building.

    Args:
        folder: Where concurrent callers wait for each other.
    """
    with FileLock(folder / "parsed.lock"):
        return prepare(Settings(home=folder / "home"))


def manifest(folder: Path) -> Any:
    """Return the project as dbt's `parse` returns it, for one command of dbt, which changes it."""
    from dbt.contracts.graph.manifest import Manifest

    made = Manifest.from_msgpack((parsed(folder).folder / "manifest.msgpack").read_bytes())
    made.build_flat_graph()
    return made


@cache
def _end_of(day: date, zone: str) -> datetime:
    """The first instant after a day."""
    return first_instant_of(day + timedelta(days=1), ZoneInfo(zone))


@cache
def _currencies(folder: Path) -> pa.Table:
    """The seed as dbt loads it."""
    path = folder / "currencies.parquet"
    with FileLock(folder / "currencies.lock"):
        if not path.exists():
            warehouse = folder / "seeded" / "warehouse.duckdb"
            warehouse.parent.mkdir()
            outcome = dbt(warehouse, _AS_OF, "seed", manifest=manifest(folder))
            assert outcome.success, outcome.exception
            with duckdb.connect(str(warehouse), read_only=True) as connection:
                seed = connection.execute("from staging.iso_4217_currencies").to_arrow_table()
            pq.write_table(seed, path)
    return pq.read_table(path)


class CompiledModels:
    """The project's models as SQL, for one as-of date or, day by day, for others.

    Attributes:
        as_of: Their as-of date.
        time_zone: Their reporting time zone.
    """

    def __init__(self, folder: Path, as_of: date, time_zone: str = "UTC") -> None:
        """Compile the models as they are built from nothing, unless that was done before.

        They are compiled once for all as-of dates in UTC, and once for all those in other time zones.

        Args:
            folder: Where the compiled models are stored for all callers.
            as_of: The as-of date.
            time_zone: The reporting time zone.
        """
        self.as_of = as_of
        self.time_zone = time_zone
        self._folder = folder
        self._compiled_in = "UTC" if time_zone == "UTC" else _ELSEWHERE
        self._first_day = self._compiled()

    @property
    def queries(self) -> dict[str, str]:
        """The query of each model by its relation, in the order of their dependencies."""
        return {model.relation: self._on(model.query, self.as_of) for model in self._first_day}

    def queries_since(self, last: int, before: date = _DAY_BEFORE) -> dict[str, str]:
        """The query of each model of a build that carries on, by its relation.

        Args:
            last: The last delivery of the previous build.
            before: The as-of date of the previous build.
        """
        return {
            model.relation: self._carried_on(model.query, self.as_of, last, before)
            for model in self._next_day
        }

    @property
    def currencies(self) -> pa.Table:
        """The seed as dbt loads it."""
        return _currencies(self._folder)

    @cached_property
    def manifest(self) -> Any:
        """The manifest as dbt writes it."""
        return parsed(self._folder).manifest

    @cached_property
    def _next_day(self) -> list[_Model]:
        """The models as they carry on from the build of the previous day."""
        kept = {"delivery_sequence": _LAST_DELIVERY, "as_of_date": _DAY_BEFORE.isoformat()}
        return self._compiled(kept)

    @cached_property
    def of_questions(self) -> Models:
        """The models and data tests as questions about other terms run them."""
        name = f"question-{self.time_zone.replace('/', '-')}"
        path = self._folder / f"{name}.json"
        with FileLock(self._folder / f"{name}.lock"):
            if not path.exists():
                made = manifest(self._folder)
                (self._folder / name).mkdir()
                outcome = dbt(
                    self._folder / name / "warehouse.duckdb",
                    self.as_of,
                    *("compile", "--exclude", "resource_type:unit_test"),
                    manifest=made,
                    variables=variables(self.time_zone, {}),
                )
                assert outcome.success, outcome.exception
                compiled = (result.node for result in outcome.result.results)
                nodes = nodes_of(compiled, made.writable_manifest().to_dict())
                with self.built([]) as connection:
                    nodes = with_columns(nodes, tables_of(connection, "warehouse"))
                path.write_text(json.dumps([asdict(node) for node in nodes]), "utf-8")
        return Models.of(json.loads(path.read_text("utf-8")))

    def _compiled(self, kept: dict[str, object] | None = None) -> list[_Model]:
        way = "next" if kept else "first"
        name = f"{way}-{self._compiled_in.replace('/', '-')}"
        path = self._folder / f"{name}.json"
        with FileLock(self._folder / f"{name}.lock"):
            if not path.exists():
                models = self._compile(self._folder / name, kept)
                path.write_text(json.dumps([asdict(model) for model in models]), "utf-8")
        return [_Model(**model) for model in json.loads(path.read_text("utf-8"))]

    def _compile(self, folder: Path, kept: dict[str, object] | None) -> list[_Model]:
        folder.mkdir()
        refresh = [] if kept else ["--full-refresh"]
        outcome = dbt(
            folder / "warehouse.duckdb",
            _AS_OF,
            *COMPILE,
            *(ALL, *refresh),
            kept=kept,
            manifest=manifest(self._folder),
            time_zone=self._compiled_in,
        )
        assert outcome.success, outcome.exception
        return [
            _Model(
                node.unique_id,
                of_one_database(node.relation_name),
                of_one_database(node.compiled_code),
                node.config.materialized == "incremental",
                of_one_database(_forgotten(node)),
            )
            for node in (result.node for result in outcome.result.results)
        ]

    def run(
        self,
        deliveries: Sequence[TextRows],
        as_of: date | None = None,
    ) -> dict[str, list[dict[str, object]]]:
        """The marts of the deliveries, amounts as Decimal.

        Args:
            deliveries: What is delivered.
            as_of: The as-of date, if it differs from the models'.
        """
        return {name: table.to_pylist() for name, table in self.tables(deliveries, as_of).items()}

    def tables(
        self,
        deliveries: Sequence[TextRows],
        as_of: date | None = None,
        also: Collection[str] = (),
    ) -> dict[str, pa.Table]:
        """The marts of the deliveries, each in the order of all its columns.

        Args:
            deliveries: What is delivered.
            as_of: The as-of date, if it differs from the models'.
            also: Intermediate models that are wanted too.
        """
        with self.built(deliveries, as_of) as connection:
            return _marts(connection, also)

    def tables_day_by_day(
        self, days: Sequence[tuple[date, TextRows]], also: Collection[str] = ()
    ) -> dict[str, pa.Table]:
        """The marts after some days, each of which carries on from the previous one.

        Args:
            days: The as-of date of each day with what is delivered on it.
            also: Intermediate models that are wanted too.
        """
        with self.database() as connection:
            fill_raw_tables(connection, [])
            sequence, before = 0, None
            states: dict[str, str] = {}
            for as_of, delivery in days:
                last, states_before = sequence, states
                sequence = load_deliveries(
                    connection, [delivery], after=last, without_empty=before is not None
                )
                states = states_of_sources(connection)
                if before is None:
                    self.build(connection, as_of)
                else:
                    unchanged = left_alone(
                        self.manifest, states_before, states, is_same_day=as_of == before
                    )
                    self._carry_on(connection, as_of, last, before, unchanged=unchanged)
                before = as_of
            return _marts(connection, also)

    def run_question(
        self,
        deliveries: Sequence[TextRows],
        changes: Sequence[Change],
        holds_from: date | None = None,
    ) -> dict[str, list[dict[str, object]]]:
        """The marts of the same day under other terms, without findings, which stay those of the deliveries.

        Raises:
            WrongTerms: The changes cannot be asked.
        """
        with self.question(deliveries, changes, holds_from) as connection:
            return answered(connection)

    @contextmanager
    def question(
        self,
        deliveries: Sequence[TextRows],
        changes: Sequence[Change],
        holds_from: date | None = None,
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A database with the concerned workspaces under other terms, and `recorded` with all of the deliveries.

        Args:
            deliveries: What is recorded.
            changes: The changes to the recorded terms.
            holds_from: The day from which bills are issued under these terms; None for all bills.

        Raises:
            WrongTerms: The changes cannot be asked.
        """
        with self.recorded(deliveries) as connection:
            self.ask(connection, changes, holds_from)
            yield connection

    @contextmanager
    def recorded(self, deliveries: Sequence[TextRows]) -> Iterator[duckdb.DuckDBPyConnection]:
        """A database with all of the deliveries as `recorded`, for questions."""
        with self.built(deliveries) as connection:
            connection.execute("attach ':memory:' as recorded")
            connection.execute("copy from database warehouse to recorded")
            yield connection

    def ask(
        self,
        connection: duckdb.DuckDBPyConnection,
        changes: Sequence[Change],
        holds_from: date | None = None,
    ) -> Calculated:
        """Calculate what is recorded under other terms, in a new database `warehouse`.

        Raises:
            WrongTerms: The changes cannot be asked.
        """
        first = None if holds_from is None else datetime.combine(holds_from, time())
        connection.execute("use recorded")
        [(last,)] = connection.execute(
            "select coalesce(max(delivery_sequence), 0) from raw.deliveries"
        ).fetchall()
        rows, _ = Asking(connection, self.as_of, first).rows(changes)
        connection.execute("use memory; detach warehouse")
        connection.execute("attach ':memory:' as warehouse; use warehouse")
        end = datetime.combine(self.as_of + timedelta(days=1), time())
        moment = Moment(self.as_of, end, last, first)
        return calculate(connection, self.of_questions, moment, rows)

    @contextmanager
    def built(
        self, deliveries: Sequence[TextRows], as_of: date | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A database of the deliveries with all models built."""
        with self.database() as connection:
            fill_raw_tables(connection, deliveries)
            self.build(connection, as_of)
            yield connection

    def build(self, connection: duckdb.DuckDBPyConnection, as_of: date | None = None) -> None:
        """Build the models in a database named `warehouse` that has the raw tables."""
        for schema in ("staging", "intermediate", "marts"):
            connection.execute(f"create schema {schema}")
        connection.register("currencies_given", self.currencies)
        connection.execute(
            "create table staging.iso_4217_currencies as select * from currencies_given"
        )
        for model in self._first_day:
            query = self._on(model.query, as_of or self.as_of)
            connection.execute(f"create table {model.relation} as {query}")

    def _carry_on(
        self,
        connection: duckdb.DuckDBPyConnection,
        as_of: date,
        last: int,
        before: date,
        unchanged: Collection[str] = (),
    ) -> None:
        for model in self._next_day:
            if model.unique_id in unchanged:
                continue
            query = self._carried_on(model.query, as_of, last, before)
            if model.is_kept:
                if model.forgets:
                    connection.execute(model.forgets.replace(str(_LAST_DELIVERY), str(last)))
                connection.execute(f"insert into {model.relation} by name {query}")
            else:
                connection.execute(f"create or replace table {model.relation} as {query}")

    def _on(self, query: str, as_of: date) -> str:
        """A query for an as-of date and the time zone, instead of those for which it was compiled."""
        query = query.replace(f"'{self._compiled_in}'", f"'{self.time_zone}'")
        return self._moved(query, _AS_OF, as_of)

    def _carried_on(self, query: str, as_of: date, last: int, before: date) -> str:
        """A query of a build that carries on from another."""
        query = self._on(query, as_of).replace(str(_LAST_DELIVERY), str(last))
        return self._moved(query, _DAY_BEFORE, before)

    def _moved(self, query: str, day: date, to: date) -> str:
        """A query with one day and its end replaced by another day and its end."""
        end, moved_end = _end_of(day, self._compiled_in), _end_of(to, self.time_zone)
        query = query.replace(f"'{end.isoformat(' ')}'", f"'{moved_end.isoformat(' ')}'")
        return query.replace(f"'{day.isoformat()}'", f"'{to.isoformat()}'")

    def database(self) -> duckdb.DuckDBPyConnection:
        """An empty database in memory, with the name that the models use."""
        connection = duckdb.connect()
        connection.execute("attach ':memory:' as warehouse")
        connection.execute("use warehouse")
        # As in dbt's profile, but with one thread, because tables are small here.
        connection.execute("set threads = 1; set disabled_optimizers = 'in_clause'")
        return connection


def _forgotten(node: object) -> str:
    """The SQL of a macro that forgets rows, such as `forget_recalculated`, which dbt does not show."""
    hooks = "".join(hook.sql for hook in node.config.pre_hook)  # type: ignore[attr-defined]
    relation = node.relation_name  # type: ignore[attr-defined]
    if "not is_expected" in hooks:
        return (
            f"delete from {relation} where invoice_id in"
            " (select invoice_id from intermediate.int_invoices_recalculated where not is_expected)"
        )
    if "forget_recalculated" in hooks:
        return (
            f"delete from {relation} where (invoice_id, is_expected) in"
            " (select invoice_id, is_expected from intermediate.int_invoices_recalculated)"
        )
    if "forget_received" in hooks:
        return (
            f"delete from {relation} where invoice_id in"
            " (select invoice_id from intermediate.int_invoices_received)"
        )
    named = re.search(r"'(\w+)'", hooks)
    if "forget_workspaces" in hooks:
        workspaces = named.group(1) if named else "int_workspaces_recalculated"
        return (
            f"delete from {relation} where workspace_id in"
            f" (select workspace_id from intermediate.{workspaces})"
        )
    if "forget_months" in hooks and named:
        return (
            f"delete from {relation} where {named.group(1)} in"
            " (select billing_month from intermediate.int_months_recalculated)"
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
    """The SQL of the macro `record_id`."""
    if len(feed.key_names) == 1:
        return feed.key.name
    return f"concat_ws(' ', {', '.join(f'cast({name} as varchar)' for name in feed.key_names)})"


def answered(connection: duckdb.DuckDBPyConnection) -> dict[str, list[dict[str, object]]]:
    """All marts under other terms, without findings; rows of workspaces that are not concerned are as recorded."""
    calculated = set(
        connection.execute(
            "select schema_name, table_name from duckdb_tables() where database_name = 'warehouse'"
        ).fetchall()
    )
    found = {}
    for (name,) in connection.execute(
        "select distinct table_name from duckdb_tables() where database_name = 'recorded'"
        " and schema_name = 'marts'"
    ).fetchall():
        columns = [
            row[0] for row in connection.execute(f"describe recorded.marts.{name}").fetchall()
        ]
        of_these = of_concerned(columns)
        rows = f"from recorded.marts.{name}"
        if ("all_workspaces", name) in calculated:
            rows = f"from warehouse.all_workspaces.{name}"
        elif ("marts", name) in calculated and name not in SUMMED:
            rows = f"from warehouse.marts.{name}"
            if of_these:
                rows = (
                    f"from (from recorded.marts.{name} where ({of_these}) is not true"
                    f" union all by name from warehouse.marts.{name})"
                )
        if name in KEYS and name not in RECORDED:
            found[name] = connection.execute(rows).to_arrow_table().to_pylist()
    return found


def _marts(
    connection: duckdb.DuckDBPyConnection, also: Collection[str] = ()
) -> dict[str, pa.Table]:
    published = {
        row[0]
        for row in connection.execute(
            "select table_name from information_schema.tables where table_schema = 'marts'"
        ).fetchall()
    }
    relations = {name: f"marts.{name}" for name in KEYS if name in published}
    relations |= {name: f"intermediate.{name}" for name in also}
    return {
        name: connection.execute(f"from {relation} order by all").to_arrow_table()
        for name, relation in relations.items()
    }
