"""Reads CSV: checks the bytes, counts the records independently of DuckDB, sets malformed rows apart.

Here belongs what is particular to CSV. A file with nothing in it that two parsers could read
differently is passed on as it is (`PlainCsv`); any other is read by the standard csv module, whose
rows are written to Parquet, so that DuckDB's CSV reader never sees it.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TextIO

from dagster_project.arrival.report import MEBIBYTE, Limits, Refusal
from dagster_project.arrival.rows import (
    BATCH_BYTES,
    BATCH_ROWS,
    MalformedWriter,
    PlainCsv,
    Prepared,
    RowWriter,
    TextParquet,
    check_names,
    shown_fields,
)
from dagster_project.feeds import Feed

CHUNK = 4 * MEBIBYTE
SEPARATORS = {";": "semicolons", "\t": "tabs"}
"""What files are separated by that should be separated by commas."""
PLAIN_LINE_BYTES = MEBIBYTE
PLAIN_COLUMNS = 500
DELIMITERS = b",\n"
NOT_DELIMITERS = bytes(byte for byte in range(256) if byte not in DELIMITERS)


def prepare_csv(path: Path, feed: Feed, limits: Limits, rows_path: Path) -> Prepared:
    """Check a CSV file and make it ready to be loaded.

    Args:
        path: The file, unpacked.
        feed: The feed it is delivered for.
        limits: How long a line may be and how many columns there may be.
        rows_path: Where rows may be written; a second file is written beside it.

    Returns:
        The file itself if it is plain, else its rows as Parquet.

    Raises:
        Refusal: If the file as a whole cannot be loaded.
    """
    check_text(path, limits)
    header = _read_header(path, limits)
    _check_separator(header)
    check_names(feed, header, limits, has_header=True)
    plain = _scan_plain(path, header)
    if plain is None:
        return rewrite_csv(path, feed, limits, rows_path)
    rows, source = plain
    return Prepared(
        source=source,
        physical_rows=rows,
        absent_columns=tuple(name for name in feed.column_names if name not in header),
        unknown_columns=tuple(name for name in header if name not in feed.column_names),
    )


def check_text(path: Path, limits: Limits) -> None:
    """Refuse a text file that is not UTF-8 or has an endless line.

    Raises:
        Refusal: With the place of the first bad byte.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines = 0
    line_bytes = 0
    offset = 0
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            if not (block.isascii() and decoder.getstate()[0] == b""):
                try:
                    decoder.decode(block)
                except UnicodeDecodeError as error:
                    raise _not_utf8(error, block, offset, lines) from error
            last = block.rfind(b"\n")
            if last < 0:
                line_bytes += len(block)
            else:
                first = block.find(b"\n")
                if line_bytes + first > limits.line_bytes:
                    raise _endless(lines, limits)
                lines += block.count(b"\n")
                line_bytes = len(block) - last - 1
            if line_bytes > limits.line_bytes:
                raise _endless(lines, limits)
            offset += len(block)
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise Refusal(
                f"not UTF-8: it ends inside a character (line {lines + 1})",
                "deliver it again, complete and in UTF-8",
            ) from error


def _not_utf8(error: UnicodeDecodeError, block: bytes, offset: int, lines: int) -> Refusal:
    carried = len(error.object) - len(block)
    line = lines + 1 + error.object.count(b"\n", 0, error.start)
    return Refusal(
        f"not UTF-8: byte 0x{error.object[error.start]:02x} at position "
        f"{offset - carried + error.start}, line {line}",
        "deliver it in UTF-8; it may be in Latin-1, Windows-1252 or UTF-16",
    )


def _endless(lines: int, limits: Limits) -> Refusal:
    return Refusal(
        f"line {lines + 1} is longer than {limits.line_bytes} bytes",
        "check the line ends and quotes of the file",
    )


def _read_header(path: Path, limits: Limits) -> tuple[str, ...]:
    with _open_text(path) as file:
        for record in _Records(file, limits):
            if record.problem:
                raise Refusal(
                    f"the header cannot be read ({record.problem})",
                    "deliver a header of column names delimited by commas",
                )
            return tuple(record.fields)
    is_empty = path.stat().st_size == 0
    raise Refusal(
        "the file is empty, without a header"
        if is_empty
        else "the file has only blank lines, no header",
        "deliver it with its header",
    )


def _check_separator(header: tuple[str, ...]) -> None:
    """Refuse a header that another separator than the comma keeps in one piece.

    Raises:
        Refusal: If its only name has semicolons or tabs, as no column of a feed has.
    """
    if len(header) != 1:
        return
    for character, name in SEPARATORS.items():
        if character in header[0]:
            raise Refusal(
                f"missing required columns: the header has {name} and no comma",
                "deliver it with a comma as the separator, in the header and in every row",
            )


def _open_text(path: Path) -> TextIO:
    return path.open(encoding="utf-8-sig", newline="")


