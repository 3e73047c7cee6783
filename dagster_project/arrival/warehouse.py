"""The raw schema of the warehouse: its tables, and the statements that fill them.

Every SQL statement of arrival that writes belongs here. The rows of a delivery are a Parquet file of text,
`raw/<feed>/<delivery_sequence>.parquet` beside the warehouse, or of values, in a folder of `raw/<feed>/`:
packing them into DuckDB's own file would cost several times as much. Two views show the files
that were loaded: `raw.<feed>` every column as text, as a CSV file of the same rows has it, and `landed.<feed>`,
which staging reads, text and values as they are stored. The views, malformed rows, gate results, the digests
of the files and the delivery itself are written in one transaction, so that the warehouse knows what was loaded.
A file that is no longer what was stored is never read: all rows are loaded again from the archive. Values reach
SQL as parameters; names that come from a file never do: a file's columns are called c0, c1, … here.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

import duckdb

from dagster_project.arrival.archive import SideRecord
from dagster_project.arrival.report import ArrivalError, Limits
from dagster_project.arrival.rows import (
    AMOUNT_PLACES,
    FORMS,
    IS_PLAIN,
    ROW_NUMBER,
    Form,
    OwnParquet,
    PlainCsv,
    Prepared,
    has_values,
    words_for_missing,
)
from dagster_project.databases import open_to_write
from dagster_project.digests import sha256_of
from dagster_project.feeds import Column, Feed, feeds, type_pattern, value_types
from dagster_project.quoting import literal, quote

MOST_LINE_BYTES = 4 * 1024 * 1024
STORAGE = "v1.5.0"
"""The storage version of a new warehouse; it writes text with a third less work than older ones."""
INSERTED_TOGETHER = 500
_MAGIC = b"PAR1"  # a Parquet file begins and ends with it
_ENDING = 4 + len(_MAGIC)  # the length of the file's description stands before it
_STORED_FILES = "landed.stored_files"
RAW_TABLES = {
    "malformed_rows": (
        "delivery_sequence bigint, feed varchar, row_number bigint, reason varchar, record varchar"
    ),
    "deliveries": (
        "delivery_sequence bigint, delivery_id varchar, feed varchar, file_name varchar, "
        "sha256 varchar, size_bytes bigint, modified_at timestamp, arrived_at timestamp, "
        "run_id varchar, physical_rows bigint, blank_rows bigint, unknown_columns varchar, "
        "verdict varchar, refusal_reason varchar, notes varchar"
    ),
    "gate_results": (
        "delivery_sequence bigint, delivery_id varchar, feed varchar, check_name varchar, "
        "severity varchar, passed boolean, observed varchar"
    ),
}


@dataclass(frozen=True)
class RawRows:
    """Where the rows of the deliveries are stored.

    Attributes:
        folder: With a folder per feed, beside the warehouse.
    """

    folder: Path

    def place(self, feed_name: str, sequence: int, form: Form) -> Path:
        """Return the path for the file of one delivery, if its rows have this form.

        What values mean, and which are plain, depends on the columns of the contract, so a digest of these is part of
        the path. If a column gets another type or range, the rows are stored again.
        """
        folder = self.folder / feed_name
        if form != "text":
            folder /= f"{form}-{_contract_of(feed_name)}"
        return folder / f"{sequence:09d}.parquet"

    def name(self, path: Path) -> str:
        """Return the name of a file below the folder."""
        return path.relative_to(self.folder).as_posix()

    def path(self, feed_name: str, sequence: int) -> Path:
        """Return the file of one delivery; if there is none, the path for its text."""
        places = [self.place(feed_name, sequence, form) for form in FORMS]
        return next((place for place in places if place.is_file()), places[0])

    def remove(self, feed_name: str, sequence: int) -> None:
        """Remove the stored rows of one delivery."""
        for form in FORMS:
            self.place(feed_name, sequence, form).unlink(missing_ok=True)


def form_of(path: Path) -> Form:
    """Return the form of the rows in a file of a delivery."""
    folder = path.parent.name.partition("-")[0]
    return next((form for form in FORMS if form == folder), "text")


@cache
def _contract_of(feed_name: str) -> str:
    """Return a digest of what a feed's columns hold, and of which of their values are plain.

    The name may be that of no feed.
    """
    feed = feeds().get(feed_name)
    columns = [replace(column, description="") for column in (feed.columns if feed else ())]
    what = [IS_PLAIN, words_for_missing(), *map(repr, columns)]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Opened:
    """A warehouse that was opened.

    Attributes:
        connection: The connection.
        deliveries: All deliveries that it knows, loaded or refused.
        emptied_since: Why it must be filled again from the archive, in words; None if it was used unchanged.
    """

    connection: duckdb.DuckDBPyConnection
    deliveries: list[KnownDelivery]
    emptied_since: str | None


class LoadMismatch(Exception):
    """DuckDB did not read what the independent parser read."""


def open_warehouse(path: Path, limits: Limits, temporary: Path) -> Opened:
    """Open the warehouse, make its raw tables where absent, read what it knows.

    A file that is no longer a readable database is renamed to `<name>.damaged`. Raw tables are removed if they are
    of another version, or if their files of rows are not those that were stored. The warehouse is a cache of the
    archive, and arrival fills it again from there.

    Args:
        path: The warehouse.
        limits: How much memory it may use.
        temporary: Folder below which it may spill.

    Raises:
        ArrivalError: If it cannot be opened for any other reason.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        try:
            return _connect(path, limits, temporary)
        except duckdb.Error as error:
            if not _is_damage(error):
                raise
            damaged = path.with_name(path.name + ".damaged")
            os.replace(path, damaged)
            path.with_name(path.name + ".wal").unlink(missing_ok=True)
            opened = _connect(path, limits, temporary)
            return replace(opened, emptied_since=f"{path} was damaged and is now {damaged.name}")
    except duckdb.Error as error:
        raise ArrivalError(
            f"{path}: cannot be opened ({error}); "
            "wait for the other process to end, or check permissions and space"
        ) from error


