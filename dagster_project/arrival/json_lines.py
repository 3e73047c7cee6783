"""Reading JSON: an object per line or one array of objects; a value is text, a number, true, false or null.

What is particular to JSON belongs here. An array is read as a stream. Numbers keep the digits they were
written with, unless the digits only spell out the double that a tool had for an amount. A column that the
feed does not have may hold anything.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TextIO

from dagster_project.arrival.delimited import check_text
from dagster_project.arrival.report import MEBIBYTE, Limits, Refusal
from dagster_project.arrival.rows import (
    BATCH_BYTES,
    BATCH_ROWS,
    MOST_VALUES,
    NOTHING_GIVEN,
    MalformedWriter,
    OwnParquet,
    Prepared,
    RowWriter,
    check_names,
    columns_of,
    shown_object,
    shown_text,
)
from dagster_project.feeds import Feed

UNKNOWN_COLUMNS_KEPT = 1_000
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BLANKS = b" \t\r\n"
BLANK_CHARACTERS = BLANKS.decode()
HEAD_BYTES = 4096
ARRAY_BLOCK = MEBIBYTE
LONG_CHARACTERS = MEBIBYTE
MOST_NAMES = 100
"""The most names of a record in a batch; of a record with more, only the columns of the feed are kept."""
MOST_FLOAT_CHARACTERS = 60
MOST_EXPONENT = 60
MOST_WHOLE_DOUBLE = 2**53
MOST_CENTS_DOUBLE = 2**46
"""From here on the next double is more than a hundredth away."""
DOUBLE_DIGITS = 17
"""So many digits distinguish every double from all others."""
SLIP = 1_000
"""SQLite is off by less than the distance between two doubles divided by this."""
SHAPE_REMEDY = (
    'write one object for each row (pandas: to_json(orient="records", lines=True); ClickHouse: format'
    " JSONEachRow)"
)
_BLANK = re.compile(r"[ \t\r\n]*")


class _Number(str):
    """The digits of a number, distinguished from a text where that matters."""


class _Float(_Number):
    """A number with a point or an exponent."""


class _Malformed(Exception):
    """A line is not a record; the error says why and how the line may be shown."""

    def __init__(self, reason: str, shown: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.shown = shown


def prepare_json(
    path: Path,
    feed: Feed,
    limits: Limits,
    rows_path: Path,
    given: Mapping[str, str | None] = NOTHING_GIVEN,
) -> Prepared:
    """Check a file of JSON, lines or one array, and write its rows to Parquet.

    Args:
        path: The file, unpacked.
        feed: The feed it is delivered for.
        limits: How long a record may be.
        rows_path: Where rows are written; a second file is written beside it.
        given: Columns that the folder of the file gives, with the value of all its rows.

    Returns:
        Its rows as Parquet, with counts.

    Raises:
        Refusal: If the file as a whole cannot be loaded; a required name that occurs in no record is a
            missing column.
    """
    is_array = _is_array(path)
    check_text(path, limits, () if is_array else (b"\n",))
    malformed = MalformedWriter(rows_path.with_suffix(".malformed"))
    seen: dict[str, None] = {}
    count = blank = size = 0
    other_shape: Refusal | None = None
    numbers: list[int] = []
    batch: list[dict[str, str | None]] = []
    with RowWriter(rows_path, feed, given) as writer:
        for text in _elements(path, limits) if is_array else _lines(path):
            if not text or text.isspace():
                blank += 1
                continue
            count += 1
            if count == 1:
                other_shape = _other_shape(text, feed)
            try:
                record = _record(text, feed)
            except _Malformed as problem:
                if not is_array and _has_doubled_backslashes(text):
                    raise Refusal(
                        f"row {count} is not JSON: its backslashes are doubled, and so are those in"
                        " other rows",
                        "export JSON without escaping it again (Postgres: psql -At -c, or copy … with"
                        " (format csv, quote e'\\x01', delimiter e'\\x02'), in place of copy's text"
                        " format)",
                    ) from problem
                if not is_array and count == 1 and text.strip() == "{":
                    raise Refusal(
                        "its first line is only the beginning of an object: objects span several lines",
                        "write each object in a line of its own (jq: -c; pandas: lines=True), or all in"
                        " one array",
                    ) from problem
                malformed.add(count, problem.reason, problem.shown)
                continue
            if len(seen) < UNKNOWN_COLUMNS_KEPT:
                seen.update(dict.fromkeys(record))
            else:
                seen.update((name, None) for name in record if name in feed.column_names)
            if len(record) > MOST_NAMES:
                record = {name: record[name] for name in feed.column_names if name in record}
            numbers.append(count)
            batch.append(record)
            size += len(text)
            if len(batch) >= BATCH_ROWS or size > BATCH_BYTES:
                _write_batch(writer, feed, seen, numbers, batch)
                size = 0
        _write_batch(writer, feed, seen, numbers, batch)
    if count == 0 and not is_array:
        has = "is empty" if path.stat().st_size == 0 else "has only blank lines"
        raise Refusal(f"the file {has}", "deliver at least one record")
    if other_shape is not None and (count == 1 or not writer.rows):
        raise other_shape
    if writer.rows:
        check_names(feed, list(seen), limits, given=given)
    columns = columns_of(feed, seen, given)
    if not writer.rows:
        columns["absent_columns"] = ()
    return Prepared(
        source=OwnParquet(rows_path),
        physical_rows=count,
        blank_rows=blank,
        malformed_rows=malformed.rows,
        malformed=malformed.close(),
        **columns,
    )


def _is_array(path: Path) -> bool:
    """Return whether the first byte that is not blank, after a byte-order mark, opens an array."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES).removeprefix(BYTE_ORDER_MARK)
        while head and not head.strip(BLANKS):
            head = file.read(HEAD_BYTES)
        return head.strip(BLANKS).startswith(b"[")


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        if file.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
            file.seek(0)
        for line in file:
            text = line.decode().strip(BLANK_CHARACTERS)
            if "\r" in text:  # values can only have it escaped
                yield from (part.strip(BLANK_CHARACTERS) for part in text.split("\r"))
            else:
                yield text


