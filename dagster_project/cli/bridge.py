"""`bridge`: from list price to the amounts billed and kept, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dagster_project.answers.values import amount, clean, count, month
from dagster_project.cli import layout
from dagster_project.cli.options import HomeOption, JsonOption, ReleaseOption
from dagster_project.cli.reading import MonthOption, answer, opened

if TYPE_CHECKING:
    from dagster_project.answers.asking import Row

_MOST_MONTHS = 12
_HEADS = {
    "list_amount": "list",
    "percent_off_amount": "%-off",
    "amount_off_amount": "$-off",
    "credit_amount": "credit",
    "net_amount": "net",
    "billing_error_amount": "errors",
    "billed_net_amount": "billed",
    "credited_amount": "notes",
    "billed_net_after_notes_amount": "kept",
}
_ALWAYS = ("list_amount", "net_amount", "billed_net_amount")


def bridge(
    month: MonthOption = None,
    by: Annotated[
        Literal["month", "plan", "program"], typer.Option(help="What the table is broken down by.")
    ] = "month",
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """Bridge list price to the amounts billed and kept."""
    from dagster_project.answers import bridge as charges

    with opened(home, release) as connection:
        data = charges.bridge(connection, month, "plan" if by == "plan" else "month")
        answer({**data, "by": by}, tell, json)


def tell(data: Row) -> str:
    """Lay out a bridge of each currency as text, and the table asked for."""
    when = f"in {month(data['month'])}" if data["month"] else "since the first month"
    lines = layout.heading(f"From list to what was billed and kept, {when}", data)
    if not data["currencies"]:
        return "\n".join([*lines, "", "No bill counts yet."])
    for part in data["currencies"]:
        lines += ["", f"{clean(part['currency'])}, {count(part['invoices'], 'bill')}, before tax"]
        lines += _steps(part)
        if data["by"] == "program":
            lines += ["", *_programs(part)]
        elif len(part["parts"]) > 1:
            lines += ["", *_parts(part, data["by"])]
    return "\n".join(lines)


def _steps(part: Row) -> list[str]:
    code = part["currency"]
    steps = [
        ("list", part["list_amount"]),
        ("percent-off", -part["percent_off_amount"]),
        ("dollar-off", -part["amount_off_amount"]),
        ("credit", -part["credit_amount"]),
    ]
    after = [("net", part["net_amount"]), ("billing errors", part["billing_error_amount"])]
    lines = layout.bridge(steps, "net", code)
    if part["billing_error_amount"] or part["credited_amount"]:
        lines += layout.bridge([*after, ("credit notes", -part["credited_amount"])], "kept", code)
    else:
        lines += layout.wrap("billed as it should have been, and no credit notes", "  ")
    return lines


def _parts(part: Row, by: str) -> list[str]:
    code, shown = part["currency"], part["parts"]
    if by == "month":
        shown = shown[-_MOST_MONTHS:]
    columns = [one for one in _HEADS if one in _ALWAYS or any(row[one] for row in shown)]
    left_out = len(part["parts"]) - len(shown)
    title = f"By {by}"
    title += f" ({count(left_out, 'earlier month')} left out: --json has all)" if left_out else ""

    def laid(names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
        return [by, *(f">{_HEADS[one]}" for one in names)], [
            [
                month(row["month"]) if by == "month" else row["plan"],
                *(amount(row[one], code) for one in names),
            ]
            for row in shown
        ]

    if layout.fits(*laid(columns)):
        return [title, *layout.table(*laid(columns))]
    net = columns.index("net_amount")
    return [
        title,
        *layout.table(*laid(columns[: net + 1])),
        "",
        *layout.table(*laid(columns[net:])),
    ]


def _programs(part: Row) -> list[str]:
    from dagster_project.answers.bridge import GIVEN

    code = part["currency"]
    if not part["programs"]:
        return ["No program gave anything."]
    return [
        "Given by program",
        *layout.table(
            ["program", ">percent-off", ">dollar-off", ">credit", ">total"],
            [
                [
                    row.get("program", "total"),
                    *(amount(row[one], code) for one in (*GIVEN, "given_amount")),
                ]
                for row in [*part["programs"], part]
            ],
        ),
    ]