def _connect(path: Path, limits: Limits, temporary: Path) -> Opened:
    connection = open_to_write(path, storage_compatibility_version=STORAGE)
    try:
        connection.execute(f"set memory_limit = '{int(limits.memory_megabytes)}MB'")
        connection.execute("set disabled_optimizers = 'in_clause'")  # as in dbt's profile
        connection.execute(f"set temp_directory = {literal(str(temporary / 'spill'))}")
        rows = raw_rows(path)
        why = _empty_unless_as_left(connection, rows)
        create_tables(connection, rows)
        return Opened(connection, known_deliveries(connection), why)
    except BaseException:
        connection.close()
        raise


def raw_rows(warehouse: Path) -> RawRows:
    """Return where the rows of a warehouse's deliveries are stored."""
    return RawRows(warehouse.parent / "raw")


DAMAGE = (
    "not a valid duckdb",
    "checksum",
    "corrupt",
    "deserializ",
    "serialization",
    "version number",
    "could not read enough bytes",
    "wal file",
    "internal error",
)


def _is_damage(error: duckdb.Error) -> bool:
    text = str(error).lower()
    return "conflicting lock" not in text and any(sign in text for sign in DAMAGE)


def create_tables(connection: duckdb.DuckDBPyConnection, rows: RawRows) -> None:
    """Make the schema raw, its tables where absent, and the views of the rows that were loaded.

    Digests are recorded for the files that an earlier version stored without them.
    """
    connection.execute("create schema if not exists raw; create schema if not exists landed")
    for name, declaration in RAW_TABLES.items():
        connection.execute(f"create table if not exists raw.{quote(name)} ({declaration})")
    connection.execute(
        f"create table if not exists {_STORED_FILES}"
        " (delivery_sequence bigint, file varchar, sha256 varchar)"
    )
    for feed in feeds().values():
        create_view(connection, feed, rows)
        record_digests(connection, feed, rows)