def _elements(path: Path, limits: Limits) -> Iterator[str]:
    """Yield the elements of an array, each as its text, read as a stream.

    Raises:
        Refusal: If the file is not one array of JSON, because what follows cannot be split into records.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        stream = _Stream(file, limits.line_bytes)
        stream.take()  # the bracket
        number = 1
        while stream.next_character(number) != "]":
            if number > 1:
                if stream.take() != ",":
                    raise _not_json(number, "a comma or the end of the array is expected")
                if stream.next_character(number) == "]":
                    raise Refusal(
                        f"the array ends with a comma, after row {number - 1}",
                        "leave that comma out; if rows are missing after it, deliver it again, complete",
                    )
            yield stream.value(number)
            number += 1
        stream.take()
        if not stream.is_at_end():
            raise _not_json(number, "something follows the end of the array")


@dataclass
class _Stream:
    """The text of a file; at most one record is in memory."""

    file: TextIO
    most_characters: int
    _text: str = ""
    _place: int = 0

    def take(self) -> str:
        """Take the next character that is not blank; there must be one."""
        self._skip_blanks()
        self._place += 1
        return self._text[self._place - 1]

    def is_at_end(self) -> bool:
        """Return whether only blanks follow."""
        self._skip_blanks()
        return self._place >= len(self._text)

    def next_character(self, number: int) -> str:
        """Return the next character that is not blank, without taking it."""
        if self.is_at_end():
            place = f"after row {number - 1}" if number > 1 else "before its first row"
            raise _not_closed(place)
        return self._text[self._place]

    def value(self, number: int) -> str:
        """Return the text of the next value.

        Raises:
            Refusal: If it is not JSON, not closed, or too long.
        """
        while True:
            try:
                _, end = _SKIPPER.raw_decode(self._text, self._place)
            except RecursionError as error:
                raise _not_json(number, "nested too deeply to be read") from error
            except ValueError as error:
                held = len(self._text) - self._place
                if held > LONG_CHARACTERS and self._text.count(",", self._place) > MOST_VALUES:
                    raise Refusal(
                        f"row {number} has more than {MOST_VALUES:,} values, or is not JSON",
                        "deliver the columns of the feed only, and check the quotes of the file",
                    ) from error
                is_too_long = held > self.most_characters
                if not is_too_long and self._more():
                    continue
                if is_too_long:
                    raise Refusal(
                        f"row {number} is longer than {self.most_characters} characters, or not JSON",
                        "deliver the columns of the feed only, and check the quotes of the file",
                    ) from error
                if isinstance(error, json.JSONDecodeError) and _is_cut(error):
                    raise _not_closed(f"within row {number}") from error
                why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                raise _not_json(number, why) from error
            if end >= len(self._text) and self._more():
                continue  # a number may go on
            text = self._text[self._place : end]
            self._place = end
            return text

    def _skip_blanks(self) -> None:
        while True:
            match = _BLANK.match(self._text, self._place)
            assert match is not None, "it matches nothing, too"
            self._place = match.end()
            if self._place < len(self._text) or not self._more():
                return

    def _more(self) -> bool:
        """Read another block, and return whether there was one."""
        block = self.file.read(ARRAY_BLOCK)
        self._text = self._text[self._place :] + block
        self._place = 0
        return bool(block)


def _not_closed(place: str) -> Refusal:
    return Refusal(f"the array is not closed: the file ends {place}", "deliver it again, complete")


def _is_cut(error: json.JSONDecodeError) -> bool:
    """Return whether a text is not JSON only because it is cut off."""
    if error.msg.startswith("Unterminated string"):
        return True
    rest = error.doc[error.pos :].strip(BLANK_CHARACTERS)
    return not rest or _CUT.fullmatch(rest) is not None


def _not_json(number: int, why: str) -> Refusal:
    return Refusal(
        f"the array is not JSON in row {number} ({why}), so no record after it can be read",
        "deliver it again as one JSON array, or one record a line as .jsonl",
    )


def _write_batch(
    writer: RowWriter,
    feed: Feed,
    seen: Container[str],
    numbers: list[int],
    batch: list[dict[str, str | None]],
) -> None:
    writer.write(
        numbers,
        {
            name: [record.get(name) for record in batch]
            for name in feed.column_names
            if name in seen
        },
    )
    numbers.clear()
    batch.clear()


def _refuse_constant(name: str) -> str:
    raise ValueError(f"{name} is not JSON")


class _Pairs(list[tuple[str, object]]):
    """The entries of an object, in order, repeated names included."""


_CUT = re.compile(
    r"u[0-9a-fA-F]{0,4}|t(ru?)?|f(a(ls?)?)?|n(ul?)?|-|[.]|[eE][+-]?"  # of an escape, a word, a number
)
_SKIPPER = json.JSONDecoder(parse_int=len, parse_float=len)
"""Finds where a value ends, whatever the value is."""
_DECODER = json.JSONDecoder(
    object_pairs_hook=_Pairs,
    parse_float=_Float,
    parse_int=_Number,
    parse_constant=_refuse_constant,
)


def _other_shape(text: str, feed: Feed) -> Refusal | None:
    """Return the refusal of a file whose first value does not have one object per row."""
    if len(text) > LONG_CHARACTERS:
        return None
    try:
        first = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(first, list):
        return None
    if not isinstance(first, _Pairs):
        return Refusal("its rows are arrays, without the names of their columns", SHAPE_REMEDY)
    known = [value for name, value in first if name in feed.column_names]
    if known:
        if all(isinstance(value, _Pairs) for value in known):
            return Refusal("its first object has columns, not rows", SHAPE_REMEDY)
        return None
    if len(first) > 1 and all(_is_row(value, feed) for _, value in first):
        return Refusal(
            "its rows are values of one object, each under a key of its own", SHAPE_REMEDY
        )
    below = next((name for name, value in first if isinstance(value, list) and value), None)
    if below is None:
        return None
    return Refusal(
        f"its first object is no row: the rows may be in its {below[:60]!r}",
        f"deliver what is in it alone; or {SHAPE_REMEDY}",
    )


def _is_row(value: object, feed: Feed) -> bool:
    return isinstance(value, _Pairs) and any(name in feed.column_names for name, _ in value)


def _record(text: str, feed: Feed) -> dict[str, str | None]:
    if len(text) > LONG_CHARACTERS and text.count(",") > MOST_VALUES:
        raise _Malformed(f"more than {MOST_VALUES:,} values in one record", shown_text(feed, text))
    try:
        entries = _DECODER.decode(text)
    except RecursionError as error:
        raise _Malformed("nested too deeply to be read", shown_text(feed, text)) from error
    except ValueError as error:
        why = str(error)
        if isinstance(error, json.JSONDecodeError):
            why, rest = error.msg, text[error.pos :].strip(BLANK_CHARACTERS)
            if _is_cut(error) and text.lstrip(BLANK_CHARACTERS).startswith("{"):
                why = "the line ends before the object does"
            if (why, rest) == ("Extra data", ",") and text.lstrip(BLANK_CHARACTERS).startswith("{"):
                why = "a comma ends the line: leave it out, or put [ and ] around all rows"
        raise _Malformed(f"not JSON ({why})", shown_text(feed, text)) from error
    if not isinstance(entries, _Pairs):
        raise _Malformed("not a JSON object", shown_text(feed, text))
    record: dict[str, str | None] = {}
    for name, value in entries:
        if isinstance(value, _Float):
            record[name] = _float_text(value, feed, name)
        elif isinstance(value, str):
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
        times = Counter(name for name, _ in entries)
        twice = next(name for name, count in times.items() if count > 1)
        raise _Malformed(f"{twice[:60]!r} occurs twice", _shown(feed, entries))
    if "\\u" in text and not _is_unicode(record):
        raise _Malformed("half of a surrogate pair: not valid Unicode", _shown(feed, entries))
    return record


def _float_text(number: str, feed: Feed, name: str) -> str:
    """Return a number with a point or exponent as digits, unless its exponent is large.

    Java writes a double of ten million as 1.0E7. An id that is such a double then ends in .0, which shows
    that it went through a float.
    """
    if "e" not in number and "E" not in number:
        return _spelt_out(number, feed, name) if len(number) > DOUBLE_DIGITS else number
    if name not in feed.column_names or len(number) > MOST_FLOAT_CHARACTERS:
        return number
    value = Decimal(number)
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or abs(exponent) > MOST_EXPONENT:
        return number
    if value == value.to_integral_value() and abs(value) >= MOST_WHOLE_DOUBLE:
        return number  # a double does not hold such a number to the last digit
    digits = f"{value:f}"
    return digits if "." in digits else f"{digits}.0"


def _spelt_out(number: str, feed: Feed, name: str) -> str:
    """Return the text, for its column, of a number with more digits than distinguish doubles.

    A whole number that a double does not hold to the last digit gets an exponent, for which its row is
    rejected.
    """
    types = {column.type for column in feed.columns if column.name == name}
    if len(number) > MOST_FLOAT_CHARACTERS:
        return number
    if "whole" in types:
        return f"{Decimal(number):e}" if abs(Decimal(number)) >= MOST_WHOLE_DOUBLE else number
    return _shortest(number) if types & {"amount", "decimal"} else number


def _shortest(number: str) -> str:
    """Return the shortest decimal of a double written with more digits than distinguish doubles.

    SQLite writes 99.9 as 99.900000000000005687, which is the double except for the last digit. A number
    that is further from the double is returned unchanged.
    """
    value, double = Decimal(number), float(number)
    exact, places = Decimal(double), len(number.partition(".")[2])
    if abs(double) >= MOST_CENTS_DOUBLE or _has_places(exact, places):
        return number  # a tool that spells out a double of so few digits writes all of them
    if abs(exact - value) >= max(Decimal(1).scaleb(-places), Decimal(math.ulp(double)) / SLIP):
        return number
    return f"{Decimal(repr(double)):f}"


def _has_places(value: Decimal, most: int) -> bool:
    """Return whether a number has at most the given number of places."""
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and -exponent <= most


def _has_doubled_backslashes(text: str) -> bool:
    """Return whether a line that is not JSON becomes an object once its backslashes are halved."""
    if '\\\\"' not in text:
        return False
    try:
        return isinstance(_DECODER.decode(text.replace("\\\\", "\\")), _Pairs)
    except (ValueError, RecursionError):
        return False


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