def _scan_plain(path: Path, header: tuple[str, ...]) -> tuple[int, PlainCsv] | None:
    """Count the rows of a plain file, or None if the file is not plain.

    In a file without quote characters a record is a line and a field ends at a comma, so the
    delimiters of the whole file, everything else taken out, must be one pattern repeated: as many
    commas as the header has, then a line end.
    """
    if len(header) < 2 or len(header) > PLAIN_COLUMNS:
        return None
    pattern = b"," * (len(header) - 1) + b"\n"
    lines = 0
    has_carriage_returns: bool | None = None
    samples: dict[int, tuple[str, ...]] = {}
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            if not block.endswith(b"\n"):
                block += file.readline(PLAIN_LINE_BYTES)
            if not block.endswith(b"\n"):
                if file.read(1):
                    return None
                block += b"\r\n" if has_carriage_returns or b"\r\n" in block else b"\n"
            if b'"' in block or b"\0" in block:
                return None
            count = block.count(b"\n")
            returns = block.count(b"\r")
            if has_carriage_returns is None:
                has_carriage_returns = returns > 0
            if returns != (count if has_carriage_returns else 0):
                return None
            if has_carriage_returns and block.count(b"\r\n") != count:
                return None
            if block.translate(None, NOT_DELIMITERS) != pattern * count:
                return None
            if _has_long_line(block):
                return None
            first, last = block.find(b"\n"), block.rfind(b"\n", 0, len(block) - 1)
            for number, line in (
                (lines, block[:first]),
                (lines + count - 1, block[last + 1 : -1]),
            ):
                samples[number] = tuple(line.decode().removesuffix("\r").split(","))
            lines += count
    samples.pop(0, None)
    return lines - 1, PlainCsv(path, header, samples)


def _has_long_line(block: bytes) -> bool:
    return any(
        block.find(b"\n", start, start + PLAIN_LINE_BYTES) < 0
        for start in range(0, len(block), PLAIN_LINE_BYTES)
        if start + PLAIN_LINE_BYTES <= len(block)
    )


def rewrite_csv(path: Path, feed: Feed, limits: Limits, rows_path: Path) -> Prepared:
    """Read a CSV file with the standard csv module and write its rows to Parquet.

    Blank lines are counted and not numbered. A record with the wrong number of fields, or with text
    after a closing quote, is set apart; the others go on.

    Raises:
        Refusal: If a quote is not closed, so that nobody can tell where its record ends.
    """
    malformed = MalformedWriter(rows_path.with_suffix(".malformed"))
    with _open_text(path) as file, RowWriter(rows_path, feed) as writer:
        records = _Records(file, limits)
        iterator = iter(records)
        header = next(iterator).fields
        width = len(header)
        places = {name: header.index(name) for name in feed.column_names if name in header}
        numbers: list[int] = []
        batch: list[list[str]] = []
        size = 0
        for record in iterator:
            problem = record.problem
            if problem is None and len(record.fields) != width:
                problem = f"{len(record.fields)} fields where the header has {width}"
            if problem is not None:
                malformed.add(record.number, problem, shown_fields(feed, record.fields))
                continue
            numbers.append(record.number)
            batch.append(record.fields)
            size += record.characters
            if len(batch) >= BATCH_ROWS or size > BATCH_BYTES:
                _write_batch(writer, numbers, batch, places)
                size = 0
        _write_batch(writer, numbers, batch, places)
    return Prepared(
        source=TextParquet(rows_path),
        physical_rows=records.count - 1,
        blank_rows=records.blank,
        malformed_rows=malformed.rows,
        malformed=malformed.close(),
        absent_columns=tuple(name for name in feed.column_names if name not in header),
        unknown_columns=tuple(name for name in header if name not in feed.column_names),
    )


def _write_batch(
    writer: RowWriter, numbers: list[int], batch: list[list[str]], places: dict[str, int]
) -> None:
    if batch:
        columns = list(zip(*batch, strict=True))
        writer.write(numbers, {name: columns[place] for name, place in places.items()})
    numbers.clear()
    batch.clear()


class _Record(NamedTuple):
    """One record: its number (the header is 0), its fields, what is wrong with it, its length."""

    number: int
    fields: list[str]
    problem: str | None
    characters: int


@dataclass
class _Records:
    """Iterates, once, over the records of a CSV file, the header included.

    Attributes:
        file: The text, line ends untranslated.
        limits: How long a field may be.
        count: Records so far, broken ones included, blank lines not.
        blank: Blank lines so far.
    """

    file: TextIO
    limits: Limits
    count: int = 0
    blank: int = 0
    _lines: list[str] = field(default_factory=list)
    _line_number: int = 0

    def _physical_lines(self) -> Iterator[str]:
        for line in self.file:
            self._lines.append(line)
            self._line_number += 1
            yield line

    def __iter__(self) -> Iterator[_Record]:
        csv.field_size_limit(self.limits.line_bytes)
        rows = csv.reader(self._physical_lines(), strict=True)
        lines = self._lines
        while True:
            try:
                for fields in rows:
                    if fields:
                        self.count += 1
                        size = len(lines[0]) if len(lines) == 1 else sum(map(len, lines))
                        lines.clear()
                        yield _Record(self.count - 1, fields, None, size)
                    else:
                        self.blank += 1
                        lines.clear()
                return
            except csv.Error as error:
                yield self._broken(error)

    def _broken(self, error: csv.Error) -> _Record:
        """A record that is not CSV; the reader goes on with the next line.

        Raises:
            Refusal: If it runs over several lines, since then no later record can be trusted.
        """
        self.count += 1
        lines = len(self._lines)
        started = self._line_number - lines + 1
        if lines != 1 or "unexpected end of data" in str(error):
            raise Refusal(
                f"a quote opened in line {started} (row {self.count - 1}) is not closed properly",
                'close every quote; write a quote inside a quoted value as ""',
            ) from error
        text = self._lines.pop()
        problem = "text after a closing quote" if "expected after" in str(error) else str(error)
        try:
            fields = next(csv.reader([text], strict=False), [])
        except csv.Error:
            fields = []
        return _Record(self.count - 1, fields, problem, len(text))