def _empty_unless_as_left(connection: duckdb.DuckDBPyConnection, rows: RawRows) -> str | None:
    """Remove the raw tables and all files of rows, unless they can be used unchanged.

    Returns:
        Why they cannot, in words: a table or view has other columns than this version of the product defines, or
        a file of rows is not what was stored.
    """
    expected = {
        name: [(column, kind) for column, kind in map(str.split, declaration.split(", "))]
        for name, declaration in RAW_TABLES.items()
    }
    expected |= {
        feed.name: [("delivery_sequence", "bigint"), (ROW_NUMBER, "bigint")]
        + [(name, "varchar") for name in feed.column_names]
        for feed in feeds().values()
    }
    found: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in connection.execute(
        "select table_name, column_name, lower(data_type) from duckdb_columns() "
        "where database_name = current_database() and schema_name = 'raw' "
        "order by table_name, column_index"
    ).fetchall():
        found.setdefault(table, []).append((column, kind))
    kinds = _kinds(connection)
    why = None
    if any(found[name] != columns for name, columns in expected.items() if name in found) or any(
        kinds.get(name) == "table" for name in feeds()
    ):
        why = "its raw tables were those of another version of the product"
    elif "deliveries" in found and (other := not_as_stored(connection, rows)):
        more = f" and {len(other) - 1:,} more" if len(other) > 1 else ""
        were = "were not the files that were" if more else "was not the file that was"
        why = f"{other[0]}{more} {were} stored"
    if why is not None:
        with transaction(connection):
            drop_tables(connection)
        shutil.rmtree(rows.folder, ignore_errors=True)
    return why


def _kinds(connection: duckdb.DuckDBPyConnection, schema: str = "raw") -> dict[str, str]:
    """Return, by name, whether an object in a schema is a table or a view."""
    here = f"schema_name = {literal(schema)} and database_name = current_database()"
    return dict(
        connection.execute(
            f"select table_name, 'table' from duckdb_tables() where {here}"
            f" union all select view_name, 'view' from duckdb_views() where {here}"
        ).fetchall()
    )


def not_as_stored(connection: duckdb.DuckDBPyConnection, rows: RawRows) -> list[Path]:
    """Return the files of loaded deliveries that are gone or hold other bytes than were stored.

    For a file without a recorded digest, only its two ends are read.

    Args:
        connection: The warehouse.
        rows: Where the rows of its deliveries are stored.
    """
    recorded: dict[int, tuple[str, str]] = {}
    if _STORED_FILES.rpartition(".")[2] in _kinds(connection, "landed"):
        found = connection.execute(f"from {_STORED_FILES}").fetchall()
        recorded = {sequence: (file, sha256) for sequence, file, sha256 in found}

    def is_as_stored(file: Path) -> bool:
        stored = recorded.get(int(file.stem))
        try:
            return (
                _is_whole(file) if stored is None else (rows.name(file), sha256_of(file)) == stored
            )
        except OSError:  # it is gone
            return False

    files = [file for feed in feeds().values() for file in files_of(connection, feed, rows)]
    return [file for file in files if not is_as_stored(file)]


def record_digests(connection: duckdb.DuckDBPyConnection, feed: Feed, rows: RawRows) -> None:
    """Record the name and sha256 of each file of a feed's loaded deliveries that has none recorded yet.

    Args:
        connection: The warehouse.
        feed: The feed.
        rows: Where the rows of its deliveries are stored.
    """
    sequences = connection.execute(
        f"select delivery_sequence from raw.deliveries anti join {_STORED_FILES} using"
        f" (delivery_sequence) where verdict = 'loaded' and feed = {literal(feed.name)}"
    ).fetchall()
    files = [(sequence, rows.path(feed.name, sequence)) for (sequence,) in sequences]
    _insert(
        connection,
        _STORED_FILES,
        [(sequence, rows.name(file), sha256_of(file)) for sequence, file in files],
    )


