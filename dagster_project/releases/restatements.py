"""What has changed in closed months: the build compared with the releases that certify them.

The comparison is computed at publication and not by dbt, since it depends on which releases closed
which months. Only that comparison belongs here; the register of closes is in `closing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb

from dagster_project.quoting import literal, literals, quote
from dagster_project.releases import candidate, files
from dagster_project.releases.closing import Closing, closed_months, must_be_as_certified
from dagster_project.releases.fingerprint import columns_of

NAME = "fct_restatements"
SOURCE = f"memory.main.{NAME}"
KEY = ("closed_month", "table_name", "record_key", "column_name", "currency")
DESCRIPTION = (
    "One row per closed month, table, key and column whose value differs from the value when the"
    " month was closed: an amount, or the workspace, plan or subscription that it is counted under."
    " Empty while every closed month is as it was certified."
)
COLUMNS: Mapping[str, str] = {
    "closed_month": "First day of the month that was closed.",
    "table_name": "The mart that holds the value.",
    "record_key": "The values of the mart's key columns, joined with a vertical bar; where there are"
    " several, a vertical bar within a value has a backslash before it.",
    "column_name": "The column: an amount, or workspace_id, plan or subscription_id of a row that is"
    " counted elsewhere now.",
    "currency": "Currency of the amounts; a value whose currency changed has a row for each.",
    "closed_amount": "The amount when the month was closed; null if the row did not exist, and where"
    " the column is not an amount.",
    "current_amount": "The amount in this release; null if the row is gone, and where the column is"
    " no amount.",
    "delta_amount": "Current minus closed amount, nothing counting as zero; never zero, and null"
    " where the column is no amount.",
    "closed_release_id": "The release that certifies the month.",
    "delivery_id": "The delivery behind it, where it can be determined: that of the invoice's current"
    " version if the certified release did not know it, for discounts and credit only if redemptions"
    " and coupons are as they were; for what credit notes took off, that of the notes; for a budget,"
    " that of the budget; else the only one that since brought anything on the workspace (for totals of"
    " programs, on any) that bears on the month. Null where several did, or none.",
    "file_name": "The file of that delivery.",
    "closed_value": "The value of the column when the month was closed, as text.",
    "current_value": "The value of the column in this release, as text.",
}
TYPES = (
    "closed_month date, table_name varchar, record_key varchar, column_name varchar,"
    " currency varchar, closed_amount decimal(18, 2), current_amount decimal(18, 2),"
    " delta_amount decimal(18, 2), closed_release_id varchar, delivery_id varchar,"
    " file_name varchar, closed_value varchar, current_value varchar"
)

MONTHS: Mapping[str, str] = {
    "fct_discounted_charges": "billing_month",
    "fct_discount_applications": "invoice_month",
    "fct_credit_ledger": "cast(date_trunc('month', effective_at) as date)",
    "fct_credit_draws": "invoice_month",
    "fct_credit_notes": "note_month",
    "fct_charge_bridge_monthly": "bridge_month",
    "fct_program_budget_monthly": "budget_month",
    "fct_credit_burndown_monthly": "burn_month",
    "fct_percent_off_variance_monthly": "variance_month",
    "fct_program_performance_monthly": "performance_month",
}
"""The month a row belongs to, by mart; `invoice_month` is the month of the invoice it names."""

STATES = {
    "dim_coupon_redemptions": "the state as of a day; it moves with every day",
    "dim_coupons": "terms, not amounts of a month",
    "dim_workspaces": "no amounts",
    "fct_bill_outlook_monthly": "an outlook",
    "fct_audit_findings": "a list of work; amounts charged are in fct_discounted_charges",
    "fct_promotion_retention": "the state as of a day; it moves with every day",
    "fct_upcoming_expirations": "an outlook",
}
"""Marts that belong to no month, each with the reason."""

OUTLOOK = {"run_rate_amount", "projected_breakage_amount", "expected_amount", "difference_amount"}
"""Columns of monthly marts that are an estimate as of a day and are set on the last row only."""

PLACES = ("workspace_id", "plan", "subscription_id")
"""Columns that say where an amount is counted: an amount that moves leaves the month's total the same."""

DELIVERED = {
    *PLACES,
    "list_amount",
    "tax_amount",
    "billed_discount_amount",
    "billed_credit_amount",
    "billed_net_amount",
    "billed_total_amount",
    "discountable_amount",
    "creditable_amount",
}
"""Columns of an invoice that come from its own delivery whatever else has changed."""

