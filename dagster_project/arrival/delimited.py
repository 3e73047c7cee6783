"""Reads CSV: checks the bytes, counts the records independently of DuckDB, sets malformed rows apart.

What is particular to CSV belongs here. A file with nothing in it that two parsers could read differently
is passed on unchanged (`PlainCsv`). Any other file is read by the standard csv module, and its rows are
written to Parquet, so that DuckDB's CSV reader never sees it.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import NamedTuple, TextIO

from dagster_project.arrival.quotes import (
    BACKSLASH_REMEDY,
    QUOTE_REMEDY,
    Doubt,
    doubtful_lines,
    is_well_formed,
    not_closed,
    quoted_fields,
)
from dagster_project.arrival.report import MEBIBYTE, Limits, Refusal
from dagster_project.arrival.rows import (
    BATCH_BYTES,
    BATCH_ROWS,
    MOST_VALUES,
    NOTHING_GIVEN,
    MalformedWriter,
    OwnParquet,
    PlainCsv,
    Prepared,
    RowWriter,
    check_names,
    columns_of,
    shortened,
    shown_fields,
)
from dagster_project.feeds import Feed

CHUNK = 4 * MEBIBYTE
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "pipes", "\x01": "control characters 0x01"}
"""Separators found in files that should have commas."""
NULL_MARK = "\\N"
"""What databases write for null; in quotes, it is a value."""
ESCAPED_ALWAYS = (b"\\", b",", b"\n", b"\r")
"""Characters that have a backslash before them only if a tool escapes with backslashes."""
ESCAPED_SOMETIMES = (b'"', b"'", *(bytes([byte]) for byte in b"0bfnrtvZ"))
"""Characters that such a tool escapes too, but that also follow a backslash in a path."""
LINES_ABOVE_HEADER = 50
LINE_BYTES_ABOVE_HEADER = 64 * 1024
_VALUE = re.compile(r"[+-]?[0-9][0-9.,:TZ+ -]*|true|false|\\N|", re.IGNORECASE)
"""A pattern that the name of a column never matches, and a value often does."""
PLAIN_LINE_BYTES = MEBIBYTE
SMALL_BYTES = 64 * 1024
"""Below this size a file is read by the csv module, which costs less than to start DuckDB's reader."""
PLAIN_COLUMNS = 500
FIELD_BYTES = 64
"""What a short field takes in memory besides its characters."""
DELIMITERS = b",\n"
NOT_DELIMITERS = bytes(byte for byte in range(256) if byte not in DELIMITERS)


def prepare_csv(
    path: Path,
    feed: Feed,
    limits: Limits,
    rows_path: Path,
    given: Mapping[str, str | None] = NOTHING_GIVEN,
) -> Prepared:
    """Check a CSV file and make it ready to be loaded.

    Args:
        path: The file, unpacked.
        feed: The feed it is delivered for.
        limits: How long a record may be and how many columns there may be.
        rows_path: Where rows may be written; a second file is written beside it.
        given: Columns that the folder of the file gives, with the value of all its rows.

    Returns:
        The file itself if it is plain, else its rows as Parquet.

    Raises:
        Refusal: If the file as a whole cannot be loaded.
    """
    has_backslashes = check_text(path, limits)
    header = _read_header(path, limits)
    _check_separator(header, feed)
    _check_is_header(path, header, feed)
    if has_backslashes:
        _check_backslashes(path)
    check_names(feed, header, limits, has_header=True, given=given)
    plain = _scan_plain(path, header) if path.stat().st_size >= SMALL_BYTES else None
    if plain is None:
        return rewrite_csv(path, feed, limits, rows_path, given)
    rows, source = plain
    return Prepared(
        source=replace(source, given=given),
        physical_rows=rows,
        **columns_of(feed, header, given),
    )


