"""`close`, `reopen` and `closes`: certify a month, take that back, list both as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.answers.values import amount, clean, count, moment, money, signed
from dagster_project.answers.values import month as month_name
from dagster_project.cli import layout
from dagster_project.cli.options import HomeOption, JsonOption, explained, settings_of_home, wrong
from dagster_project.cli.reading import answer

if TYPE_CHECKING:
    from datetime import date

    from dagster_project.answers.asking import Connection, Row

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
    with_open_findings: Annotated[
        bool,
        typer.Option(
            "--with-open-findings", help="Close it although findings of severity error are open."
        ),
    ] = False,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why it is closed with open findings.")
    ] = "",
    home: HomeOption = None,
) -> None:
    """Show an accounting month and certify a release for it.

    The release is retained for ever; what changes later is listed in marts.fct_restatements.
    """
    from dagster_project import releases
    from dagster_project.answers import closes as closed
    from dagster_project.releases.closing import pack_of
    from dagster_project.releases.restatements import unlisted

    if reason and not with_open_findings:
        wrong("--reason is for a close with open findings: add --with-open-findings.")
    with _asked(home, month) as (folder, first_day):
        wanted = releases.check_closable(folder, first_day, release)
        with releases.open_release(folder, wanted) as connection:
            layout.show(tell_month(closed.month_to_close(connection, first_day)))
        closing = releases.close(
            folder,
            first_day,
            by=by,
            now=datetime.now(UTC),
            release_id=wanted,
            with_open_findings=with_open_findings,
            reason=reason,
            pack=partial(_pack, folder, closed_month=month),
        )
        pack = pack_of(folder, closing)
        current = releases.current_release(folder)
        differing = unlisted(folder, current).get(first_day, 0) if current else 0
    print(
        f"\n{closing.month_name} is closed with release {closing.release_id}, by {clean(closing.by)}."
    )
    if closing.open_errors:
        print(
            f"Recorded: {count(closing.open_errors, 'open finding')} of severity error, and the reason."
        )
    if pack is not None:
        print(f"Close pack: {clean(pack)}")
    print("Later releases list in marts.fct_restatements what has changed since.")
    if differing:
        print(
            f"In the current release, {current}, {count(differing, 'value')} of {closing.month_name}"
            f" {'differ' if differing > 1 else 'differs'} from it: `coupon-ledger run` makes a release"
            " that lists what has changed."
        )


def _pack(home: Path, connection: Connection, folder: Path, *, closed_month: str) -> dict[str, str]:
    """Write the report and the workbook of a month into a folder.

    Args:
        home: The data home.
        connection: The release that certifies it.
        folder: Where to write.
        closed_month: The month, as YYYY-MM; if it has no bills, the files are about all months.

    Returns:
        The files left out, with the reason: a release of an earlier version may lack what they need.
    """
    import duckdb

    from dagster_project.answers.asking import NotThere
    from dagster_project.answers.export import Narrowing, export, narrowing
    from dagster_project.dashboard.report import report
    from dagster_project.releases.files import REPORT_NAME

    def write_report() -> None:
        try:
            text = report(connection, closed_month, home=home)
        except NotThere:
            text = report(connection, home=home)
        (folder / REPORT_NAME).write_text(text, "utf-8")

    def write_workbook() -> None:
        try:
            only = narrowing(connection, closed_month, None, None)
        except NotThere:
            only = Narrowing()
        export(connection, "xlsx", [], folder, only)

    left_out = {}
    for name, write in (("report", write_report), ("workbook", write_workbook)):
        try:
            write()
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            left_out[name] = str(error).splitlines()[0]
    return left_out


def tell_month(data: Row) -> str:
    """Lay out as text what closing a month certifies: charges, credit, open errors."""
    lines = layout.heading(f"Charges of {month_name(data['month'])}", data)
    steps = [
        ("list_amount", "list", 1),
        ("discount_amount", "discounts", -1),
        ("credit_amount", "credit", -1),
        ("net_amount", "net, before tax", 1),
        ("billing_error_amount", "billing errors", 0),
        ("billed_net_amount", "billed, before tax", 1),
    ]
    if any("credited_amount" in row for row in data["charges"]):
        steps += [
            ("credited_amount", "credit notes", -1),
            ("billed_net_after_notes_amount", "kept, before tax", 1),
        ]
    lines += ["", *(_by_currency(data["charges"], "invoices", steps) or ["  no invoice counts"])]
    roll_forward = (
        ("opening_amount", "credit at the start", 1),
        ("granted_amount", "granted", 0),
        ("drawn_amount", "drawn", -1),
        ("expired_amount", "expired", -1),
        ("forfeited_amount", "forfeited", -1),
        ("closing_amount", "credit at the end", 1),
    )
    if data["credit"]:
        lines += ["", "Credit", *_by_currency(data["credit"], "grants", roll_forward)]
    lines += ["", f"Open findings of severity error in the month: {data['open_errors'] or 'none'}"]
    return "\n".join(lines)


def _by_currency(
    found: Sequence[Row], counted: str, steps: Sequence[tuple[str, str, int]]
) -> list[str]:
    """Return a table with a column for each currency; a step of sign 0 is a change, -1 a deduction."""
    if not found:
        return []

    def cell(row: Row, name: str, sign: int) -> str:
        if sign == 1 or not row[name]:
            return amount(row[name], row["currency"])
        return signed(-row[name] if sign < 0 else row[name], row["currency"])

    return layout.table(
        ["", *(f">{row['currency']}" for row in found)],
        [
            [counted, *(f"{row[counted]:,}" for row in found)],
            *([label, *(cell(row, name, sign) for row in found)] for name, label, sign in steps),
        ],
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
    """Lay out closes and reopenings as text, oldest first, and what has changed since."""
    if not data["entries"]:
        return "No month has been closed: coupon-ledger close YYYY-MM --by NAME"
    lines = []
    for entry in data["entries"]:
        mark = "*" if entry["holds_now"] else " "
        at = moment(entry["at"])
        lines.append(f"{mark} {entry['month']}  {entry['event']:<8}  {at}  {clean(entry['by'])}")
        lines.append(f"      release {entry['release_id']}")
        if entry["pack"]:
            lines.append(f"      pack {Path(entry['pack']).name}")
        if entry["open_errors"]:
            errors = count(entry["open_errors"], "finding")
            lines.append(f"      with {errors} of severity error open")
        if entry["reason"]:
            lines += layout.wrap(f"reason: {entry['reason']}", "      ")
    lines += ["", "* in force" if data["closed_months"] else "No month is closed now."]
    if data["closed_months"] and data["release_id"]:
        restated = tell_restated(data["restated"], data["moved"]) or layout.wrap(
            "No amount of the closed months has changed in the current release,"
            f" {data['release_id']}."
        )
        lines += ["", *restated]
    return "\n".join(lines)


def tell_restated(restated: Sequence[Row], moved: Row) -> list[str]:
    """Lay out what has changed in closed months as text; nothing if nothing has.

    Each delivery is listed with the number of amounts it is known to have changed.

    Args:
        restated: As `answers.closes.restatements` returns it.
        moved: As `answers.closes.moves` returns it.
    """
    if not restated:
        return []
    from dagster_project.answers.closes import months_restated

    body = []
    for row in months_restated(restated):
        net = signed(row["net_delta_amount"], row["currency"])
        body.append([row["closed_month"], row["currency"], f"{row['amounts']:,}", net, ""])
        body += [
            ["", "", f"{file['amounts']:,}", "", f"from {file['file_name']}"]
            for file in row["files"][:_MOST_FILES]
        ]
        if more := row["files"][_MOST_FILES:]:
            files = count(len(more), "other file")
            body.append(["", "", f"{sum(file['amounts'] for file in more):,}", "", f"from {files}"])
    lines = ["Changed in closed months"]
    if body:
        lines += layout.table(["month", "", ">amounts", ">net charges", "~"], body)
    lines += _tell_moved(moved)
    return [*lines, "  one by one in marts.fct_restatements"]


def _tell_moved(moved: Row) -> list[str]:
    """Lay out rows that are counted elsewhere now; what else changed on them is among the amounts."""
    lines = []
    for row in moved["listed"]:
        of = f"bill {row['record_key']}"
        if row["table_name"] != "fct_discounted_charges":
            of = f"{row['table_name']} {row['record_key']}"
        net = (
            ""
            if row["net_amount"] is None
            else f", {money(row['net_amount'], row['currency'])} net"
        )
        file = f", from {row['file_name']}" if row["file_name"] else ""
        what = row["column_name"].removesuffix("_id")
        lines += layout.wrap(
            f"{row['closed_month']}  {of}{net}: {what} {row['closed_value'] or 'none'} →"
            f" {row['current_value'] or 'none'}{file}",
            "  ",
            "           ",
        )
    more = moved["total"] - len(moved["listed"])
    if more:
        lines.append(f"  and {more:,} more that moved")
    if lines:
        lines.insert(
            0, "  Moved to another workspace, plan or subscription, which alone changes no total:"
        )
    return lines


@contextmanager
def _asked(home: Path | None, month: str | None = None) -> Iterator[tuple[Path, date]]:
    """Yield the data home and the month; turn an error into its message and exit code."""
    from datetime import date

    from dagster_project.releases.closing import parse_month

    settings = settings_of_home(home)
    try:
        first_day = date.min if month is None else parse_month(month)
    except ValueError as error:
        wrong(str(error))
    with explained():
        yield settings.home, first_day