NOTED = {"credited_amount", "billed_net_after_notes_amount"}
"""Columns that credit notes change."""


@dataclass(frozen=True)
class _Side:
    """One of the two tables compared: its database and the columns it has."""

    database: str
    table: str
    columns: Mapping[str, str]

    @property
    def amounts(self) -> list[str]:
        """The amount columns that are facts of the month."""
        return [
            name
            for name, kind in self.columns.items()
            if (name == "amount" or name.endswith("_amount"))
            and kind.startswith("DECIMAL")
            and name not in OUTLOOK
        ]

    def places(self, key: tuple[str, ...]) -> list[str]:
        """Return the columns outside the key that say where the amounts of a row are counted."""
        return [name for name in PLACES if name in self.columns and name not in key]

    @property
    def month(self) -> str:
        """SQL: the month a row belongs to; a ledger of 0.4.0 or earlier has only an instant."""
        return "effective_month" if "effective_month" in self.columns else MONTHS[self.table]

    def rows(self, key: tuple[str, ...], amounts: list[str], places: list[str], month: str) -> str:
        """Return SQL for one row per key of the month: subject, amounts as a struct, places."""
        own_currency = "currency" in self.columns
        needs_invoice = not own_currency or MONTHS[self.table] == "invoice_month"
        source = f"{self.database}.marts.{quote(self.table)} as own"
        if needs_invoice:
            source += (
                f" left join (select * rename (invoice_id as charged_id, currency as"
                f" invoice_currency, billing_month as invoice_month) from {self.database}.marts"
                ".fct_discounted_charges) as charged on own.invoice_id = charged.charged_id"
            )
        invoice = "invoice_id" if "invoice_id" in self.columns else "cast(null as varchar)"
        workspace = "cast(null as varchar)"
        if "workspace_id" in self.columns:
            workspace = "own.workspace_id"
        elif needs_invoice:
            workspace = "charged.workspace_id"
        values = ", ".join(
            f"{quote(name)} := cast(own.{quote(name)} as decimal(18, 2))" for name in amounts
        )
        where = ", ".join(
            f"{{'name': {literal(name)}, 'value': cast(own.{quote(name)} as varchar)}}"
            for name in places
        )
        return (
            f"(select {_record_key(key)} as record_key,"
            f" {'own.currency' if own_currency else 'invoice_currency'} as currency,"
            f" {invoice} as invoice_id, {workspace} as workspace_id, struct_pack({values}) as amounts,"
            f" {f'[{where}]' if places else _NO_PLACES} as places"
            f" from {source} where {self.month} = date {literal(month)})"
        )


def _record_key(key: Sequence[str]) -> str:
    """Return SQL for the values of key columns, joined with a vertical bar."""
    parts = [f"coalesce(cast({quote(column)} as varchar), '')" for column in key]
    if len(parts) > 1:  # otherwise ids with a vertical bar could make two keys the same
        parts = [f"replace(replace({part}, '\\', '\\\\'), '|', '\\|')" for part in parts]
    return " || '|' || ".join(parts)


_NO_PLACES = "cast([] as struct(name varchar, value varchar)[])"


def _cells(rows: str, others: str, amounts: list[str]) -> str:
    """Return SQL for one row per key and amount of the rows that differ from the other side."""
    cells = ", ".join(
        f"{{'name': {literal(name)}, 'amount': amounts.{quote(name)}}}" for name in amounts
    )
    return (
        f"(select record_key, currency, invoice_id, workspace_id, cell.name as column_name,"
        f" cell.amount as amount from (select *, unnest([{cells}]) as cell from {rows} as one"
        f" anti join {others} as other on one.record_key = other.record_key"
        " and one.currency is not distinct from other.currency and one.amounts = other.amounts))"
    )


def compute(
    connection: duckdb.DuckDBPyConnection,
    home: Path,
    keys: Mapping[str, tuple[str, ...]],
    reporting_time_zone: str = "UTC",
) -> None:
    """Make the table `SOURCE` from the marts attached as `candidate` and the releases that certify months.

    Args:
        connection: Has the marts, and as `build` the deliveries that may have changed them, if they are known.
        home: The data home.
        keys: Key columns of each mart of the build.
        reporting_time_zone: Where its months begin.

    Raises:
        ReleaseError: The register, or a release it names, is damaged or gone.
    """
    connection.execute(f"create or replace table {SOURCE} ({TYPES})")
    closings = closed_months(home)
    for number, closing in enumerate(closings.values()):
        must_be_as_certified(home, closing)
        database = f"closed_{number}"
        path = literal(str(files.release_path(home, closing.release_id)))
        connection.execute(f"attach {path} as {database} (read_only)")
        try:
            _make_causes(connection, database, closing.month, reporting_time_zone)
            for table in MONTHS:
                if table in keys:
                    _compare(connection, closing, database, table, keys[table])
        finally:
            connection.execute(f"detach {database}")


