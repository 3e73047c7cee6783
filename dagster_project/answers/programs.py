"""`programs`: what each program gives, in one month, month by month, or in all."""

from __future__ import annotations

from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from dagster_project.answers.asking import Connection, Row, facts, month_in, rows

AMOUNTS = ("list_amount", "discount_amount", "credit_amount", "net_amount")


def programs(connection: Connection, program: str | None, wanted: str | None) -> Row:
    """Return rows of `fct_program_performance_monthly`, or their sums by program where neither is given.

    Raises:
        NotThere: There is no such month.
    """
    (span,) = rows(
        connection,
        "select min(performance_month) as first, max(performance_month) as last"
        " from marts.fct_program_performance_monthly",
    )
    at: date | None = None
    if wanted is not None:
        at = month_in(wanted, span["first"], span["last"])
    values: list[object] = []
    where = ["true"]
    if program is not None:
        where.append("program = ?")
        values.append(program)
    if at is not None:
        where.append("performance_month = ?")
        values.append(at)
    by_month = program is not None or at is not None
    found = rows(
        connection,
        (
            "select * from marts.fct_program_performance_monthly"
            if by_month
            else "select program, currency, min(performance_month) as first_month,"
            " max(performance_month) as last_month,"
            " cast(sum(new_redemptions) as bigint) as new_redemptions, "
            + ", ".join(f"cast(sum({one}) as decimal(18, 2)) as {one}" for one in AMOUNTS)
            + " from marts.fct_program_performance_monthly"
        )
        + f" where {' and '.join(where)}"
        + ("" if by_month else " group by program, currency")
        + f" order by currency nulls last, {'performance_month, ' if by_month else ''}program",
        values,
    )
    if not by_month:
        for row in found:
            row["effective_percent"] = _percent(row)
    return {
        **facts(connection),
        "program": program,
        "month": at,
        "totals_by_currency": _totals(found),
        "programs": found,
    }


def _percent(row: Row) -> Decimal | None:
    if not row["list_amount"]:
        return None
    share = 100 * (row["discount_amount"] + row["credit_amount"]) / row["list_amount"]
    return Decimal(share).quantize(Decimal("0.0001"), ROUND_HALF_UP)


def _totals(found: list[Row]) -> list[Row]:
    """Return discount and credit by currency; list and net are not added up, an invoice can be in two rows."""
    return [
        {
            "currency": currency,
            "new_redemptions": sum(row["new_redemptions"] for row in of_currency),
            **{
                one: sum((row[one] for row in of_currency), Decimal("0.00"))
                for one in ("discount_amount", "credit_amount")
            },
        }
        for currency in dict.fromkeys(row["currency"] for row in found)
        for of_currency in [[row for row in found if row["currency"] == currency]]
    ]
