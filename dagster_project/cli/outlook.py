"""`outlook`: expected bills as text, beside past bills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster_project.answers import words
from dagster_project.answers.values import amount, clean, count, month
from dagster_project.cli import layout
from dagster_project.cli.options import HomeOption, JsonOption, ReleaseOption
from dagster_project.cli.reading import TargetArgument, answer, opened

if TYPE_CHECKING:
    from dagster_project.answers.asking import Row

_LABELS = {
    "list_amount": "list",
    "percent_off_amount": "percent-off",
    "amount_off_amount": "dollar-off",
    "credit_amount": "credit",
    "net_amount": "net",
}


def outlook(
    target: TargetArgument = None,
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """Show expected bills beside past ones."""
    from dagster_project.answers import asking
    from dagster_project.answers import outlook as ahead

    with opened(home, release) as connection:
        about = asking.target(connection, target)
        answer(ahead.outlook(connection, *about), tell, json)


def tell(data: Row) -> str:
    """Lay out the outlook as text."""
    workspaces = count(data["workspaces"], "workspace")
    about = {
        "all": f"{workspaces} with a coupon in force or to come",
        "program": f"{workspaces} with a coupon of program {data['name']} in force or to come",
    }
    subject = about.get(data["scope"], f"workspace {data['name']}")
    lines = layout.heading(f"Bills ahead, {subject}", data)
    expected = [row for part in data["currencies"] for row in part["months"] if row["is_expected"]]
    if not expected:
        return "\n".join(
            [
                *lines,
                "",
                *layout.wrap(
                    "No bill is expected within twelve months that a coupon or credit could change:"
                    " nothing is in force or to come, or no subscription is running."
                ),
            ]
        )
    if data["changes"]:
        lines += ["", *tell_changes(data["changes"])]
    for part in data["currencies"]:
        lines += ["", f"{clean(part['currency'])}, before tax (expected: if nothing else happens)"]
        lines += _months(part)
    return "\n".join(lines)


def _months(part: Row) -> list[str]:
    code = part["currency"]
    shown = [
        one
        for one in _LABELS
        if one in ("list_amount", "net_amount") or any(row[one] for row in part["months"])
    ]
    body = [
        [
            month(row["month"]),
            "expected" if row["is_expected"] else "past",
            f"{row['bills']:,}",
            *(amount(row[one], code) for one in shown),
        ]
        for row in part["months"]
    ]
    for kind, title in (("totals_before", "past"), ("totals_expected", "expected")):
        body.append(["total", title, "", *(amount(part[kind][one], code) for one in shown)])
    return layout.table(
        ["month", "", ">bills", *(f">{_LABELS[one]}" for one in shown)],
        body,
    )


def tell_changes(changes: list[Row]) -> list[str]:
    """Say what a workspace's next bills come to, when that changes, and why."""
    lines = []
    for currency in dict.fromkeys(row["currency"] for row in changes):
        of_currency = [row for row in changes if row["currency"] == currency]
        for row in of_currency:
            lines += layout.wrap(words.bill_change(row, is_first=row is of_currency[0]), "", "  ")
    return lines
