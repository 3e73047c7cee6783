"""`programs`: what each program gives, in one month, month by month, or in total."""

from __future__ import annotations

from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from dagster_project.answers.asking import (
    Connection,
    Row,
    facts,
    month_in,
    month_to_come,
    rows,
)
from dagster_project.settings import add_months

BUDGET_AMOUNTS = ("budget_amount", "given_amount", "expected_amount", "difference_amount")
AMOUNTS = ("list_amount", "discount_amount", "credit_amount", "net_amount")


def programs(connection: Connection, program: str | None, wanted: str | None) -> Row:
    """Return rows of `fct_program_performance_monthly`, or their sums by program if neither is given.

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


def budget(
    connection: Connection,
    program: str | None,
    wanted: str | None,
    months: tuple[date, date] | None = None,
) -> Row:
    """Return budgeted, given and expected amounts by currency, month and program.

    Args:
        connection: The release.
        program: Only this one.
        wanted: Only this month, as 2024-02; else twelve past months and twelve to come, the first of
            which has the day after the as-of date.
        months: The first and last month to return, if `wanted` is None; they need not have a budget.

    Raises:
        NotThere: There is no such month.
    """
    of_release = facts(connection)
    (span,) = rows(
        connection,
        "select min(budget_month) as first, max(budget_month) as last"
        " from marts.fct_program_budget_monthly",
    )
    at: date | None = None
    if wanted is not None:
        at = month_in(wanted, span["first"], span["last"])
        months = (at, at)
    elif months is None:
        now = month_to_come(of_release["as_of_date"])
        months = (add_months(now, -12).date(), add_months(now, 11).date())
    found = rows(
        connection,
        "select * from marts.fct_program_budget_monthly where budget_month between ? and ?"
        + (" and program = ?" if program else "")
        + " order by currency, program, budget_month",
        [*months, *([program] if program else [])],
    )
    budgeted = [row for row in found if row["budget_amount"] is not None]
    return {
        **of_release,
        "program": program,
        "month": at,
        "first_month": months[0],
        "last_month": months[1],
        "totals": [
            {
                "program": name,
                "currency": currency,
                "months": len(of_program),
                **{
                    one: sum((row[one] for row in of_program), Decimal("0.00"))
                    for one in BUDGET_AMOUNTS
                },
            }
            for name, currency in dict.fromkeys(
                (row["program"], row["currency"]) for row in budgeted
            )
            for of_program in [
                [row for row in budgeted if (row["program"], row["currency"]) == (name, currency)]
            ]
        ],
        "budgets": found,
    }


def _percent(row: Row) -> Decimal | None:
    if not row["list_amount"]:
        return None
    share = 100 * (row["discount_amount"] + row["credit_amount"]) / row["list_amount"]
    return Decimal(share).quantize(Decimal("0.0001"), ROUND_HALF_UP)


def _totals(found: list[Row]) -> list[Row]:
    """Return discount and credit by currency, without list and net because a bill can be in two rows."""
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
