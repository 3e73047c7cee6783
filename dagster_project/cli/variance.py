"""`variance`: the bridge of percent-off discounts as text."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from dagster_project.answers import words
from dagster_project.answers.values import amount, clean, count, month, signed
from dagster_project.cli import layout
from dagster_project.cli.options import HomeOption, JsonOption, ReleaseOption
from dagster_project.cli.reading import MonthOption, TargetArgument, answer, opened

if TYPE_CHECKING:
    from dagster_project.answers.asking import Row

_LABELS = {
    "bill_effect_amount": "bills: larger, smaller, more or none",
    "rate_effect_amount": "another percentage",
    "start_effect_amount": "coupons that began",
    "end_effect_amount": "coupons that ended",
}
_MOST_WORKSPACES = 15


def variance(
    target: TargetArgument = None,
    month: MonthOption = None,
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """Show why the value of percent-off coupons moved."""
    from dagster_project.answers import asking
    from dagster_project.answers import variance as percent_off

    with opened(home, release) as connection:
        about = asking.target(connection, target)
        answer(percent_off.variance(connection, *about, month), tell, json)


def tell(data: Row) -> str:
    """Lay out the bridge as text."""
    about = {
        "all": "all workspaces",
        "program": f"workspaces with a percent-off coupon of program {data['name']}",
    }
    subject = about.get(data["scope"], f"workspace {data['name']}")
    lines = layout.heading(f"Percent-off discounts of {subject}, month to month", data)
    if data["scope"] == "program":
        lines.append("Percent-off of other programs on the same workspaces is included.")
    if not data["currencies"]:
        lines += ["", "No percent-off discount changed here in that time."]
    for part in data["currencies"]:
        lines += ["", *_of_currency(part)]
    if data["currencies"]:
        lines += layout.wrap(f"Another percentage: {words.RATE_EFFECT}.")
    return "\n".join(lines)


def _of_currency(part: Row) -> list[str]:
    from dagster_project.answers.variance import EFFECTS

    code, span = part["currency"], part["bridge"]
    before, after = month(span["from_month"]), month(span["to_month"])
    lines = [f"{clean(code)}: from {before} to {after}"]
    lines += layout.bridge(
        [
            (f"discount in {before}", span["previous_percent_off_amount"]),
            *((_LABELS[one], span[one]) for one in EFFECTS),
        ],
        f"discount in {after}",
        code,
    )
    if len(part["months"]) > 1:
        lines += ["", *_series(part, code)]
    if len(part["workspaces"]) > 1:
        lines += ["", *_workspaces(part["workspaces"], code)]
    return lines


def _effect(value: Decimal, code: str) -> str:
    return signed(value, code) if value else ""


def _series(part: Row, code: str) -> list[str]:
    from dagster_project.answers.variance import EFFECTS

    return layout.table(
        ["month", ">bills", ">percentage", ">began", ">ended", ">discount"],
        [
            [
                month(row["month"]),
                *(_effect(row[one], code) for one in EFFECTS),
                amount(row["percent_off_amount"], code),
            ]
            for row in part["months"]
        ],
        bars=[row["percent_off_amount"] for row in part["months"]],
    )


def _workspaces(movers: list[Row], code: str) -> list[str]:
    from dagster_project.answers.variance import EFFECTS, sums

    shown, rest = movers[:_MOST_WORKSPACES], movers[_MOST_WORKSPACES:]
    body = [
        [
            row["workspace_id"],
            amount(row["previous_percent_off_amount"], code),
            *(_effect(row[one], code) for one in EFFECTS),
            amount(row["percent_off_amount"], code),
        ]
        for row in shown
    ]
    for label, group in ((f"and {len(rest)} more", rest), ("total", movers)):
        if group:
            total = sums(group)
            body.append(
                [
                    label,
                    amount(total["previous_percent_off_amount"], code),
                    *(_effect(total[one], code) for one in EFFECTS),
                    amount(total["percent_off_amount"], code),
                ]
            )
    return [
        f"By workspace, largest change first: {count(len(movers), 'workspace')}",
        *layout.table(
            ["workspace", ">before", ">bills", ">percentage", ">began", ">ended", ">after"], body
        ),
    ]
