"""`expiring`: promotions that end next and credit that runs out, and by how much the bills will rise."""

from __future__ import annotations

from decimal import Decimal

from dagster_project.answers import layout
from dagster_project.answers.asking import Connection, Row, add_months, end_of, facts, rows
from dagster_project.answers.burndown import grants_left
from dagster_project.answers.layout import amount, count, day, month


def expiring(connection: Connection, within_months: int, program: str | None) -> Row:
    """The redemptions in force that end within so many months of the as-of date (R12), and credit.

    The bill of a redemption that is used up already is at list: it counts in no rise.
    """
    of_release = facts(connection)
    until = add_months(end_of(of_release["as_of_date"]), within_months)
    found = rows(
        connection,
        "select * from marts.fct_upcoming_expirations where ends_at < ?"
        + (" and program = ?" if program else "")
        + " order by ends_at, redemption_id",
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


def _is_used_up(row: Row) -> bool:
    """Whether nothing is left of a redemption in force; a release of an earlier version does not say."""
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
            "used_up": sum(map(_is_used_up, group)),
            "run_rate_amount": sum(
                (row["run_rate_amount"] or Decimal(0) for row in group if not _is_used_up(row)),
                Decimal("0.00"),
            ),
        }
        for key, group in groups.items()
    ]


def tell(data: Row) -> str:
    """What ends next as text."""
    of = f" of program {data['program']}" if data["program"] else ""
    months = count(data["within_months"], "month")
    lines = layout.heading(
        f"{count(len(data['expirations']), 'promotion')}{of} ending within {months}, before"
        f" {day(data['until'])}",
        data,
    )
    if data["expirations"]:
        lines += _promotions(data)
    if data["credit_running_out"]:
        lines += _credit(data["credit_running_out"])
    return "\n".join(lines)


def _promotions(data: Row) -> list[str]:
    lines = ["", "Each, and what the bill is to rise by a month (–: not known yet)"]
    lines += layout.table(
        ["ends", "workspace", "coupon", "redemption", ">rise", "", "follow-up"],
        [
            [
                day(row["ends_at"]),
                row["workspace_id"],
                row["coupon_id"],
                row["redemption_id"],
                "used up" if _is_used_up(row) else amount(row["run_rate_amount"], row["currency"]),
                row["currency"] or "",
                (row["follow_up_coupon_id"] or "yes") if row["is_followed_up"] else "none",
            ]
            for row in data["expirations"]
        ],
    )
    if any(map(_is_used_up, data["expirations"])):
        lines += layout.wrap("used up: nothing is left of it, the bill is at list already", "  ")
    lines += ["", "By month"]
    lines += layout.table(
        ["month", ">ending", ">workspaces", ">followed up", ">rise", ""],
        [[month(row["ends_month"]), *_total(row)] for row in data["totals_by_month"]],
    )
    lines += ["", "Together"]
    lines += layout.table(
        [">ending", ">workspaces", ">followed up", ">rise", ""],
        [_total(row) for row in data["totals_by_currency"]],
    )
    return lines


def _credit(grants: list[Row]) -> list[str]:
    lines = ["", "Credit that runs out (until: used up at its rate, or at its end)"]
    lines += layout.table(
        ["until", "workspace", "grant", ">left", ">a month", ">will lapse", "", "then"],
        [
            [
                day(grant["runs_out_on"]),
                grant["workspace_id"],
                grant["grant_id"],
                *(
                    amount(grant[name], grant["currency"])
                    for name in ("balance_amount", "run_rate_amount", "projected_breakage_amount")
                ),
                grant["currency"],
                f"more on {day(grant['next_grant_at'])}" if grant["next_grant_at"] else "list",
            ]
            for grant in grants
        ],
    )
    return lines


def _total(row: Row) -> list[str]:
    return [
        f"{row['redemptions']:,}",
        f"{row['workspaces']:,}",
        f"{row['followed_up']:,}",
        amount(row["run_rate_amount"], row["currency"]),
        row["currency"] or "",
    ]
