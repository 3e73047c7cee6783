"""The files the invented billing system drops: formats, columns, order, and an occasional bad row.

The text of records and the bytes of files belong here, equal for equal input and with fixed
modification times. The content of the records is decided elsewhere.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal

# The columns of the feeds in the order of the contract. They are defined in the dbt source file; the
# generator may not read YAML, so they are repeated here, and a test compares them.
COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "workspaces": (
        "workspace_id",
        "workspace_name",
        "owner_user_id",
        "created_at",
        "updated_at",
    ),
    "coupons": (
        "coupon_id",
        "coupon_name",
        "program",
        "discount_type",
        "percent_off",
        "amount_off",
        "amount_off_per",
        "credit_amount",
        "credit_period_months",
        "credit_max_periods",
        "credit_priority",
        "currency",
        "applies_to_plan",
        "applies_to_interval",
        "duration",
        "duration_months",
        "duration_invoices",
        "redeem_by",
        "max_redemptions",
        "requires_no_prior_coupon",
        "once_per",
        "follow_up_coupon_id",
        "updated_at",
    ),
    "redemptions": (
        "redemption_id",
        "coupon_id",
        "workspace_id",
        "user_id",
        "subscription_id",
        "redeemed_at",
        "starts_at",
        "ends_at",
        "revoked_at",
        "eligible_until",
        "channel",
        "application_order",
        "updated_at",
    ),
    "invoices": (
        "invoice_id",
        "workspace_id",
        "status",
        "plan",
        "billing_interval",
        "interval_count",
        "subscription_id",
        "currency",
        "period_start",
        "period_end",
        "issued_at",
        "list_amount",
        "discountable_amount",
        "creditable_amount",
        "discount_amount",
        "credit_amount",
        "tax_amount",
        "total_amount",
        "mtus",
        "updated_at",
    ),
    "credit_notes": (
        "credit_note_id",
        "invoice_id",
        "status",
        "issued_at",
        "currency",
        "amount",
        "tax_amount",
        "reason",
        "updated_at",
    ),
    "budgets": (
        "program",
        "currency",
        "month",
        "amount",
        "updated_at",
    ),
}

# Optional columns that the invented supplier's own exports never had; only the showcase has them.
_LATER: Final = {
    "coupons": {"once_per"},
    "redemptions": {"subscription_id"},
    "invoices": {
        "interval_count",
        "subscription_id",
        "discountable_amount",
        "creditable_amount",
    },
}
EXPORTED: Final[dict[str, tuple[str, ...]]] = {
    feed: tuple(column for column in columns if column not in _LATER.get(feed, ()))
    for feed, columns in COLUMNS.items()
}

Format = Literal["csv", "csv.gz", "jsonl", "jsonl.gz", "parquet"]
Row = tuple[str, ...]

WHOLE: Final = frozenset({"mtus", "application_order"})
AMOUNTS: Final = frozenset(
    {"list_amount", "discount_amount", "credit_amount", "tax_amount", "total_amount"}
)


@dataclass(slots=True)
class Delivery:
    """One file to drop.

    Attributes:
        feed: Its feed.
        name: File name without extension.
        format: Its extension.
        modified_at: Its modification time, seconds since 1970.
        rows: Records as text, in the order of `columns`.
        columns: Its header; by default the columns the supplier exports, in the contract's order.
        lines: Records as finished CSV lines instead of rows, for large files.
        bad_rows: Rows to be rejected, each with the reason; they are spread over the file.
        has_byte_order_mark: Whether it begins with one.
    """

    feed: str
    name: str
    format: Format
    modified_at: int
    rows: list[Row] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    lines: list[str] = field(default_factory=list)
    bad_rows: Sequence[tuple[Row, str]] = ()
    has_byte_order_mark: bool = False

    @property
    def path(self) -> str:
        """The path below the landing folder."""
        return f"{self.feed}/{self.name}.{self.format}"


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A bad row as delivered: where it is and what is wrong with it."""

    feed: str
    file: str
    row_number: int
    reason_hint: str


def reordered(rows: Iterable[Row], old: Sequence[str], new: Sequence[str]) -> list[Row]:
    """Return the rows with their columns in another order."""
    positions = [old.index(column) for column in new]
    return [tuple(row[position] for position in positions) for row in rows]


