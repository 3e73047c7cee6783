"""`closes`: which months were closed and reopened, and what has changed in closed months since."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path

from dagster_project import releases
from dagster_project.answers.asking import Connection, Row, facts, has_column, has_table, rows
from dagster_project.releases.closing import open_errors, pack_of

_MOST_MOVES = 10


def closes(home: Path) -> Row:
    """Return closes and reopenings, oldest first, and what has changed since.

    Args:
        home: The data home.
    """
    closed = releases.closed_months(home)
    current = releases.current_release(home)
    restated: list[Row] = []
    moved: Row = {"total": 0, "listed": []}
    if closed and current:
        with releases.open_release(home, current) as connection:
            restated = restatements(connection)
            moved = moves(connection)
    return {
        "release_id": current,
        "entries": entries(home),
        "closed_months": [entry.month_name for entry in closed.values()],
        "restated": restated,
        "moved": moved,
    }


def entries(home: Path) -> list[Row]:
    """Return every close and reopening, oldest first; a close with `holds_now` true is in force.

    `pack` is the folder that a close stored beside its release.

    Args:
        home: The data home.

    Raises:
        ReleaseError: The register is damaged.
    """
    closed = releases.closed_months(home)
    return [
        {
            "event": entry.event,
            "month": entry.month_name,
            "release_id": entry.release_id,
            "by": entry.by,
            "at": entry.at,
            "reason": entry.reason or None,
            "open_errors": entry.open_errors,
            "holds_now": closed.get(entry.month) == entry,
            "pack": str(pack) if (pack := pack_of(home, entry)) else None,
        }
        for entry in releases.register(home)
    ]


def restatements(connection: Connection) -> list[Row]:
    """Return the changes in closed months that a release lists, by month, currency and delivery.

    Each change counts under the delivery known to have caused it; if none is known, `file_name` is None.
    `amounts` counts the amounts that differ; `moved` counts the rows that are now under another workspace,
    plan or subscription.
    """
    if not has_table(connection, "fct_restatements"):
        return []
    return rows(
        connection,
        "select strftime(closed_month, '%Y-%m') as closed_month, currency, file_name,"
        " count(*) filter (where delta_amount <> 0) as amounts,"
        " count(*) filter (where delta_amount is null) as moved,"
        " coalesce(sum(delta_amount) filter (where table_name ="
        " 'fct_discounted_charges' and column_name = 'net_amount'), 0.00) as net_delta_amount"
        " from marts.fct_restatements group by all order by all",
    )


def months_restated(restated: Sequence[Row]) -> list[Row]:
    """Add up `restatements` by closed month and currency; months in which rows only moved are left out.

    Args:
        restated: As `restatements` returns it.

    Returns:
        By month and currency: `amounts`, how many differ; `net_delta_amount`; and `files`, each known
        delivery with its `file_name` and `amounts`, the one with the most first.
    """
    months: dict[tuple[str, str | None], list[Row]] = {}
    for row in restated:
        if row["amounts"]:
            months.setdefault((row["closed_month"], row["currency"]), []).append(row)
    return [
        {
            "closed_month": month,
            "currency": currency,
            "amounts": sum(row["amounts"] for row in found),
            "net_delta_amount": sum((row["net_delta_amount"] for row in found), Decimal("0.00")),
            "files": sorted(
                (
                    {"file_name": row["file_name"], "amounts": row["amounts"]}
                    for row in found
                    if row["file_name"] is not None
                ),
                key=lambda file: (-file["amounts"], file["file_name"]),
            ),
        }
        for (month, currency), found in months.items()
    ]


def moves(connection: Connection) -> Row:
    """Return the number of rows of closed months that are now counted elsewhere, and the first of them.

    Bills come before the rows that follow from them; each row has its value at the close and its current one.
    """
    if not has_column(connection, "fct_restatements", "closed_value"):
        return {"total": 0, "listed": []}
    (counted,) = rows(
        connection,
        "select count(*) as total from marts.fct_restatements where delta_amount is null",
    )
    listed = rows(
        connection,
        "select strftime(moved.closed_month, '%Y-%m') as closed_month, moved.table_name,"
        " moved.record_key, moved.column_name, moved.closed_value, moved.current_value,"
        " moved.currency, charges.net_amount, moved.file_name"
        " from marts.fct_restatements as moved"
        " left join marts.fct_discounted_charges as charges"
        " on moved.table_name = 'fct_discounted_charges' and moved.record_key = charges.invoice_id"
        " where moved.delta_amount is null"
        " order by moved.table_name <> 'fct_discounted_charges', moved.closed_month,"
        " moved.table_name, moved.record_key, moved.column_name limit ?",
        [_MOST_MOVES],
    )
    return {**counted, "listed": listed}


def month_to_close(connection: Connection, month: date) -> Row:
    """Return what closing a month certifies: charges and credit by currency, and open errors.

    Args:
        connection: The release.
        month: First day of the month.
    """
    notes = ""
    if has_column(connection, "fct_discounted_charges", "credited_amount"):
        notes = (
            ", sum(credited_amount) as credited_amount,"
            " sum(billed_net_after_notes_amount) as billed_net_after_notes_amount"
        )
    charges = rows(
        connection,
        "select currency, count(*) as invoices, sum(list_amount) as list_amount,"
        " sum(discount_amount) as discount_amount, sum(credit_amount) as credit_amount,"
        " sum(net_amount) as net_amount, sum(billed_net_amount) - sum(net_amount)"
        f" as billing_error_amount, sum(billed_net_amount) as billed_net_amount{notes}"
        " from marts.fct_discounted_charges where billing_month = ?"
        " group by currency order by currency",
        [month],
    )
    credit: list[Row] = []
    if has_table(connection, "fct_credit_burndown_monthly"):
        credit = rows(
            connection,
            "select currency, count(*) as grants, sum(opening_amount) as opening_amount,"
            " sum(granted_amount) as granted_amount, sum(drawn_amount) as drawn_amount,"
            " sum(expired_amount) as expired_amount, sum(forfeited_amount) as forfeited_amount,"
            " sum(closing_amount) as closing_amount"
            " from marts.fct_credit_burndown_monthly where burn_month = ?"
            " group by currency order by currency",
            [month],
        )
    return {
        **facts(connection),
        "month": month,
        "charges": charges,
        "credit": credit,
        "open_errors": open_errors(connection, month),
    }