def digests_of(connection: duckdb.DuckDBPyConnection, feed: Feed) -> list[tuple[str, str]]:
    """Return the recorded name and sha256 of each file of a feed's loaded deliveries, in their order.

    Args:
        connection: The warehouse.
        feed: The feed.
    """
    return connection.execute(
        f"select file, stored.sha256 from {_STORED_FILES} as stored inner join raw.deliveries using"
        f" (delivery_sequence) where verdict = 'loaded' and feed = {literal(feed.name)}"
        " order by delivery_sequence"
    ).fetchall()


def _is_whole(file: Path) -> bool:
    """Return whether a file begins and ends as a Parquet file does, without reading its rows."""
    try:
        with file.open("rb") as opened:
            first = opened.read(len(_MAGIC))
            size = opened.seek(-_ENDING, os.SEEK_END) + _ENDING
            ending = opened.read()
    except OSError:  # it is gone, or too short
        return False
    description = int.from_bytes(ending[: -len(_MAGIC)], "little")
    return first == ending[-len(_MAGIC) :] == _MAGIC and size >= len(_MAGIC) + description + _ENDING


def files_of(connection: duckdb.DuckDBPyConnection, feed: Feed, rows: RawRows) -> list[Path]:
    """Return the files of a feed's loaded deliveries, in their order.

    Args:
        connection: The warehouse.
        feed: The feed.
        rows: Where the rows of its deliveries are stored.
    """
    sequences = connection.execute(
        "select delivery_sequence from raw.deliveries where verdict = 'loaded' "
        f"and feed = {literal(feed.name)} order by delivery_sequence"
    ).fetchall()
    return [rows.path(feed.name, int(sequence)) for (sequence,) in sequences]


def create_view(connection: duckdb.DuckDBPyConnection, feed: Feed, rows: RawRows) -> None:
    """Make `raw.<feed>` and `landed.<feed>` the rows of all deliveries of the feed that were loaded."""
    files = files_of(connection, feed, rows)
    name = quote(feed.name)
    connection.execute(
        f"create or replace view raw.{name} as from {relation(feed, files)};"
        f" create or replace view landed.{name} as from {landed_relation(feed, files)}"
    )


def relation(feed: Feed, files: Sequence[Path]) -> str:
    """Return SQL for the rows in some files of a feed as text, with the delivery each came in.

    A condition on `delivery_sequence` leaves the other files unread.
    """
    return _rows(feed, files, lambda form: _texts(feed, form))


def rows_of(feed: Feed, source: OwnParquet) -> str:
    """Return SQL for the rows in one file as text."""
    return (
        f"(select {ROW_NUMBER}, {_texts(feed, source.form)}"
        f" from read_parquet([{literal(without_pattern(source.path))}]))"
    )


def landed_relation(feed: Feed, files: Sequence[Path]) -> str:
    """Return SQL for the rows in some files of a feed as they are stored, with the delivery each came in.

    A column that can have values has two here: `<name>` has its text, else null, and `<name>_value` its value,
    else null. Instants of rows with `is_local` have no time zone. The values of rows with `is_plain` need not be
    checked one by one.
    """
    return _rows(feed, files, lambda form: _landed_columns(feed, form))


def landed_sample(feed: Feed, sequence: int, form: Form, sample: Path) -> str:
    """Return SQL for the rows of one delivery that the gate looks at, as `landed_relation` returns rows.

    Args:
        feed: The feed.
        sequence: The number of the delivery.
        form: What its files hold.
        sample: The file of these rows.
    """
    return (
        f"(select cast({sequence} as bigint) as delivery_sequence, {ROW_NUMBER}, {_landed_columns(feed, form)}"
        f" from read_parquet([{literal(without_pattern(sample))}]))"
    )


