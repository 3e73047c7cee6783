"""`prove`: what an auditor asks for about an invoice, a redemption or a total, from one release.

The rows a number rests on, and the total of a column, belong here. The command reads the rows as
delivered from the archive, since a release does not have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal

from dagster_project.answers.asking import (
    Connection,
    NotThere,
    Row,
    facts,
    has_column,
    has_table,
    month_in,
    must_be,
    near,
    rows,
)
from dagster_project.answers.explain import explain
from dagster_project.answers.lineage import not_counted, standing
from dagster_project.answers.workspace import redemptions_of
from dagster_project.quoting import quote
from dagster_project.releases.restatements import MONTHS

FOLLOW_UP = "~follow-up"

MONTH_OF: Mapping[str, str] = {
    **MONTHS,
    "fct_bill_outlook_monthly": "outlook_month",
    "fct_upcoming_expirations": "ends_month",
}
"""The column with the month of a row, by mart."""


def release_facts(connection: Connection) -> Row:
    """Return the release's identity, and the fingerprint of each of its tables."""
    (release,) = rows(
        connection,
        "select release_id, as_of_date, created_at, code_version, content_hash"
        " from release.release",
    )
    tables = rows(
        connection,
        "select table_schema, table_name, row_count, fingerprint from release.tables"
        " order by table_schema, table_name",
    )
    return {**release, "tables": tables}


def files(connection: Connection) -> dict[str, Row]:
    """Return the file of each delivery with its sha256, by delivery.

    Args:
        connection: The release.
    """
    found = rows(
        connection, "select delivery_id, file_name, sha256, arrived_at from release.deliveries"
    )
    return {row["delivery_id"]: row for row in found}


def of_invoice(connection: Connection, invoice_id: str) -> Row:
    """Return the explanation of an invoice with every delivered row that it rests on.

    Args:
        connection: The release.
        invoice_id: An invoice on record.
    """
    apart = not_counted(connection, invoice_id)
    data = apart or explain(connection, invoice_id)
    places = _places(data["standing"])
    if apart is None:
        chains = _chains(
            connection, [row["redemption_id"] for row in data["redemptions"] if row["is_covered"]]
        )
        for redemption_id in chains:
            places += _places(_of_redemption(connection, redemption_id))
        data["coupon_versions"] = _coupon_versions(connection, set(chains.values()))
        places += _of_versions(data["coupon_versions"])
    else:
        data["coupon_versions"] = []
    for note in data["credit_notes"]:
        places += _places(note["standing"])
    return {**data, "kind": "invoice", "rows": _distinct(places)}


def of_redemption(connection: Connection, redemption_id: str) -> Row:
    """Return what a redemption gave, bill by bill, with every delivered row that it rests on.

    Args:
        connection: The release.
        redemption_id: A redemption of `dim_coupon_redemptions`.
    """
    (found,) = rows(
        connection,
        "select workspace_id from marts.dim_coupon_redemptions where redemption_id = ?",
        [redemption_id],
    )
    (redemption,) = (
        row
        for row in redemptions_of(connection, found["workspace_id"])
        if row["redemption_id"] == redemption_id
    )
    discounts = rows(
        connection,
        "select applications.*, charges.currency, charges.issued_at, charges.list_amount"
        " from marts.fct_discount_applications as applications"
        " inner join marts.fct_discounted_charges as charges using (invoice_id)"
        " where applications.redemption_id = ? order by charges.issued_at, invoice_id",
        [redemption_id],
    )
    entries = rows(
        connection,
        "select * from marts.fct_credit_ledger where redemption_id = ?"
        " order by grant_id, effective_at, entry_id",
        [redemption_id],
    )
    stands = _of_redemption(connection, redemption_id)
    places = _places(stands)
    chain = _chains(connection, [redemption_id])
    for earlier in chain:
        places += _places(_of_redemption(connection, earlier))
    versions = _coupon_versions(connection, set(chain.values()))
    places += _of_versions(versions)
    invoices = dict.fromkeys(
        row["invoice_id"] for row in (*discounts, *entries) if row["invoice_id"] is not None
    )
    if invoices and has_column(connection, "fct_discounted_charges", "delivery_id"):
        places += rows(
            connection,
            "select 'invoices' as feed, invoice_id as record_id, delivery_id,"
            " delivery_row as row_number, 'current' as version from marts.fct_discounted_charges"
            f" where invoice_id in ({', '.join('?' * len(invoices))})"
            " order by issued_at, invoice_id",
            list(invoices),
        )
    return {
        **facts(connection),
        "kind": "redemption",
        "redemption": redemption,
        "derived_from": None if not redemption["is_derived"] else list(chain)[-2],
        "standing": stands,
        "discounts": discounts,
        "credit_entries": entries,
        "coupon_versions": versions,
        "rows": _distinct(places),
    }


