"""What a reader of one format passes on: a checked file, ready to be loaded, and its counts.

The types that all readers share, the writers of Parquet files of our own, and the removal of personal data from
rows that are stored only to be shown belong here. What is particular to a format does not.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self, TypedDict

from dagster_project.arrival.report import Limits, Refusal
from dagster_project.feeds import Column, Feed, value_types

if TYPE_CHECKING:
    import pyarrow as pa

ROW_NUMBER = "row_number"
BATCH_ROWS = 20_000
BATCH_BYTES = 32 * 1024 * 1024
MOST_VALUES = 200_000
"""The most values in a long record; more would take many times its size in memory."""
SHOWN_CHARACTERS = 20_000
SHOWN_FIELDS = 200
_MOST_TOLD = 5
"""The most columns that a note names."""
_MOST_QUOTED = 10
"""The most columns that a refusal names."""
REMOVED = "[removed]"
SWALLOWED = "(not shown: it has control characters)"
NOTHING_GIVEN: Mapping[str, str | None] = MappingProxyType({})
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DAY_OR_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?)?"
)


@dataclass(frozen=True)
class PlainCsv:
    """A CSV file that DuckDB's reader cannot read differently from the standard csv module.

    It has no quote character, one kind of line end, no blank line, no NUL and the right number of
    fields in every line.

    Attributes:
        path: The file.
        header: The names in its header, in order.
        samples: Some rows by their number, with their fields as the file has them, to verify that
            what was loaded is in order.
        has_null_marks: Whether the file has the mark of databases for null anywhere.
        given: Columns that the folder of the file gives, with the value of all its rows.
    """

    path: Path
    header: tuple[str, ...]
    samples: Mapping[int, tuple[str, ...]]
    has_null_marks: bool = False
    given: Mapping[str, str | None] = field(default_factory=dict)


Form = Literal["text", "values", "local_values"]
"""What a Parquet file of our own holds: every column as text, or columns of the `VALUE_TYPES` as values.
They are local values if instants have no time zone."""
FORMS: Final[tuple[Form, ...]] = ("text", "values", "local_values")
VALUE_TYPES: Final = frozenset({"boolean", "whole", "decimal", "amount", "date", "instant"})
IS_PLAIN: Final = "is_plain"
"""The column of a file of values that is true if a row's values need not be checked one by one. It is true for all rows
of a batch in which no value is rejected by staging or noted by arrival on its own (`is_plain`), which are nearly all
batches. False says nothing about a row."""
MOST_ID_BYTES: Final = 200
_UNUSUAL_IN_ID = bytes([*range(32), 127])
AMOUNT_PLACES: Final = 2
"""An amount as a value is in hundredths, whatever its currency."""
WHOLE_ROWS: Final = 200_000
SAMPLE_ROWS: Final = 50_000


def has_values(column: Column) -> bool:
    """Return whether a file of values holds values in a column."""
    return column.type in VALUE_TYPES


@dataclass(frozen=True)
class OwnParquet:
    """A Parquet file of our own: row_number and every column of the feed.

    A value in a file of values is exactly what its text would be read as, in the unit of the typed column; a
    file that has any other value holds text.

    Attributes:
        path: The file.
        form: What it holds.
        sample: A file of the same form with the rows that the supplier's gate looks at (`sample_step`); None if
            it was not written, or the gate looks at all rows.
    """

    path: Path
    form: Form = "text"
    sample: Path | None = None


@dataclass(frozen=True)
class Prepared:
    """One delivery, checked and ready to be loaded.

    Attributes:
        source: Where its rows are.
        physical_rows: Records in the file, malformed ones included, blank lines not.
        blank_rows: Blank lines.
        malformed_rows: Records without the right number of fields, or not readable as a record.
        malformed: Parquet file of these (row_number, reason, record), None if there are none.
        absent_columns: Columns of the feed that the file does not have.
        unknown_columns: Columns of the file that the feed does not have.
    """

    source: PlainCsv | OwnParquet
    physical_rows: int
    blank_rows: int = 0
    malformed_rows: int = 0
    malformed: Path | None = None
    absent_columns: tuple[str, ...] = ()
    unknown_columns: tuple[str, ...] = ()

    @property
    def good_rows(self) -> int:
        """Records to be loaded."""
        return self.physical_rows - self.malformed_rows


def sample_step(rows: int) -> int:
    """Return the number by which a row's number is divisible if the supplier's gate looks at the row.

    Args:
        rows: How many rows the file has.
    """
    return 1 if rows <= WHOLE_ROWS else -(-rows // SAMPLE_ROWS)


class Columns(TypedDict):
    """Which columns a file has and lacks, for `Prepared`."""

    absent_columns: tuple[str, ...]
    unknown_columns: tuple[str, ...]


def columns_of(feed: Feed, names: Iterable[str], given: Mapping[str, str | None]) -> Columns:
    """Return which columns of a feed a file lacks, and which the feed does not have.

    Args:
        feed: The feed.
        names: The names of the file's columns, in order.
        given: Columns that its folder gives.
    """
    found = dict.fromkeys((*names, *given))
    return Columns(
        absent_columns=tuple(name for name in feed.column_names if name not in found),
        unknown_columns=tuple(name for name in found if name not in feed.column_names),
    )


def check_names(
    feed: Feed,
    names: Sequence[str],
    limits: Limits,
    *,
    has_header: bool = False,
    given: Mapping[str, str | None] = NOTHING_GIVEN,
) -> None:
    """Refuse a file by the names of its columns.

    Args:
        feed: The feed it is delivered for.
        names: The names, in order.
        limits: How many columns there may be.
        has_header: Whether the names are in a header, with commas between them.
        given: Columns that the folder of the file gives.

    Raises:
        Refusal: If there are too many, one occurs twice, or a required one is missing.
    """
    if len(names) > limits.columns:
        raise Refusal(
            f"{len(names)} columns, more than the {limits.columns} allowed",
            "check that the file is delimited by commas and has one header"
            if has_header
            else "deliver the columns of the feed only",
        )
    seen = set(names)
    both = [name for name in given if name in seen]
    if both:
        raise Refusal(
            f"its folder and the file itself give {quoted(both)}",
            "deliver the column once: leave it out of the file, or rename the folder",
        )
    missing = [name for name in feed.required_names if name not in seen and name not in given]
    twice = [name for name, times in Counter(names).items() if times > 1]
    reasons, remedies = [], []
    if missing:
        likes = [
            f"{found!r} looks like {name}"
            for found, name in _likes(feed, missing, sorted(seen - set(feed.column_names)))
        ]
        hint = f" ({'; '.join(likes)})" if likes else ""
        columns = "column" if len(missing) == 1 else "columns"
        reasons.append(f"missing required {columns} {', '.join(missing)}{hint}")
        remedies.append(
            f"deliver all of {', '.join(feed.required_names)}, named exactly so"
            + (" in the header" if has_header else "")
        )
    if twice:
        reasons.append(
            f"{'header has' if has_header else 'it has columns'} {quoted(twice)} more than once"
        )
        remedies.append("deliver each column once, under its own name")
    if reasons:
        raise Refusal("; ".join(reasons), "; ".join(remedies))


def _likes(feed: Feed, absent: Iterable[str], names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the names that look like an absent column, each with the column most like it."""
    lacking = list(absent)
    return [
        (found, name)
        for found in list(names)[:500]
        for name in difflib.get_close_matches(found.strip().lower(), lacking, 1, 0.75)
        if _says_the_same(feed, found, name)
    ]


