"""`bridge`: from the list price of bills to the amounts billed and kept, by month, plan or program."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Literal

from dagster_project.answers.asking import Connection, Row, facts, month_in, rows

AMOUNTS = (
    "list_amount",
    "percent_off_amount",
    "amount_off_amount",
    "credit_amount",
    "net_amount",
    "billing_error_amount",
    "billed_net_amount",
    "credited_amount",
    "billed_net_after_notes_amount",
)
GIVEN = ("percent_off_amount", "amount_off_amount", "credit_amount")
_MART = "marts.fct_charge_bridge_monthly"


def bridge(connection: Connection, wanted: str | None, by: Literal["month", "plan"]) -> Row:
    """Return the bridge of each currency: its total, its parts, and what each program gave.

    Args:
        connection: The release.
        wanted: Only this month, as 2024-02.
        by: What the parts are.

    Raises:
        NotThere: There is no such month.
    """
    (span,) = rows(
        connection, f"select min(bridge_month) as first, max(bridge_month) as last from {_MART}"
    )
    at: date | None = None
    if wanted is not None:
        at = month_in(wanted, span["first"], span["last"])
    where, values = ("bridge_month = ?", [at]) if at else ("true", [])
    part = "bridge_month" if by == "month" else "plan"
    sums = ", ".join(f"cast(sum({one}) as decimal(18, 2)) as {one}" for one in AMOUNTS)
    found = rows(
        connection,
        f"select currency, {part} as {by}, cast(sum(invoices) as bigint) as invoices, {sums}"
        f" from {_MART} where {where} group by currency, {part} order by currency, {part}",
        values,
    )
    programs = given_by_program(connection, at)
    return {
        **facts(connection),
        "month": at,
        "by": by,
        "currencies": [
            {
                "currency": currency,
                "invoices": sum(row["invoices"] for row in parts),
                **{one: sum((row[one] for row in parts), Decimal("0.00")) for one in AMOUNTS},
                "parts": parts,
                "programs": [row for row in programs if row["currency"] == currency],
            }
            for currency in dict.fromkeys(row["currency"] for row in found)
            for parts in [[row for row in found if row["currency"] == currency]]
        ],
    }


def given_by_program(connection: Connection, at: date | None) -> list[Row]:
    """Return percent-off, dollar-off and credit by program; they add up to those of the bridge."""
    where, values = ("charges.billing_month = ?", [at, at]) if at else ("true", [])
    return rows(
        connection,
        f"""
        with given as (
            select coupons.program, charges.currency, coupons.discount_type,
                applications.discount_amount as amount
            from marts.fct_discount_applications as applications
            inner join marts.fct_discounted_charges as charges using (invoice_id)
            inner join marts.dim_coupons as coupons using (coupon_id)
            where {where}
            union all
            select coupons.program, charges.currency, 'credit', -ledger.amount
            from marts.fct_credit_ledger as ledger
            inner join marts.fct_discounted_charges as charges using (invoice_id)
            inner join marts.dim_coupons as coupons using (coupon_id)
            where ledger.entry_type = 'draw' and {where}
        )
        select program, currency,
            {
            ", ".join(
                f"cast(coalesce(sum(amount) filter (where discount_type = '{kind}'), 0)"
                f" as decimal(18, 2)) as {kind}_amount"
                for kind in ("percent_off", "amount_off", "credit")
            )
        }
        from given group by program, currency order by program, currency
        """,
        values,
    )
