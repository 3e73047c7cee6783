"""`findings`: what billing got wrong as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.answers import words
from dagster_project.answers.values import amount, count, day
from dagster_project.cli import layout
from dagster_project.cli.options import (
    HomeOption,
    JsonOption,
    ReleaseOption,
    explained,
    settings_of_home,
)
from dagster_project.cli.reading import MonthOption, answer, opened
from dagster_project.cli.terms import tell_changed

if TYPE_CHECKING:
    from dagster_project.answers.asking import Row


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
    month: MonthOption = None,
    limit: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="How many to list, by currency, the most at stake first."
        ),
    ] = 20,
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """List what billing got wrong, with totals."""
    from dagster_project.answers import asking, terms
    from dagster_project.answers import findings as audit
    from dagster_project.releases.files import is_what_if
    from dagster_project.releases.questions import recorded_release

    with opened(home, release) as connection:
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
            "month": month,
        }
        data = audit.findings(connection, wanted, limit)
        data["terms_changed"] = []
        if any(row["finding_type"] == "coupon_terms_changed" for row in data["totals_by_type"]):
            folder = settings_of_home(home).home
            of_record = data["release_id"]
            if release is not None and is_what_if(release):  # its findings are those of the record
                of_record = recorded_release(folder, release)
            if of_record is not None:
                with explained():
                    data["terms_changed"] = terms.changed(folder, of_record)
        answer(data, tell, json)


def tell(data: Row) -> str:
    """Lay out the findings as text."""
    filtered = ", ".join(data["filters"].values())
    title = count(data["total"], "billing error")
    lines = layout.heading(title + (f" ({filtered})" if filtered else ""), data)
    if not data["total"]:
        return "\n".join(lines)
    is_reviewed, review = _reviewed(data["totals_by_type"])
    lines += ["", "By type", *by_type(data["totals_by_type"])]
    lines += ["", "By currency"]
    lines += layout.table(
        ["currency", *review, ">number", ">at stake"],
        [
            [
                row["currency"] or "none",
                *([row["review_status"]] if is_reviewed else []),
                f"{row['findings']:,}",
                amount(row["amount_at_stake"], row["currency"]),
            ]
            for row in data["totals_by_currency"]
        ],
    )
    changed = tell_changed(data["terms_changed"])
    lines += ["", *changed] if changed else []
    shown = len(data["findings"])
    lines += ["", "Findings by currency, the most at stake first"]
    for row in data["findings"]:
        where = f"  {row['workspace_id']}" if row["workspace_id"] else ""
        lines += layout.wrap(f"{day(row['occurred_at'])}{where}  {row['finding_id']}", "  ")
        lines += layout.wrap(row["description"], "    ")
        if not words.is_open(row):
            lines += layout.wrap(words.accepted(row), "    ")
    if shown < data["total"]:
        lines += ["", f"and {data['total'] - shown:,} more: --limit N lists more of them"]
    return "\n".join(lines)


def by_type(totals: Sequence[Row]) -> list[str]:
    """Return a table of number and amount at stake by type and currency."""
    is_reviewed, review = _reviewed(totals)
    return layout.table(
        ["type", "severity", *review, ">number", ">at stake", ""],
        [
            [
                row["finding_type"],
                row["severity"],
                *([row["review_status"]] if is_reviewed else []),
                f"{row['findings']:,}",
                amount(row["amount_at_stake"], row["currency"]),
                row["currency"] or "",
            ]
            for row in totals
        ],
    )


def _reviewed(totals: Sequence[Row]) -> tuple[bool, list[str]]:
    """Return the heading of the column that says which findings are accepted, if any finding is."""
    is_reviewed = any(not words.is_open(row) for row in totals)
    return is_reviewed, ["review"] if is_reviewed else []
