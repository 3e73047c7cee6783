"""Where a record was delivered: file, row and arrival, earlier versions, and why a bill does not count.

What leads from a published row back to its delivery belongs here. The bytes themselves are read by
`proof`.
"""

from __future__ import annotations

from typing import Any

from dagster_project.answers.asking import Connection, Row, has_table, rows


def standing(
    connection: Connection, feed: str, record_id: str, delivery_id: str | None, row: int | None
) -> Row:
    """Return where the current version of a record was delivered, and every other row of the record.

    Args:
        connection: The release.
        feed: The feed of the record.
        record_id: The id of the record.
        delivery_id: The delivery of its current version; None in a release without that column.
        row: The row in that file.
    """
    found = rows(
        connection,
        "select file_name, sha256, arrived_at from release.deliveries where delivery_id = ?",
        [delivery_id or ""],
    )
    place = found[0] if found else {"file_name": None, "sha256": None, "arrived_at": None}
    return {
        "feed": feed,
        "record_id": record_id,
        "delivery_id": delivery_id,
        "delivery_row": row,
        **place,
        "earlier_versions": _earlier_versions(connection, feed, record_id),
        "rejected_versions": rejected(connection, feed, record_id),
    }


def _earlier_versions(connection: Connection, feed: str, record_id: str) -> list[Row]:
    """Return the rows of a record that a later version replaced, the oldest first."""
    if not has_table(connection, "superseded_rows", "release"):
        return []
    return rows(
        connection,
        "select versions.delivery_id, versions.file_name, versions.row_number,"
        " versions.updated_at, deliveries.arrived_at, deliveries.sha256"
        " from release.superseded_rows as versions"
        " inner join release.deliveries as deliveries using (delivery_id)"
        " where versions.feed = ? and versions.record_id = ?"
        " order by versions.updated_at, deliveries.arrived_at, versions.file_name,"
        " versions.row_number",
        [feed, record_id],
    )


def rejected(connection: Connection, feed: str, record_id: str) -> list[Row]:
    """Return the rows of an id that were rejected, each with file, row and reasons."""
    column = f"{feed.removesuffix('s')}_id"
    return rows(
        connection,
        "select file_name, row_number, reasons from release.rejected_rows"
        " where feed = ? and json_valid(record) and json_extract_string(record, ?) = ?"
        " order by file_name, row_number",
        [feed, f"$.{column}", record_id],
    )


def credit_notes(connection: Connection, invoice_id: str) -> list[Row]:
    """Return the issued credit notes of an invoice in the order of issue, each with its `standing` (R13)."""
    if not has_table(connection, "fct_credit_notes"):
        return []
    found = rows(
        connection,
        "select * from marts.fct_credit_notes where invoice_id = ? order by issued_at, credit_note_id",
        [invoice_id],
    )
    for note in found:
        note["standing"] = standing(
            connection,
            "credit_notes",
            note["credit_note_id"],
            note.pop("delivery_id"),
            note.pop("delivery_row"),
        )
    return found


def not_counted(connection: Connection, invoice_id: str) -> Row | None:
    """Return an invoice on record that does not count, with the reason and its delivery; else None."""
    if not has_table(connection, "invoices_not_counted", "release"):
        return None
    found = rows(
        connection,
        "select invoices.*, workspaces.workspace_name, release.release_id, release.as_of_date"
        " from release.invoices_not_counted as invoices cross join release.release as release"
        " left join marts.dim_workspaces as workspaces using (workspace_id)"
        " where invoices.invoice_id = ?",
        [invoice_id],
    )
    if not found:
        return None
    invoice = found[0]
    data: dict[str, Any] = {
        "release_id": invoice.pop("release_id"),
        "as_of_date": invoice.pop("as_of_date"),
        "workspace_name": invoice.pop("workspace_name"),
        "is_counted": False,
        "invoice": invoice,
        "standing": standing(
            connection, "invoices", invoice_id, invoice["delivery_id"], invoice["delivery_row"]
        ),
        "credit_notes": credit_notes(connection, invoice_id),
    }
    return data
