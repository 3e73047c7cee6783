"""`programs`: what each program gives as text."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.answers.values import amount, clean, count, month
from dagster_project.cli import layout
from dagster_project.cli.options import HomeOption, JsonOption, ReleaseOption
from dagster_project.cli.reading import MonthOption, ProgramOption, answer, opened

if TYPE_CHECKING:
    from dagster_project.answers.asking import Row

_MONTHS = 12


def programs(
    program: ProgramOption = None,
    month: MonthOption = None,
    budget: Annotated[
        bool, typer.Option("--budget", help="Budget, given and expected, by month.")
    ] = False,
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """Show what each program gave, by month."""
    from dagster_project.answers import asking
    from dagster_project.answers import programs as performance

    with opened(home, release) as connection:
        if program is not None:
            asking.program(program)
        if budget:
            answer(performance.budget(connection, program, month), tell_budget, json)
        else:
            answer(performance.programs(connection, program, month), tell, json)


def tell(data: Row) -> str:
    """Lay out the programs as text."""
    from dagster_project.answers.programs import AMOUNTS

    about = f"Program {data['program']}" if data["program"] else "All programs"
    when = f"in {month(data['month'])}" if data["month"] else "since the first month"
    lines = layout.heading(f"{about}, {when}", data)
    found = data["programs"]
    if not found:
        return "\n".join([*lines, "", "Nothing was given or redeemed."])
    by_month = data["program"] is not None or data["month"] is not None
    is_series = by_month and data["month"] is None
    shown = found
    if is_series:
        last = sorted({row["performance_month"] for row in found})[-_MONTHS:]
        shown = [row for row in found if row["performance_month"] in last]
    for currency in dict.fromkeys(row["currency"] for row in shown):
        rows_shown = [row for row in shown if row["currency"] == currency]
        lines += ["", _title(currency, is_series and len(shown) < len(found))]
        lines += layout.table(
            [
                "month" if is_series else "program",
                *([">active"] if by_month else []),
                ">new",
                *([">ended"] if by_month else []),
                ">list",
                ">discount",
                ">credit",
                ">net",
                ">%",
            ],
            [
                [
                    month(row["performance_month"]) if is_series else row["program"],
                    *([f"{row['active_workspaces']:,}"] if by_month else []),
                    f"{row['new_redemptions']:,}",
                    *([f"{row['ended_redemptions']:,}"] if by_month else []),
                    *(amount(row[one], currency) for one in AMOUNTS),
                    "–"
                    if row["effective_percent"] is None
                    else f"{row['effective_percent'].quantize(Decimal('0.1'), ROUND_HALF_UP)}",
                ]
                for row in rows_shown
            ],
        )
    lines += ["", "Given in all" + (f", by {data['program']}" if data["program"] else "")]
    lines += layout.table(
        ["currency", ">new", ">discount", ">credit"],
        [
            [
                row["currency"] or "none",
                f"{row['new_redemptions']:,}",
                amount(row["discount_amount"], row["currency"]),
                amount(row["credit_amount"], row["currency"]),
            ]
            for row in data["totals_by_currency"]
        ],
    )
    lines += layout.wrap(
        "List and net are of the bills a program touched; they are not added up over programs,"
        " since a bill can have two. % is discount and credit of list.",
    )
    return "\n".join(lines)


def tell_budget(data: Row) -> str:
    """Lay out budgets as text: what is left after amounts given and expected."""
    from dagster_project.answers.programs import BUDGET_AMOUNTS

    about = f"program {data['program']}" if data["program"] else "all programs"
    months = [month(data[name]) for name in ("first_month", "last_month")]
    when = months[0] if data["month"] else f"{months[0]} to {months[1]}"
    lines = layout.heading(f"Budget of {about}, {when}", data)
    if not data["budgets"]:
        return "\n".join([*lines, "", "Nothing was budgeted, given or expected."])
    heads = [">budget", ">given", ">expected", ">left"]
    for program, currency in dict.fromkeys(
        (row["program"], row["currency"]) for row in data["budgets"]
    ):
        found = [
            row
            for row in data["budgets"]
            if (row["program"], row["currency"]) == (program, currency)
        ]
        totals = [
            row
            for row in data["totals"]
            if (row["program"], row["currency"]) == (program, currency)
        ]
        lines += ["", f"{program}, {clean(currency)}"]
        lines += layout.table(
            ["month", *heads],
            [
                [
                    month(row["budget_month"]) if "budget_month" in row else "total",
                    *(amount(row[one], currency) for one in BUDGET_AMOUNTS),
                ]
                for row in [*found, *totals]
            ],
        )
        without = sum(row["budget_amount"] is None for row in found)
        if totals and without:
            lines += layout.wrap(
                f"total: the {count(totals[0]['months'], 'month')} with a budget", "  "
            )
        elif not totals:
            lines += layout.wrap("no budget was delivered for these months", "  ")
    lines += layout.wrap(
        "given: discounts and credit of the month's bills; expected: those of bills still to come;"
        " left: budget less both, below zero if the budget is exceeded."
    )
    return "\n".join(lines)


def _title(currency: str | None, is_cut: bool) -> str:
    name = clean(currency) if currency else "Redemptions without a currency yet"
    return f"{name}, the last {_MONTHS} months" if is_cut else name