def _says_the_same(feed: Feed, found: str, name: str) -> bool:
    """Return whether no word of a name contradicts a column's, as in `net_amount` and `tax_amount`.

    A name that is only a part of the column's must be a part of no other: `issued`, but not `amount`.
    """
    given, wanted = (re.findall(r"[a-z0-9]+", text.lower()) for text in (found, name))
    other, missing = set(given) - set(wanted), set(wanted) - set(given)
    if not other:
        return sum(set(given) <= set(column.split("_")) for column in feed.column_names) == 1
    return (
        not missing
        or "".join(given) == "".join(wanted)
        or all(difflib.get_close_matches(word, missing, 1) for word in other)
    )


def note_of_unknown(feed: Feed, prepared: Prepared) -> str | None:
    """Return a note on a file's columns that the feed does not have, first those that resemble one that it has.

    Args:
        feed: The feed of the file.
        prepared: The columns that the file has and lacks.

    Returns:
        The note; None if there is no such column.
    """
    unknown = prepared.unknown_columns
    if not unknown:
        return None
    likes = dict(_likes(feed, prepared.absent_columns, unknown))
    told = [f"{_listed(name)} looks like {column}" for name, column in likes.items()]
    told += [_listed(name) for name in unknown if name not in likes][
        : max(0, _MOST_TOLD - len(told))
    ]
    more = len(unknown) - len(told)
    listed = ", ".join([*told, f"and {more:,} more"] if more else told)
    return f"ignored, since the feed has no such column: {listed}"


