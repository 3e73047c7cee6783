"""`expiring`: promotions that end next and credit that runs out as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.answers.values import amount, count, day, month
from dagster_project.cli import layout
from dagster_project.cli.options import HomeOption, JsonOption, ReleaseOption
from dagster_project.cli.reading import ProgramOption, answer, opened

if TYPE_CHECKING:
    from dagster_project.answers.asking import Row


def expiring(
    within_months: Annotated[
        int, typer.Option("--within-months", metavar="N", min=1, max=12, help="1 to 12.")
    ] = 12,
    program: ProgramOption = None,
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """List promotions that run out next, with the expected increase."""
    from dagster_project.answers import asking
    from dagster_project.answers import expiring as outlook

    with opened(home, release) as connection:
        if program is not None:
            asking.program(program)
        answer(outlook.expiring(connection, within_months, program), tell, json)


def tell(data: Row) -> str:
    """Lay out what ends next as text."""
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
    from dagster_project.answers.expiring import is_used_up

    lines = ["", "Promotions ending, with the expected monthly increase (–: no bill to compare)"]
    lines += layout.table(
        ["runs out", "by", "workspace", "coupon", "redemption", ">rise", "", "follow-up"],
        [
            [
                day(row["runs_out_at"]),
                row["runs_out_by"],
                row["workspace_id"],
                row["coupon_id"],
                row["redemption_id"],
                "used up"
                if is_used_up(row)
                else amount(row["monthly_rise_amount"], row["currency"]),
                row["currency"] or "",
                (row["follow_up_coupon_id"] or "yes") if row["is_followed_up"] else "none",
            ]
            for row in data["expirations"]
        ],
    )
    if any(map(is_used_up, data["expirations"])):
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
    lines = ["", "Credit that runs out (until: used up, or at its end)"]
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
        amount(row["monthly_rise_amount"], row["currency"]),
        row["currency"] or "",
    ]