def unlisted(home: Path, release_id: str) -> dict[date, int]:
    """Return how many values of closed months differ in a release that does not list them itself.

    A release lists what had changed in the months that were closed when it was made; it lists nothing
    of months closed later, or closed again with another release.

    Raises:
        ReleaseError: The register, or a release it names, is damaged or gone.
    """
    with duckdb.connect() as connection:
        path = literal(str(files.release_path(home, release_id)))
        connection.execute(f"attach {path} as {candidate.DATABASE} (read_only)")
        keys: dict[str, str] = dict(
            connection.execute(
                f"select table_name, primary_key from {candidate.DATABASE}.release.tables"
                " where table_schema = 'marts'"
            ).fetchall()
        )
        compute(connection, home, {name: tuple(key.split(", ")) for name, key in keys.items()})
        listed = (
            f"{candidate.DATABASE}.marts.{NAME}" if NAME in keys else f"(from {SOURCE} limit 0)"
        )
        present = {one.name for one in columns_of(connection, listed)} if NAME in keys else COLUMNS
        compared = (*KEY, "closed_amount", "current_amount", "closed_value", "current_value")
        same = " and ".join(
            f"found.{name} is not distinct from listed.{name}"
            for name in compared
            if name in present
        )
        rows = connection.execute(
            f"select closed_month, count(*) from {SOURCE} as found"
            f" anti join {listed} as listed on {same} group by all order by all"
        ).fetchall()
    return {month: int(count) for month, count in rows}


def _compare(
    connection: duckdb.DuckDBPyConnection,
    closing: Closing,
    database: str,
    table: str,
    key: tuple[str, ...],
) -> None:
    if not _has(connection, database, "marts", table):
        return  # the product did not publish the mart yet when the month was closed
    was, is_now = (
        _Side(
            name,
            table,
            {c.name: c.type for c in columns_of(connection, f"{name}.marts.{quote(table)}")},
        )
        for name in (database, candidate.DATABASE)
    )
    amounts = [name for name in was.amounts if name in is_now.amounts]
    if not amounts or not set(key) <= was.columns.keys():
        return
    places = [name for name in was.places(key) if name in is_now.places(key)]
    month = closing.month.isoformat()
    delivered, noted = (literals(sorted(one)) for one in (DELIVERED, NOTED))
    is_noted = "true" if table == "fct_credit_notes" else f"found.column_name in ({noted})"
    is_budget = (
        f"found.column_name = 'budget_amount' and {literal(table)} = 'fct_program_budget_monthly'"
    )
    is_of_all = not {"workspace_id", "invoice_id"} & is_now.columns.keys()
    connection.execute(
        f"insert into {SOURCE}"
        f" with rows_then as materialized {was.rows(key, amounts, places, month)},"
        f" rows_now as materialized {is_now.rows(key, amounts, places, month)},"
        # An amount of zero that appeared or disappeared with its row is not a difference.
        " amounts as (select coalesce(was.record_key, is_now.record_key) as record_key,"
        " coalesce(was.column_name, is_now.column_name) as column_name,"
        " coalesce(was.currency, is_now.currency) as currency,"
        " coalesce(is_now.invoice_id, was.invoice_id) as invoice_id,"
        " coalesce(is_now.workspace_id, was.workspace_id) as workspace_id,"
        " was.amount as closed_amount, is_now.amount as current_amount,"
        " cast(coalesce(is_now.amount, 0) - coalesce(was.amount, 0) as decimal(18, 2)) as delta_amount,"
        " cast(was.amount as varchar) as closed_value, cast(is_now.amount as varchar) as current_value"
        f" from {_cells('rows_then', 'rows_now', amounts)} as was"
        f" full join {_cells('rows_now', 'rows_then', amounts)} as is_now"
        " on was.record_key = is_now.record_key and was.column_name = is_now.column_name"
        " and was.currency is not distinct from is_now.currency"
        " where coalesce(was.amount, 0) <> coalesce(is_now.amount, 0)),"
        " moved as (select record_key, place.name as column_name, currency, invoice_id, workspace_id,"
        " cast(null as decimal(18, 2)) as closed_amount,"
        " cast(null as decimal(18, 2)) as current_amount,"
        " cast(null as decimal(18, 2)) as delta_amount,"
        " place.was as closed_value, place.is_now as current_value"
        " from (select is_now.* exclude (places), unnest(list_transform(is_now.places,"
        " lambda place, i: {'name': place.name, 'was': was.places[i].value,"
        " 'is_now': place.value})) as place"
        " from rows_now as is_now inner join rows_then as was on was.record_key = is_now.record_key"
        " where was.places <> is_now.places)"
        " where place.was is distinct from place.is_now)"
        f" select date {literal(month)}, {literal(table)}, found.record_key, found.column_name,"
        " found.currency, found.closed_amount, found.current_amount, found.delta_amount,"
        f" {literal(closing.release_id)}, news.delivery_id, news.file_name, found.closed_value,"
        " found.current_value"
        " from (select * from amounts union all select * from moved) as found"
        " left join memory.main.own_causes as own on own.invoice_id = found.invoice_id"
        " left join memory.main.causes as around"
        f" on {'around.is_of_all' if is_of_all else 'around.workspace_id = found.workspace_id'}"
        f" left join memory.main.note_causes as notes on notes.invoice_id = found.invoice_id and {is_noted}"
        f" left join memory.main.budget_causes as budgets on budgets.record_key = found.record_key"
        " left join memory.main.news on news.delivery_sequence = case"
        f" when {is_budget} then budgets.delivery_sequence"
        " when notes.invoice_id is not null then"
        " if(coalesce(own.delivery_sequence, notes.sole) = notes.sole, notes.sole, null)"
        f" when own.delivery_sequence is not null and (found.column_name in ({delivered})"
        " or not coalesce(around.has_terms, false)) then own.delivery_sequence"
        f" when {is_noted} then around.sole_with_notes else around.sole end"
    )


