"""`cohorts`: programs by start quarter and age as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.answers.values import amount, quarter
from dagster_project.cli import layout
from dagster_project.cli.options import HomeOption, JsonOption, ReleaseOption
from dagster_project.cli.reading import ProgramOption, answer, opened

if TYPE_CHECKING:
    from dagster_project.answers.asking import Row


def cohorts(
    program: ProgramOption = None,
    age: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=120, help="In months. [default: 3, 6, 12 and 24]"),
    ] = None,
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """Show who stays, by program, start quarter and age."""
    from dagster_project.answers import asking
    from dagster_project.answers import cohorts as starts

    with opened(home, release) as connection:
        if program is not None:
            asking.program(program)
        answer(starts.cohorts(connection, program, age), tell, json)


def tell(data: Row) -> str:
    """Lay out the cohorts as text: how many pay, then what they were given, each at each age."""
    from dagster_project.answers.cohorts import AMOUNTS, COUNTS

    about = f"program {data['program']}" if data["program"] else "all programs"
    lines = layout.heading(f"Workspaces by the quarter in which they started, {about}", data)
    if not data["cohorts"]:
        return "\n".join([*lines, "", "No promotion has started yet."])
    for program in dict.fromkeys(row["program"] for row in data["cohorts"]):
        found = [row for row in data["cohorts"] if row["program"] == program]
        lines += ["", f"{program}: who pays at an age"]
        lines += layout.table(
            ["start", ">months", ">workspaces", ">paying", ">not paying", ">too early"],
            [
                [
                    quarter(row["start_quarter"]),
                    str(row["age_months"]),
                    *(f"{row[one]:,}" for one in COUNTS),
                ]
                for row in found
            ],
        )
        lines += ["", f"{program}: given and paid up to that age"]
        lines += layout.table(
            ["start", ">months", "", ">granted", ">used", ">lapsed", ">discounts", ">net"],
            [
                [
                    quarter(row["start_quarter"]),
                    str(row["age_months"]),
                    part["currency"],
                    *(amount(part[one], part["currency"]) for one in AMOUNTS),
                ]
                for row in found
                for part in row["amounts"]
            ],
        )
    lines += layout.wrap(
        "Paying: a bill above zero at least that many months after the start. Not paying: that old, and no"
        " such bill, also where credit pays all of it. Too early: not that old yet, and no such bill. Granted, used and lapsed are the program's credit; net is of all bills."
    )
    return "\n".join(lines)
