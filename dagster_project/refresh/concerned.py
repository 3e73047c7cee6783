"""The marts under other terms, calculated for only those workspaces that a question can concern.

First, the models of redemptions run over all redemptions, because a change can affect any of them: a user can have
several workspaces, and a coupon can have a limit. A workspace is concerned if one of its redemptions or follow-ups
differs from the recorded one. Bills of other workspaces cannot differ, because a bill depends only on the
redemptions of its own workspace. Then the other models and the data tests run over the records of the concerned
workspaces only. The marts that sum over workspaces are calculated from these results and, for all other workspaces,
from the recorded ones.

In both parts, a model is run only if it reads a row that differs from the recorded one, in a column that it reads
(`Node.columns_read`). For coupons, and for redemptions with their terms, differences are found column by column; all
columns of any other model that was run count as different. A model that is not run keeps its recorded rows. Which
invoices are recalculated does not change any result, so the models of carrying on are ignored here. These models, and
those that hold only the rows of recalculated invoices, are run wherever a model that is run reads them.

The models are dbt's, compiled (`compiled`). The connection's database `recorded` is the build of the recorded release
and is only read; the recorded marts can be in a database of their own. The database `warehouse` receives the results
for the concerned workspaces. A recorded relation is added to it when a query first names it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import duckdb

from dagster_project.arrival.warehouse import landed_text
from dagster_project.feeds import Feed, feeds
from dagster_project.quoting import literal, literals, quote
from dagster_project.refresh.columns_read import Tables
from dagster_project.refresh.compiled import Models, Moment, Node
from dagster_project.releases.errors import ReleaseError
from dagster_project.releases.fingerprint import row_hash, tables_of

WORKSPACES: Final = "memory.main.concerned_workspaces"
"""The table of concerned workspaces."""
CONCERNED: Final = f"workspace_id in (select workspace_id from {WORKSPACES})"
"""SQL for the rows of concerned workspaces."""
CHARGES: Final = "memory.main.recorded_charges"
"""The table of the recorded charges of concerned workspaces, which are read more than once."""
_OF_CONCERNED: Final = "memory.main.concerned_redemptions"
"""The table of the redemptions of concerned workspaces, recorded ones and those under other terms."""
INVOICES: Final = "memory.main.concerned_invoices"
"""The table of the recorded invoices of concerned workspaces, counted and expected."""
SUMMED: Final = (
    "fct_charge_bridge_monthly",
    "fct_program_performance_monthly",
    "fct_program_budget_monthly",
)
"""The marts whose rows sum over workspaces."""


@dataclass(frozen=True)
class _Sums:
    """A mart whose columns add up over workspaces.

    Attributes:
        key: The columns that identify a row.
        is_there: SQL for whether any workspace contributes to the row; other rows are not in the mart.
        derived: SQL for the columns that are calculated from the sums, by column.
        counted: The columns that count redemptions. They are calculated from all workspaces, because a part that
            has no row for a month and currency has no count to add either.
    """

    key: tuple[str, ...]
    is_there: str
    derived: Mapping[str, str]
    counted: tuple[str, ...] = ()


_PART, _WHOLE = (
    "cast(100 * (discount_amount + credit_amount) as hugeint)",
    "cast(100 * list_amount as hugeint)",
)
_ADDED_UP: Final = {
    "fct_charge_bridge_monthly": _Sums(("currency", "bridge_month", "plan"), "invoices > 0", {}),
    "fct_program_performance_monthly": _Sums(
        ("program", "currency", "performance_month"),
        "active_workspaces > 0 or new_redemptions > 0",
        {
            "effective_percent": f"case when {_WHOLE} <> 0 then 0.0001 * cast("
            f"(2 * 1000000 * {_PART} + {_WHOLE}) // (2 * {_WHOLE}) as decimal(18, 0)) end"
        },
        ("new_redemptions", "ended_redemptions"),
    ),
}
"""The marts in `SUMMED` that are the recorded ones plus the difference that concerned workspaces make."""
TERMS: Final = ("dim_coupons",)
"""The marts of terms alone, of which every answer has all rows."""
RECORDED: Final = ("fct_audit_findings", "fct_restatements")
"""The marts that stay as recorded, whatever the question."""
REDEMPTIONS: Final = (
    "int_redemptions_known",
    "int_redemptions_with_terms",
    "int_follow_ups_taken",
)
"""The models by which a workspace is found to be concerned."""
_CHARGES: Final = "fct_discounted_charges"
"""The mart of charges."""
_BENEFITS: Final = "int_benefits_given"
"""The model of the benefits that redemptions give on bills."""
_COUPONS: Final = "stg_billing__coupons"
"""The model of coupons."""
_TERMS: Final = "int_redemptions_with_terms"
"""The model of redemptions with their terms."""
_BY_COLUMN: Final = {_COUPONS: "coupon_id", _TERMS: "redemption_id"}
"""The models that are compared column by column, and the columns that identify their rows."""
_DELIVERED: Final = {
    *("stg_arrival__deliveries", "stg_arrival__accepted_findings", "stg_billing__rejected_rows"),
    *("int_deliveries_reconciled", "int_rows_superseded"),
}
"""The models of what was delivered, which are not run because a question delivers nothing."""
_FATES: Final = "stg_billing__repeated_rows"
"""The model that says which version of a record is current. Its rows of a feed are read only by that feed's models."""
_BEFORE: Final = "int_redemptions_before"
"""The model of the recorded build's redemptions with their terms, with which those under other terms are compared."""
_RECEIVED: Final = "int_invoices_received"
"""The model of the invoices received since the recorded build: in a question, none."""
_AGAIN: Final = {"int_invoices_recalculated", "int_counted_invoices_recalculated"}
"""The models of the invoices that are recalculated."""
_CARRYING_ON: Final = {
    *_AGAIN,
    *(_BEFORE, _RECEIVED),
    *("int_workspaces_touched", "int_workspaces_changed", "int_workspaces_recalculated"),
    *("int_uses_before", "int_credit_drawn_before"),
    *("int_bills_expected_before", "int_invoices_credited_before"),
    *("int_months_recalculated", "int_program_performance_before"),
}
"""The models of what is recalculated and what was there before. A difference in them does not change any result."""
_READ_ONCE: Final = {
    *("stg_billing__workspaces", "stg_billing__invoices"),
    *("int_invoices_counted", "int_invoices_charged"),
}
"""Models that are made as views, since they are read only once, or only in a few columns."""
_ROWS_OF_A_STATEMENT: Final = 500
_SCHEMAS: Final = ("raw", "landed", "staging", "intermediate", "marts", "all_workspaces")