def landed_text(feed: Feed, rows: str) -> str:
    """Return SQL for rows of text as `landed_relation` returns rows.

    Args:
        feed: The feed.
        rows: A table like `raw.<feed>`.
    """
    return f"select delivery_sequence, {ROW_NUMBER}, {_landed_columns(feed, 'text')} from {rows}"


def value_name(column: Column) -> str:
    """Name the column of `landed.<feed>` with the values of a column."""
    return quote(f"{column.name}_value")


def _landed_columns(feed: Feed, form: Form) -> str:
    """Return the select list for all columns of a file as `landed.<feed>` has them."""
    parts = [part for column in feed.columns for part in _landed(column, form)]
    plain = "false as " * (form == "text") + IS_PLAIN
    return ", ".join([*parts, f"{_is_local(form)} as is_local", plain])


def _is_local(form: Form) -> str:
    return str(form == "local_values").lower()


def _landed(column: Column, form: Form) -> Iterator[str]:
    """Yield the columns of `landed.<feed>` for a column of the feed, as they are in a select list."""
    name = quote(column.name)
    if not has_values(column):
        yield name
    elif form == "text":
        yield name
        yield f"cast(null as {_STORED.get(column.type, 'bigint')}) as {value_name(column)}"
    else:
        yield f"cast(null as varchar) as {name}"
        yield f"{name} as {value_name(column)}"


_STORED = {"boolean": "boolean", "date": "date", "instant": "timestamp"}


def text_of(column: Column) -> str:
    """Return SQL for the text of a column of `landed.<feed>`, whether it has text or values."""
    name = quote(column.name)
    return (
        f"coalesce({name}, {_as_text(column, value_name(column))})" if has_values(column) else name
    )


def _texts(feed: Feed, form: Form) -> str:
    """Return the select list for all columns of a file as text."""
    local = _is_local(form)
    return ", ".join(
        quote(column.name)
        if form == "text" or not has_values(column)
        else f"{_as_text(column, quote(column.name), local)} as {quote(column.name)}"
        for column in feed.columns
    )


def _as_text(column: Column, value: str, is_local: str = "is_local") -> str:
    places = AMOUNT_PLACES if column.places is None else column.places
    return (
        str(value_types()[column.type]["as_text"])
        .replace("VALUE", value)
        .replace("UNIT", f"0.{1:0{places}d}")
        .replace("is_local", is_local)
    )


def _rows(feed: Feed, files: Sequence[Path], columns: Callable[[Form], str]) -> str:
    """Return SQL for the rows in some files of a feed.

    Args:
        feed: The feed.
        files: The files.
        columns: Returns the select list for rows of a form, without the numbers of delivery and row.
    """
    selects = []
    for form in FORMS:
        names = ", ".join(literal(without_pattern(file)) for file in files if form_of(file) == form)
        if names:
            selects.append(
                "select cast(parse_filename(filename, true) as bigint) as delivery_sequence, "
                f"{ROW_NUMBER}, {columns(form)} from read_parquet([{names}], filename = true)"
            )
    if not selects:
        nothing = ", ".join(f"cast(null as varchar) as {quote(name)}" for name in feed.column_names)
        selects.append(
            f"select delivery_sequence, {ROW_NUMBER}, {columns('text')} from (select"
            f" cast(null as bigint) as delivery_sequence, cast(null as bigint) as {ROW_NUMBER},"
            f" {nothing} where false)"
        )
    return f"({' union all '.join(selects)})"


def without_pattern(path: Path) -> str:
    """Return a path escaped for DuckDB's readers, which take brackets and stars for a pattern."""
    return glob.escape(str(path.resolve()))


def drop_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Remove the raw tables and views, and what arrival knew with them."""
    kinds = _kinds(connection)
    for name in (*feeds(), *RAW_TABLES):
        if name in kinds:
            connection.execute(f"drop {kinds[name]} raw.{quote(name)}")
    connection.execute(
        "drop schema if exists landed cascade; drop schema if exists kept cascade"
    )  # no build may carry on from what was there


@contextlib.contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Run a block in one transaction."""
    connection.execute("begin transaction")
    try:
        yield
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute("commit")