def _listed(name: str) -> str:
    """Return a name without commas and semicolons, which separate the parts of a note."""
    return repr(re.sub(r"[,;]", " ", name[:60]))


def quoted(names: Sequence[str]) -> str:
    """Return names for a message: the first few, quoted."""
    shown = ", ".join(repr(name[:60]) for name in names[:_MOST_QUOTED])
    more = len(names) - _MOST_QUOTED
    return shown + (f" and {more} more" if more > 0 else "")


def shown_fields(feed: Feed, fields: Sequence[str]) -> str:
    """Return a malformed row of a delimited file as a JSON array, personal data removed.

    Which field is which is not known, because fields may have been lost, added or run together. If the
    feed has personal data, only fields that cannot be personal are shown: empty ones, days and instants,
    and the values of the feed's enums and booleans.
    """
    harmless = _harmless_values(feed) if _has_personal(feed) else None
    most = _most_characters(len(fields))
    shown = [
        shortened(value, most)
        if harmless is None or value in harmless or _DAY_OR_INSTANT.fullmatch(value)
        else REMOVED
        for value in fields[:SHOWN_FIELDS]
    ]
    if len(fields) > SHOWN_FIELDS:
        shown.append(f"… ({len(fields)} fields)")
    return json.dumps(shown)


def shown_object(feed: Feed, entries: Sequence[tuple[str, object]]) -> str:
    """Return a malformed row of named values as a JSON object, personal data removed.

    If the feed has personal data, an unknown column may hold some under another name, and a value with a
    line break or another control character may have swallowed some.
    """
    most = _most_characters(len(entries))
    parts = (
        f"{json.dumps(shortened(name, most))}: {json.dumps(_shown_value(feed, name, value, most))}"
        for name, value in entries[:SHOWN_FIELDS]
    )
    return "{" + ", ".join(parts) + "}"


def _shown_value(feed: Feed, name: str, value: object, most: int) -> object:
    if _has_personal(feed):
        if not any(column.name == name and not column.personal for column in feed.columns):
            return REMOVED
        if isinstance(value, str) and _CONTROL_CHARACTER.search(value):
            return SWALLOWED
    return _shortened_value(value, most)


def _has_personal(feed: Feed) -> bool:
    return any(column.personal for column in feed.columns)


def _harmless_values(feed: Feed) -> frozenset[str]:
    values = {value for column in feed.columns for value in column.values}
    return frozenset(values | {"", "true", "false"})


def shown_text(feed: Feed, text: str) -> str:
    """Return, as a JSON string, a line that cannot be parsed, withheld if it may hold personal data."""
    if _has_personal(feed):
        return json.dumps("[not shown: it cannot be read and may hold personal data]")
    return json.dumps(shortened(text))


def shortened(text: str, most: int = SHOWN_CHARACTERS) -> str:
    """Return a text short enough to be shown; the archive has all of it."""
    if len(text) <= most:
        return text
    return f"{text[:most]}… ({len(text)} characters)"


