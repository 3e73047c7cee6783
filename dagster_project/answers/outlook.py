"""`expiring`: the promotions that end next, and by how much the bills of their workspaces will rise."""

from __future__ import annotations

from decimal import Decimal

from dagster_project.answers import layout
from dagster_project.answers.asking import Connection, Row, add_months, end_of, facts, rows
from dagster_project.answers.layout import amount, count, day, month


def expiring(connection: Connection, within_months: int, program: str | None) -> Row:
    """The redemptions in force that end within so many months of the as-of date (R12)."""
    of_release = facts(connection)
    until = add_months(end_of(of_release["as_of_date"]), within_months)
    found = rows(
        connection,
        "select * from marts.fct_upcoming_expirations where ends_at < ?"
        + (" and program = ?" if program else "")
        + " order by ends_at, redemption_id",
        [until, *([program] if program else [])],
    )
    return {
        **of_release,
        "within_months": within_months,
        "until": until,
        "program": program,
        "totals_by_month": _totals(found, "ends_month"),
        "totals_by_currency": _totals(found),
        "expirations": found,
    }


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
            "run_rate_amount": sum(
                (row["run_rate_amount"] or Decimal(0) for row in group), Decimal("0.00")
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
    if not data["expirations"]:
        return "\n".join(lines)
    lines += ["", "Each, and what the bill is to rise by a month (–: not known yet)"]
    lines += layout.table(
        ["ends", "workspace", "coupon", "redemption", ">rise", "", "follow-up"],
        [
            [
                day(row["ends_at"]),
                row["workspace_id"],
                row["coupon_id"],
                row["redemption_id"],
                amount(row["run_rate_amount"], row["currency"]),
                row["currency"] or "",
                (row["follow_up_coupon_id"] or "yes") if row["is_followed_up"] else "none",
            ]
            for row in data["expirations"]
        ],
    )
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
    return "\n".join(lines)


def _total(row: Row) -> list[str]:
    return [
        f"{row['redemptions']:,}",
        f"{row['workspaces']:,}",
        f"{row['followed_up']:,}",
        amount(row["run_rate_amount"], row["currency"]),
        row["currency"] or "",
    ]
