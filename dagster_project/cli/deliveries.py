"""`deliveries` and `rejected`: delivered files and rejected rows as text, as a page and as CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.answers.values import clean, count, day, moment
from dagster_project.cli import layout
from dagster_project.cli.options import HomeOption, JsonOption, ReleaseOption, complain, wrong
from dagster_project.cli.reading import answer, opened

if TYPE_CHECKING:
    from dagster_project.answers.asking import Connection, Row

_MOST_ROWS = 50
_MOST_FILES = 5
_MOST_SHOWN = 60
"""Characters of a value shown beside a reason."""


def deliveries(
    home: HomeOption = None,
    release: ReleaseOption = None,
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write an HTML page to send to the supplier."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List what was delivered and what became of it."""
    from dagster_project.answers import deliveries as delivered

    if page is not None and json:
        wrong("Give --page or --json, not both.")
    with opened(home, release) as connection:
        if page is not None:
            _write_page(connection, page)
        else:
            answer(delivered.deliveries(connection), tell, json)


def _write_page(connection: Connection, path: Path) -> None:
    from dagster_project.dashboard import supplier_page

    text = supplier_page.page(connection)
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        wrong(f"{path} cannot be written: {error.strerror}; name another file with --page.")
    print(f"Written to {path}")


def rejected(
    home: HomeOption = None,
    release: ReleaseOption = None,
    feed: Annotated[str | None, typer.Option(metavar="F", help="Only rows of this feed.")] = None,
    delivery: Annotated[
        str | None,
        typer.Option(metavar="D", help="Only rows of this delivery: its id, or part of its name."),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every rejected row to a CSV file."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List rejected rows with every reason."""
    from dagster_project.answers import asking
    from dagster_project.answers import deliveries as delivered
    from dagster_project.feeds import feeds

    if csv is not None and json:
        wrong("Give --csv or --json, not both.")
    with opened(home, release) as connection:
        if feed is not None:
            asking.must_be("feed", feed, feeds())
        if csv is not None:
            _write_csv(connection, csv, feed, delivery)
            return
        limit = None if json else _MOST_ROWS
        answer(delivered.rejected(connection, feed, delivery, limit), tell_rejected, json)


def _write_csv(connection: Connection, path: Path, feed: str | None, delivery: str | None) -> None:
    from dagster_project.answers.as_csv import write_csv
    from dagster_project.answers.deliveries import REJECTED_COLUMNS, rejected_rows

    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            found = rejected_rows(connection, feed, delivery)
            written, _ = write_csv(file, REJECTED_COLUMNS, found)
    except OSError as error:
        complain(f"{path} cannot be written: {error.strerror}; name another file with --csv.")
        raise typer.Exit(1) from None
    print(f"{written:,} rejected rows written to {path}")


def tell(data: Row) -> str:
    """Lay out the delivered files as text."""
    found = data["deliveries"]
    lines = layout.heading(f"{count(len(found), 'delivery', 'deliveries')}", data)
    lines.append("")
    lines += layout.table(
        ["arrived", "~file", ">accepted", ">superseded", ">duplicate", ">rejected"],
        [[day(row["arrived_at"]), _name(row), *_fate(row)] for row in found],
        indent="",
    )
    refused = [row for row in found if row["verdict"] == "refused"]
    if refused:
        lines.append("")
    for row in refused:
        lines += layout.wrap(f"Refused {_name(row)}: {row['refusal_reason']}", hanging="  ")
    noted = [row for row in found if row.get("notes")]
    if noted:
        lines.append("")
    for row in noted:
        lines += layout.wrap(f"Note on {_name(row)}: {row['notes']}", hanging="  ")
    names = Counter(part["file_name"] for row in found for part in row.get("parts") or [row])
    lines += _failed_checks(data["failed_checks"], names)
    return "\n".join(lines)


def _failed_checks(failed: list[Row], names: Mapping[str, int]) -> list[str]:
    """Lay out the checks that files did not pass, a paragraph per file.

    Args:
        failed: The checks, file by file.
        names: How many deliveries have each name; where there are several, their arrival is said, too.
    """
    of_file: dict[str, list[Row]] = {}
    for row in failed:
        of_file.setdefault(row["delivery_id"], []).append(row)
    lines = [""] if of_file else []
    for checks in list(of_file.values())[:_MOST_ROWS]:
        name = checks[0]["file_name"]
        if names[name] > 1:
            name += f", arrived {moment(checks[0]['arrived_at'])}"
        told = ", ".join(f"{row['name']} ({row['observed']})" for row in checks)
        lines += layout.wrap(f"Checks failed by {name}: {told}", hanging="  ")
    if len(of_file) > _MOST_ROWS:
        lines.append(f"and {len(of_file) - _MOST_ROWS:,} more files, in release.delivery_checks")
    return lines


def _name(row: Row) -> str:
    """Return the name of a file, or of a folder with how many parts it has."""
    parts = row.get("parts")
    return f"{row['file_name']} ({count(len(parts), 'part')})" if parts else str(row["file_name"])


def _fate(row: Row) -> list[str]:
    """Return what became of the rows of a file: accepted, superseded, duplicate and rejected."""
    if row["verdict"] == "refused":
        return ["refused", "", "", ""]
    names = ("accepted_rows", "superseded_rows", "duplicate_rows", "rejected_rows")
    return [f"{row[name]:,}" for name in names]


def tell_rejected(data: Row) -> str:
    """Lay out the rejected rows as text, after a count by reason."""
    lines = layout.heading(f"{count(data['total'], 'rejected row')}", data)
    if not data["total"]:
        return "\n".join(lines)
    lines += ["", "By reason"]
    lines += layout.table(
        [">rows", "feed", "|reason"],
        [[f"{row['rows']:,}", row["feed"], row["reason"]] for row in data["rows_by_reason"]],
    )
    for row in data["rejected_rows"]:
        lines += ["", *layout.wrap(f"{row['file_name']}, row {row['row_number']:,}")]
        reasons = [_with_value(reason, row["record"]) for reason in row["reasons"]]
        lines += layout.wrap("; ".join(reasons), "  ")
        lines.append(f"  {clean(row['record'])}")  # on one line, so it can be copied whole
    more = data["total"] - len(data["rejected_rows"])
    if more:
        lines += ["", f"and {more:,} more: --csv FILE writes all of them"]
    return "\n".join(lines)


def _with_value(reason: str, record: str) -> str:
    """Return a reason with the value it is about, if the record has it; personal data is never in a record."""
    try:
        values = loads(record)
    except ValueError:
        return reason
    value = values.get(reason.partition(" ")[0]) if isinstance(values, dict) else None
    if not isinstance(value, str):
        return reason
    shown = value if len(value) <= _MOST_SHOWN else f"{value[:_MOST_SHOWN]}…"
    return f"{reason}: {shown!r}"


def tell_rows_in(data: Row) -> list[str]:
    """Lay out what became of the delivered rows by feed, and the first refused and noted files."""
    names = ("files", "physical_rows", "accepted_rows", "superseded_rows", "duplicate_rows")
    lines = ["Rows in"]
    lines += layout.table(
        ["feed", ">files", ">rows", ">accepted", ">superseded", ">duplicate", ">rejected"],
        [
            [row["feed"], *(f"{row[name]:,}" for name in (*names, "rejected_rows"))]
            for row in data["rows_in"]
        ],
    )
    refused = data["refused_files"]
    if refused:
        lines.append(f"  {count(_files(refused), 'file')} refused, see `coupon-ledger deliveries`:")
        for row in refused[:_MOST_FILES]:
            lines += layout.wrap(f"{_name(row)}: {row['refusal_reason']}", "    ", "      ")
        if len(refused) > _MOST_FILES:
            lines.append(f"    and {_files(refused[_MOST_FILES:]):,} more")
    noted = data["noted_files"]
    if noted:
        lines.append(f"  Notes on {count(_files(noted), 'new file')}:")
        for row in noted[:_MOST_FILES]:
            lines += layout.wrap(f"{_name(row)}: {row['notes']}", "    ", "      ")
        if len(noted) > _MOST_FILES:
            lines.append(f"    and {_files(noted[_MOST_FILES:]):,} more")
    return lines


def _files(found: list[Row]) -> int:
    """Return the number of files, counting each part of a folder."""
    return sum(len(row.get("parts", [row])) for row in found)
