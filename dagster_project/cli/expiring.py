"""`expiring`: promotions that end next and credit that runs out as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dagster_project.answers.values import amount, count, day, month, signed
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
    sort: Annotated[
        Literal["amount", "date"],
        typer.Option(help="Next first, or the largest rise of each currency first."),
    ] = "date",
    top: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="List only N; by amount, N of each currency."),
    ] = None,
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
        answer(outlook.expiring(connection, within_months, program, sort, top), tell, json)


def tell(data: Row) -> str:
    """Lay out what ends next as text: the totals first."""
    of = f" of program {data['program']}" if data["program"] else ""
    months = count(data["within_months"], "month")
    promotions = sum(row["redemptions"] for row in data["totals_by_currency"])
    lines = layout.heading(
        f"{count(promotions, 'promotion')}{of} running out within {months}, before"
        f" {day(data['until'])}",
        data,
    )
    if promotions:
        lines += _promotions(data, promotions)
    if data["credit_running_out"]:
        lines += _credit(data)
    if data["counted_in_bills"]:
        lines += [
            "",
            *layout.wrap(
                f"{count(data['counted_in_bills'], 'more promotion')} counted in bills: no bill expected"
                " within the outlook takes the last use, so the day is not known."
            ),
        ]
    if data["used_up"]["redemptions"]:
        used_up = count(data["used_up"]["redemptions"], "promotion")
        where = count(data["used_up"]["workspaces"], "workspace")
        lines += [
            "",
            *layout.wrap(
                f"Used up already: {used_up} on {where}, in force but with nothing left to give."
            ),
        ]
    return "\n".join(lines)


def _promotions(data: Row, promotions: int) -> list[str]:
    from dagster_project.answers.expiring import is_used_up

    lines = ["", *layout.wrap("In total (rise: of the bills, per month, once they have run out)")]
    lines += layout.table(
        [">running out", ">workspaces", ">followed up", ">rise", ""],
        [_total(row) for row in data["totals_by_currency"]],
    )
    lines += ["", "By month"]
    lines += layout.table(
        ["month", ">running out", ">workspaces", ">followed up", ">rise", ""],
        [[month(row["ends_month"]), *_total(row)] for row in data["totals_by_month"]],
    )
    shown = data["expirations"]
    lines += [
        "",
        *layout.wrap(
            _title("Promotions", len(shown), promotions, data) + " (–: no bill to compare)"
        ),
    ]
    lines += layout.table(
        ["runs out", "by", "workspace", "~name", "coupon", ">rise", "", "follow-up"],
        [
            [
                day(row["runs_out_at"]),
                row["runs_out_by"],
                row["workspace_id"],
                row["workspace_name"] or "",
                row["coupon_id"],
                "used up"
                if is_used_up(row)
                else amount(row["monthly_rise_amount"], row["currency"]),
                row["currency"] or "",
                (row["follow_up_coupon_id"] or "yes") if row["is_followed_up"] else "none",
            ]
            for row in shown
        ],
    )
    if any(map(is_used_up, shown)):
        lines += layout.wrap("used up: nothing is left of it", "  ")
    return lines


def _title(what: str, shown: int, there_are: int, data: Row) -> str:
    """Return the title of a list that may be shown in part."""
    order = "the largest first" if data["sort"] == "amount" else "the next first"
    left_out = f", {shown:,} of {there_are:,} shown" if shown < there_are else ""
    return f"{what}, {order}{left_out}"


def _credit(data: Row) -> list[str]:
    grants = data["credit_running_out"]
    there_are = sum(row["grants"] for row in data["credit_totals_by_currency"])
    lines = ["", "Credit running out"]
    lines += layout.table(
        [">grants", ">left", ">will lapse", ""],
        [
            [
                f"{row['grants']:,}",
                amount(row["balance_amount"], row["currency"]),
                amount(row["projected_breakage_amount"], row["currency"]),
                row["currency"],
            ]
            for row in data["credit_totals_by_currency"]
        ],
    )
    lines += [
        "",
        *layout.wrap(
            _title("Grants", len(grants), there_are, data) + " (until: used up, or at its end)"
        ),
    ]
    lines += layout.table(
        ["until", "workspace", "grant", ">left", ">will lapse", "", "then"],
        [
            [
                day(grant["runs_out_on"]),
                grant["workspace_id"],
                grant["grant_id"],
                *(
                    amount(grant[name], grant["currency"])
                    for name in (
                        "balance_amount",
                        "projected_breakage_amount",
                    )
                ),
                grant["currency"],
                _then(grant),
            ]
            for grant in grants
        ],
    )
    return lines


def _then(grant: Row) -> str:
    """Return what comes after a grant: more credit, or what the bill rises by without its promotion."""
    if grant["next_grant_at"]:
        return f"more {day(grant['next_grant_at'])}"
    rise = grant["monthly_rise_amount"]
    if rise is None:
        return "–"
    return f"bill {signed(rise, grant['currency'])}" if rise else "no rise"


def _total(row: Row) -> list[str]:
    return [
        f"{row['redemptions']:,}",
        f"{row['workspaces']:,}",
        f"{row['followed_up']:,}",
        amount(row["monthly_rise_amount"], row["currency"]),
        row["currency"] or "",
    ]
