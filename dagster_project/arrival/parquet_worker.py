"""The process that parses delivered Parquet files; its order comes as JSON on standard input.

The exact conversion of Parquet's types to the text a CSV delivery would have belongs here, and to values
where every value of a file is of its column's type, so that nothing has to be read from text again. The order
names the feed, the limits, and for each file its path, where its rows and the answer go, and the columns
its folder gives. An empty answer is written when a file is begun, which distinguishes a file that ends
the process from a process that never ran.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dagster_project.arrival.landing import is_own_trouble
from dagster_project.arrival.report import Limits, Refusal
from dagster_project.arrival.rows import (
    AMOUNT_PLACES,
    BATCH_BYTES,
    NOTHING_GIVEN,
    Form,
    RowWriter,
    check_names,
    columns_of,
    few_values,
    has_values,
    sample_step,
    stored_type,
)
from dagster_project.feeds import Column, Feed, feeds

GROUP_ROWS = 122_880
"""About how many rows a batch and a row group have: as many as DuckDB gives to one thread."""
READ_BYTES = 1024 * 1024
DAY_LETTERS = len("2026-01-31")
MOST_WHOLE_FLOAT, MOST_WHOLE_DOUBLE = 2**24, 2**53
"""From here on a float does not hold every whole number."""
MOST_CENTS_DOUBLE = 2**46
"""From here on a double does not distinguish one hundredth from the next."""
PLAIN_DECIMAL_SCALE = 6
"""Up to this scale Arrow writes decimals without an exponent."""
DECIMAL_PRECISION = 18
"""The most digits of a decimal that fits in 64 bits."""
DECIMAL_DIGITS, WHOLE_DIGITS = 9, 18
"""The most digits of a decimal before the point, and of a whole number."""
FIRST_DAY, LAST_DAY = -719_162, 2_932_896
"""Of the years 1 to 9999, as days since 1970."""
DAY_MICROSECONDS = 86_400_000_000

REMEDY = "write and deliver the file again"
PLAIN_REMEDY = (
    "write it with the encodings that its writer chooses, or as CSV, and deliver it again"
)

Convert = Callable[[pa.Array], pa.Array]


class NotValues(Exception):
    """A file does not hold values of its columns' types only, so its rows are stored as text."""


def main() -> None:
    """Read some files and write the rows of each and an answer."""
    order = json.loads(sys.stdin.read())
    limits = Limits(**order["limits"])
    bound_resources(limits)
    for asked in order["files"]:
        answer_path = Path(asked["answer"])
        answer_path.write_text("{}", "utf-8")
        answer = _answer(asked, feeds()[order["feed"]], limits)
        answer_path.write_text(json.dumps(answer), "utf-8")


def _answer(asked: dict[str, Any], feed: Feed, limits: Limits) -> dict[str, object]:
    """Read one file; a problem with the file is an answer, too."""
    try:
        return read_parquet(
            Path(asked["path"]),
            feed,
            limits,
            Path(asked["rows"]),
            given=asked["given"],
            sample_path=Path(asked["sample"]),
        )
    except Refusal as refusal:
        return {"refusal": [refusal.reason, refusal.remedy]}
    except MemoryError:
        return {
            "refusal": [
                f"reading it takes more than {limits.parquet_memory_bytes} bytes of memory",
                "deliver it in smaller row groups or in parts",
            ]
        }
    except Exception as error:  # noqa: BLE001 (whatever a damaged file makes the library raise)
        if is_own_trouble(error):
            return {"trouble": [os.strerror(error.errno)]}  # type: ignore[attr-defined]
        text = " ".join(str(error).split())[:300]
        remedy = PLAIN_REMEDY if text.startswith("Not yet implemented") else REMEDY
        return {"refusal": [f"unreadable Parquet ({type(error).__name__}: {text})", remedy]}