def check_text(path: Path, limits: Limits, line_ends: Sequence[bytes] = (b"\n", b"\r")) -> bool:
    """Refuse a text file that is not UTF-8 or has an endless line.

    Args:
        path: The file, unpacked.
        limits: How long a line may be.
        line_ends: What ends a line. If there are none, the length of lines is not checked.

    Returns:
        Whether it has a backslash.

    Raises:
        Refusal: With the place of the first bad byte.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines = 0
    line_bytes = 0
    offset = 0
    has_backslashes = False
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            if not (block.isascii() and decoder.getstate()[0] == b""):
                try:
                    decoder.decode(block)
                except UnicodeDecodeError as error:
                    raise _not_utf8(error, block, offset, lines) from error
            has_backslashes = has_backslashes or b"\\" in block
            last = max((block.rfind(end) for end in line_ends), default=len(block) - 1)
            if last < 0:
                line_bytes += len(block)
            else:
                first = min(
                    (place for end in line_ends if (place := block.find(end)) >= 0), default=0
                )
                if line_ends and line_bytes + first > limits.line_bytes:
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
    return has_backslashes


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
            if not is_well_formed(record.text):
                raise Refusal(
                    "the header has a quote inside a name that does not begin with one",
                    QUOTE_REMEDY,
                )
            return tuple(record.fields)
    is_empty = path.stat().st_size == 0
    raise Refusal(
        "the file is empty, without a header"
        if is_empty
        else "the file has only blank lines, no header",
        "deliver it with its header",
    )


def _check_separator(header: tuple[str, ...], feed: Feed) -> None:
    """Refuse a header that is in one piece because its separator is not the comma.

    Raises:
        Refusal: If its only name contains another separator, or two names of the feed with something
            between them; or if it is the line in which Excel names a separator.
    """
    if header[0].lower().startswith("sep=") and len(header) <= 2:
        raise Refusal(
            f"its first line is {shortened(','.join(header), 20)!r}, which names the separator for Excel;"
            " the header should be there",
            "leave that line out, and deliver the file with a comma as the separator",
        )
    if len(header) != 1:
        return
    names = "|".join(sorted(feed.column_names, key=len, reverse=True))
    between = re.search(
        rf"(?:{names})[\"']?([^\w\"']+|[^\x00-\x7f]+)[\"']?(?:{names})\b",
        header[0],
        re.IGNORECASE,
    )
    found = between[1] if between else next((one for one in SEPARATORS if one in header[0]), None)
    if found == ",":
        raise Refusal(
            "missing required columns: the whole header is in one pair of quotes",
            "quote each value, or none, not each line",
        )
    if found is not None:
        name = SEPARATORS.get(found, f"{shortened(found, 10)!r}")
        raise Refusal(
            f"missing required columns: the header has {name} and no comma",
            "deliver it with a comma as the separator, in the header and in every row",
        )


def _check_is_header(path: Path, header: tuple[str, ...], feed: Feed) -> None:
    """Refuse a file whose first row has values where the names of columns should be.

    Raises:
        Refusal: If none of its fields is a name of the feed, and one looks like a value or the header
            is in a later line.
    """
    names = {name.lower() for name in feed.column_names}
    if any(field.strip().lower() in names for field in header):
        return
    line = _line_of_header(path, feed)
    if line:
        raise Refusal(
            f"missing required columns: the header is in line {line}, below other text",
            "deliver the file without the lines above its header",
        )
    if any(_VALUE.fullmatch(field.strip()) for field in header):
        raise Refusal(
            f"missing required columns {', '.join(feed.required_names)}: the file has no header, its"
            " first row looks like data",
            "deliver it with a header of column names (Postgres: copy … with (format csv, header);"
            " pandas: header=True; Spark: option('header', True))",
        )


def _line_of_header(path: Path, feed: Feed) -> int:
    """Return the number of the first line with all required names, 0 if no early line has them."""
    required = set(feed.required_names)
    with path.open("rb") as file:
        for number in range(1, LINES_ABOVE_HEADER + 1):
            line = file.readline(LINE_BYTES_ABOVE_HEADER).decode("utf-8", "replace")
            if required <= set(_fields(line.strip("\ufeff\r\n"))):
                return number
    return 0


def _check_backslashes(path: Path) -> None:
    """Refuse a file whose values are escaped by backslashes, even if no quote is.

    MariaDB, MySQL and Postgres' text format have a mark for null, and write a backslash, a comma or a line break
    within a value with a backslash before it. A file is one of theirs if it has the null mark and such escapes, and no
    backslash of another kind.

    Raises:
        Refusal: With the first line that has one, because no value with a backslash can be trusted.
    """
    first = number = 0
    has_null_marks = False
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            block += file.readline(PLAIN_LINE_BYTES)
            place = 0
            while (place := block.find(b"\\", place)) >= 0:
                after = block[place + 1 : place + 2]
                if after == b"N":
                    around = block[place - 1 : place] + block[place + 2 : place + 3]
                    has_null_marks = has_null_marks or not around.strip(b",\r\n")
                elif after in ESCAPED_ALWAYS:
                    first = first or number + block.count(b"\n", 0, place) + 1
                elif after not in ESCAPED_SOMETIMES:
                    return
                place += 2
            number += block.count(b"\n")
    if first and has_null_marks:
        raise Refusal(
            f"line {first}: its values are escaped by backslashes, and its nulls are written as \\N",
            BACKSLASH_REMEDY,
        )


def _open_text(path: Path) -> TextIO:
    return path.open(encoding="utf-8-sig", newline="")


def _scan_plain(path: Path, header: tuple[str, ...]) -> tuple[int, PlainCsv] | None:
    """Count the rows of a plain file, or None if the file is not plain.

    In a file without quote characters, a record is a line and a field ends at a comma. So the delimiters
    of the whole file, with everything else removed, must be one pattern repeated: as many commas as the
    header has, then a line end.
    """
    if len(header) < 2 or len(header) > PLAIN_COLUMNS:
        return None
    pattern = b"," * (len(header) - 1) + b"\n"
    lines = 0
    has_carriage_returns: bool | None = None
    has_null_marks = False
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
            has_null_marks = has_null_marks or NULL_MARK.encode() in block
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
    return lines - 1, PlainCsv(path, header, samples, has_null_marks)


def _has_long_line(block: bytes) -> bool:
    return any(
        block.find(b"\n", start, start + PLAIN_LINE_BYTES) < 0
        for start in range(0, len(block), PLAIN_LINE_BYTES)
        if start + PLAIN_LINE_BYTES <= len(block)
    )


def rewrite_csv(
    path: Path,
    feed: Feed,
    limits: Limits,
    rows_path: Path,
    given: Mapping[str, str | None] = NOTHING_GIVEN,
) -> Prepared:
    """Read a CSV file with the standard csv module and write its rows to Parquet.

    Blank lines are counted and not numbered. A record with the wrong number of fields is set apart, and
    so is every line whose quotes make it doubtful where its record begins or ends. The others are kept.

    Raises:
        Refusal: If it cannot be decided from some line on where a record ends.
    """
    try:
        return _rewrite(path, feed, limits, rows_path, given, ())
    except _InDoubt:
        with _open_text(path) as file:
            doubts = doubtful_lines(file)
        return _rewrite(path, feed, limits, rows_path, given, doubts)


class _InDoubt(Exception):
    """The quotes of a record are malformed, and the lines of the file have not been judged yet."""


def _rewrite(
    path: Path,
    feed: Feed,
    limits: Limits,
    rows_path: Path,
    given: Mapping[str, str | None],
    doubts: Sequence[Doubt],
) -> Prepared:
    with (
        closing(MalformedWriter(rows_path.with_suffix(".malformed"))) as malformed,
        _open_text(path) as file,
        RowWriter(rows_path, feed, given) as writer,
    ):
        records = _Records(file, limits, doubts)
        iterator = iter(records)
        header = next(iterator).fields
        width = len(header)
        places = {name: header.index(name) for name in feed.column_names if name in header}
        texts = _breakable(feed, header)
        held = 0  # fields of a record that a line break may have split, so far
        numbers: list[int] = []
        batch: list[list[str | None]] = []
        size = 0
        for record in iterator:
            problem = record.problem
            found = len(record.fields)
            if problem is None and found != width:
                problem = f"{found} fields where the header has {width}"
                held = _held(held, found, width, texts)
            elif held:
                problem = problem or (
                    f"the row before it ends in {texts[held - 1]}, which may hold a line break, so"
                    " that nobody can tell whether this is a row of its own"
                )
                held = 0
            if problem is not None:
                malformed.add(record.number, problem, shown_fields(feed, record.fields))
                continue
            numbers.append(record.number)
            batch.append(_with_nulls(record))
            size += len(record.text) + FIELD_BYTES * found
            if len(batch) >= BATCH_ROWS or size > BATCH_BYTES:
                _write_batch(writer, numbers, batch, places)
                size = 0
        _write_batch(writer, numbers, batch, places)
    return Prepared(
        source=OwnParquet(rows_path),
        physical_rows=records.count - 1,
        blank_rows=records.blank,
        malformed_rows=malformed.rows,
        malformed=malformed.close(),
        **columns_of(feed, header, given),
    )


def _held(held: int, found: int, width: int, texts: Sequence[str]) -> int:
    """Return how many fields a record has so far that a line break may have split.

    Args:
        held: How many it had before this line, 0 if none may be split.
        found: How many this line has; not as many as the header.
        width: How many the header has.
        texts: By place, the name of a column whose value may hold a line break.
    """
    together = held + found - 1 if held else found
    if held and together == width:
        return 0  # the line completes the record
    so_far = together if together < width else found
    return so_far if so_far < width and texts[so_far - 1] else 0


def _breakable(feed: Feed, header: Sequence[str]) -> list[str]:
    """Return, by place, the names of columns that may hold a line break, empty for others."""
    never = {column.name for column in feed.columns if column.type != "text"}
    return ["" if name in never else name for name in header]


def _with_nulls(record: _Record) -> list[str | None]:
    """Return the fields of a record, with null for every null mark outside quotes."""
    if NULL_MARK not in record.text:
        return record.fields  # type: ignore[return-value]
    if f'"{NULL_MARK}"' not in record.text:
        return [None if value == NULL_MARK else value for value in record.fields]
    return [
        None if value == NULL_MARK and not is_quoted else value
        for value, is_quoted in zip(record.fields, quoted_fields(record.text), strict=True)
    ]


def _write_batch(
    writer: RowWriter,
    numbers: list[int],
    batch: list[list[str | None]],
    places: dict[str, int],
) -> None:
    if batch:
        columns = list(zip(*batch, strict=True))
        writer.write(numbers, {name: columns[place] for name, place in places.items()})
    numbers.clear()
    batch.clear()


class _Record(NamedTuple):
    """One record: its number (the header is 0), its fields, what is wrong with it, its text."""

    number: int
    fields: list[str]
    problem: str | None
    text: str


@dataclass
class _Records:
    """Iterates, once, over the records of a CSV file, the header included.

    Attributes:
        file: The text, line ends untranslated.
        limits: How long a record may be.
        doubts: Lines that are set apart, in their order; none until the lines have been judged.
        count: Records so far, broken ones included, blank lines not.
        blank: Blank lines so far.
    """

    file: TextIO
    limits: Limits
    doubts: Sequence[Doubt] = ()
    count: int = 0
    blank: int = 0
    _text: str = ""
    _more: StringIO | None = None
    _size: int = 0
    _lines: int = 0
    _line_number: int = 0
    _apart: tuple[str, str] | None = None

    def _physical_lines(self) -> Iterator[str]:
        """Yield lines up to the end, or up to a line that is set apart."""
        for line in self.file:
            self._line_number += 1
            if self.doubts and (problem := self._problem()):
                self._apart = (line, problem)
                return
            self._keep(line)
            if len(line) > PLAIN_LINE_BYTES and line.count(",") > MOST_VALUES:
                raise Refusal(
                    f"line {self._line_number} (row {self.count}) has more than {MOST_VALUES:,} commas",
                    "check the line ends and quotes of the file",
                )
            if self._size > self.limits.line_bytes:
                started = self._line_number - self._lines + 1
                raise Refusal(
                    f"the record that begins in line {started} (row {self.count}) is longer than"
                    f" {self.limits.line_bytes} bytes",
                    "check the quotes of the file: one that is opened there may never be closed",
                )
            yield line

    def _problem(self) -> str:
        while self.doubts and self.doubts[0].last_line < self._line_number:
            self.doubts = self.doubts[1:]
        if self.doubts and self.doubts[0].first_line <= self._line_number:
            return self.doubts[0].problem
        return ""

    def _keep(self, line: str) -> None:
        """Keep a line of the record, in one text because a list of short lines takes many times more memory."""
        if self._lines == 0:
            self._text = line
        else:
            if self._more is None:
                self._more = StringIO(newline="")
                self._more.write(self._text)
            self._more.write(line)
        self._lines += 1
        self._size += len(line)

    def _take(self) -> str:
        text = self._text if self._more is None else self._more.getvalue()
        self._text, self._more = "", None
        self._size = self._lines = 0
        return text

    def __iter__(self) -> Iterator[_Record]:
        csv.field_size_limit(self.limits.line_bytes)
        while True:
            self._apart = None
            rows = csv.reader(self._physical_lines(), strict=True)
            try:
                for fields in rows:
                    text = self._take()
                    if not fields:
                        self.blank += 1
                        continue
                    self.count += 1
                    # Whoever reads the header judges its quotes.
                    if self.count > 1 and '"' in text and not is_well_formed(text):
                        raise _InDoubt
                    yield _Record(self.count - 1, fields, None, text)
            except csv.Error as error:
                yield self._broken(error)
                continue
            if self._apart is None:
                return
            line, problem = self._apart
            self.count += 1
            yield _Record(self.count - 1, _fields(line), problem, line)

    def _broken(self, error: csv.Error) -> _Record:
        """Return a record that is not CSV for a reason other than its quotes.

        Raises:
            Refusal: If it cannot be decided where it ends.
            _InDoubt: If its quotes make it doubtful where it ends.
        """
        self.count += 1
        lines = self._lines
        started = self._line_number - lines + 1
        text = self._take()
        if self.count == 1 and lines == 1 and "unexpected end of data" not in str(error):
            return _Record(0, [], "text after a closing quote", text)
        if lines != 1 or "unexpected end of data" in str(error):
            raise not_closed(text, started, self.count - 1) from error
        if "expected after" in str(error):
            raise _InDoubt from error
        return _Record(self.count - 1, _fields(text), str(error), text)


def _fields(line: str) -> list[str]:
    """Return the fields of a line, for people, as far as they can be separated."""
    try:
        return next(csv.reader([line], strict=False), [])
    except csv.Error:
        return []
