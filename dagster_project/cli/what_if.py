"""`what-if`: a question about other terms, asked and answered as text."""

from __future__ import annotations

import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.answers.values import amount, clean, count, signed
from dagster_project.cli import layout
from dagster_project.cli.options import (
    HomeOption,
    JsonOption,
    explained,
    settings_of_home,
    wrong,
)
from dagster_project.cli.reading import answer

if TYPE_CHECKING:
    from dagster_project.answers.asking import Row
    from dagster_project.refresh.concerned import Calculated

_LABELS = {
    "list_amount": "list",
    "discount_amount": "discounts",
    "credit_amount": "credit",
    "net_amount": "net",
}


def what_if(
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What to call the answer.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Changed rows: .csv, .yaml or .json."),
    ] = None,
    coupon: Annotated[
        str | None, typer.Option(metavar="ID", help="One coupon to change instead of a file.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="COLUMN=VALUE", help="A column of it; may be repeated."),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="YYYY-MM-DD",
            help="Only bills issued from this day on; earlier ones stay as recorded.",
        ),
    ] = None,
    remove: Annotated[
        str | None,
        typer.Option("--remove", metavar="NAME", help="Remove an answer; ask nothing."),
    ] = None,
    top: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many workspaces of each currency.")
    ] = 10,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Calculate history and outlook under other terms."""
    from dagster_project.answers import what_if as answers
    from dagster_project.refresh import changes as given
    from dagster_project.refresh import what_if as asking
    from dagster_project.releases.errors import NoRelease

    if remove is not None:
        _remove(home, remove, is_alone=not (name or file or coupon or set_ or from_))
        return
    if name is None:
        wrong("Give the answer a name with --name NAME: --release what-if/NAME then reads it.")
    if (file is None) == (coupon is None) or bool(set_) != (coupon is not None):
        wrong("Give a FILE of changed rows, or one coupon with --coupon ID --set COLUMN=VALUE.")
    settings = settings_of_home(home)
    try:
        if coupon is not None:
            changes = given.of_coupon(coupon, set_ or [])
        else:
            assert file is not None
            changes = given.read(file)
        with (
            explained(),
            redirect_stdout(sys.stderr if json else sys.stdout),
            asking.prepared(
                settings,
                name,
                changes,
                None if from_ is None else given.checked_day(from_),
                _tell_waiting,
            ) as question,
        ):
            # With --json standard output has the answer and nothing else.
            for line in layout.wrap(f"What if: {'; '.join(question.question.terms)}", "", "  "):
                print(line, flush=True)
            began = time.monotonic()
            _tell_calculated(asking.answer(question), time.monotonic() - began)
    except (given.WrongTerms, NoRelease) as error:
        wrong(str(error))
    asked = question.question
    with explained():
        data = answers.what_if(
            settings.home,
            asked.recorded_release_id,
            asked.release_id,
            name,
            list(asked.terms),
            top,
        )
        answer(data, tell, json)


def _tell_waiting(message: str) -> None:
    print(f"{message} The question is asked when it has ended.", file=sys.stderr, flush=True)


def _tell_calculated(calculated: Calculated, seconds: float) -> None:
    """Print one line with the time taken and what was calculated."""
    workspaces = count(calculated.workspaces, "workspace")
    print(
        f"  calculated {seconds:6.1f} s  {workspaces} affected: {count(len(calculated.models), 'model')}"
        f" run, {count(calculated.tests, 'data test')} passed",
        flush=True,
    )


def _remove(home: Path | None, name: str, *, is_alone: bool) -> None:
    """Remove an answer.

    Raises:
        Exit: There is no answer of that name, or a question is asked too (2); it is being calculated (1).
    """
    from dagster_project.releases.retention import remove_what_if

    if not is_alone:
        wrong("--remove NAME goes alone: it asks nothing.")
    settings = settings_of_home(home)
    with explained():
        removed = remove_what_if(settings.home, name)
    print(f"removed   {removed}")


def tell(data: Row) -> str:
    """Lay out the bridge from recorded amounts to those under other terms as text."""
    lines = layout.heading(f"What if: {data['name']}", data)
    lines += layout.wrap(
        f"Read it with --release what-if/{data['name']}. Findings are those of the recorded release:"
        " bills are judged by the terms that are recorded.",
    )
    for part in data["currencies"]:
        lines += ["", *_of_currency(part)]
    programs = [row for row in data["programs"] if _is_moved(row)]
    lines += [
        "",
        *layout.wrap(
            "By program, as recorded and what if (list and net: of the bills it gives something on;"
            " expected: what it gives in the next 12 months)"
        ),
    ]
    if programs:
        lines += layout.table(
            ["program", "", "", ">recorded", ">what if", ">change"],
            [
                [row["program"], row["currency"], label, *_change(row[one], row["currency"])]
                for row in programs
                for one, label in {**_LABELS, "expected_amount": "expected"}.items()
                if row[one]["recorded"] or row[one]["what_if"]
            ],
        )
    else:
        lines += ["  no program gives more or less"]
    lines += ["", "Workspaces whose net moves most (expected: in the next 12 months)"]
    if data["workspaces"]:
        lines += layout.table(
            ["workspace", "~name", ">past", ">expected", ""],
            [
                [
                    row["workspace_id"],
                    row["workspace_name"] or "",
                    signed(row["past_net_change"], row["currency"]),
                    signed(row["expected_net_change"], row["currency"]),
                    row["currency"],
                ]
                for row in data["workspaces"]
            ],
        )
    else:
        lines += ["  none: no bill, past or expected, would be different"]
    return "\n".join(lines)


def _of_currency(part: Row) -> list[str]:
    code = part["currency"]
    body = [
        [when, label, *_change(part[key][one], code)]
        for key, when in (("past", "so far"), ("ahead", "next 12 months"))
        for one, label in _LABELS.items()
    ]
    body.append(["credit lapsed or lapsing", "", *_change(part["lapsing"], code)])
    return [
        f"{clean(code)}, before tax",
        *layout.table(["", "", ">recorded", ">what if", ">change"], body),
    ]


def _change(change: Row, code: str) -> list[str]:
    return [
        amount(change["recorded"], code),
        amount(change["what_if"], code),
        signed(change["change"], code),
    ]


def _is_moved(row: Row) -> bool:
    return any(row[one]["change"] for one in (*_LABELS, "expected_amount"))