@dataclass(frozen=True)
class Calculated:
    """What was calculated.

    Attributes:
        workspaces: How many workspaces are concerned.
        models: The models that were run; all others keep their recorded rows.
        tests: How many data tests passed.
    """

    workspaces: int
    models: frozenset[str]
    tests: int


class Broken(Exception):
    """A changed row breaks the contract of its feed; the message names the record and says why."""


def calculate(
    connection: duckdb.DuckDBPyConnection,
    models: Models,
    moment: Moment,
    rows: Mapping[str, Sequence[Mapping[str, str]]],
    judge: Callable[[], None] = lambda: None,
    marts: str = "recorded",
) -> Calculated:
    """Calculate the marts of the concerned workspaces under other terms.

    Args:
        connection: Has the databases `recorded` and `warehouse`, the latter empty and in use.
        models: The compiled models.
        moment: The day of the recorded build, and the instant from which terms are changed.
        rows: The changed rows of coupons and redemptions by feed, as they would be delivered.
        judge: Is called once the redemptions of concerned workspaces are calculated, before anything else is.
        marts: The database with the recorded marts.

    Raises:
        Broken: A row breaks the contract of its feed.
        ReleaseError: A data test of severity error does not pass.
    """
    calculation = _Calculation(connection, models, moment, marts)
    calculation.deliver(rows)
    return calculation.run(judge)


def of_concerned(columns: Iterable[str]) -> str | None:
    """Return SQL for the rows of a model that are of concerned workspaces; None if it has no column for that.

    Args:
        columns: The model's columns.
    """
    if "workspace_id" in columns:
        return CONCERNED
    if "invoice_id" in columns:
        return f"invoice_id in (select invoice_id from {INVOICES})"
    return None