@dataclass(frozen=True)
class KnownDelivery:
    """A delivery as the warehouse knows it; `identity` is that of its side record.

    The size is -1 if its bytes could not be stored, so that they are never compared.
    """

    delivery_id: str
    feed: str
    identity: str
    size_bytes: int
    verdict: str
    delivery_sequence: int


def known_deliveries(connection: duckdb.DuckDBPyConnection) -> list[KnownDelivery]:
    """Return all deliveries that the warehouse knows, loaded or refused."""
    rows = connection.execute(
        "select delivery_id, feed, split_part(delivery_id, '-', 1), "
        "case when sha256 is null then -1 else size_bytes end, verdict, "
        "delivery_sequence from raw.deliveries"
    ).fetchall()
    return [KnownDelivery(*row) for row in rows]


@dataclass(frozen=True)
class Batch:
    """One delivery that is being loaded.

    Attributes:
        sequence: Its delivery_sequence.
        prepared: Its rows and counts.
    """

    sequence: int
    prepared: Prepared


def load_rows(
    connection: duckdb.DuckDBPyConnection,
    feed: Feed,
    batches: Sequence[Batch],
    rows: RawRows,
) -> str:
    """Store the rows of some deliveries, each as a file, and verify that all are there, in order.

    Returns:
        SQL for the rows, as `landed_relation` returns it.

    Raises:
        LoadMismatch: If DuckDB read other rows than the independent parser.
    """
    paths = [_keep_rows(connection, feed, batch, rows) for batch in batches]
    loaded = landed_relation(feed, paths)
    counted = connection.execute(
        f"select delivery_sequence, count(*), min({ROW_NUMBER}), max({ROW_NUMBER}) "
        f"from {loaded} group by delivery_sequence"
    ).fetchall()
    found = {int(sequence): facts for sequence, *facts in counted}
    for batch in batches:
        prepared = batch.prepared
        count, first, last = found.get(batch.sequence, (0, 1, 0))
        if count != prepared.good_rows or first < 1 or last > prepared.physical_rows:
            raise LoadMismatch(
                f"DuckDB read {count} rows (last row number {last}), "
                f"the file has {prepared.good_rows} of {prepared.physical_rows}"
            )
        if isinstance(prepared.source, PlainCsv):
            of_batch = relation(feed, [rows.path(feed.name, batch.sequence)])
            _verify_samples(connection, of_batch, feed, prepared.source)
    return loaded


