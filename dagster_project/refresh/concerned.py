"""The marts under other terms, calculated for only those workspaces that a question can concern.

First the models of redemptions are run over all redemptions: a user can have workspaces, and a coupon a limit,
so that a change can make any redemption another one. Workspaces are concerned if a redemption or follow-up of
theirs is not as recorded; no bill of the others can differ, since bills meet terms in their own workspace's
redemptions only. Then all other models, and the data tests, are run over a database with the records of these
workspaces and nothing else. The marts that sum over workspaces are calculated from these results and, for all
other workspaces, from the recorded ones.

The models are dbt's, compiled (`compiled`). The database `recorded` of the connection is the build of the recorded
release and is only read; the database `warehouse` becomes that of the concerned workspaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import duckdb

from dagster_project.arrival.warehouse import landed_text
from dagster_project.feeds import Feed, feeds
from dagster_project.refresh.compiled import Models, Moment, Node
from dagster_project.releases.errors import ReleaseError
from dagster_project.releases.fingerprint import literal, literals, quote

WORKSPACES: Final = "memory.main.concerned_workspaces"
"""The table of the workspaces that are concerned."""
CONCERNED: Final = f"workspace_id in (select workspace_id from {WORKSPACES})"
"""SQL for the rows of concerned workspaces."""
INVOICES: Final = "memory.main.concerned_invoices"
"""The table of their counted and expected invoices."""
SUMMED: Final = (
    "fct_charge_bridge_monthly",
    "fct_program_performance_monthly",
    "fct_program_budget_monthly",
)
"""The marts whose rows sum over workspaces."""
TERMS: Final = ("dim_coupons",)
"""The marts of terms alone, which are whole in every answer."""
RECORDED: Final = ("fct_audit_findings", "fct_restatements")
"""The marts that are as recorded, whatever is asked."""
REDEMPTIONS: Final = (
    "int_redemptions_known",
    "int_redemptions_with_terms",
    "int_follow_ups_taken",
)
"""The models by which a workspace is found to be concerned."""
_DELIVERED: Final = {
    *("stg_arrival__deliveries", "stg_arrival__accepted_findings", "stg_billing__rejected_rows"),
    *("int_deliveries_reconciled", "int_rows_superseded"),
}
"""The models that say what was delivered: a question delivers nothing."""
_FATES: Final = "stg_billing__repeated_rows"
"""The model that says which version of a record is current."""
_CURRENT_INVOICES: Final = "stg_billing__invoices"
_BEFORE: Final = "int_redemptions_before"
"""The model that has the redemptions of the recorded build, whose terms are compared."""
_READ_ONCE: Final = {"stg_billing__workspaces", "int_invoices_counted", "int_invoices_charged"}
"""Models that need not be stored, since only few columns of them are read, or only once."""
_ROWS_OF_A_STATEMENT: Final = 500
_SCHEMAS: Final = ("raw", "landed", "staging", "intermediate", "marts", "all_workspaces")


@dataclass(frozen=True)
class Calculated:
    """What was calculated.

    Attributes:
        workspaces: How many workspaces are concerned.
        models: How many models were run.
        tests: How many data tests passed.
    """

    workspaces: int
    models: int
    tests: int


class Broken(Exception):
    """A changed row breaks the contract of its feed; the message says where and why."""


def calculate(
    connection: duckdb.DuckDBPyConnection,
    models: Models,
    moment: Moment,
    rows: Mapping[str, Sequence[Mapping[str, str]]],
    judge: Callable[[], None] = lambda: None,
) -> Calculated:
    """Calculate the marts of the concerned workspaces under other terms.

    Args:
        connection: Has the databases `recorded` and `warehouse`, the latter empty and in use.
        models: The compiled models.
        moment: The day of the recorded build, and from when on terms are changed.
        rows: The changed rows of coupons and redemptions by feed, as they would be delivered.
        judge: Is called when the redemptions of concerned workspaces are calculated, and nothing else is.

    Raises:
        Broken: A row breaks the contract of its feed.
        ReleaseError: A data test of severity error does not pass.
    """
    calculation = _Calculation(connection, models, moment)
    calculation.deliver(rows)
    return calculation.run(judge)


def of_concerned(columns: Iterable[str]) -> str | None:
    """Return SQL for the rows of a mart that are of concerned workspaces; None where it says of no workspace.

    Args:
        columns: The mart's columns.
    """
    if "workspace_id" in columns:
        return CONCERNED
    if "invoice_id" in columns:
        return f"invoice_id in (select invoice_id from {INVOICES})"
    return None


class _Calculation:
    def __init__(
        self, connection: duckdb.DuckDBPyConnection, models: Models, moment: Moment
    ) -> None:
        self._connection = connection
        self._models = models
        self._moment = moment
        self._columns = _columns_of(connection, "recorded")
        self._kinds: dict[tuple[str, str], str] = {}
        for schema in _SCHEMAS:
            connection.execute(f"create schema warehouse.{schema}")
        for schema, name in self._columns:
            if schema not in ("raw", "landed"):
                self._view(schema, name, f"select * from recorded.{schema}.{quote(name)}")

    def deliver(self, rows: Mapping[str, Sequence[Mapping[str, str]]]) -> None:
        """Type the changed rows, and find out which versions of records they make the current ones.

        Raises:
            Broken: A row breaks the contract of its feed.
        """
        # As long as the concerned workspaces are not known, no invoice is looked at.
        for base in ("base_billing__invoices", "base_billing__credit_notes"):
            self._table("staging", base, f"select * from recorded.staging.{base} where false")
        changed = [feeds()[name] for name, found in rows.items() if found]
        for number, feed in enumerate(changed, start=1):
            self._deliver(feed, self._moment.last_delivery + number, rows[feed.name])
            base = f"base_billing__{feed.name}"
            self._table("staging", base, f"select * from recorded.staging.{base}")
            self._add(self._models.nodes[base])
        self._table(
            "staging",
            _FATES,
            f"select * from recorded.staging.{_FATES} where feed not in ('invoices', 'credit_notes')",
        )
        for feed in changed:
            self._connection.execute(
                f"delete from warehouse.staging.{_FATES} where feed = {literal(feed.name)}"
                f" and record_id in (select {quote(feed.key.name)}"
                f" from warehouse.staging.base_billing__{feed.name}"
                f" where delivery_sequence > {self._moment.last_delivery})"
            )
        self._add(self._models.nodes[_FATES])

    def _deliver(self, feed: Feed, delivery: int, rows: Sequence[Mapping[str, str]]) -> None:
        """Make the raw table of a feed of its changed rows alone."""
        names = feed.column_names
        columns = ", ".join(f"{quote(name)} varchar" for name in names)
        raw = f"warehouse.raw.{quote(feed.name)}"
        self._connection.execute(
            f"create table {raw} (delivery_sequence bigint, row_number bigint, {columns})"
        )
        self._view("landed", feed.name, landed_text(feed, raw))
        values = [
            literals([delivery, number, *(row.get(name) or None for name in names)])
            for number, row in enumerate(rows, start=1)
        ]
        for start in range(0, len(values), _ROWS_OF_A_STATEMENT):
            some = "), (".join(values[start : start + _ROWS_OF_A_STATEMENT])
            self._connection.execute(f"insert into {raw} values ({some})")

    def run(self, judge: Callable[[], None]) -> Calculated:
        """Run the models, all of them tested.

        Raises:
            Broken: A row breaks the contract of its feed.
            ReleaseError: A data test does not pass.
        """
        self._must_keep_the_contract()
        every_redemption = self._of_redemptions()
        for node in every_redemption:
            self._build(node)
        self._find_concerned()
        self._restrict({node.name for node in every_redemption})
        judge()
        done = {node.name for node in every_redemption}
        others = [
            node
            for node in self._models.needed_for(self._marts())
            if _is_calculated(node) and node.name not in done | _DELIVERED | {_CURRENT_INVOICES}
        ]
        for node in others:
            self._build(node)
        self._sum_over_all()
        built = done | {node.name for node in others} | {_CURRENT_INVOICES}
        tests = self._test(built)
        (workspaces,) = self._connection.execute(f"select count(*) from {WORKSPACES}").fetchall()
        return Calculated(int(workspaces[0]), len(built), tests)

    def _must_keep_the_contract(self) -> None:
        """Make sure that no changed row was rejected.

        Raises:
            Broken: One was.
        """
        told = []
        for feed in ("coupons", "redemptions"):
            rejected = self._connection.execute(
                f"select row_number, rejection_reasons from warehouse.staging.base_billing__{feed}"
                f" where delivery_sequence > {self._moment.last_delivery}"
                " and rejection_reasons is not null order by row_number"
            ).fetchall()
            told += [f"{feed}, row {number}: {reasons}" for number, reasons in rejected]
        if told:
            raise Broken("; ".join(told))

    def _marts(self) -> list[str]:
        return [
            node.name
            for node in self._models.nodes.values()
            if node.kind == "model" and node.schema == "marts" and node.name not in RECORDED
        ]

    def _of_redemptions(self) -> list[Node]:
        """Return the models that know redemptions but no bill."""
        return [node for node in self._models.needed_for(REDEMPTIONS) if _is_calculated(node)]

    def _find_concerned(self) -> None:
        """List the workspaces with a redemption or follow-up that is not as recorded."""
        terms = "intermediate.int_redemptions_with_terms"
        parts = []
        for name in REDEMPTIONS:
            columns = self._columns["intermediate", name]
            row_hash = f"hash(hash({', '.join(map(quote, columns))})) as hashed"
            where = "workspace_id" if "workspace_id" in columns else "redemption_id"
            one, other = (
                f"(select {where}, {row_hash} from {side}.intermediate.{name})"
                for side in ("recorded", "warehouse")
            )
            differing = f"({one} except all {other}) union all ({other} except all {one})"
            if where == "workspace_id":
                parts.append(f"select workspace_id from ({differing})")
            else:
                parts += [
                    f"select workspace_id from {side}.{terms} where redemption_id in"
                    f" (select redemption_id from ({differing}))"
                    for side in ("recorded", "warehouse")
                ]
        self._connection.execute(
            f"create table {WORKSPACES} as {' union '.join(f'({part})' for part in parts)}"
        )

    def _restrict(self, built: set[str]) -> None:
        """Leave only the records of concerned workspaces in the database."""
        for name in sorted(built):
            node = self._models.nodes[name]
            columns = self._names(node.relation)
            if "workspace_id" in columns and self._kinds[node.schema, name] == "table":
                self._connection.execute(f"delete from {node.relation} where not ({CONCERNED})")
        terms = "warehouse.intermediate.int_redemptions_with_terms"
        for name in sorted(built):
            node = self._models.nodes[name]
            columns = self._names(node.relation)
            if "redemption_id" in columns and "workspace_id" not in columns:
                self._connection.execute(
                    f"delete from {node.relation}"
                    f" where redemption_id not in (select redemption_id from {terms})"
                )
        self._table(
            "staging",
            "base_billing__invoices",
            f"select * from recorded.staging.base_billing__invoices where {CONCERNED}",
        )
        self._view(
            "staging",
            "base_billing__workspaces",
            f"select * from recorded.staging.base_billing__workspaces where {CONCERNED}",
        )
        self._take_fates("invoices", "invoice_id")
        self._build(self._models.nodes[_CURRENT_INVOICES])
        self._table(
            "staging",
            "base_billing__credit_notes",
            "select * from recorded.staging.base_billing__credit_notes where invoice_id in"
            f" (select invoice_id from warehouse.staging.{_CURRENT_INVOICES})",
        )
        self._take_fates("credit_notes", "credit_note_id")
        self._connection.execute(
            f"create table {INVOICES} as"
            f" select invoice_id from recorded.marts.fct_discounted_charges where {CONCERNED}"
            " union select invoice_id from recorded.intermediate.int_bills_expected"
            f" where {CONCERNED}"
        )
        for (schema, name), columns in self._columns.items():
            of_these = of_concerned(columns)
            is_there = name in built or name.startswith("base_") or name in _DELIVERED
            if of_these is not None and not is_there:
                rows = f"select * from recorded.{schema}.{quote(name)} where {of_these}"
                self._view(schema, name, rows)
        before = f"select * from recorded.intermediate.int_redemptions_with_terms where {CONCERNED}"
        self._table("intermediate", _BEFORE, before)

    def _take_fates(self, feed: str, key: str) -> None:
        self._connection.execute(
            f"insert into warehouse.staging.{_FATES} by name"
            f" select * from recorded.staging.{_FATES} where feed = {literal(feed)} and"
            f" record_id in (select {key} from warehouse.staging.base_billing__{feed})"
        )

    def _sum_over_all(self) -> None:
        """Calculate the marts that sum over workspaces from the results of all workspaces."""
        for mart in SUMMED:
            node = self._models.nodes[mart]
            sql = self._models.sql(node, self._moment)
            for name in node.reads:
                sql = sql.replace(
                    _written(self._models.nodes[name]), self._of_all(self._models.nodes[name])
                )
            self._connection.execute(f"create table warehouse.all_workspaces.{mart} as {sql}")

    def _of_all(self, node: Node) -> str:
        """Return SQL for the rows of a model of concerned workspaces and, as recorded, of all others."""
        columns = self._columns.get((node.schema, node.name), [])
        if "workspace_id" in columns:
            others = f"workspace_id not in (select workspace_id from {WORKSPACES})"
        elif "redemption_id" in columns:
            others = (
                "redemption_id not in (select redemption_id from"
                " recorded.intermediate.int_redemptions_with_terms"
                f" where workspace_id in (select workspace_id from {WORKSPACES}))"
            )
        else:
            return node.relation
        return (
            f"(select * from recorded.{node.schema}.{node.name} where {others}"
            f" union all by name select * from {node.relation})"
        )

    def _test(self, built: set[str]) -> int:
        """Run the data tests of the models that were built; return how many there are.

        Raises:
            ReleaseError: One of severity error does not pass.
        """
        count = 0
        for test in self._models.tests:
            if not test.reads or not set(test.reads) <= built:
                continue
            queries = [self._models.sql(test, self._moment)]
            if test.reads[0] in SUMMED and len(test.reads) == 1:
                mart = self._models.nodes[test.reads[0]]
                queries.append(
                    queries[0].replace(_written(mart), f"warehouse.all_workspaces.{mart.name}")
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
        if node.is_incremental:
            self._add(node)
        elif node.name in _READ_ONCE:
            self._view(node.schema, node.name, self._models.sql(node, self._moment))
        else:
            self._table(node.schema, node.name, self._models.sql(node, self._moment))

    def _add(self, node: Node) -> None:
        """Add rows to a model that has those of the recorded build."""
        if node.forgets_invoices:
            self._connection.execute(
                f"create or replace temp table staying as select invoice_id from {node.relation}"
                " where invoice_id not in"
                " (select invoice_id from warehouse.intermediate.int_invoices_recalculated)"
            )
            ((staying,),) = self._connection.execute("select count(*) from staying").fetchall()
            rows = "where invoice_id in (select invoice_id from staying)" if staying else "limit 0"
            self._table(node.schema, node.name, f"select * from {node.relation} {rows}")
        self._connection.execute(
            f"insert into {node.relation} by name {self._models.sql(node, self._moment)}"
        )

    def _table(self, schema: str, name: str, query: str) -> None:
        made = f"warehouse.{schema}.{quote(f'{name}_made')}"
        self._connection.execute(f"create table {made} as {query}")  # it may read what was there
        self._drop(schema, name)
        self._connection.execute(f"alter table {made} rename to {quote(name)}")
        self._kinds[schema, name] = "table"

    def _view(self, schema: str, name: str, query: str) -> None:
        self._drop(schema, name)
        self._connection.execute(f"create view warehouse.{schema}.{quote(name)} as {query}")
        self._kinds[schema, name] = "view"

    def _drop(self, schema: str, name: str) -> None:
        kind = self._kinds.pop((schema, name), None)
        if kind is not None:
            self._connection.execute(f"drop {kind} warehouse.{schema}.{quote(name)}")

    def _names(self, relation: str) -> list[str]:
        return [str(row[0]) for row in self._connection.execute(f"describe {relation}").fetchall()]


def _is_calculated(node: Node) -> bool:
    """Return whether a node is a model of more than typed rows and their fates, or what was before."""
    is_typed = node.name.startswith("base_") or node.name == _FATES
    return node.kind == "model" and not is_typed and node.name != _BEFORE


def _written(node: Node) -> str:
    """Return the relation of a model as dbt writes it."""
    return f'"warehouse"."{node.schema}"."{node.name}"'


def _columns_of(
    connection: duckdb.DuckDBPyConnection, database: str
) -> dict[tuple[str, str], list[str]]:
    """Return the columns of the tables of a build by schema and name."""
    found: dict[tuple[str, str], list[str]] = {}
    for schema, name, column in connection.execute(
        "select schema_name, table_name, column_name from duckdb_columns()"
        f" where database_name = {literal(database)}"
        " and schema_name in ('staging', 'intermediate', 'marts') and table_name in"
        f" (select table_name from duckdb_tables() where database_name = {literal(database)})"
        " order by schema_name, table_name, column_index"
    ).fetchall():
        found.setdefault((schema, name), []).append(column)
    return found