class _Calculation:
    def __init__(
        self, connection: duckdb.DuckDBPyConnection, models: Models, moment: Moment, marts: str
    ) -> None:
        self._connection = connection
        self._models = models
        self._moment = moment
        self._marts_in = marts
        self._types = {
            key: columns
            for database in dict.fromkeys(("recorded", marts))
            for key, columns in _tables_of(connection, database).items()
            if database == marts or key[0] != "marts"
        }
        self._columns = {key: [one.name for one in columns] for key, columns in self._types.items()}
        self._kinds: dict[tuple[str, str], str] = {}
        self._delivered: list[Feed] = []
        self._changed: dict[str, Collection[str] | None] = {}
        """The models whose rows differ from the recorded ones, with the columns that differ; None for all columns."""
        self._ran: set[str] = set()
        self._are_concerned_known = False
        for schema in _SCHEMAS:
            connection.execute(f"create schema warehouse.{schema}")

    def deliver(self, rows: Mapping[str, Sequence[Mapping[str, str]]]) -> None:
        """Type the changed rows, and calculate which versions of records are current."""
        self._delivered = [feeds()[name] for name, found in rows.items() if found]
        for number, feed in enumerate(self._delivered, start=1):
            self._deliver(feed, self._moment.last_delivery + number, rows[feed.name])
            base = self._models.nodes[f"base_billing__{feed.name}"]
            self._table(base, f"from recorded.{base.schema}.{base.name}", self._sql(base))
            self._changed[base.name] = None
        # Other feeds have no new rows, so their fates stay as recorded.
        for feed in feeds().values():
            if feed not in self._delivered:
                typed = f"base_billing__{feed.name}"
                self._view("staging", typed, f"from recorded.staging.{typed} where false")
        came = [
            f"not (feed = {literal(feed.name)} and record_id in (select {quote(feed.key.name)}"
            f" from warehouse.staging.base_billing__{feed.name}"
            f" where delivery_sequence > {self._moment.last_delivery}))"
            for feed in self._delivered
        ]
        fates = self._models.nodes[_FATES]
        staying = f"from recorded.{fates.schema}.{fates.name} where {' and '.join(came) or 'true'}"
        self._table(fates, staying, self._sql(fates))
        self._forget_views()

    def _deliver(self, feed: Feed, delivery: int, rows: Sequence[Mapping[str, str]]) -> None:
        """Create the raw table of a feed with its changed rows only."""
        names = feed.column_names
        columns = ", ".join(f"{quote(name)} varchar" for name in names)
        raw = f"warehouse.raw.{quote(feed.name)}"
        self._connection.execute(
            f"create table {raw} (delivery_sequence bigint, row_number bigint, {columns})"
        )
        landed = f"warehouse.landed.{quote(feed.name)}"
        self._connection.execute(f"create view {landed} as {landed_text(feed, raw)}")
        values = [
            literals([delivery, number, *(row.get(name) or None for name in names)])
            for number, row in enumerate(rows, start=1)
        ]
        for start in range(0, len(values), _ROWS_OF_A_STATEMENT):
            some = "), (".join(values[start : start + _ROWS_OF_A_STATEMENT])
            self._connection.execute(f"insert into {raw} values ({some})")

    def run(self, judge: Callable[[], None]) -> Calculated:
        """Run the models whose rows can differ from the recorded ones, and their data tests.

        Raises:
            Broken: A row breaks the contract of its feed.
            ReleaseError: A data test does not pass.
        """
        self._must_keep_the_contract()
        for node in self._models.needed_for(REDEMPTIONS):
            if _is_calculated(node) and self._differs(node):
                self._build(node)
                self._compare(node)
        self._find_concerned()
        self._restrict()
        judge()
        for node in self._to_build():
            self._build(node)
        for mart in set(TERMS) - self._ran:
            self._table(self._models.nodes[mart], None, f"from {self._recorded('marts', mart)}")
        self._sum_over_all()
        tests = self._test()
        (workspaces,) = self._connection.execute(f"select count(*) from {WORKSPACES}").fetchall()
        return Calculated(int(workspaces[0]), frozenset(self._ran), tests)

    def _must_keep_the_contract(self) -> None:
        """Make sure that no changed row was rejected.

        Raises:
            Broken: One was.
        """
        told = []
        for feed in self._delivered:
            rejected = self._connection.execute(
                f"select {quote(feed.key.name)}, rejection_reasons"
                f" from warehouse.staging.base_billing__{feed.name}"
                f" where delivery_sequence > {self._moment.last_delivery}"
                " and rejection_reasons is not null order by row_number"
            ).fetchall()
            noun = feed.name.removesuffix("s")
            told += [f"{noun} {key}: {reasons}" for key, reasons in rejected]
        if told:
            raise Broken("; ".join(told))

    def _differs(self, node: Node) -> bool:
        """Return whether a model reads a column in which rows differ from the recorded ones."""
        for name in node.named - _CARRYING_ON - {_FATES}:
            if name in self._changed:
                columns, read = self._changed[name], node.columns_read.get(name)
                if columns is None or read is None or not set(read).isdisjoint(columns):
                    return True
        return False

    def _compare(self, node: Node) -> None:
        """Note in which columns a model that was run differs from the recorded one."""
        key = _BY_COLUMN.get(node.name)
        if key is None:
            self._changed[node.name] = None
            return
        names = self._columns[node.schema, node.name]
        differ = {name: f"one.{quote(name)} is distinct from other.{quote(name)}" for name in names}
        flags = ", ".join(f"{condition} as {quote(name)}" for name, condition in differ.items())
        if "workspace_id" in names:
            flags = f"one.workspace_id as before, other.workspace_id as after, {flags}"
        self._connection.execute(
            f"create or replace table memory.main.differing_{node.name} as select {flags}"
            f" from recorded.{node.schema}.{node.name} as one full join {node.relation} as other"
            f" on one.{key} = other.{key} where {' or '.join(differ.values())}"
        )
        ors = ", ".join(f"coalesce(bool_or({quote(name)}), false)" for name in names)
        [found] = self._connection.execute(
            f"select {ors} from memory.main.differing_{node.name}"
        ).fetchall()
        columns = [name for name, differs in zip(names, found, strict=True) if differs]
        if key in columns:  # a row was added or removed
            self._changed[node.name] = None
        elif columns:
            self._changed[node.name] = columns

    def _find_concerned(self) -> None:
        """List the workspaces with a redemption or follow-up that differs from the recorded one."""
        terms = f"intermediate.{_TERMS}"
        parts = ["select null::varchar as workspace_id where false"]
        for name in REDEMPTIONS:
            if name not in self._changed:
                continue
            if name == _TERMS:
                differing = f"memory.main.differing_{name}"
                parts += [f"select {when} from {differing}" for when in ("before", "after")]
                continue
            names = self._columns["intermediate", name]
            where = "workspace_id" if "workspace_id" in names else "redemption_id"
            row = row_hash(self._types["intermediate", name])
            one, other = (
                f"(select {where}, {row} from {side}.intermediate.{name})"
                for side in ("recorded", "warehouse")
            )
            differing = f"({one} except all {other}) union all ({other} except all {one})"
            if where == "workspace_id":
                parts.append(f"select workspace_id from ({differing})")
            else:
                self._relation("intermediate", _TERMS)
                parts += [
                    f"select workspace_id from {side}.{terms} where redemption_id in"
                    f" (select redemption_id from ({differing}))"
                    for side in ("recorded", "warehouse")
                ]
        listed = " union ".join(f"({part})" for part in parts)
        self._connection.execute(
            f"create or replace table {WORKSPACES} as select workspace_id from ({listed})"
            " where workspace_id is not null"
        )

    def _restrict(self) -> None:
        """Leave only the records of concerned workspaces in the database."""
        self._forget_views()
        self._are_concerned_known = True
        sides = [f"select redemption_id from recorded.intermediate.{_TERMS} where {CONCERNED}"]
        if _TERMS in self._ran:
            sides.append(
                f"select redemption_id from warehouse.intermediate.{_TERMS} where {CONCERNED}"
            )
        self._connection.execute(
            f"create or replace table {_OF_CONCERNED} as {' union '.join(sides)}"
        )
        self._connection.execute(
            f"create or replace table {CHARGES} as from {self._recorded('marts', _CHARGES)} where {CONCERNED}"
        )
        self._connection.execute(
            f"create or replace table {INVOICES} as select invoice_id from {CHARGES}"
            " union select invoice_id from recorded.intermediate.int_bills_expected"
            f" where {CONCERNED}"
        )
        later = {name for node in self._waiting() for name in node.named}
        later |= {name for test in self._models.tests for name in test.reads} | {_TERMS}
        for name in sorted(self._ran & later):
            node = self._models.nodes[name]
            of_these = self._of_these(self._columns[node.schema, name])
            if of_these is not None and self._kinds.get((node.schema, name)) == "table":
                self._table(node, None, f"from {node.relation} where {of_these}")
        self._drop("staging", _FATES)
        self._relation("intermediate", _TERMS)

    def _of_these(self, columns: Iterable[str]) -> str | None:
        """Return SQL for the rows of a model that are of concerned workspaces; None for all rows."""
        columns = set(columns)
        if "redemption_id" in columns and not columns & {"workspace_id", "invoice_id"}:
            return f"redemption_id in (select redemption_id from {_OF_CONCERNED})"
        return of_concerned(columns)

    def _waiting(self) -> list[Node]:
        """Return the models that may have to be run for the marts, except those of redemptions."""
        redemptions = {node.name for node in self._models.needed_for(REDEMPTIONS)}
        return [
            node
            for node in self._models.needed_for(self._marts())
            if _is_calculated(node) and node.name not in redemptions | _DELIVERED
        ]

    def _marts(self) -> list[str]:
        return [
            node.name
            for node in self._models.nodes.values()
            if node.kind == "model" and node.schema == "marts" and node.name not in RECORDED
        ]

    def _to_build(self) -> list[Node]:
        """Return the models to run for concerned workspaces, in the order of their dependencies."""
        waiting = self._waiting()
        wanted = set()
        for node in waiting:
            if node.name not in _CARRYING_ON and self._differs(node):
                self._changed[node.name] = None
                wanted.add(node.name)
        if wanted - {*TERMS}:  # data tests compare the marts of sums with the other marts
            wanted |= {*SUMMED}
        for node in reversed(waiting):
            if node.name in wanted:
                wanted |= {
                    name
                    for name in node.named & self._models.nodes.keys()
                    if self._is_of_this_build(self._models.nodes[name])
                }
        return [node for node in waiting if node.name in wanted]

    def _is_of_this_build(self, node: Node) -> bool:
        """Return whether a model has recorded rows only of what the recorded build recalculated; they are no use."""
        if node.name in {_BEFORE, _RECEIVED}:
            return False
        return node.name in _CARRYING_ON or (not node.is_incremental and bool(node.named & _AGAIN))

    def _sum_over_all(self) -> None:
        """Calculate the marts that sum over workspaces, from the results of all workspaces."""
        for mart in SUMMED:
            if mart not in self._ran:
                continue
            node = self._models.nodes[mart]
            if mart in _ADDED_UP:
                rows = self._with_difference(node, _ADDED_UP[mart])
            else:
                rows = self._reading(node, self._of_all)
            self._connection.execute(f"create table warehouse.all_workspaces.{mart} as {rows}")

    def _reading(self, node: Node, instead: Callable[[str, str], str]) -> str:
        """Return the query of a model with each relation that it reads replaced.

        Args:
            node: The model.
            instead: Returns the replacement of a relation as SQL, given its schema and name.
        """
        sql = self._models.sql(node, self._moment)
        for schema, name in node.relations:
            sql = sql.replace(_written(schema, name), instead(schema, name))
        return sql

    def _with_difference(self, node: Node, sums: _Sums) -> str:
        """Return SQL for a mart: as recorded, less what concerned workspaces contributed, plus what they do now."""
        recorded = self._recorded(node.schema, node.name)
        types = {one.name: one.type for one in self._types[node.schema, node.name]}
        keys = ", ".join(sums.key)
        added = ", ".join(
            f"cast(sum(sign * {name}) as {kind}) as {name}"
            for name, kind in types.items()
            if name not in (*sums.key, *sums.derived, *sums.counted)
        )
        columns = ", ".join(
            f"cast({sums.derived[name]} as {kind}) as {name}" if name in sums.derived else name
            for name, kind in types.items()
        )
        parts = " union all by name ".join(
            f"select *, {sign} as sign from {rows}"
            for sign, rows in (
                (1, recorded),
                (-1, f"({self._reading(node, self._of_recorded)})"),
                (1, node.relation),
            )
        )
        rows = (
            f"with parts as ({parts}), sums as (select {keys}, {added} from parts group by {keys})"
        )
        summed = "sums"
        if sums.counted:
            rows += f", one_bill_of_each_month as ({self._one_bill_of_each_month()})"
            counting = self._reading(node, self._of_redemptions)
            rows += f", counts as ({counting})"
            same = " and ".join(f"sums.{one} is not distinct from counts.{one}" for one in sums.key)
            counted = ", ".join(f"coalesce(counts.{one}, 0) as {one}" for one in sums.counted)
            summed = f"(select sums.*, {counted} from sums left join counts on {same})"
        return f"{rows} select {columns} from {summed} where {sums.is_there}"

    def _of_redemptions(self, schema: str, name: str) -> str:
        """Return SQL for the rows of a model of all workspaces, with one bill of each month instead of all bills."""
        return "one_bill_of_each_month" if name == _BENEFITS else self._of_all(schema, name)

    def _one_bill_of_each_month(self) -> str:
        """Return SQL for empty benefits that give each program a row in each currency and month."""
        given = {
            "redemption_id": "redemption_id",
            "invoice_id": "concat_ws(' ', redemption_id, currency, performance_month)",
            "currency": "currency",
            "billing_month": "performance_month",
            "is_expected": "false",
        }
        columns = ", ".join(
            f"cast({given.get(one.name, 'null')} as {one.type}) as {one.name}"
            for one in self._types["intermediate", _BENEFITS]
        )
        return (
            f"select {columns} from (select distinct currency, performance_month from sums)"
            f" cross join (select min(redemption_id) as redemption_id"
            f" from {self._of_all('intermediate', _TERMS)}"
            " where is_honoured and not is_to_come group by program)"
        )

    def _recorded(self, schema: str, name: str) -> str:
        """Return the recorded rows of a model, as SQL."""
        database = self._marts_in if schema == "marts" else "recorded"
        return f"{database}.{schema}.{quote(name)}"

    def _of_recorded(self, schema: str, name: str) -> str:
        """Return SQL for the recorded rows of a model that are of concerned workspaces."""
        if name == _CHARGES:
            return CHARGES
        of_these = self._of_these(self._columns[schema, name])
        where = f" where {of_these}" if of_these else ""
        return f"(from {self._recorded(schema, name)}{where})"

    def _of_all(self, schema: str, name: str) -> str:
        """Return SQL for the rows of a model: calculated ones of concerned workspaces, recorded ones of all others."""
        if name not in self._ran:
            return self._recorded(schema, name)
        columns = self._columns.get((schema, name), [])
        if "workspace_id" in columns:
            others = f"workspace_id not in (select workspace_id from {WORKSPACES})"
        elif "redemption_id" in columns:
            others = f"redemption_id not in (select redemption_id from {_OF_CONCERNED})"
        else:
            return _written(schema, name)
        return (
            f"(select * from {self._recorded(schema, name)} where {others}"
            f" union all by name select * from {_written(schema, name)})"
        )

    def _test(self) -> int:
        """Run the data tests of the models that were run, and return their number.

        Raises:
            ReleaseError: A data test of severity error does not pass.
        """
        count = 0
        there = {
            node.name for node in self._models.needed_for(self._marts()) if _is_calculated(node)
        }
        for test in self._models.tests:
            if not set(test.reads) <= there - _DELIVERED or self._ran.isdisjoint(test.reads):
                continue
            queries = [self._sql(test)]
            if test.reads[0] in SUMMED and len(test.reads) == 1:
                mart = self._models.nodes[test.reads[0]]
                queries.append(
                    queries[0].replace(
                        _written(mart.schema, mart.name), f"warehouse.all_workspaces.{mart.name}"
                    )
                )
            for query in queries:
                ((failures,),) = self._connection.execute(
                    f"select count(*) from ({query})"
                ).fetchall()
                if failures and test.severity == "error":
                    raise ReleaseError(
                        f"Data test {test.name} does not pass under these terms: {failures:,}"
                        f" row{'s' if failures != 1 else ''} {'do' if failures != 1 else 'does'} not"
                        " hold. That is an error of the models, not of the question.",
                        "Report it with the changed terms.",
                    )
            count += 1
        return count

    def _build(self, node: Node) -> None:
        sql = self._sql(node)
        self._ran.add(node.name)
        if node.name in _READ_ONCE:
            self._view(node.schema, node.name, sql)
        elif node.is_incremental and self._is_any_staying:
            staying = (
                f"from {self._recorded(node.schema, node.name)} where"
                f" {self._of_these(self._columns[node.schema, node.name])} and invoice_id not in"
                " (select invoice_id from warehouse.intermediate.int_invoices_recalculated)"
            )
            self._table(node, staying, sql)
        else:
            self._table(node, None, sql)

    @cached_property
    def _is_any_staying(self) -> bool:
        """Whether any bill of concerned workspaces keeps its recorded rows."""
        ((staying,),) = self._connection.execute(
            f"select count(*) from {INVOICES} where invoice_id not in"
            " (select invoice_id from warehouse.intermediate.int_invoices_recalculated)"
        ).fetchall()
        return bool(staying)

    def _sql(self, node: Node) -> str:
        """Return the query of a model or data test, after creating the relations that it reads."""
        sql = self._models.sql(node, self._moment)
        for schema, name in sorted(node.relations):
            self._relation(schema, name)
        return sql

    def _relation(self, schema: str, name: str) -> None:
        """Make sure that a relation exists: with calculated rows if its model was run, else with recorded ones."""
        if (schema, name) in self._kinds or schema in ("raw", "landed"):
            return
        if name == _BEFORE:
            rows = f"from recorded.intermediate.{_TERMS} where {CONCERNED}"
            self._connection.execute(f"create table warehouse.{schema}.{name} as {rows}")
            self._kinds[schema, name] = "table"
        elif name == _CHARGES:
            self._view(schema, name, f"from {CHARGES}")
        elif name == _RECEIVED:
            self._view(schema, name, f"from recorded.{schema}.{name} where false")
        elif (schema, name) in self._columns:
            of_these = self._of_these(self._columns[schema, name])
            where = f" where {of_these}" if of_these and self._are_concerned_known else ""
            self._view(schema, name, f"from {self._recorded(schema, name)}{where}")
        else:  # the recorded build has no table of it
            self._view(schema, name, self._sql(self._models.nodes[name]))

    def _table(self, node: Node, staying: str | None, query: str) -> None:
        """Create or replace the table of a model.

        Args:
            node: The model.
            staying: A query for further rows of the table, if any.
            query: A query for its rows; it may read the table that it replaces.
        """
        rows = query if staying is None else f"({staying}) union all by name ({query})"
        if (node.schema, node.name) not in self._kinds:
            self._connection.execute(f"create table {node.relation} as {rows}")
        else:
            self._connection.execute(f"create table {node.relation}_made as {rows}")
            self._drop(node.schema, node.name)
            self._connection.execute(f"alter table {node.relation}_made rename to {node.name}")
        self._kinds[node.schema, node.name] = "table"

    def _view(self, schema: str, name: str, query: str) -> None:
        self._drop(schema, name)
        self._connection.execute(f"create view warehouse.{schema}.{quote(name)} as {query}")
        self._kinds[schema, name] = "view"

    def _forget_views(self) -> None:
        """Drop all views, which have recorded rows."""
        for (schema, name), kind in [*self._kinds.items()]:
            if kind == "view":
                self._drop(schema, name)

    def _drop(self, schema: str, name: str) -> None:
        kind = self._kinds.pop((schema, name), None)
        if kind is not None:
            self._connection.execute(f"drop {kind} warehouse.{schema}.{quote(name)}")


def _is_calculated(node: Node) -> bool:
    """Return whether a node is a model that `run` may run: not typed rows, their fates, or `_BEFORE`."""
    is_typed = node.name.startswith("base_") or node.name == _FATES
    return node.kind == "model" and not is_typed and node.name != _BEFORE


def _written(schema: str, name: str) -> str:
    """Return a relation as dbt writes it."""
    return f'"warehouse"."{schema}"."{name}"'


def _tables_of(connection: duckdb.DuckDBPyConnection, database: str) -> Tables:
    """Return the tables of a build with their typed columns, without views and the schema `raw`."""
    tables = set(
        connection.execute(
            "select schema_name, table_name from duckdb_tables()"
            f" where database_name = {literal(database)} and schema_name <> 'raw'"
        ).fetchall()
    )
    return {
        key: columns for key, columns in tables_of(connection, database).items() if key in tables
    }
