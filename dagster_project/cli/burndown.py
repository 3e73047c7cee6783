"""`burndown`: credit month by month as text, with a bar for what is left."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.answers.values import amount, clean, count, day, money, month
from dagster_project.cli import layout
from dagster_project.cli.options import HomeOption, JsonOption, ReleaseOption
from dagster_project.cli.reading import TargetArgument, answer, opened

if TYPE_CHECKING:
    from dagster_project.answers.asking import Row

_MOST_GRANTS = 20
_ROLLED = {
    "opening_amount": "opening",
    "granted_amount": "granted",
    "drawn_amount": "drawn",
    "expired_amount": "expired",
    "forfeited_amount": "forfeited",
    "closing_amount": "closing",
}


def burndown(
    target: TargetArgument = None,
    home: HomeOption = None,
    release: ReleaseOption = None,
    months: Annotated[int, typer.Option(metavar="N", min=1, help="How many months to show.")] = 24,
    roll_forward: Annotated[
        bool,
        typer.Option(
            "--roll-forward", help="By program: opening, granted, drawn, lapsed, closing."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show how credit is used up, month by month."""
    from dagster_project.answers import asking
    from dagster_project.answers import burndown as credit

    with opened(home, release) as connection:
        about = asking.target(connection, target)
        if roll_forward:
            answer(credit.roll_forward(connection, *about, months), tell_roll_forward, json)
        else:
            answer(credit.burndown(connection, *about, months), tell, json)


def tell(data: Row) -> str:
    """Lay out the burndown as text, with a bar for what is left at the end of each month."""
    lines = layout.heading(f"Credit of {_subject(data)}", data)
    if not data["currencies"]:
        lines += ["", "No credit was ever granted here."]
    for part in data["currencies"]:
        lines += _of_currency(part)
    return "\n".join(lines)


def _subject(data: Row) -> str:
    about = {"all": "all programs", "program": f"program {data['name']}"}
    return about.get(data["scope"], f"workspace {data['name']}")


def tell_roll_forward(data: Row) -> str:
    """Lay out the roll-forward as text: what closes a month opens the next."""
    lines = layout.heading(f"Credit rolled forward, {_subject(data)}", data)
    if not data["programs"]:
        lines += ["", "No credit was ever granted here."]
    for part in data["programs"]:
        code = part["currency"]
        title = f"{clean(part['program'])}, {clean(code)}"
        if part["months_before"]:
            earlier = count(part["months_before"], "earlier month")
            title += f" ({earlier} left out: --months N shows more)"
        lines += ["", *layout.wrap(title)]
        lines += layout.table(
            ["month", *(f">{one}" for one in _ROLLED.values())],
            [
                [
                    month(row["burn_month"]) if "burn_month" in row else "total",
                    *(amount(row[one], code) for one in _ROLLED),
                ]
                for row in [*part["months"], part]
            ],
        )
    return "\n".join(lines)


def _of_currency(part: Row) -> list[str]:
    code, series = part["currency"], part["months"]
    first, last = month(series[0]["burn_month"]), month(series[-1]["burn_month"])
    title = f"{clean(code)}, {first} to {last}"
    if part["months_before"]:
        earlier = count(part["months_before"], "earlier month")
        title += f" ({earlier} left out: --months N shows more)"
    lines = ["", *layout.wrap(title)]
    labels = {
        "granted_amount": "granted",
        "drawn_amount": "drawn",
        "expired_amount": "expired",
        "forfeited_amount": "forfeited",
    }
    moved = [one for one in labels if any(row[one] for row in series)]
    body = [["opening", *("" for _ in moved), amount(part["opening_amount"], code)]]
    body += [
        [
            month(row["burn_month"]),
            *(amount(row[one], code) if row[one] else "" for one in moved),
            amount(row["closing_amount"], code),
        ]
        for row in series
    ]
    body.append(
        [
            "total",
            *(amount(part[one], code) for one in moved),
            amount(part["closing_amount"], code),
        ]
    )
    levels = [part["opening_amount"], *(row["closing_amount"] for row in series), Decimal(0)]
    lines += layout.table(
        ["month", *(f">{labels[one]}" for one in moved), ">left"], body, bars=levels
    )
    lines += ["", *_grants(part, code)]
    return lines


def _grants(part: Row, code: str) -> list[str]:
    grants = part["grants_left"]
    if not grants:
        return [f"No credit is left in {clean(code)}."]
    title = f"Left: {money(part['balance_amount'], code)} in {count(len(grants), 'grant')}"
    if len(grants) > _MOST_GRANTS:
        title += f", the {_MOST_GRANTS} largest"
    return [
        *layout.wrap(f"{title} (until: used up, or at its end)"),
        *layout.table(
            ["grant", "workspace", "coupon", ">left", ">will be used", "until", ">will lapse"],
            [
                [
                    row["grant_id"],
                    row["workspace_id"],
                    row["coupon_id"],
                    amount(row["balance_amount"], code),
                    amount(row["expected_use_amount"], code),
                    day(row["runs_out_on"]),
                    amount(row["projected_breakage_amount"], code),
                ]
                for row in grants[:_MOST_GRANTS]
            ],
        ),
    ]
