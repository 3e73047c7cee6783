"""What the commands say of deliveries, releases and closes, for machines: dictionaries to print as JSON.

Here belongs the shape of these answers; `summary` has the same as text. Amounts stay Decimal, which
JSON gets as text, and those of different currencies are never added up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from dagster_project.answers.asking import facts
from dagster_project.releases.closing import Closing, certified_releases
from dagster_project.releases.compare import CellDifference, TableDifference
from dagster_project.releases.files import read_history
from dagster_project.releases.read import ReleaseSummary, Verification
from dagster_project.summary import Connection, rejected_filter

Row = dict[str, Any]

_TOTALS = ("list_amount", "discount_amount", "credit_amount", "net_amount")


def deliveries(connection: Connection) -> Row:
    """Every delivered file with its fate."""
    cursor = connection.execute("from release.deliveries order by arrived_at, feed, file_name")
    found = _rows(cursor)
    return {**facts(connection), "deliveries": found}


def rejected(connection: Connection, feed: str | None, delivery: str | None) -> Row:
    """All rejected rows, each with every reason and as it was delivered.

    Args:
        connection: The release.
        feed: Only rows of this feed.
        delivery: Only rows of this delivery: its id, or part of its name.
    """
    where, values = rejected_filter(feed, delivery)
    cursor = connection.execute(
        "select delivery_id, feed, file_name, row_number, string_split(reasons, '; ') as reasons,"
        f" record from release.rejected_rows where {where} order by file_name, row_number",
        values,
    )
    found = _rows(cursor)
    return {**facts(connection), "total": len(found), "rejected_rows": found}


def releases(kept: Sequence[ReleaseSummary], home: Path) -> Row:
    """The releases kept, newest first, and everything that was served or closed, oldest first."""
    certified = certified_releases(home)
    return {
        "releases": [
            {
                "release_id": release.release_id,
                "is_current": release.is_current,
                "as_of_date": release.as_of_date,
                "created_at": release.created_at,
                "code_version": release.code_version,
                "rows": release.rows,
                "closed_months": certified.get(release.release_id, []),
                "totals_by_currency": [
                    {"currency": currency, **dict(zip(_TOTALS, amounts, strict=True))}
                    for currency, amounts in release.totals.items()
                ],
                "problem": release.problem or None,
            }
            for release in kept
        ],
        "events": read_history(home),
    }


def verification(found: Verification) -> Row:
    """Whether a release holds what it says."""
    return {
        "release_id": found.release_id,
        "is_sound": not found.problems,
        "tables": found.tables,
        "checks": found.checks,
        "problems": list(found.problems),
    }


def differences(
    found: Sequence[TableDifference],
    both: Sequence[Mapping[str, Any]],
    cells: Sequence[CellDifference] | None = None,
) -> Row:
    """What differs between two releases, table by table.

    Args:
        found: The differences.
        both: What the two say they are.
        cells: Differing cells, if they were asked for.
    """
    before, after = (
        {"release_id": one["release_id"], "as_of_date": one["as_of_date"]} for one in both
    )
    data: Row = {
        "before": before,
        "after": after,
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
            for cell in cells
        ]
    return data


def closes(
    entries: Sequence[Closing],
    closed: Mapping[date, Closing],
    served: str | None,
    restated: Sequence[Row],
) -> Row:
    """What was closed and reopened, oldest first, and what has changed since.

    Args:
        entries: The register.
        closed: The months closed now.
        served: The release served, if there is one.
        restated: As `restatements` gives it.
    """
    return {
        "release_id": served,
        "entries": [
            {
                "event": entry.event,
                "month": entry.month_name,
                "release_id": entry.release_id,
                "by": entry.by,
                "at": entry.at,
                "reason": entry.reason or None,
                "holds_now": closed.get(entry.month) == entry,
            }
            for entry in entries
        ],
        "closed_months": [entry.month_name for entry in closed.values()],
        "restated": list(restated),
    }


def restatements(connection: Connection) -> list[Row]:
    """What a release lists as changed in closed months, by month, currency and delivery."""
    there = connection.execute(
        "select 1 from release.tables where table_name = 'fct_restatements'"
    ).fetchone()
    if there is None:
        return []
    return _rows(
        connection.execute(
            "select strftime(closed_month, '%Y-%m') as closed_month, currency, file_name,"
            " count(*) as amounts, coalesce(sum(delta_amount) filter (where table_name ="
            " 'fct_discounted_charges' and column_name = 'net_amount'), 0.00) as net_delta_amount"
            " from marts.fct_restatements group by all order by all"
        )
    )


def answer(connection: Connection, names: Sequence[str], found: Iterable[Sequence[Any]]) -> Row:
    """The rows of a question in SQL.

    Args:
        connection: The release that was asked.
        names: The columns; one that was there before gets its place behind it, as in `id:2`.
        found: The rows.
    """
    distinct = [
        name if name not in names[:place] else f"{name}:{place + 1}"
        for place, name in enumerate(names)
    ]
    return {
        **facts(connection),
        "rows": [dict(zip(distinct, map(_simple, row), strict=True)) for row in found],
    }


def _rows(cursor: Connection) -> list[Row]:
    names = [str(column[0]) for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _simple(value: Any) -> Any:
    """A value of any type of DuckDB as one that JSON has, or that is printed as amounts and days are."""
    if value is None or isinstance(value, bool | int | str | Decimal | datetime | date):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(name): _simple(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_simple(one) for one in value]
    return value.hex() if isinstance(value, bytes) else str(value)
