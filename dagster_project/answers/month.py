"""One month of one currency: from list price to amounts billed and kept, with the months before."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from dagster_project.answers.asking import Connection, Row, facts, month_from, month_in, rows
from dagster_project.answers.bridge import AMOUNTS, GIVEN, gifts, given_by_program
from dagster_project.answers.findings import findings, sum_of_known
from dagster_project.answers.programs import budget

MONTHS = 12
_MOST_GIFTS = 500
_MART = "marts.fct_charge_bridge_monthly"


def month(
    connection: Connection,
    currency: str,
    wanted: str | None = None,
    plan: str | None = None,
    program: str | None = None,
) -> Row:
    """Return the bridge of a month, and the figures beside it.

    Args:
        connection: The release.
        currency: The currency; amounts of several are never added up.
        wanted: The month as 2024-02; the last with bills unless given. A month with bills only in other
            currencies has amounts of zero.
        plan: Only bills of this plan. Credit left, findings and budgets are of all plans.
        program: The program whose gifts are listed bill by bill.

    Returns:
        `month`; `this` and `before`, the bridges of the month and of the month before; `months`, up to
        twelve ending with the month, oldest first, each with `given_amount`; `programs`, what each gave, with
        its share of all that was given in percent and its budget; `gifts` of the program asked for, as `bridge.gifts` gives them;
        `credit_left_amount` at the end of the month; `at_stake_amount` (None if it is unknown for all) and
        `open_findings` of the open findings in the currency, whatever their month.

    Raises:
        NotThere: The release has no bills of that month.
    """
    (span,) = rows(
        connection,
        "select min(bridge_month) as first, max(bridge_month) as last,"
        " min(bridge_month) filter (where currency = ?) as first_of_currency,"
        f" max(bridge_month) filter (where currency = ?) as last_of_currency from {_MART}",
        [currency, currency],
    )
    at = span["last_of_currency"]
    if wanted is not None:
        at = month_in(wanted, span["first"], span["last"])
    if at is None or span["first_of_currency"] is None:
        return {**facts(connection), "currency": currency, "month": None, "months": []}
    sums = ", ".join(f"cast(sum({one}) as decimal(18, 2)) as {one}" for one in AMOUNTS)
    found = {
        row["month"]: row
        for row in rows(
            connection,
            f"select bridge_month as month, cast(sum(invoices) as bigint) as invoices, {sums}"
            f" from {_MART} where currency = ? and bridge_month <= ?"
            + (" and plan = ?" if plan else "")
            + " group by bridge_month",
            [currency, at, *([plan] if plan else [])],
        )
    }
    none = {"invoices": 0, **dict.fromkeys(AMOUNTS, Decimal("0.00"))}
    series = []
    for one in (month_from(at, -back) for back in range(MONTHS, -1, -1)):
        if one >= min(at, span["first_of_currency"]):
            row = found.get(one, {"month": one, **none})
            series.append({**row, "given_amount": sum((row[each] for each in GIVEN), Decimal(0))})
    (left,) = rows(
        connection,
        "select cast(coalesce(sum(closing_amount), 0) as decimal(18, 2)) as credit_left_amount"
        " from marts.fct_credit_burndown_monthly where currency = ? and burn_month = ?",
        [currency, at],
    )
    opened = findings(connection, {"review_status": "open"}, 0)
    stake = [row for row in opened["totals_by_currency"] if row["currency"] == currency]
    return {
        **facts(connection),
        "currency": currency,
        "month": at,
        "plan": plan,
        "this": series[-1],
        "before": series[-2] if len(series) > 1 else None,
        "months": series[-MONTHS:],
        "programs": _programs(connection, currency, at, plan),
        "gifts": gifts(connection, program, at, currency, plan, _MOST_GIFTS) if program else None,
        **left,
        "at_stake_amount": sum_of_known(row["amount_at_stake"] for row in stake),
        "open_findings": sum(row["findings"] for row in stake),
    }


def _programs(connection: Connection, currency: str, at: date, plan: str | None) -> list[Row]:
    """Return what each program gave in a month, with its share and its budget, if any."""
    budgets = {
        row["program"]: row["budget_amount"]
        for row in budget(connection, None, None, months=(at, at))["budgets"]
        if row["currency"] == currency
    }
    found = [
        {
            **row,
            "given_amount": row["percent_off_amount"]
            + row["amount_off_amount"]
            + row["credit_amount"],
            "budget_amount": budgets.get(row["program"]),
        }
        # The same query for each currency, which `remembering` runs once.
        for row in given_by_program(connection, at, plan)
        if row["currency"] == currency
    ]
    total = sum((row["given_amount"] for row in found), Decimal(0))
    for row in found:
        row["share_percent"] = 100 * row["given_amount"] / total if total else None
    return found