def of_total(connection: Connection, mart: str, wanted: str, column: str) -> Row:
    """Return the rows of a mart and month, and the total of one of their amounts by currency.

    Args:
        connection: The release.
        mart: The mart.
        wanted: The month, as YYYY-MM.
        column: An amount column of the mart.

    Raises:
        NotThere: There is no such mart, month or column.
    """
    must_be("mart with months named", mart, MONTH_OF)
    types = {
        row["column_name"]: row["data_type"]
        for row in rows(
            connection,
            "select column_name, data_type from duckdb_columns()"
            " where schema_name = 'marts' and table_name = ? order by column_index",
            [mart],
        )
    }
    amounts = [
        name
        for name, kind in types.items()
        if kind.startswith("DECIMAL") and (name == "amount" or name.endswith("_amount"))
    ]
    if column not in amounts:
        raise NotThere(f"amount of {mart} named", column, near=near(column, amounts), known=amounts)
    source = f"marts.{quote(mart)} as own"
    month, currency = MONTH_OF[mart], "own.currency"
    if mart == "fct_credit_ledger" and "effective_month" in types:
        month = "effective_month"
    if month == "invoice_month" or "currency" not in types:
        source += (
            " left join (select invoice_id as charged_id, currency as charged_currency,"
            " billing_month as invoice_month from marts.fct_discounted_charges) as charged"
            " on own.invoice_id = charged.charged_id"
        )
        currency = "own.currency" if "currency" in types else "charged.charged_currency"
    (span,) = rows(connection, f"select min({month}) as first, max({month}) as last from {source}")
    first_day: date = month_in(wanted, span["first"], span["last"])
    (key,) = rows(connection, "select primary_key from release.tables where table_name = ?", [mart])
    keys = [name for name in key["primary_key"].split(", ") if name != "currency"]
    stand = ""
    if "delivery_row" in types:
        source += " left join release.deliveries as deliveries on own.delivery_id = deliveries.delivery_id"
        stand = ", deliveries.file_name, deliveries.sha256, own.delivery_row"
    listed = ", ".join(f"own.{quote(name)}" for name in keys)
    found = rows(
        connection,
        f"select {listed}, {currency} as currency, own.{quote(column)}{stand} from {source}"
        f" where {month} = ? order by currency, {listed}",
        [first_day],
    )
    totals = rows(
        connection,
        f"select {currency} as currency, count(*) as rows,"
        f" count(own.{quote(column)}) as amounts, cast(sum(own.{quote(column)})"
        f" as decimal(38, 2)) as total from {source} where {month} = ?"
        " group by 1 order by 1",
        [first_day],
    )
    return {
        **facts(connection),
        "kind": "total",
        "mart": mart,
        "month": first_day,
        "column": column,
        "totals": totals,
        "listed_totals": _sums(found, column),
        "listed": found,
    }


def _sums(found: Iterable[Row], column: str) -> dict[str | None, Decimal | None]:
    """Add up the listed amounts by currency, independently of the totals that DuckDB calculates.

    Nulls are ignored; if all amounts of a currency are null, so is their sum.
    """
    sums: dict[str | None, Decimal | None] = {}
    for row in found:
        so_far = sums.setdefault(row["currency"], None)
        if row[column] is not None:
            sums[row["currency"]] = (so_far or Decimal(0)) + row[column]
    return sums


def _chains(connection: Connection, redemptions: Sequence[str]) -> dict[str, str]:
    """Return the coupon of each redemption and of every redemption that it was derived from.

    A derived redemption has no row of its own: it rests on the redemption on record that its id begins
    with, and on the follow-up that each coupon of the chain names (R4).
    """
    ids: list[str] = []
    for redemption_id in redemptions:
        chain = [redemption_id]
        while chain[0].endswith(FOLLOW_UP):
            chain.insert(0, chain[0].removesuffix(FOLLOW_UP))
        ids += chain
    if not ids:
        return {}
    found = rows(
        connection,
        "select redemption_id, coupon_id from marts.dim_coupon_redemptions"
        f" where redemption_id in ({', '.join('?' * len(ids))})",
        ids,
    )
    coupons = {row["redemption_id"]: row["coupon_id"] for row in found}
    return {one: coupons[one] for one in dict.fromkeys(ids)}


def _of_redemption(connection: Connection, redemption_id: str) -> Row:
    if not has_column(connection, "dim_coupon_redemptions", "delivery_id"):
        return standing(connection, "redemptions", redemption_id, None, None)
    (row,) = rows(
        connection,
        "select delivery_id, delivery_row from marts.dim_coupon_redemptions"
        " where redemption_id = ?",
        [redemption_id],
    )
    return standing(
        connection, "redemptions", redemption_id, row["delivery_id"], row["delivery_row"]
    )


def _coupon_versions(connection: Connection, coupons: Iterable[str]) -> list[Row]:
    names = sorted(coupons)
    if not names or not has_table(connection, "coupon_versions", "release"):
        return []
    return rows(
        connection,
        "select versions.*, deliveries.file_name, deliveries.sha256"
        " from release.coupon_versions as versions"
        " left join release.deliveries as deliveries using (delivery_id)"
        f" where versions.coupon_id in ({', '.join('?' * len(names))})"
        " order by versions.coupon_id, versions.version_number",
        names,
    )


def _of_versions(versions: Sequence[Row]) -> list[Row]:
    return [
        {
            "feed": "coupons",
            "record_id": row["coupon_id"],
            "delivery_id": row["delivery_id"],
            "row_number": row["delivery_row"],
            "version": "current" if row["is_current"] else "earlier",
        }
        for row in versions
    ]


def _places(stands: Row) -> list[Row]:
    """Return the rows of a record: the current one and every other that was accepted."""
    record = {"feed": stands["feed"], "record_id": stands["record_id"]}
    current = {
        **record,
        "delivery_id": stands["delivery_id"],
        "row_number": stands["delivery_row"],
        "version": "current",
    }
    return [current] * (stands["delivery_id"] is not None) + [
        {
            **record,
            "delivery_id": row["delivery_id"],
            "row_number": row["row_number"],
            "version": "superseded",
        }
        for row in stands["earlier_versions"]
    ]


def _distinct(places: Iterable[Row]) -> list[Row]:
    found: dict[tuple[str, str, int], Row] = {}
    for row in places:
        found.setdefault((row["feed"], row["delivery_id"], row["row_number"]), row)
    return list(found.values())