def _most_characters(fields: int) -> int:
    """Return how much of each of so many fields is shown, so that a row stays readable."""
    return max(SHOWN_CHARACTERS // max(fields, 1), 200)


def _shortened_value(value: object, most: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    return shortened(value if isinstance(value, str) else str(value), most)


class RowWriter:
    """A writer of the good rows of one delivery to a Parquet file of our own."""

    def __init__(
        self,
        path: Path,
        feed: Feed,
        given: Mapping[str, str | None] = NOTHING_GIVEN,
        form: Form = "text",
    ) -> None:
        """Open the file.

        Args:
            path: File to write.
            feed: Its columns are the columns of the file, after row_number.
            given: Columns of text with one value for all rows.
            form: What the file holds.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._names = feed.column_names
        self._given = {name: value for name, value in given.items() if value}
        values = set() if form == "text" else set(filter(has_values, feed.columns))
        few = few_values(feed) - {column.name for column in values}
        by_value = pa.dictionary(pa.int32(), pa.string())
        kinds = {
            column.name: stored_type(column)
            if column in values
            else by_value
            if column.name in few
            else pa.string()
            for column in feed.columns
        }
        self._columns = feed.columns
        self._says_what_is_plain = form != "text"
        said = [(IS_PLAIN, pa.bool_())] if self._says_what_is_plain else []
        self._schema = pa.schema([(ROW_NUMBER, pa.int64()), *kinds.items(), *said])
        numbers = [
            field.name
            for field in self._schema
            if not _is_text(field.type) and field.type != pa.bool_()
        ]
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            compression="lz4",
            use_dictionary=list(few),
            column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
            write_statistics=[ROW_NUMBER, *(name for name, _ in said)],
            store_schema=False,  # columns with few values are text to any reader
        )
        self.rows = 0

    def write(
        self,
        row_numbers: Sequence[int] | pa.Array,
        columns: Mapping[str, Sequence[str | None] | pa.Array],
    ) -> None:
        """Write a batch; a column left out is all null, an empty text becomes null."""
        import pyarrow as pa

        if len(row_numbers) == 0:
            return
        arrays = [_array(row_numbers, pa.int64())]
        for name, kind in zip(self._names, self._schema.types[1:], strict=False):
            if name in columns and not _is_text(kind):
                arrays.append(_array(columns[name], kind))
            elif name in columns:
                texts = _none_empty(_array(columns[name], pa.string()))
                arrays.append(texts.cast(kind))
            elif name in self._given:
                texts = pa.repeat(pa.scalar(self._given[name], pa.string()), len(row_numbers))
                arrays.append(texts.cast(kind))
            else:
                arrays.append(pa.nulls(len(row_numbers), kind))
        if self._says_what_is_plain:
            plain = all(map(is_plain, self._columns, arrays[1:]))
            arrays.append(pa.repeat(pa.scalar(plain), len(row_numbers)))
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        self.rows += len(row_numbers)

    def __enter__(self) -> Self:
        """Use as a context."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._writer.close()


def is_plain(column: Column, values: pa.Array) -> bool:
    """Return whether a batch has no value for which staging rejects its row, or that arrival notes.

    Staging always judges what this does not look at: amounts in currencies without two decimal places, the currency,
    instants without a time zone, and values in relation to others. The macros of `dbt/macros/feeds.sql` define what is
    rejected; a test compares.

    Args:
        column: The column.
        values: Its texts or, if it is of the `VALUE_TYPES`, its values.
    """
    if column.required and values.null_count:
        return False
    if has_values(column):
        return _is_in_range(column, values)
    if column.type == "id":
        return has_plain_ids(values)
    if column.type == "enum":
        return set(values.dictionary.to_pylist()) <= {*column.values, None}
    return not has_words(values)


def _is_in_range(column: Column, values: pa.Array) -> bool:
    """Return whether all values, numbers of the smallest unit of their type, are in the range of their column."""
    import pyarrow.compute as pc

    least, most, above = column.minimum, column.maximum, column.exclusive_minimum
    if least is None and most is None and above is None:
        return True
    found = pc.min_max(values).as_py()
    if found["min"] is None:
        return True
    return (
        (least is None or found["min"] >= least)
        and (above is None or found["min"] > above)
        and (most is None or found["max"] <= most * 10 ** (column.places or 0))
    )


def has_plain_ids(ids: pa.Array) -> bool:
    """Return whether no id of a batch has anything for which a row can be rejected, or that is worth a note.

    All bytes are checked together, which takes a tenth of the time of a pattern for each id.

    Args:
        ids: The ids, as text.
    """
    import pyarrow.compute as pc

    longest = pc.max(pc.binary_length(ids))
    if not longest.is_valid:
        return True
    if longest.as_py() > MOST_ID_BYTES or has_words(ids):
        return False
    _, offsets, data = ids.buffers()
    places = memoryview(offsets).cast("i")
    first, last = places[ids.offset], places[ids.offset + len(ids)]
    text = data.slice(first, last - first).to_pybytes()
    return (
        text.isascii()
        and b"." not in text  # as in a number that went through a float
        and len(text.translate(None, _UNUSUAL_IN_ID)) == len(text)
    )


def has_words(texts: pa.Array) -> bool:
    """Return whether one of the texts is a word for a missing value, or may stand for one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(texts.type):
        texts = texts.dictionary
    words = words_for_missing()
    shortest = pc.min(pc.binary_length(texts))
    if not shortest.is_valid or shortest.as_py() > max(map(len, words)):
        return False
    found = pc.is_in(texts, value_set=pa.array(words, pa.string()))
    return bool(pc.any(found).as_py())


def words_for_missing() -> list[str]:
    """Return the words for which, as a value, a row is rejected or noted."""
    types = value_types()
    return [*types["missing_words"], *types["noted_words"]]


def stored_type(column: Column) -> pa.DataType:
    """Return the type in which a file of values holds a column of the `VALUE_TYPES`.

    Args:
        column: The column; an amount or decimal is stored as a whole number of its smallest unit.
    """
    import pyarrow as pa

    if column.type == "boolean":
        return pa.bool_()
    if column.type == "date":
        return pa.date32()
    if column.type == "instant":
        return pa.timestamp("us")
    return pa.int64()


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_dictionary(kind))


def few_values(feed: Feed) -> frozenset[str]:
    """Return the columns with few values, which are dictionary-encoded so readers see each once."""
    return frozenset(
        column.name for column in feed.columns if column.type not in ("id", "instant", "text")
    )


def _array(values: Sequence[int] | Sequence[str | None] | pa.Array, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _none_empty(values: pa.Array) -> pa.Array:
    """Return the texts with null for each empty one; usually none is empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    is_by_value = pa.types.is_dictionary(values.type)
    texts = values.dictionary if is_by_value else values
    if pc.min(pc.binary_length(texts)).as_py() != 0:
        return values
    if is_by_value:
        values = values.dictionary_decode()
    return pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)


@dataclass
class MalformedWriter:
    """A collector of malformed rows that writes them to a Parquet file, if there are any."""

    path: Path
    rows: int = 0
    _batch: list[tuple[int, str, str]] = field(default_factory=list)
    _bytes: int = 0
    _writer: object | None = None

    def add(self, row_number: int, reason: str, record: str) -> None:
        """Keep one malformed row.

        Args:
            row_number: Its number in the file.
            reason: What is wrong with it.
            record: The row as delivered, personal data removed, as JSON.
        """
        self._batch.append((row_number, reason, record))
        self.rows += 1
        self._bytes += len(record)
        if len(self._batch) >= BATCH_ROWS or self._bytes > BATCH_BYTES:
            self._flush()

    def close(self) -> Path | None:
        """Write what is left, and return the file, or None if there is no malformed row."""
        self._flush()
        if self._writer is None:
            return None
        self._writer.close()  # type: ignore[attr-defined]
        return self.path

    def _flush(self) -> None:
        if not self._batch:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema(
            [(ROW_NUMBER, pa.int64()), ("reason", pa.string()), ("record", pa.string())]
        )
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, schema, compression="lz4")
        arrays = [
            pa.array(values, kind.type)
            for values, kind in zip(zip(*self._batch, strict=True), schema, strict=True)
        ]
        self._writer.write_batch(pa.record_batch(arrays, schema=schema))  # type: ignore[attr-defined]
        self._batch.clear()
        self._bytes = 0
