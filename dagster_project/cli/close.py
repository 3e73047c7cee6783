"""`close`, `reopen` and `closes`: certify a month, take that back, list both as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.answers.values import clean, count, moment, signed
from dagster_project.cli import layout
from dagster_project.cli.options import HomeOption, JsonOption, explained, settings_of_home, wrong
from dagster_project.cli.reading import answer

if TYPE_CHECKING:
    from datetime import date

    from dagster_project.answers.asking import Row

_MOST_FILES = 3

MonthArgument = Annotated[str, typer.Argument(metavar="MONTH", help="The month, as YYYY-MM.")]
ByOption = Annotated[str, typer.Option("--by", metavar="NAME", help="Your name, for the record.")]


def close(
    month: MonthArgument,
    by: ByOption,
    release: Annotated[
        str | None,
        typer.Option("--release", metavar="ID", help="The release. [default: current]"),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Certify a release for an accounting month.

    The release is retained for ever; what changes later is listed in marts.fct_restatements.
    """
    from dagster_project import releases
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
            f"In the current release, {served}, {amounts} of {closing.month_name}"
            f" {'differ' if differing > 1 else 'differs'} from it: `coupon-ledger run` makes one"
            " that lists what has changed."
        )


def reopen(
    month: MonthArgument,
    by: ByOption,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="The reason, for the record.")
    ],
    home: HomeOption = None,
) -> None:
    """Take back the close of a month; recorded.

    The release of the close is retained all the same.
    """
    from dagster_project import releases

    with _asked(home, month) as (folder, first_day):
        closing = releases.reopen(folder, first_day, by=by, now=datetime.now(UTC), reason=reason)
    print(
        f"{closing.month_name} is open again, by {clean(closing.by)}; release {closing.release_id} is retained."
    )


def closes(home: HomeOption = None, json: JsonOption = False) -> None:
    """List what was closed and reopened, by whom and when."""
    from dagster_project.answers import closes as closed

    with _asked(home) as (folder, _):
        data = closed.closes(folder)
    answer(data, tell, json)


def tell(data: Row) -> str:
    """Lay out what was closed and reopened as text, oldest first, and what has changed in it since."""
    if not data["entries"]:
        return "No month has been closed: coupon-ledger close YYYY-MM --by NAME"
    lines = []
    for entry in data["entries"]:
        mark = "*" if entry["holds_now"] else " "
        at = moment(entry["at"])
        lines.append(f"{mark} {entry['month']}  {entry['event']:<8}  {at}  {clean(entry['by'])}")
        lines.append(f"      release {entry['release_id']}")
        if entry["reason"]:
            lines += layout.wrap(f"reason: {entry['reason']}", "      ")
    lines += ["", "* in force" if data["closed_months"] else "No month is closed now."]
    if data["closed_months"] and data["release_id"]:
        restated = tell_restated(data["restated"]) or layout.wrap(
            "No amount of the closed months has changed in the current release,"
            f" {data['release_id']}."
        )
        lines += ["", *restated]
    return "\n".join(lines)


def tell_restated(restated: Sequence[Row]) -> list[str]:
    """Lay out what has changed in closed months as text; nothing if nothing has.

    A delivery is named with how many of the amounts it is known to be behind.

    Args:
        restated: As `answers.closes.restatements` gives it.
    """
    if not restated:
        return []
    months: dict[tuple[str, str], list[Row]] = {}
    for row in restated:
        months.setdefault((row["closed_month"], row["currency"]), []).append(row)
    body = []
    for (month, currency), rows in months.items():
        amounts = sum(row["amounts"] for row in rows)
        net = sum((row["net_delta_amount"] for row in rows), Decimal(0))
        body.append([month, currency, f"{amounts:,}", signed(net, currency), ""])
        known = sorted(
            (row for row in rows if row["file_name"] is not None),
            key=lambda row: (-row["amounts"], row["file_name"]),
        )
        body += [
            ["", "", f"{row['amounts']:,}", "", f"from {row['file_name']}"]
            for row in known[:_MOST_FILES]
        ]
        if len(known) > _MOST_FILES:
            more = known[_MOST_FILES:]
            files = count(len(more), "other file")
            body.append(["", "", f"{sum(row['amounts'] for row in more):,}", "", f"from {files}"])
    return [
        "Changed in closed months",
        *layout.table(["month", "", ">amounts", ">net charges", "~"], body),
        "  one by one in marts.fct_restatements",
    ]


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
