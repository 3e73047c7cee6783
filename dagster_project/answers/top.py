"""`top`: the workspaces with the largest discounts, rises and balances, with their names."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from dagster_project.answers.asking import Connection, Row, facts, month_in, rows
from dagster_project.answers.burndown import LAST_MONTHS
from dagster_project.answers.expiring import running_out


def top(connection: Connection, most: int, wanted: str | None) -> Row:
    """Return the largest of each currency.

    Args:
        connection: The release.
        most: How many of each currency.
        wanted: Discounts only of this month's bills, as 2024-02.

    Raises:
        NotThere: There is no such month.
    """
    at: date | None = None
    bills = "marts.fct_discounted_charges"
    of_month: list[object] = []
    if wanted is not None:
        (span,) = rows(
            connection,
            f"select min(billing_month) as first, max(billing_month) as last from {bills}",
        )
        at = month_in(wanted, span["first"], span["last"])
        bills, of_month = f"(from {bills} where billing_month = ?)", [at]
    return {
        **facts(connection),
        "month": at,
        "most": most,
        "discounts": _largest(
            connection,
            "select workspace_id, currency, count(*) as bills,"
            " cast(sum(list_amount) as decimal(18, 2)) as list_amount,"
            " cast(sum(discount_amount) as decimal(18, 2)) as discount_amount,"
            " cast(sum(credit_amount) as decimal(18, 2)) as credit_amount,"
            " cast(sum(discount_amount + credit_amount) as decimal(18, 2)) as amount"
            f" from {bills} semi join (select workspace_id, currency from {bills}"
            " where discount_amount <> 0 or credit_amount <> 0 group by workspace_id, currency"
            " qualify row_number() over (partition by currency order by"
            " sum(discount_amount + credit_amount) desc, workspace_id) <= ?)"
            " using (workspace_id, currency) group by workspace_id, currency",
            [*of_month, *of_month, most],
            most,
        ),
        "rises": _largest(
            connection,
            "select workspace_id, currency, redemption_id, coupon_id, program, runs_out_at,"
            " runs_out_by, is_followed_up, rise_amount, monthly_rise_amount as amount"
            f" from {running_out(connection)} where status <> 'exhausted'",
            [],
            most,
            ("workspace_id", "redemption_id"),
        ),
        "balances": _largest(
            connection,
            "select workspace_id, currency, count(*) as grants,"
            " cast(sum(closing_amount) as decimal(18, 2)) as amount,"
            " cast(coalesce(sum(projected_breakage_amount), 0) as decimal(18, 2))"
            " as projected_breakage_amount,"
            " min(projected_exhaustion_date) as first_exhaustion_date"
            f" from {LAST_MONTHS} where closing_amount > 0 group by workspace_id, currency",
            [],
            most,
        ),
    }


def _largest(
    connection: Connection,
    sql: str,
    values: list[object],
    most: int,
    key: Sequence[str] = ("workspace_id",),
) -> list[Row]:
    """Return the rows with the largest `amount` of each currency, and the names of their workspaces.

    Args:
        connection: The release.
        sql: The select of the rows.
        values: The values of its placeholders.
        most: How many of each currency.
        key: The columns that identify a row within a currency; they order equal amounts.
    """
    order = ", ".join(["found.amount desc", *(f"found.{name}" for name in key)])
    return rows(
        connection,
        f"""
        select found.*, workspaces.workspace_name
        from ({sql}) as found
        left join marts.dim_workspaces as workspaces using (workspace_id)
        where found.amount > 0
        qualify row_number() over (partition by found.currency
            order by {order}) <= ?
        order by found.currency, {order}
        """,
        [*values, most],
    )