def with_offset(row: Row, columns: Sequence[str], hours: int) -> Row:
    """Return a row with its instants written in another time zone; the instants stay the same."""
    return tuple(
        _shifted(value, hours) if column.endswith("_at") and value else value
        for column, value in zip(columns, row, strict=True)
    )


def _shifted(text: str, hours: int) -> str:
    moment = datetime.fromisoformat(text).timestamp() + hours * 3600
    return f"{datetime.fromtimestamp(moment, UTC).replace(tzinfo=None).isoformat()}+{hours:02d}:00"


def write(landing: Path, deliveries: Sequence[Delivery]) -> list[RejectedRow]:
    """Write all files.

    Args:
        landing: The landing folder; created if absent.
        deliveries: What to write.

    Returns:
        The bad rows, with the number each has in its file (1 is the first record).

    Raises:
        FileExistsError: If the folder holds files of another sample, which would mix with this one.
    """
    names = {delivery.path for delivery in deliveries}
    others = sorted(
        path.relative_to(landing).as_posix()
        for path in landing.glob("*/*")
        if path.is_file() and path.relative_to(landing).as_posix() not in names
    )
    if others:
        raise FileExistsError(
            f"{landing} holds {len(others)} file(s) of another sample, first {others[0]}: "
            "remove them, or write to an empty folder"
        )
    rejected: list[RejectedRow] = []
    for delivery in deliveries:
        path = landing / delivery.path
        path.parent.mkdir(parents=True, exist_ok=True)
        rejected += _spread_bad_rows(delivery)
        path.write_bytes(_content(delivery))
        os.utime(path, (delivery.modified_at, delivery.modified_at))
    return rejected


def _spread_bad_rows(delivery: Delivery) -> list[RejectedRow]:
    """Insert the bad rows of a delivery at regular distances, and return where they are."""
    rejected = []
    good = len(delivery.lines) or len(delivery.rows)
    for count, (row, hint) in enumerate(delivery.bad_rows, start=1):
        position = good * count // (len(delivery.bad_rows) + 1) + count - 1
        if delivery.lines:
            delivery.lines.insert(position, _csv_lines([row]).rstrip("\n"))
        else:
            delivery.rows.insert(position, row)
        rejected.append(RejectedRow(delivery.feed, delivery.path, position + 1, hint))
    return rejected


def _content(delivery: Delivery) -> bytes:
    columns = delivery.columns or EXPORTED[delivery.feed]
    if delivery.format == "parquet":
        return _parquet(delivery.rows, columns)
    if delivery.format.startswith("jsonl"):
        text = "".join(_json_line(row, columns) for row in delivery.rows)
    else:
        text = _csv_lines([columns])
        if delivery.lines:
            text += "\n".join(delivery.lines) + "\n"
        else:
            text += _csv_lines(delivery.rows)
    if delivery.has_byte_order_mark:
        text = "\ufeff" + text
    content = text.encode("utf-8")
    if not delivery.format.endswith(".gz"):
        return content
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file:
        file.write(content)
    return packed.getvalue()


def _csv_lines(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _json_line(row: Row, columns: Sequence[str]) -> str:
    """Return one JSON record; amounts stay text, because a JSON number may be read as a float."""
    record: dict[str, str | int | None] = {}
    for column, value in zip(columns, row, strict=True):
        if not value:
            record[column] = None
        else:
            record[column] = int(value) if column in WHOLE else value
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


def _parquet(rows: Iterable[Row], columns: Sequence[str]) -> bytes:
    """Return a Parquet file with native types for dates, instants and decimals."""
    # Only this one file needs it, and it takes long to import; it has no type stubs.
    import pyarrow as pa
    from pyarrow import parquet

    cells = list(zip(*rows, strict=True))
    arrays = []
    for column, values in zip(columns, cells, strict=True):
        if column in AMOUNTS:
            array = pa.array([Decimal(value) for value in values], pa.decimal128(18, 2))
        elif column in WHOLE:
            array = pa.array([int(value) if value else None for value in values], pa.int64())
        elif column.startswith("period_"):
            array = pa.array([date.fromisoformat(value) for value in values], pa.date32())
        elif column.endswith("_at"):
            array = pa.array(
                [datetime.fromisoformat(value) for value in values], pa.timestamp("us", "UTC")
            )
        else:
            array = pa.array(list(values), pa.string())
        arrays.append(array)
    packed = io.BytesIO()
    parquet.write_table(pa.table(arrays, names=list(columns)), packed)
    return packed.getvalue()
