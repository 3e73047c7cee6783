"""`expiring`: promotions that run out next and credit that does, and by how much the bills will rise."""

from __future__ import annotations

from decimal import Decimal

from dagster_project.answers.asking import (
    Connection,
    Row,
    add_months,
    end_of,
    facts,
    has_column,
    rows,
)
from dagster_project.answers.burndown import grants_left


def expiring(connection: Connection, within_months: int, program: str | None) -> Row:
    """Return the redemptions in force that run out within so many months of the as-of date (R12), and credit."""
    of_release = facts(connection)
    until = add_months(end_of(of_release["as_of_date"]), within_months)
    found = rows(
        connection,
        f"select * from {running_out(connection)} where runs_out_at < ?"
        + (" and program = ?" if program else "")
        + " order by runs_out_at, redemption_id",
        [until, *([program] if program else [])],
    )
    more_granted = {
        row["redemption_id"]: row["next_event_at"]
        for row in rows(
            connection,
            "select redemption_id, next_event_at from marts.dim_coupon_redemptions"
            " where next_event = 'grant'",
        )
    }
    grants = sorted(
        (
            {**grant, "next_grant_at": more_granted.get(grant["redemption_id"])}
            for grant in grants_left(
                connection,
                "coupons.program = ?" if program else "true",
                [program] if program else [],
            )
            if grant["runs_out_on"] is not None and grant["runs_out_on"] < until.date()
        ),
        key=lambda grant: (grant["runs_out_on"], grant["grant_id"]),
    )
    return {
        **of_release,
        "within_months": within_months,
        "until": until,
        "program": program,
        "totals_by_month": _totals(found, "ends_month"),
        "totals_by_currency": _totals(found),
        "expirations": found,
        "credit_running_out": grants,
    }


def running_out(connection: Connection) -> str:
    """Return the mart in SQL; in a release of an earlier version a redemption runs out only by its end.

    Such a release has no outlook: its run rate is the rise it expected.
    """
    if has_column(connection, "fct_upcoming_expirations", "runs_out_at"):
        return "marts.fct_upcoming_expirations"
    return (
        "(select *, ends_at as runs_out_at, 'end' as runs_out_by,"
        " run_rate_amount as monthly_rise_amount from marts.fct_upcoming_expirations)"
    )


def is_used_up(row: Row) -> bool:
    """Return whether nothing is left of a redemption in force; a release of an earlier version does not say."""
    return row.get("status") == "exhausted"


def _totals(found: list[Row], *by: str) -> list[Row]:
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in found:
        groups.setdefault((*(row[name] for name in by), row["currency"]), []).append(row)
    return [
        {
            **dict(zip((*by, "currency"), key, strict=True)),
            "redemptions": len(group),
            "workspaces": len({row["workspace_id"] for row in group}),
            "followed_up": sum(bool(row["is_followed_up"]) for row in group),
            "used_up": sum(map(is_used_up, group)),
            **{
                name: sum(
                    (row[name] or Decimal(0) for row in group if not is_used_up(row)),
                    Decimal("0.00"),
                )
                for name in ("run_rate_amount", "monthly_rise_amount")
            },
        }
        for key, group in groups.items()
    ]
