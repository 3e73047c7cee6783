"""Reads JSON Lines: one object per line, every value a text, a number, true, false or null.

Here belongs what is particular to JSON Lines. Numbers keep the digits they were written with; they
never become floats. A column that the feed does not have may hold anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from dagster_project.arrival.delimited import check_text
from dagster_project.arrival.report import Limits, Refusal
from dagster_project.arrival.rows import (
    BATCH_BYTES,
    BATCH_ROWS,
    MalformedWriter,
    Prepared,
    RowWriter,
    TextParquet,
    check_names,
    shown_object,
    shown_text,
)
from dagster_project.feeds import Feed

UNKNOWN_COLUMNS_KEPT = 1_000
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class _Number(str):
    """A number by its digits, so that it is told from a text where that matters."""


class _Malformed(Exception):
    """A line is not a record; says why and how it may be shown."""

    def __init__(self, reason: str, shown: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.shown = shown


def prepare_jsonl(path: Path, feed: Feed, limits: Limits, rows_path: Path) -> Prepared:
    """Check a JSON Lines file and write its rows to Parquet.

    Args:
        path: The file, unpacked.
        feed: The feed it is delivered for.
        limits: How long a line may be.
        rows_path: Where rows are written; a second file is written beside it.

    Returns:
        Its rows as Parquet, with counts.

    Raises:
        Refusal: If the file as a whole cannot be loaded; a required name that stands in no line at
            all is a missing column.
    """
    check_text(path, limits)
    malformed = MalformedWriter(rows_path.with_suffix(".malformed"))
    seen: dict[str, None] = {}
    count = blank = size = 0
    numbers: list[int] = []
    batch: list[dict[str, str | None]] = []
    with RowWriter(rows_path, feed) as writer:
        for line in _lines(path):
            if not line.strip():
                blank += 1
                continue
            count += 1
            try:
                record = _record(line, feed)
            except _Malformed as problem:
                malformed.add(count, problem.reason, problem.shown)
                continue
            if len(seen) < UNKNOWN_COLUMNS_KEPT:
                seen.update(dict.fromkeys(record))
            else:
                seen.update((name, None) for name in record if name in feed.column_names)
            numbers.append(count)
            batch.append(record)
            size += len(line)
            if len(batch) >= BATCH_ROWS or size > BATCH_BYTES:
                _write_batch(writer, feed, numbers, batch)
                size = 0
        _write_batch(writer, feed, numbers, batch)
    if count == 0:
        has = "is empty" if path.stat().st_size == 0 else "has only blank lines"
        raise Refusal(f"the file {has}", "deliver at least one record")
    if writer.rows:
        check_names(feed, list(seen), limits)
    return Prepared(
        source=TextParquet(rows_path),
        physical_rows=count,
        blank_rows=blank,
        malformed_rows=malformed.rows,
        malformed=malformed.close(),
        absent_columns=tuple(
            name for name in feed.column_names if writer.rows and name not in seen
        ),
        unknown_columns=tuple(name for name in seen if name not in feed.column_names),
    )


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        if file.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
            file.seek(0)
        yield from file


def _write_batch(
    writer: RowWriter, feed: Feed, numbers: list[int], batch: list[dict[str, str | None]]
) -> None:
    writer.write(
        numbers,
        {name: [record.get(name) for record in batch] for name in feed.column_names},
    )
    numbers.clear()
    batch.clear()


def _refuse_constant(name: str) -> str:
    raise ValueError(f"{name} is not JSON")


class _Pairs(list[tuple[str, object]]):
    """The entries of an object, in order, twice the same name included."""


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Pairs,
    parse_float=_Number,
    parse_int=_Number,
    parse_constant=_refuse_constant,
)


def _record(line: bytes, feed: Feed) -> dict[str, str | None]:
    text = line.decode()
    try:
        entries = _DECODER.decode(text.strip(" \t\r\n"))
    except RecursionError as error:
        shown = shown_text(feed, text.rstrip("\r\n"))
        raise _Malformed("nested too deeply to be read", shown) from error
    except ValueError as error:
        why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise _Malformed(f"not JSON ({why})", shown_text(feed, text.rstrip("\r\n"))) from error
    if not isinstance(entries, _Pairs):
        raise _Malformed("not a JSON object", shown_text(feed, text.rstrip("\r\n")))
    record: dict[str, str | None] = {}
    for name, value in entries:
        if isinstance(value, str):
            record[name] = value
        elif value is None:
            record[name] = None
        elif isinstance(value, bool):
            record[name] = "true" if value else "false"
        elif name not in feed.column_names:
            record[name] = None
        else:
            raise _Malformed(f"{name[:60]!r} holds a nested value", _shown(feed, entries))
    if len(record) != len(entries):
        names = [name for name, _ in entries]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Malformed(f"{twice[:60]!r} stands there twice", _shown(feed, entries))
    if b"\\u" in line and not _is_unicode(record):
        raise _Malformed("half of a surrogate pair: not valid Unicode", _shown(feed, entries))
    return record


def _shown(feed: Feed, entries: _Pairs) -> str:
    return shown_object(
        feed,
        [(name, "[nested]" if isinstance(value, list) else value) for name, value in entries],
    )


def _is_unicode(record: dict[str, str | None]) -> bool:
    try:
        for name, value in record.items():
            name.encode()
            if value is not None:
                value.encode()
    except UnicodeEncodeError:
        return False
    return True
