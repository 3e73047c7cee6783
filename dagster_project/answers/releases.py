"""`releases`, `verify` and `diff`: the releases retained, whether one is sound, how two of them differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from dagster_project import releases as store
from dagster_project.answers.asking import Row
from dagster_project.releases.closing import certified_releases
from dagster_project.releases.compare import CellDifference, TableDifference
from dagster_project.releases.files import read_history, resolve
from dagster_project.releases.questions import all_asked
from dagster_project.releases.read import ReleaseSummary, read_pedigree

TOTALS = ("list_amount", "discount_amount", "credit_amount", "net_amount")

_ZERO = Decimal("0.00")


def releases(home: Path) -> Row:
    """Return the retained releases, newest first, the history of events, oldest first, and the what-ifs.

    Each release has the changes of its rows and totals since the last readable release before it; None
    for the first.
    """
    retained = store.list_releases(home)
    certified = certified_releases(home)
    found = []
    for place, release in enumerate(retained):
        before = next((one for one in retained[place + 1 :] if not one.problem), None)
        is_compared = before is not None and not release.problem
        found.append(
            {
                "release_id": release.release_id,
                "is_current": release.is_current,
                "as_of_date": release.as_of_date,
                "created_at": release.created_at,
                "code_version": release.code_version,
                "rows": release.rows,
                "rows_change": release.rows - before.rows if before and is_compared else None,
                "closed_months": certified.get(release.release_id, []),
                "totals_by_currency": [
                    {"currency": currency, **dict(zip(TOTALS, amounts, strict=True))}
                    for currency, amounts in release.totals.items()
                ],
                "changes_by_currency": (
                    _changes(release, before) if before and is_compared else None
                ),
                "problem": release.problem or None,
            }
        )
    return {
        "releases": found,
        "current_release_id": store.served_release(home),
        "events": read_history(home),
        "what_ifs": [
            {
                "release_id": release_id,
                "is_answered": is_answered,
                "asked_at": question and question.asked_at,
                "recorded_release_id": question and question.recorded_release_id,
                "as_of_date": question and question.as_of_date,
                "terms": [] if question is None else list(question.terms),
                "terms_hold_from": question and question.terms_hold_from,
            }
            for release_id, question, is_answered in all_asked(home)
        ],
    }


def _changes(release: ReleaseSummary, before: ReleaseSummary) -> list[Row]:
    """Return the change of the totals in each currency that either release has."""
    nothing = (_ZERO,) * len(TOTALS)
    return [
        {
            "currency": currency,
            **{
                name: now - then
                for name, now, then in zip(
                    TOTALS,
                    release.totals.get(currency, nothing),
                    before.totals.get(currency, nothing),
                    strict=True,
                )
            },
        }
        for currency in sorted({*release.totals, *before.totals})
    ]


def verify(home: Path, release_id: str | None) -> Row:
    """Return whether the content of a release matches its own records.

    Args:
        home: The data home.
        release_id: The release; the current one by default.

    Raises:
        NoRelease: There is no such release.
    """
    found = store.verify(home, release_id)
    return {
        "release_id": found.release_id,
        "is_sound": not found.problems,
        "tables": found.tables,
        "checks": found.checks,
        "problems": list(found.problems),
    }


def diff(home: Path, before: str, after: str, table: str | None, limit: int) -> Row:
    """Return what differs between two releases, table by table.

    Args:
        home: The data home.
        before: The release to compare from.
        after: The release to compare with.
        table: Only this table, down to its cells.
        limit: How many cells to list.

    Raises:
        NoRelease: There is no such release.
    """
    both = [read_pedigree(home, resolve(home, one)) for one in (before, after)]
    found = store.diff(home, before, after, table)
    cells = None if table is None else store.diff_cells(home, before, after, table, limit + 1)
    return _differences(found, both, cells, limit)


def _differences(
    found: Sequence[TableDifference],
    both: Sequence[Mapping[str, Any]],
    cells: Sequence[CellDifference] | None,
    limit: int,
) -> Row:
    first, second = (
        {"release_id": one["release_id"], "as_of_date": one["as_of_date"]} for one in both
    )
    data: Row = {
        "before": first,
        "after": second,
        "is_equal": all(one.is_equal for one in found),
        "tables": [
            {
                "table_name": one.table_name,
                "rows_before": one.rows_before,
                "rows_after": one.rows_after,
                "added": one.added,
                "gone": one.gone,
                "changed": one.changed,
                "columns_added": list(one.columns_added),
                "columns_gone": list(one.columns_gone),
                "amounts": [
                    {
                        "column": amount.column,
                        "currency": amount.currency,
                        "before": amount.before,
                        "after": amount.after,
                        "delta": amount.after - amount.before,
                    }
                    for amount in one.amounts
                ],
            }
            for one in found
        ],
    }
    if cells is not None:
        data["cells"] = [
            {
                "key": list(cell.key),
                "column": cell.column,
                "before": cell.before,
                "after": cell.after,
            }
            for cell in cells[:limit]
        ]
        data["has_more_cells"] = len(cells) > limit
    return data
