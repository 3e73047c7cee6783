"""Rows as they were delivered, read again from the archive by file and row.

Reading single rows of archived bytes for a person to look at belongs here. Loading does not.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import duckdb

from dagster_project.arrival.archive import Archive
from dagster_project.arrival.arriving import reader_of
from dagster_project.arrival.report import ArrivalError, Limits, Refusal
from dagster_project.arrival.rows import REMOVED, OwnParquet
from dagster_project.arrival.warehouse import rows_of
from dagster_project.feeds import feeds


def rows_delivered(
    archive: Archive, delivery_id: str, row_numbers: Collection[int], work: Path
) -> dict[int, dict[str, str | None]]:
    """Return rows of one delivery as the archived file has them, without personal data.

    Args:
        archive: The archive.
        delivery_id: The delivery.
        row_numbers: Which rows; 1 is the first record after the header.
        work: An empty folder to unpack the file in.

    Returns:
        By row number, the text of each column of the feed for which the row has a value.

    Raises:
        ArrivalError: The archive no longer has the bytes, or has other bytes.
    """
    if not archive.record_path(delivery_id).exists():
        raise ArrivalError(
            f"{archive.record_path(delivery_id)} is missing; restore the archive from a backup"
        )
    record = archive.read_record(delivery_id)
    path = archive.bytes_path(str(record.sha256))
    archive.check_bytes(record)
    feed = feeds()[record.feed]
    limits = Limits()
    try:
        if record.is_packed:
            from dagster_project.arrival.unpacking import unpack

            path = unpack(path, work / "unpacked", limits)
        prepared = reader_of(record, is_plain_trusted=False)(
            path, feed, limits, work / "rows", dict(record.given)
        )
    except Refusal as refusal:
        raise ArrivalError(f"{record.file_name}: {refusal.reason}; {refusal.remedy}") from refusal
    assert isinstance(prepared.source, OwnParquet)
    personal = {column.name for column in feed.columns if column.personal}
    with duckdb.connect(":memory:") as connection:
        numbers = ", ".join(str(int(number)) for number in sorted(row_numbers)) or "null"
        cursor = connection.execute(
            f"from {rows_of(feed, prepared.source)} where row_number in ({numbers}) order by row_number"
        )
        names = [str(column[0]) for column in cursor.description or []]
        found = {}
        for row in cursor.fetchall():
            values = dict(zip(names, row, strict=True))
            number = int(values.pop("row_number"))
            found[number] = {
                name: REMOVED if name in personal else value
                for name, value in values.items()
                if value is not None
            }
    return found
