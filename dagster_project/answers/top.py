"""`top`: the workspaces with the largest discounts, rises and balances, with their names."""

from __future__ import annotations

from datetime import date

from dagster_project.answers.asking import Connection, Row, facts, month_in, rows
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
    (span,) = rows(
        connection,
        "select min(billing_month) as first, max(billing_month) as last"
        " from marts.fct_discounted_charges",
    )
    at: date | None = None
    if wanted is not None:
        at = month_in(wanted, span["first"], span["last"])
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
            " from marts.fct_discounted_charges"
            f" where {'billing_month = ?' if at else 'true'} group by workspace_id, currency",
            [at] if at else [],
            most,
        ),
        "rises": _largest(
            connection,
            "select workspace_id, currency, redemption_id, coupon_id, program, runs_out_at,"
            " runs_out_by, is_followed_up, rise_amount, monthly_rise_amount as amount"
            f" from {running_out(connection)} where status <> 'exhausted'",
            [],
            most,
        ),
        "balances": _largest(
            connection,
            "select workspace_id, currency, count(*) as grants,"
            " cast(sum(closing_amount) as decimal(18, 2)) as amount,"
            " cast(coalesce(sum(projected_breakage_amount), 0) as decimal(18, 2))"
            " as projected_breakage_amount,"
            " min(projected_exhaustion_date) as first_exhaustion_date"
            " from (from marts.fct_credit_burndown_monthly qualify row_number() over"
            " (partition by grant_id order by burn_month desc) = 1)"
            " where closing_amount > 0 group by workspace_id, currency",
            [],
            most,
        ),
    }


def _largest(connection: Connection, sql: str, values: list[date], most: int) -> list[Row]:
    """Return the rows with the largest `amount` of each currency, and the names of their workspaces."""
    return rows(
        connection,
        f"""
        select found.*, workspaces.workspace_name
        from ({sql}) as found
        left join marts.dim_workspaces as workspaces using (workspace_id)
        where found.amount > 0
        qualify row_number() over (partition by found.currency
            order by found.amount desc, found.workspace_id) <= ?
        order by found.currency, found.amount desc, found.workspace_id
        """,
        [*values, most],
    )
