"""The commands of month close: their options, and nothing else that costs time before it is needed.

Exit codes: 0 done, 1 it cannot be done, 2 what was asked for does not exist or make sense.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.cli.options import HomeOption, JsonOption, explained, settings_of_home, wrong

if TYPE_CHECKING:
    from datetime import date

MonthArgument = Annotated[str, typer.Argument(metavar="MONTH", help="The month, as YYYY-MM.")]
ByOption = Annotated[str, typer.Option("--by", metavar="NAME", help="Who does this.")]


def register_closing(app: typer.Typer) -> None:
    """Add `close`, `reopen` and `closes` to the command line."""
    for command in (close, reopen, closes):
        app.command()(command)


def close(
    month: MonthArgument,
    by: ByOption,
    release: Annotated[
        str | None,
        typer.Option("--release", metavar="ID", help="The release. [default: the one served]"),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Certify a release for an accounting month; it is kept for ever."""
    from dagster_project import releases
    from dagster_project.answers.layout import clean
    from dagster_project.releases.restatements import unlisted

    with _asked(home, month) as (folder, first_day):
        closing = releases.close(
            folder, first_day, by=by, now=datetime.now(UTC), release_id=release
        )
        served = releases.current_release(folder)
        differing = unlisted(folder, served).get(first_day, 0) if served else 0
    print(
        f"{closing.month_name} is closed with release {closing.release_id}, by {clean(closing.by)}."
    )
    print("Later releases list in marts.fct_restatements what has changed since.")
    if differing:
        amounts = f"{differing:,} amounts" if differing > 1 else "1 amount"
        print(
            f"In the release served, {served}, {amounts} of {closing.month_name}"
            f" {'differ' if differing > 1 else 'differs'} from it: `coupon-ledger run` makes one"
            " that lists what has changed."
        )


def reopen(
    month: MonthArgument,
    by: ByOption,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")],
    home: HomeOption = None,
) -> None:
    """Take back the close of a month; recorded, and its release is kept all the same."""
    from dagster_project import releases
    from dagster_project.answers.layout import clean

    with _asked(home, month) as (folder, first_day):
        closing = releases.reopen(folder, first_day, by=by, now=datetime.now(UTC), reason=reason)
    print(
        f"{closing.month_name} is open again, by {clean(closing.by)}; release {closing.release_id} is kept."
    )


def closes(home: HomeOption = None, json: JsonOption = False) -> None:
    """List what was closed and reopened, by whom and when."""
    from dagster_project import as_data, releases, summary
    from dagster_project.answers import layout

    with _asked(home) as (folder, _):
        entries = releases.register(folder)
        closed = releases.closed_months(folder)
        restated, listed = "", []
        served = releases.current_release(folder)
        if closed and served:
            with releases.open_release(folder, served) as connection:
                restated = summary.restated(connection)
                listed = as_data.restatements(connection) if json else []
            restated = restated or f"No amount of them has changed in the release served, {served}."
    if json:
        layout.show_json(as_data.closes(entries, closed, served, listed))
        return
    if not entries:
        print("No month has been closed: coupon-ledger close YYYY-MM --by NAME")
        return
    for entry in entries:
        mark = "*" if closed.get(entry.month) == entry else " "
        at = f"{entry.at:%Y-%m-%d %H:%M} UTC"
        print(f"{mark} {entry.month_name}  {entry.event:<8}  {at}  {layout.clean(entry.by)}")
        print(f"      release {entry.release_id}")
        if entry.reason:
            print(f"      reason: {layout.clean(entry.reason)}")
    print("\n* holds now" if closed else "\nNo month is closed now.")
    if restated:
        print(f"\n{restated}")


@contextmanager
def _asked(home: Path | None, month: str | None = None) -> Iterator[tuple[Path, date]]:
    """The data home and the month; what is wrong becomes its message and an exit code."""
    from datetime import date

    from dagster_project.releases.closing import parse_month

    settings = settings_of_home(home)
    try:
        first_day = date.min if month is None else parse_month(month)
    except ValueError as error:
        wrong(str(error))
    with explained():
        yield settings.home, first_day