def _make_causes(
    connection: duckdb.DuckDBPyConnection, database: str, month: date, zone: str
) -> None:
    """Collect the deliveries that the certified release did not know, by the invoices and workspaces they affect.

    They are those that the release does not list. Their times are not compared, because a clock may go back.
    """
    connection.execute(
        "create or replace table memory.main.news"
        " (delivery_sequence bigint, delivery_id varchar, file_name varchar);"
        "create or replace table memory.main.own_causes (invoice_id varchar, delivery_sequence bigint,"
        " workspace_id varchar, issued_at timestamp);"
        "create or replace table memory.main.causes"
        " (workspace_id varchar, is_of_all boolean, sole bigint, sole_with_notes bigint,"
        " has_terms boolean);"
        "create or replace table memory.main.note_causes (invoice_id varchar, sole bigint);"
        "create or replace table memory.main.budget_causes"
        " (record_key varchar, delivery_sequence bigint)"
    )
    feeds = ("workspaces", "coupons", "redemptions", "invoices", "credit_notes", "budgets")
    needed = [*(f"base_billing__{feed}" for feed in feeds), "stg_billing__repeated_rows"]
    if not all(_has(connection, "build", "staging", name) for name in needed):
        return
    workspaces, coupons, redemptions, invoices, notes, budgets = (
        f"(from {_current_versions(feed)} semi join memory.main.news using (delivery_sequence))"
        for feed in feeds
    )
    knew_workspace = "true"
    if _has(connection, database, "marts", "dim_workspaces"):
        knew_workspace = (
            f"workspace_id in (select workspace_id from {database}.marts.dim_workspaces)"
        )
    notes_then = "(select null::varchar as credit_note_id, null::varchar as invoice_id limit 0)"
    if _has(connection, database, "marts", "fct_credit_notes"):
        notes_then = f"{database}.marts.fct_credit_notes"
    charges_then = f"{database}.marts.fct_discounted_charges"
    redeemed_then, redeemed_now = (
        f"{name}.marts.dim_coupon_redemptions" for name in (database, candidate.DATABASE)
    )
    next_month = literal((month + timedelta(days=32)).replace(day=1).isoformat())
    until = f"timezone('UTC', timezone({literal(zone)}, timestamp {next_month}))"
    connection.execute(
        f"""
        insert into memory.main.news select delivery_sequence, delivery_id, file_name
        from build.intermediate.int_deliveries_reconciled
        where delivery_id not in (select delivery_id from {database}.release.deliveries);

        insert into memory.main.own_causes
        select invoice_id, delivery_sequence, workspace_id, issued_at from {invoices};

        -- A record bears on the workspace and the month in which it is now, and on those in which it was.
        create or replace temp table noted as
        select invoice_id, delivery_sequence from {notes}
        union
        select was.invoice_id, is_now.delivery_sequence
        from {notes_then} as was inner join {notes} as is_now using (credit_note_id);

        insert into memory.main.note_causes
        select invoice_id, if(count(distinct delivery_sequence) = 1, any_value(delivery_sequence), null)
        from noted
        group by invoice_id;

        insert into memory.main.budget_causes
        select {_record_key(("program", "currency", "month"))}, delivery_sequence from {budgets};

        insert into memory.main.causes
        with new_redemptions as (from {redemptions}),
        redeemed as (
            select redemption_id, coupon_id, workspace_id from {redeemed_now} where started_at < {until}
            union
            select redemption_id, coupon_id, workspace_id from {redeemed_then} where started_at < {until}
        ),
        -- A redemption is also judged, or derived, by others of its coupon and its user, wherever they are.
        rejudged as (
            select coalesce(is_now.workspace_id, was.workspace_id) as workspace_id,
                coalesce(is_now.coupon_id, was.coupon_id) as coupon_id, redemption_id
            from {redeemed_now} as is_now full join {redeemed_then} as was using (redemption_id)
            where is_now.is_honoured is distinct from was.is_honoured
            and regexp_replace(redemption_id, '(~follow-up)+$', '') not in (
                select redemption_id from new_redemptions
            )
        ),
        brought as (
            select workspace_id, delivery_sequence, false as is_terms, false as is_note
            from memory.main.own_causes where issued_at < {until}
            union
            select was.workspace_id, is_now.delivery_sequence, false, false
            from memory.main.own_causes as is_now inner join {charges_then} as was using (invoice_id)
            where was.issued_at < {until}
            union
            select invoices.workspace_id, noted.delivery_sequence, false, true
            from noted inner join {_current_versions("invoices")} as invoices using (invoice_id)
            where invoices.issued_at < {until}
            union
            select was.workspace_id, noted.delivery_sequence, false, true
            from noted inner join {charges_then} as was using (invoice_id)
            where was.issued_at < {until}
            union
            select redeemed.workspace_id, new_redemptions.delivery_sequence, true, false
            from redeemed inner join new_redemptions using (redemption_id)
            union
            select redeemed.workspace_id, coupons.delivery_sequence, true, false
            from redeemed inner join {coupons} as coupons using (coupon_id)
            union
            select rejudged.workspace_id, new_redemptions.delivery_sequence, true, false
            from rejudged inner join new_redemptions using (coupon_id)
            union
            select rejudged.workspace_id, new_redemptions.delivery_sequence, true, false
            from rejudged inner join {_current_versions("redemptions")} as judged using (redemption_id)
            inner join new_redemptions on judged.user_id = new_redemptions.user_id
            union
            select workspace_id, delivery_sequence, true, false
            from {workspaces}
            where not {knew_workspace}
        )
        select workspace_id, grouping(workspace_id) = 1,
            if(count(distinct delivery_sequence) filter (not is_note) = 1,
                any_value(delivery_sequence) filter (not is_note), null),
            if(count(distinct delivery_sequence) = 1, any_value(delivery_sequence), null),
            bool_or(is_terms)
        from brought
        group by grouping sets ((workspace_id), ())
        """
    )


def _current_versions(feed: str) -> str:
    """Return SQL for a feed's accepted records, from tables because views fail in an attached file."""
    return (
        f"(select * from build.staging.base_billing__{feed} anti join (from"
        f" build.staging.stg_billing__repeated_rows where feed = {literal(feed)} and fate <>"
        " 'accepted') using (delivery_sequence, row_number) where rejection_reasons is null)"
    )


def _has(connection: duckdb.DuckDBPyConnection, database: str, schema: str, table: str) -> bool:
    return bool(
        connection.execute(
            "select 1 from information_schema.tables where table_catalog = ? and table_schema = ?"
            " and table_name = ?",
            [database, schema, table],
        ).fetchall()
    )