def bound_resources(limits: Limits) -> None:
    """Have the operating system enforce this process's limits."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = limits.parquet_memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def read_parquet(
    path: Path,
    feed: Feed,
    limits: Limits,
    rows_path: Path,
    given: Mapping[str, str | None] = NOTHING_GIVEN,
    sample_path: Path | None = None,
) -> dict[str, object]:
    """Convert a Parquet file to rows of values or, if it does not hold such values only, of text.

    Args:
        path: The file.
        feed: The feed it is delivered for.
        limits: How far it is trusted.
        rows_path: Where its rows are written.
        given: Columns that its folder gives.
        sample_path: Where the rows that the supplier's gate looks at are written too, if it does not look at all.

    Returns:
        rows, form, absent_columns and unknown_columns.

    Raises:
        Refusal: If a column is missing, delivered twice, or of a type that is not exact text, or
            the file unpacks beyond the limits.
    """
    with _opened(path, feed) as file:
        schema, metadata = file.schema_arrow, file.metadata
        names = schema.names
        check_names(feed, names, limits, given=given)
        converters = _converters(feed, schema)
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        unpacked = sum(group.total_byte_size for group in groups)
        most = min(
            limits.unpacked_bytes,
            max(limits.ratio_free_bytes, path.stat().st_size * limits.unpacked_ratio),
        )
        _check_unpacked(unpacked, most)
        row_bytes = max(
            (group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0
        )
        batch_rows = max(1, min(GROUP_ROWS, BATCH_BYTES // max(row_bytes, 1)))
        step = sample_step(metadata.num_rows)

        def convert_all(converters: Mapping[str, Convert], form: Form) -> int:
            count = written = 0
            with ExitStack() as opened:
                writer = opened.enter_context(RowWriter(rows_path, feed, given, form))
                sample = (
                    opened.enter_context(RowWriter(sample_path, feed, given, form))
                    if sample_path is not None and step > 1
                    else None
                )
                for batch in _batches(file, list(converters), batch_rows):
                    columns: dict[str, pa.Array] = {}
                    for name, convert in converters.items():
                        try:
                            columns[name] = convert(batch.column(name))
                        except pa.ArrowInvalid as error:
                            last = count + len(batch)
                            raise _not_converted(name, count + 1, last, error) from error
                        written += _text_bytes(columns[name])
                    _check_unpacked(written, max(most, limits.unpacked_bytes))
                    numbers = pa.arange(count + 1, count + len(batch) + 1)
                    writer.write(numbers, columns)
                    if sample is not None:
                        places = pa.arange(-(count + 1) % step, len(batch), step)
                        sample.write(
                            numbers.take(places),
                            {name: values.take(places) for name, values in columns.items()},
                        )
                    count += len(batch)
            return count

        form: Form
        try:
            to_values, form = value_converters(feed, schema, given)
            count = convert_all({**converters, **to_values}, form)
        except NotValues:
            form = "text"
            count = convert_all(converters, form)
    if count != metadata.num_rows:
        raise Refusal(f"it has {count} rows where its footer says {metadata.num_rows}", REMEDY)
    return {
        "rows": count,
        "form": form,
        **columns_of(feed, names, given),
    }


def _opened(path: Path, feed: Feed) -> pq.ParquetFile:
    """Open a file so that its columns with few values are read as dictionaries, if it holds them as texts.

    Arrow cannot read dictionaries from texts in a delta encoding.
    """
    file = pq.ParquetFile(path, buffer_size=READ_BYTES)
    few = few_values(feed) - _by_differences(file.metadata)
    texts = [
        field.name for field in file.schema_arrow if field.name in few and _has_texts(field.type)
    ]
    if not texts or len(set(file.schema_arrow.names)) < len(file.schema_arrow.names):
        return file
    file.close()
    return pq.ParquetFile(path, buffer_size=READ_BYTES, read_dictionary=texts)


def _by_differences(metadata: pq.FileMetaData) -> set[str]:
    """Return the columns that have a delta encoding in some row group."""
    return {
        column.path_in_schema
        for group in range(metadata.num_row_groups)
        for column in map(metadata.row_group(group).column, range(metadata.num_columns))
        if any(encoding.startswith("DELTA_") for encoding in column.encodings)
    }


def _batches(file: pq.ParquetFile, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file in batches of about so many.

    A dictionary ends with its row group, so small row groups are combined, and a large one is split into equal parts.
    """

    def together(groups: list[int]) -> list[pa.RecordBatch]:
        table = file.read_row_groups(groups, columns, use_threads=False)
        if len(groups) > 1:
            table = table.unify_dictionaries().combine_chunks()
        return list(table.to_batches())

    small: list[int] = []
    held = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if small and held + count > rows:
            yield from together(small)
            small, held = [], 0
        if count <= rows:
            small.append(group)
            held += count
        else:
            parts = round(count / rows)
            yield from file.iter_batches(-(-count // parts), [group], columns, use_threads=False)
    if small:
        yield from together(small)


def _not_converted(name: str, first: int, last: int, error: pa.ArrowInvalid) -> Refusal:
    """Return the refusal of a file with a column value that does not fit the column's type."""
    return Refusal(
        f"column {name} cannot be read in rows {first} to {last} ({error})",
        "write it as text in UTF-8" if "UTF8" in str(error) else REMEDY,
    )


def _converters(feed: Feed, schema: pa.Schema) -> dict[str, Convert]:
    """Return how each column of a file becomes text.

    Raises:
        Refusal: If one has a type that does not say exactly what the text would be; it names all such columns.
    """
    few = few_values(feed)
    converters: dict[str, Convert] = {}
    refusals: list[Refusal] = []
    for column in feed.columns:
        if column.name in schema.names:
            kind = schema.field(column.name).type
            try:
                converters[column.name] = text_converter(column, kind, by_value=column.name in few)
            except Refusal as refusal:
                refusals.append(refusal)
    if len(refusals) == 1:
        raise refusals[0]
    if refusals:
        named: dict[str, list[str]] = {}
        for one in refusals:
            named.setdefault(one.remedy, []).append(one.reason.split()[1])
        raise Refusal(
            "; ".join(one.reason for one in refusals),
            "; ".join(
                remedy.replace("write it", f"write {', '.join(names)}", 1)
                for remedy, names in named.items()
            ),
        )
    return converters


def value_converters(
    feed: Feed, schema: pa.Schema, given: Mapping[str, str | None] = NOTHING_GIVEN
) -> tuple[dict[str, Convert], Form]:
    """Return how each column of a file whose type is not text becomes values, and the form of its rows.

    Args:
        feed: The feed.
        schema: The file's.
        given: Columns that its folder gives.

    Raises:
        NotValues: If one is delivered as something else, or some instants have a time zone and others do not.
            The conversions raise it for a value that is not of its column's type.
    """
    converters: dict[str, Convert] = {}
    zones = set()
    for column in filter(has_values, feed.columns):
        if column.name in given:
            raise NotValues
        if column.name in schema.names:
            kind = schema.field(column.name).type
            converters[column.name] = value_converter(column, kind)
            if pa.types.is_timestamp(kind):
                zones.add(kind.tz is not None)
    if len(zones) > 1:
        raise NotValues
    return converters, "local_values" if zones == {False} else "values"


def value_converter(column: Column, kind: pa.DataType) -> Convert:
    """Return how a column of this physical type becomes values of the column's type.

    Args:
        column: The column, not of text.
        kind: Its physical type.

    Raises:
        NotValues: If the physical type does not hold such values; the conversion raises it for a value
            that the column's text may not have, or from which that text could not be derived.
    """
    if pa.types.is_null(kind):
        return lambda values: values.cast(stored_type(column))
    match column.type:
        case "boolean" if pa.types.is_boolean(kind):
            return lambda values: values
        case "whole" if pa.types.is_integer(kind):
            most = 10**WHOLE_DIGITS - 1
            return lambda values: _within(_exactly(values, pa.int64()), -most, most)
        case "whole" if _is_float(kind):
            most = (MOST_WHOLE_FLOAT if pa.types.is_float32(kind) else MOST_WHOLE_DOUBLE) - 1
            return lambda values: _within(_exactly(values, pa.int64()), -most, most)
        case "amount" | "decimal" if pa.types.is_decimal(kind):
            places = AMOUNT_PLACES if column.type == "amount" else column.places or 0
            digits = column.digits if column.type == "amount" else DECIMAL_DIGITS
            return lambda values: _least_units(values, places, digits)
        case "date" if pa.types.is_date(kind):
            return lambda values: _within(_exactly(values, pa.date32()), FIRST_DAY, LAST_DAY)
        case "instant" if pa.types.is_timestamp(kind):
            return _microseconds
    raise NotValues


def _exactly(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return the values as another type.

    Raises:
        NotValues: If a value would be lost or changed.
    """
    try:
        return values.cast(kind)
    except pa.ArrowInvalid as error:
        raise NotValues from error


def _within(values: pa.Array, least: int, most: int) -> pa.Array:
    """Return the values unchanged; whatever they stand for, they are integers of 32 or 64 bits.

    Raises:
        NotValues: If one is not between the two limits.
    """
    numbers = values.view(pa.int32() if pa.types.is_date32(values.type) else pa.int64())
    found = pc.min_max(numbers)
    if found["min"].is_valid and not (
        least <= found["min"].as_py() <= found["max"].as_py() <= most
    ):
        raise NotValues
    return values


def _least_units(values: pa.Array, places: int, digits: int) -> pa.Array:
    if _is_short_decimal(values.type):
        values = values.cast(pa.decimal128(values.type.precision, values.type.scale))
    exact = _exactly(values, pa.decimal128(DECIMAL_PRECISION, places))
    most = 10 ** (digits + places) - 1
    units = exact.cast(pa.decimal64(DECIMAL_PRECISION, places)).view(pa.int64())
    return _within(units, -most, most)


def _microseconds(values: pa.Array) -> pa.Array:
    plain = values.cast(pa.int64()).cast(pa.timestamp(values.type.unit))
    exact = _exactly(plain, pa.timestamp("us"))
    return _within(exact, FIRST_DAY * DAY_MICROSECONDS, (LAST_DAY + 1) * DAY_MICROSECONDS - 1)


def _check_unpacked(unpacked: int, most: int) -> None:
    if unpacked > most:
        raise Refusal(
            f"it unpacks to more than the {most} bytes allowed",
            "deliver it in parts",
        )


def _text_bytes(texts: pa.Array) -> int:
    """Return the size of texts when each is stored by itself."""
    if not pa.types.is_dictionary(texts.type):
        return int(texts.nbytes)
    lengths = pc.take(pc.binary_length(texts.dictionary), texts.indices)
    return int(pc.sum(lengths).as_py() or 0) + int(lengths.nbytes)


def text_converter(column: Column, kind: pa.DataType, *, by_value: bool = False) -> Convert:
    """Return how a column of this physical type becomes text.

    Args:
        column: The column.
        kind: Its physical type.
        by_value: Whether each distinct value is converted once; the texts are then a dictionary.

    Raises:
        Refusal: If the type does not say exactly what the text would be.
    """
    if pa.types.is_dictionary(kind):
        inner = text_converter(column, kind.value_type)
        if by_value:
            return lambda values: _by_value(values, inner)
        return lambda values: inner(values.dictionary_decode())
    if _is_short_decimal(kind) and column.type in ("amount", "decimal", "whole", "id"):
        wide = pa.decimal128(kind.precision, kind.scale)
        widened = text_converter(column, wide, by_value=by_value)
        return lambda values: widened(values.cast(wide))
    if by_value and not pa.types.is_null(kind):
        convert = text_converter(column, kind)
        return lambda values: _by_value(values.dictionary_encode(), convert)
    if pa.types.is_null(kind) or _has_texts(kind):
        return _checked_text
    accepted: dict[str, Sequence[tuple[Callable[[pa.DataType], bool], Convert]]] = {
        "id": [
            (pa.types.is_integer, _cast_text),
            (_is_whole_decimal, _decimal_text),
            (_is_uuid, _uuid_text),
        ],
        "whole": [
            (pa.types.is_integer, _cast_text),
            (pa.types.is_decimal, _decimal_text),
            (_is_float, _whole_float_text),
        ],
        "boolean": [(pa.types.is_boolean, _cast_text), (pa.types.is_integer, _cast_text)],
        "date": [(pa.types.is_date, _date_text), (_is_local_timestamp, _instant_text)],
        "instant": [(pa.types.is_timestamp, _instant_text), (pa.types.is_date, _date_text)],
        "amount": [
            (pa.types.is_decimal, _decimal_text),
            (pa.types.is_float64, _decimal_float_text),
        ],
        "decimal": [
            (pa.types.is_decimal, _decimal_text),
            (pa.types.is_integer, _cast_text),
            (pa.types.is_float64, _decimal_float_text),
        ],
    }
    for fits, convert in accepted.get(column.type, ()):
        if fits(kind):
            return convert
    hints = {
        "amount": "a decimal such as decimal(18, 2), a double, or text; the scale of an integer is"
        " not guessed",
        "decimal": "a decimal, a double, or text",
        "whole": "an integer, or text",
        "boolean": "a boolean, or text",
        "date": "a date, a timestamp without time zone, or text YYYY-MM-DD",
        "instant": "a timestamp, or ISO 8601 text",
        "id": "text, an integer, or a UUID",
    }
    remedy = f"write it as {hints.get(column.type, 'text')}"
    if column.type == "id" and _is_float(kind):
        remedy += " (whole numbers went through a float on their way; pandas: astype('Int64'))"
    if column.type == "instant" and pa.types.is_integer(kind):
        remedy += " (numbers since an epoch are not guessed; pandas: pd.to_datetime(…, unit=…))"
    raise Refusal(f"column {column.name} has the Parquet type {kind}", remedy)


def _by_value(values: pa.DictionaryArray, convert: Convert) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(values.indices, convert(values.dictionary))


def _has_texts(kind: pa.DataType) -> bool:
    """Return whether it is text, or bytes, as which Hive and Impala write text; the conversion checks for UTF-8."""
    return _is_text(kind) or bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_short_decimal(kind: pa.DataType) -> bool:
    """Return whether it is a decimal of 32 or 64 bits, for which Arrow lacks some functions."""
    return bool(pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind))


def _checked_text(values: pa.Array) -> pa.Array:
    values.validate(full=True)
    return values.cast(pa.string())


def _cast_text(values: pa.Array) -> pa.Array:
    return values.cast(pa.string())


def _date_text(values: pa.Array) -> pa.Array:
    return values.cast(pa.date32()).cast(pa.string())


def _instant_text(values: pa.Array) -> pa.Array:
    is_utc = values.type.tz is not None
    plain = values.cast(pa.int64()).cast(pa.timestamp(values.type.unit)) if is_utc else values
    text = plain.cast(pa.string())
    lengths = pc.min_max(pc.binary_length(text))
    if lengths["min"] == lengths["max"]:  # all years have four digits: the space is at one place
        text = pc.binary_replace_slice(text, DAY_LETTERS, DAY_LETTERS + 1, "T")
    else:
        text = pc.replace_substring(text, " ", "T")
    if plain.type.unit != "s":
        text = _without_idle_zeros(text)
    return pc.binary_join_element_wise(text, "Z", "") if is_utc else text


def _is_float(kind: pa.DataType) -> bool:
    return bool(pa.types.is_float32(kind) or pa.types.is_float64(kind))


def _is_whole_decimal(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind) and kind.scale == 0)


def _is_uuid(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.UuidType)


def _uuid_text(values: pa.Array) -> pa.Array:
    """Return UUIDs in their usual form, which DuckDB and Spark write into CSV, too."""
    return pa.array([None if one is None else str(one) for one in values.to_pylist()], pa.string())


def _is_local_timestamp(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.tz is None)


def _whole_float_text(values: pa.Array) -> pa.Array:
    """Return whole numbers as digits; with an exponent if the float may not be exact.

    A number with an exponent is rejected with its row, and so is one that is not whole.
    """
    most = MOST_WHOLE_FLOAT if pa.types.is_float32(values.type) else MOST_WHOLE_DOUBLE

    def text(value: float) -> str:
        if not value.is_integer():
            return repr(value)
        return str(int(value)) if abs(value) < most else f"{value:e}"

    return pa.array(
        [None if value is None else text(value) for value in values.to_pylist()], pa.string()
    )


def _decimal_float_text(values: pa.Array) -> pa.Array:
    """Return the shortest decimal of a double; with an exponent where doubles are too far apart.

    From 2^46 on, the next double is more than a hundredth away, so the shortest decimal may not be the
    amount that was meant, and such a number is rejected with its row.
    """

    def text(value: float) -> str:
        return format(Decimal(repr(value)), "f") if abs(value) < MOST_CENTS_DOUBLE else f"{value:e}"

    return pa.array(
        [None if value is None else text(value) for value in values.to_pylist()], pa.string()
    )


def _decimal_text(values: pa.Array) -> pa.Array:
    if pa.types.is_integer(values.type):
        return _cast_text(values)
    if 0 <= values.type.scale <= PLAIN_DECIMAL_SCALE:
        texts = values.cast(pa.string())
    else:
        shown = [None if value is None else format(value, "f") for value in values.to_pylist()]
        texts = pa.array(shown, pa.string())
    return _without_idle_zeros(texts) if values.type.scale > 0 else texts


def _without_idle_zeros(texts: pa.Array) -> pa.Array:
    """Remove zeros after the last place, which only reflect the column's scale.

    Args:
        texts: Numbers or instants that all have a point.
    """
    return pc.ascii_rtrim(pc.ascii_rtrim(texts, "0"), ".")