def _keep_rows(
    connection: duckdb.DuckDBPyConnection, feed: Feed, batch: Batch, rows: RawRows
) -> Path:
    source = batch.prepared.source
    form: Form = "text" if isinstance(source, PlainCsv) else source.form
    path = rows.place(feed.name, batch.sequence, form)
    path.parent.mkdir(parents=True, exist_ok=True)
    for other in FORMS:
        if other != form:
            rows.place(feed.name, batch.sequence, other).unlink(missing_ok=True)
    if isinstance(source, PlainCsv):
        try:
            _copy_plain_csv(connection, feed, source, path)
        except duckdb.InvalidInputException as error:
            raise LoadMismatch(str(error)) from error
    elif source.path.exists():  # otherwise an earlier attempt, together with others, has moved it
        os.replace(source.path, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path


def notes_of(connection: duckdb.DuckDBPyConnection, feed: Feed, loaded: str) -> dict[int, str]:
    """Return what is worth a note in the rows of deliveries, by delivery_sequence.

    Args:
        connection: The warehouse.
        feed: The feed.
        loaded: SQL for the rows of some deliveries, as `landed_relation` returns it.

    Returns:
        Counts by column, in words: of instants without an offset, of words that may stand for a missing
        value and are kept, of ids that went through a float and of words for a missing value that reject
        their rows. A delivery without any is absent.
    """
    types = value_types()
    words = ", ".join(map(literal, types["missing_words"]))
    stand_ins = ", ".join(map(literal, (*types["missing_words"], *types["noted_words"])))
    through_a_float = literal(types["id"]["through_a_float"])
    counts: list[str] = []
    of_instants: list[str] = []
    of_texts: list[str] = []
    phrases = []

    def count(condition: str, conditions: list[str]) -> None:
        counts.append(f"count(*) filter (where {condition})")
        conditions.append(condition)

    for column in feed.columns:
        name = quote(column.name)
        if column.type == "instant":
            pattern = literal(type_pattern(column, "without_offset"))
            count(
                f"is_local and {value_name(column)} is not null"
                f" or not suffix({name}, 'Z') and regexp_full_match({name}, {pattern})",
                of_instants,
            )
            phrases.append((column.name, "instant", "without an offset"))
        elif column.type == "text":
            count(f"{name} in ({stand_ins})", of_texts)
            phrases.append((column.name, "value", "that may stand for a missing one"))
        elif column.type == "id":
            count(f"suffix({name}, '0') and regexp_full_match({name}, {through_a_float})", of_texts)
            phrases.append((column.name, "number", "that went through a float, rejected"))
            count(f"{name} in ({', '.join(map(literal, types['noted_words']))})", of_texts)
            phrases.append((column.name, "value", "that may stand for a missing one"))
    typed = [column for column in feed.columns if column.type != "text"]
    for column in typed:
        count(f"{quote(column.name)} in ({words})", of_texts)
    noted = " or ".join([f"not {IS_PLAIN} and ({' or '.join(of_texts)})", *of_instants])
    found = connection.execute(  # the first condition leaves batches unread: only text and local values can have notes
        f"select delivery_sequence, {', '.join(counts)} from {loaded}"
        f" where (not {IS_PLAIN} or is_local) and ({noted}) group by delivery_sequence"
    ).fetchall()
    notes = {}
    for sequence, *numbers in found:
        parts = [
            f"{name}: {number:,} {what}{'s' if number != 1 else ''} {which}"
            for number, (name, what, which) in zip(numbers, phrases, strict=False)
            if number
        ]
        rejected = [
            f"{number:,} of {column.name}"
            for number, column in zip(numbers[len(phrases) :], typed, strict=True)
            if number
        ]
        if rejected:
            parts.append(
                f"words for a missing value ({', '.join(types['missing_words'])}), rejected:"
                f" {', '.join(rejected)}"
            )
        if parts:
            notes[int(sequence)] = "; ".join(parts)
    return notes


# No new_line: given CR LF, in strict mode and with a header to skip, DuckDB 1.5 silently reads no row at
# all.
def _copy_plain_csv(
    connection: duckdb.DuckDBPyConnection, feed: Feed, source: PlainCsv, path: Path
) -> None:
    places = {name: place for place, name in enumerate(source.header)}

    def value(name: str) -> str:
        if name in places:
            column = f"c{places[name]}"
            return f"nullif({column}, '\\N')" if source.has_null_marks else column
        given = source.given.get(name)
        return literal(given) if given else "cast(null as varchar)"

    values = ", ".join(f"{value(name)} as {quote(name)}" for name in feed.column_names)
    types = ", ".join(f"'c{place}': 'VARCHAR'" for place in range(len(source.header)))
    connection.execute(
        f"copy (select row_number() over () as {ROW_NUMBER}, {values} from "
        f"read_csv({literal(without_pattern(source.path))}, "
        "auto_detect = false, all_varchar = true, header = false, skip = 1, delim = ',', "
        f"quote = '', escape = '', comment = '', strict_mode = true, "
        f"null_padding = false, ignore_errors = false, max_line_size = {MOST_LINE_BYTES}, "
        f"columns = {{{types}}})) to {literal(str(path))} (format parquet, compression lz4)"
    )


def _verify_samples(
    connection: duckdb.DuckDBPyConnection, loaded: str, feed: Feed, source: PlainCsv
) -> None:
    names = [name for name in feed.column_names if name in source.header]
    places = [source.header.index(name) for name in names]
    columns = ", ".join(f"coalesce({quote(name)}, '')" for name in names)
    numbers = ", ".join(str(number) for number in source.samples) or "0"
    sampled = connection.execute(
        f"select {ROW_NUMBER}, {columns} from {loaded} where {ROW_NUMBER} in ({numbers})"
    ).fetchall()
    found = {row[0]: row[1:] for row in sampled}
    for number, fields in source.samples.items():
        expected = ["" if fields[place] == "\\N" else fields[place] for place in places]
        if found.get(number) != tuple(expected):
            raise LoadMismatch(f"row {number} was not loaded as it stands in the file")


def load_malformed(
    connection: duckdb.DuckDBPyConnection, feed_name: str, batches: Sequence[Batch]
) -> None:
    """Write the malformed rows of some deliveries to `raw.malformed_rows`."""
    for batch in batches:
        if batch.prepared.malformed is not None:
            connection.execute(
                "insert into raw.malformed_rows select cast(? as bigint), cast(? as varchar), "
                "row_number, reason, record from read_parquet(?)",
                [batch.sequence, feed_name, without_pattern(batch.prepared.malformed)],
            )


def write_gate_results(
    connection: duckdb.DuckDBPyConnection, records: Sequence[SideRecord]
) -> None:
    """Write what the gate found to `raw.gate_results`."""
    _insert(
        connection,
        "raw.gate_results",
        [
            (
                record.delivery_sequence,
                record.delivery_id,
                record.feed,
                result.check_name,
                result.severity,
                result.passed,
                result.observed,
            )
            for record in records
            for result in record.gate or ()
        ],
    )


def write_deliveries(
    connection: duckdb.DuckDBPyConnection,
    records: Sequence[SideRecord],
    notes: Mapping[int, str],
) -> None:
    """Write some deliveries, judged, to `raw.deliveries`.

    Args:
        connection: The warehouse.
        records: Their side records.
        notes: What is notable, by delivery_sequence.
    """
    _insert(
        connection,
        "raw.deliveries",
        [
            (
                record.delivery_sequence,
                record.delivery_id,
                record.feed,
                record.file_name,
                record.sha256,
                record.size_bytes,
                record.modified_at,
                datetime.fromisoformat(record.arrived_at).replace(tzinfo=None),
                record.run_id,
                record.physical_rows,
                record.blank_rows,
                ",".join(record.unknown_columns),
                record.verdict,
                str(record.refusal) if record.refusal else None,
                notes.get(record.delivery_sequence),
            )
            for record in records
        ],
    )


def _insert(
    connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[tuple[object, ...]]
) -> None:
    """Insert rows with one statement for some hundreds of them, because a statement each costs more."""
    for start in range(0, len(rows), INSERTED_TOGETHER):
        some = rows[start : start + INSERTED_TOGETHER]
        one = f"({', '.join('?' * len(some[0]))})"
        connection.execute(
            f"insert into {table} values {', '.join([one] * len(some))}",
            [value for row in some for value in row],
        )


def forget_delivery(connection: duckdb.DuckDBPyConnection, delivery_id: str) -> None:
    """Remove a refused delivery that is judged again."""
    for table in ("deliveries", "gate_results"):
        connection.execute(f"delete from raw.{table} where delivery_id = ?", [delivery_id])


def sum_of_amounts(connection: duckdb.DuckDBPyConnection, loaded: str, column: str) -> Decimal:
    """Return the exact sum of an amount column over one delivery's rows, without values that are not amounts."""
    total = connection.execute(
        f"select coalesce(sum(cast({quote(column)} as decimal(38, 8))), 0) from {loaded} "
        f"where regexp_full_match({quote(column)}, '-?[0-9]{{1,18}}([.][0-9]{{1,8}}0*)?')"
    ).fetchall()[0][0]
    return Decimal(total)
