"""`closes`: which months were closed and reopened, and what has changed in closed months since."""

from __future__ import annotations

from pathlib import Path

from dagster_project import releases
from dagster_project.answers.asking import Connection, Row, has_table, rows


def closes(home: Path) -> Row:
    """Return what was closed and reopened, oldest first, and what has changed since.

    Args:
        home: The data home.
    """
    entries = releases.register(home)
    closed = releases.closed_months(home)
    current = releases.current_release(home)
    restated: list[Row] = []
    if closed and current:
        with releases.open_release(home, current) as connection:
            restated = restatements(connection)
    return {
        "release_id": current,
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
        "restated": restated,
    }


def restatements(connection: Connection) -> list[Row]:
    """Return what a release lists as changed in closed months, by month, currency and delivery.

    A delivery has the amounts it is known to be behind; those that none is known for have no file name.
    """
    if not has_table(connection, "fct_restatements"):
        return []
    return rows(
        connection,
        "select strftime(closed_month, '%Y-%m') as closed_month, currency, file_name,"
        " count(*) as amounts, coalesce(sum(delta_amount) filter (where table_name ="
        " 'fct_discounted_charges' and column_name = 'net_amount'), 0.00) as net_delta_amount"
        " from marts.fct_restatements group by all order by all",
    )
