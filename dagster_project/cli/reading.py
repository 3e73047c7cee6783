"""The reading commands: their options, and nothing else that costs time before it is needed.

Exit codes: 0 answered, 1 the release cannot be read, 2 what was asked for does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dagster_project.cli.options import (
    HomeOption,
    JsonOption,
    ReleaseOption,
    explained,
    settings_of_home,
    wrong,
)

if TYPE_CHECKING:
    from dagster_project.answers.asking import Connection

TargetArgument = Annotated[
    str | None,
    typer.Argument(metavar="[WS|PROGRAM]", help="A workspace or a program. [default: all]"),
]
ProgramOption = Annotated[
    str | None, typer.Option("--program", metavar="P", help="Only this program.")
]
MonthOption = Annotated[str | None, typer.Option("--month", metavar="YYYY-MM", help="This month.")]


def workspace(
    workspace_id: Annotated[str, typer.Argument(metavar="WS", help="The workspace.")],
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """Tell what is, was and will be on an account."""
    from dagster_project.answers import asking
    from dagster_project.answers import workspace as account

    with _opened(home, release) as connection:
        found = asking.workspace(connection, workspace_id)
        _answer(account.account(connection, found), account.tell, json)


def explain(
    invoice_id: Annotated[str, typer.Argument(metavar="INVOICE", help="The invoice.")],
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """Explain step by step why a charge is what it is."""
    from dagster_project.answers import asking
    from dagster_project.answers import explain as charge

    with _opened(home, release) as connection:
        found = asking.invoice(connection, invoice_id)
        _answer(charge.charge(connection, found), charge.tell, json)


def burndown(
    target: TargetArgument = None,
    home: HomeOption = None,
    release: ReleaseOption = None,
    months: Annotated[int, typer.Option(min=1, help="How many months to show.")] = 24,
    json: JsonOption = False,
) -> None:
    """Show how credit is used up, month by month."""
    from dagster_project.answers import asking
    from dagster_project.answers import burndown as credit

    with _opened(home, release) as connection:
        about = asking.target(connection, target)
        _answer(credit.burndown(connection, *about, months), credit.tell, json)


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

    with _opened(home, release) as connection:
        about = asking.target(connection, target)
        _answer(percent_off.variance(connection, *about, month), percent_off.tell, json)


def findings(
    type: Annotated[  # noqa: A002 (it names the option)
        str | None, typer.Option("--type", metavar="T", help="Only findings of this type.")
    ] = None,
    severity: Annotated[
        str | None, typer.Option("--severity", metavar="S", help="Only error, or only warn.")
    ] = None,
    workspace: Annotated[
        str | None, typer.Option("--workspace", metavar="WS", help="Only this workspace.")
    ] = None,
    review: Annotated[
        str | None, typer.Option("--review", metavar="R", help="Only open, or only accepted.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to list, largest first.")] = 20,
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """List what billing got wrong, with totals."""
    from dagster_project.answers import asking, words
    from dagster_project.answers import findings as audit

    with _opened(home, release) as connection:
        if type is not None:
            asking.must_be("type of finding", type, words.FINDING_TYPES)
        if severity is not None:
            asking.must_be("severity", severity, words.SEVERITIES)
        if review is not None:
            asking.must_be("review", review, words.REVIEWS)
        if workspace is not None:
            asking.workspace(connection, workspace)
        wanted = {
            "finding_type": type,
            "severity": severity,
            "workspace_id": workspace,
            "review_status": review,
        }
        _answer(audit.findings(connection, wanted, limit), audit.tell, json)


def expiring(
    within_months: Annotated[
        int, typer.Option("--within-months", metavar="N", min=1, max=12, help="1 to 12.")
    ] = 12,
    program: ProgramOption = None,
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """List promotions that end next, and the rise to expect."""
    from dagster_project.answers import asking
    from dagster_project.answers import expiring as outlook

    with _opened(home, release) as connection:
        if program is not None:
            asking.program(program)
        _answer(outlook.expiring(connection, within_months, program), outlook.tell, json)


def programs(
    program: ProgramOption = None,
    month: MonthOption = None,
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """Show what each program gives."""
    from dagster_project.answers import asking
    from dagster_project.answers import programs as performance

    with _opened(home, release) as connection:
        if program is not None:
            asking.program(program)
        _answer(performance.programs(connection, program, month), performance.tell, json)


def export(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write to.")],
    format: Annotated[  # noqa: A002 (it names the option)
        str, typer.Option("--format", metavar="F", help="xlsx, csv or parquet.")
    ] = "xlsx",
    table: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="T", help="Only this table; may be repeated."),
    ] = None,
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """Write the marts to files, with a data dictionary."""
    from dagster_project.answers import asking
    from dagster_project.answers import export as files

    with _opened(home, release) as connection:
        asking.must_be("format", format, files.FORMATS)
        _answer(files.export(connection, format, table or [], out), files.tell, json)


COMMANDS: tuple[Callable[..., None], ...] = (
    workspace,
    explain,
    burndown,
    variance,
    findings,
    expiring,
    programs,
    export,
)


def register(app: typer.Typer) -> None:
    """Add the reading commands to the command line; loads nothing but their signatures."""
    for command in COMMANDS:
        app.command()(command)


@contextmanager
def _opened(home: Path | None, release: str | None) -> Iterator[Connection]:
    """The release to read; what cannot be answered becomes its message and an exit code."""
    from dagster_project.answers.asking import NotThere
    from dagster_project.releases.read import reading

    settings = settings_of_home(home)
    try:
        with explained(), reading(settings.home, release) as connection:
            yield connection
    except NotThere as error:
        wrong(str(error))


def _answer(data: dict[str, Any], tell: Callable[[dict[str, Any]], str], json: bool) -> None:
    from dagster_project.answers import layout

    layout.show(layout.as_json(data) if json else tell(data))
