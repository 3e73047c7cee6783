"""`check`: what a run would make of a file or folder, as text; the trial is `refresh.checking`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dagster_project.answers.values import clean, count
from dagster_project.cli import layout
from dagster_project.cli.options import JsonOption, complain, settings_from, wrong
from dagster_project.cli.reading import answer

if TYPE_CHECKING:
    from dagster_project.answers.asking import Row


def check(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file, a folder of parts, or a landing folder.")
    ],
    feed: Annotated[
        str | None,
        typer.Option(metavar="F", help="The feed. [default: from the folder's or file's name]"),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show what a run would make of a file, without a data home.

    Ends with exit code 1 if anything would be refused or rejected.
    """
    from dagster_project.arrival.report import ArrivalError
    from dagster_project.feeds import feeds
    from dagster_project.refresh import checking

    if feed is not None and feed not in feeds():
        wrong(f"There is no feed {feed!r}; use one of: {', '.join(feeds())}.")
    settings = settings_from(None)
    try:
        found = checking.check(path, feed, settings)
    except checking.NotCheckable as error:
        wrong(f"{error}.")
    except (ArrivalError, OSError) as error:
        complain(f"Nothing was checked: {error}")
        raise typer.Exit(1) from None
    answer(found, tell, json)
    if not found["is_accepted"]:
        raise typer.Exit(1)


def tell(data: Row) -> str:
    """Lay out what would become of each file as text."""
    from dagster_project.answers.deliveries import parts_together

    lines: list[str] = []
    for first, *others in parts_together(data["files"], _refusal):
        lines += [*layout.wrap(_verdict(first, len(others))), *_details(first), ""]
    if not data["files"]:
        lines += ["A run would take none of these files.", ""]
    lines.append(
        "Nothing would be refused or rejected."
        if data["is_accepted"]
        else "Not everything would be accepted: correct what is named above and check again."
    )
    return "\n".join(lines)


def _refusal(file: Row) -> tuple[object, ...] | None:
    """Return what refused parts of a folder must have in common to be reported together."""
    return (file["reason"], file["remedy"]) if file["verdict"] == "refused" else None


def _verdict(file: dict[str, Any], others: int) -> str:
    name = f"{clean(file['file_name'])} ({file['feed']})"
    if others:
        name = f"{clean(file['file_name'])} and {count(others, 'other part')} ({file['feed']})"
    if file["verdict"] == "refused":
        return f"{name}: REFUSED as a whole. {clean(str(file['reason']))}"
    if file["verdict"] == "known":
        return f"{name}: the same bytes as {clean(file['same_as'])}, so it adds nothing"
    fates = [f"{file['accepted_rows']:,} accepted"]
    fates += [
        f"{file[f'{fate.lower()}_rows']:,} {fate}"
        for fate in ("superseded", "duplicate", "REJECTED")
        if file[f"{fate.lower()}_rows"]
    ]
    return f"{name}: {count(file['rows'], 'row')}, {', '.join(fates)}"


def _details(file: dict[str, Any]) -> list[str]:
    from dagster_project.refresh import checking

    lines: list[str] = []
    if file["verdict"] == "refused":
        lines += layout.wrap(f"What to do: {clean(str(file['remedy']))}", "  ", "    ")
    for alike in _together(file["rejections"]):
        lines += layout.wrap(clean(_rejection(alike)), "  ", "    ")
    for one in checking.gate_beyond(file):
        line = f"check failed ({one['severity']}): {one['check']}, {one['observed']}"
        lines += layout.wrap(clean(line), "  ", "    ")
    if file["notes"]:
        lines += layout.wrap(f"Note: {clean(file['notes'])}", "  ", "    ")
    return lines


def _together(rejections: list[Row]) -> list[list[Row]]:
    """Put the missing columns of as many rows, from the same row on, together in one group."""
    from dagster_project.refresh.checking import is_missing

    groups: dict[tuple[object, ...], list[Row]] = {}
    for one in rejections:
        key = (is_missing(one) or one["reason"], one["rows"], one["first_row"])
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def _rejection(alike: list[Row]) -> str:
    """Return a line on one reason, or on all columns of a group, each of which is missing."""
    one = alike[0]
    where = f"{count(one['rows'], 'row')}, first row {one['first_row']:,}"
    if len(alike) > 1:
        columns = ", ".join(str(other["column"]) for other in alike)
        return f"no value in {len(alike)} columns: {where} in each: {columns}"
    value = f", which has {one['value'][:60]!r}" if one["value"] is not None else ""
    # A reason such as `amount is not FORM` already names the expected form.
    expected, form = one["expected"] or "", one["reason"].partition(" is not ")[2]
    if form:
        expected = expected.removeprefix(f"expected: {form}").removeprefix("; ")
    return f"{one['reason']}: {where}{value}" + (f"; {expected}" if expected else "")
