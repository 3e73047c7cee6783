"""`coupon-ledger pull postgres`: one SELECT per feed, streamed into deliveries.

Everything about a Postgres source belongs here: its file, the check of every column before a row is
read, one read-only transaction for all feeds, `COPY … TO STDOUT`. The connection comes from the
environment, by libpq's own variables, so no file of the product ever names a password.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.feeds import Column, Feed, feeds
from dagster_project.home import write_whole
from dagster_project.settings import Settings
from dagster_project.sources import deliveries
from dagster_project.sources.deliveries import Part
from dagster_project.sources.errors import PullError, SetUpWrong

if TYPE_CHECKING:
    import psycopg

SOURCE = "postgres"
SINCE = "{since}"
"""The placeholder in a SELECT for the instant since which rows may have changed."""
READY_MADE = Path(__file__).parent / "ready_made"
OVERLAP = "1 hour"
CHUNK = 1 << 20
_INTERVAL = re.compile(r"[0-9]+ (second|minute|hour|day)s?")
_QUOTED = re.compile(r"\".*\"|'.*'")
"""Matches from the first quote to the last, because a value may contain quotes."""

TEXT, PADDED, UUID, WHOLE, NUMERIC, BOOLEAN, INSTANT, DATE = (
    *("text", "padded", "uuid", "integer", "numeric", "boolean", "instant", "date"),
)
_KINDS: dict[str, str] = {
    "character": PADDED,
    "uuid": UUID,
    "smallint": WHOLE,
    "integer": WHOLE,
    "bigint": WHOLE,
    "numeric": NUMERIC,
    "boolean": BOOLEAN,
    "timestamp with time zone": INSTANT,
    "timestamp without time zone": INSTANT,
    "date": DATE,
}
_ALLOWED: dict[str, frozenset[str]] = {
    "id": frozenset({TEXT, UUID, WHOLE}),
    "text": frozenset({TEXT, UUID, WHOLE}),
    "enum": frozenset({TEXT}),
    "currency": frozenset({TEXT, PADDED}),
    "boolean": frozenset({TEXT, BOOLEAN}),
    "instant": frozenset({TEXT, INSTANT, DATE}),
    "date": frozenset({TEXT, DATE}),
    "amount": frozenset({TEXT, NUMERIC}),
    "decimal": frozenset({TEXT, NUMERIC, WHOLE}),
    "whole": frozenset({TEXT, WHOLE}),
}
"""The kinds that a column of a SELECT may have, by type of the feed's column."""


@dataclass(frozen=True)
class Select:
    """The SELECT of one feed.

    Attributes:
        feed: The feed.
        sql: The SELECT.
    """

    feed: Feed
    sql: str

    @property
    def is_incremental(self) -> bool:
        """Whether the SELECT asks only for rows changed since an instant."""
        return SINCE in self.sql

    @property
    def digest(self) -> str:
        """The digest of its text, by which a changed SELECT is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True)
class SourcesFile:
    """A file of SELECTs.

    Attributes:
        path: Its path.
        selects: One per feed, in the order of the contract.
        overlap: How far before the last pull to look for changed rows.
    """

    path: Path
    selects: tuple[Select, ...]
    overlap: str = OVERLAP


@dataclass
class Report:
    """What a pull did.

    Attributes:
        pull: Its name, an instant.
        delivered: How many rows were delivered to each feed.
        files: The files delivered.
        since: By feed, the instant since which changed rows were asked for.
    """

    pull: str
    delivered: dict[str, int] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    since: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the report as a dictionary for JSON."""
        return asdict(self)


def ready_made() -> list[str]:
    """Return the names of the files of SELECTs that come with the product."""
    return sorted(path.stem for path in READY_MADE.glob("*.toml"))


def read_file(named: str | Path) -> SourcesFile:
    """Read a file of SELECTs.

    Args:
        named: A path, or the name of one that comes with the product.

    Raises:
        SetUpWrong: The file is missing or wrong; the message says where and how.
    """
    path = Path(named)
    if not path.exists() and str(named) in ready_made():
        path = READY_MADE / f"{named}.toml"
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise SetUpWrong(
            f"There is no file {path}.",
            "Write one with a SELECT for each feed (docs/postgres.md), or name one that comes with"
            f" the product: {', '.join(ready_made())}.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SetUpWrong(f"{path} cannot be read ({error}).") from error
    except tomllib.TOMLDecodeError as error:
        raise SetUpWrong(f"{path} is not TOML: {error}.") from error
    overlap = content.pop("overlap", OVERLAP)
    if not isinstance(overlap, str) or not _INTERVAL.fullmatch(overlap):
        raise SetUpWrong(f'{path}: overlap is {overlap!r}; write it like "1 hour".')
    known = feeds()
    for name in content:
        if name not in known:
            raise SetUpWrong(f"{path}: there is no feed {name!r}; use one of: {', '.join(known)}.")
    if not content:
        raise SetUpWrong(f"{path} has no SELECT.", "Write one for each feed: docs/postgres.md.")
    return SourcesFile(
        path,
        tuple(
            _select(path, feed, content[name]) for name, feed in known.items() if name in content
        ),
        overlap,
    )


def _select(path: Path, feed: Feed, found: Any) -> Select:
    if not isinstance(found, dict) or not isinstance(found.get("select"), str):
        raise SetUpWrong(f"{path}: [{feed.name}] has no select.")
    if others := sorted(found.keys() - {"select"}):
        raise SetUpWrong(f"{path}: [{feed.name}] has {others[0]!r}; it may have select alone.")
    return Select(feed, found["select"].strip().rstrip(";").strip())


def pull(
    settings: Settings,
    sources: SourcesFile,
    *,
    everything: bool = False,
    told: Callable[[str, int, bool], None] = lambda *_: None,
    exclusively: Callable[[], AbstractContextManager[None]] = nullcontext,
    now: Callable[[], float] = time.time,
) -> Report:
    """Read a database and deliver the rows of its SELECTs.

    Args:
        settings: The data home and the landing folder.
        sources: One SELECT per feed.
        everything: Whether to ask for all rows, even if a SELECT asks for changed ones.
        told: Called for each feed with the number of rows read.
        exclusively: Keeps refreshes out while files are delivered.
        now: The clock, in seconds since 1970.

    Raises:
        PullError: The database cannot be read, or a column has a wrong type; nothing is delivered.
    """
    with deliveries.one_pull(settings.home, SOURCE):
        try:
            return _pull(settings, sources, everything, told, exclusively, now())
        except OSError as error:
            raise PullError(
                f"{error.filename or settings.home}: {error.strerror}.",
                "Make room or check the permissions, then pull again.",
            ) from error


def _pull(
    settings: Settings,
    sources: SourcesFile,
    everything: bool,
    told: Callable[[str, int, bool], None],
    exclusively: Callable[[], AbstractContextManager[None]],
    now: float,
) -> Report:
    if deliveries.is_unfinished(settings.home):
        with exclusively():
            deliveries.finish(settings.home)
    deliveries.remove_leftovers(settings.landing, SOURCE)
    place = deliveries.folder_of(settings.home, SOURCE) / "state.json"
    state = _state(place)
    name = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S%fZ")
    report = Report(name)
    written: list[tuple[Part, str]] = []
    after: dict[str, dict[str, str]] = {}
    with _transaction() as connection:
        database, next_since = _where_and_when(connection, sources.overlap)
        sinces = {
            one.feed.name: "-infinity" if everything else _since(state, one, database)
            for one in sources.selects
        }
        for one in sources.selects:
            check(connection, one, sinces[one.feed.name])
        try:
            for one in sources.selects:
                feed = one.feed.name
                part, final = deliveries.part_of(settings.landing, feed, f"{SOURCE}-{name}.csv")
                rows, digest = _stream(connection, one, sinces[feed], part)
                told(feed, rows, True)
                if one.is_incremental:
                    report.since[feed] = sinces[feed]
                is_same = state.get(feed, {}).get("file") == digest
                if rows and not is_same:
                    written.append((Part(feed, part, final, rows), digest))
                else:
                    part.unlink()
                after[feed] = {
                    "select": one.digest,
                    "database": database,
                    "since": next_since,
                    "file": digest if rows else state.get(feed, {}).get("file", ""),
                }
        except BaseException:
            deliveries.remove_leftovers(settings.landing, SOURCE)
            raise
    parts = [part for part, _ in written]
    if parts:
        with exclusively():
            deliveries.deliver(settings.home, SOURCE, parts)
    write_whole(place, json.dumps({**state, **after}, indent=1))
    deliveries.note_completed(settings.home, SOURCE, datetime.fromtimestamp(now, UTC))
    report.delivered = {part.feed: part.rows for part in parts}
    report.files = [str(part.final) for part in parts]
    return report


def _state(place: Path) -> dict[str, dict[str, str]]:
    try:
        found = json.loads(place.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise PullError(
            f"{place} is damaged ({error}).",
            "Remove it: the next pull then reads everything again.",
        ) from error
    return found if isinstance(found, dict) else {}


def _since(state: Mapping[str, Mapping[str, str]], select: Select, database: str) -> str:
    """Return the instant since which to ask for rows; `-infinity` if the SELECT or database has changed."""
    known = state.get(select.feed.name, {})
    if known.get("select") != select.digest or known.get("database") != database:
        return "-infinity"
    return known.get("since", "-infinity")


@contextmanager
def _transaction() -> Iterator[psycopg.Connection[Any]]:
    """Open one read-only transaction that sees one state of the database, with ISO dates in UTC."""
    try:
        import psycopg
    except ImportError as error:
        raise SetUpWrong(
            "The library for Postgres is not installed.",
            "Install the extra: pip install 'coupon-ledger[sources]'.",
        ) from error
    try:
        connection = psycopg.connect(connect_timeout=15, application_name="coupon-ledger")
    except psycopg.OperationalError as error:
        said = " ".join(str(error).split())
        raise PullError(
            f"The database cannot be reached: {said}",
            "Set PGHOST, PGPORT, PGDATABASE, PGUSER and PGPASSWORD (or PGSERVICE, PGPASSFILE), and"
            " check that the database answers.",
        ) from None
    with connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        try:
            with connection.transaction():
                for setting in (
                    "datestyle to iso",
                    "timezone to 'UTC'",
                    "client_encoding to 'UTF8'",
                ):
                    connection.execute(f"set local {setting}")
                yield connection
        except psycopg.Error as error:
            raise PullError(
                f"The connection to the database broke: {_said(error, is_about_rows=True)}",
                "Pull again; nothing was delivered.",
            ) from None


def _where_and_when(connection: psycopg.Connection[Any], overlap: str) -> tuple[str, str]:
    """Return the database's identity, and the instant since which the next pull must ask for changed rows.

    A row changed by a running transaction is not visible yet, and its time of change may be the start of
    that transaction, so the start of the oldest running transaction counts. On a replica, rows committed
    after the last transaction that it replayed are not visible either; if it has replayed none since its
    start, its delay is unknown and the next pull asks for all rows.
    """
    row = connection.execute(
        "select current_database() || '/' || (select oid from pg_database"
        " where datname = current_database()) || '@' || coalesce(inet_server_addr()::text, 'local')"
        " || ':' || coalesce(inet_server_port()::text, ''),"
        " (least(case when pg_is_in_recovery()"
        " then coalesce(pg_last_xact_replay_timestamp(), '-infinity') else now() end,"
        " (select min(xact_start) from pg_stat_activity where datname = current_database()))"
        " - %s::interval)::text",
        (overlap,),
    ).fetchone()
    assert row is not None
    return str(row[0]), str(row[1])


def check(connection: psycopg.Connection[Any], select: Select, since: str = "-infinity") -> None:
    """Compare the columns of a SELECT with the contract, before any row is read.

    Args:
        connection: The connection, in a transaction.
        select: The SELECT.
        since: The value for `{since}`.

    Raises:
        PullError: The SELECT cannot be run, or a column is missing, unknown or of a wrong type.
    """
    import psycopg

    feed = select.feed
    try:
        with connection.transaction(force_rollback=True):
            described = connection.execute(
                f"select * from (\n{_with(select, since)}\n) as feed limit 0"
            ).description
    except psycopg.Error as error:
        raise PullError(
            f"The SELECT of {feed.name} cannot be run: {_said(error)}",
            "Correct it in the file of SELECTs.",
        ) from None
    found = [(column.name, column.type_code) for column in described or []]
    types = _types(connection, {oid for _, oid in found})
    problems = []
    names = [name for name, _ in found]
    columns = {column.name: column for column in feed.columns}
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"column {name} occurs more than once")
    for name in feed.required_names:
        if name not in names:
            problems.append(f"column {name} is missing")
    for name, oid in found:
        if name not in columns:
            near = difflib.get_close_matches(name, list(columns), 1)
            meant = f": did you mean {near[0]}?" if near else ""
            problems.append(f"column {name} is not in the feed{meant}")
        elif (problem := _type_problem(columns[name], *types[oid])) is not None:
            problems.append(problem)
    if problems:
        raise PullError(
            f"The SELECT of {feed.name} does not give the feed's columns: {'; '.join(problems)}.",
            "Correct it in the file of SELECTs; nothing was delivered.",
        )


def _types(connection: psycopg.Connection[Any], oids: set[int]) -> dict[int, tuple[str, str]]:
    """Return the name and kind of each type, by its oid; a domain is resolved to its base type."""
    rows = connection.execute(
        "with recursive made as ("
        " select oid as asked, oid, typtype, typbasetype, typcategory from pg_type"
        " where oid = any(%s)"
        " union all select made.asked, base.oid, base.typtype, base.typbasetype, base.typcategory"
        " from made inner join pg_type as base on made.typtype = 'd' and base.oid = made.typbasetype"
        ") select asked, format_type(asked, null), format_type(oid, null), typtype, typcategory"
        " from made where typtype <> 'd'",
        (sorted(oids),),
    ).fetchall()
    found = {}
    for asked, shown, base, typtype, category in rows:
        is_text = (category == "S" and base not in _KINDS) or typtype == "e"
        kind = TEXT if is_text else _KINDS.get(base, base)
        found[asked] = (shown, kind)
    return found


def _type_problem(column: Column, shown: str, kind: str) -> str | None:
    """Return what is wrong with the type of a column, and how to convert it."""
    if kind in _ALLOWED[column.type]:
        return None
    name = column.name
    advice = f"cast it to {_CASTS.get(column.type, 'text')}"
    if column.type in ("amount", "decimal") and kind in ("double precision", "real", "money"):
        advice = (
            "amounts may not be floating or depend on a locale; cast it to numeric where it is made"
        )
    elif column.type == "amount" and kind == WHOLE:
        advice = (
            f"whole numbers are often cents: write {name} / 100.0, or cast({name} as numeric) where"
            " it is in major units"
        )
    elif kind == PADDED:
        advice = f"it is padded with blanks, which cast({name} as text) removes"
    elif column.type == "date" and kind == INSTANT:
        advice = f"say which day is meant: cast({name} at time zone 'UTC' as date)"
    return f"column {name} must be {column.type} and is {shown}; {advice}"


_CASTS = {
    "amount": "numeric",
    "decimal": "numeric",
    "whole": "bigint",
    "date": "date",
    "instant": "timestamptz",
    "boolean": "boolean",
}


def _with(select: Select, since: str) -> str:
    """Return a SELECT with the instant since which rows may have changed."""
    return select.sql.replace(SINCE, f"cast('{since}' as timestamptz)")


def _stream(
    connection: psycopg.Connection[Any], select: Select, since: str, part: Path
) -> tuple[int, str]:
    """Write the rows of a SELECT to a file, a piece at a time.

    Returns:
        How many rows there were, and the digest of the file.

    Raises:
        PullError: The database stopped; the message names the feed.
    """
    import psycopg

    sql = f"copy (\n{_with(select, since)}\n) to stdout (format csv, header true, encoding 'UTF8')"
    digest = hashlib.sha256()
    rows = -1  # the header is not a row
    try:
        with part.open("wb", buffering=0) as file:
            waiting = bytearray()
            for piece in _copied(connection, sql):
                waiting += piece
                rows += 1
                if len(waiting) >= CHUNK:
                    _write(waiting, file, digest)
                    waiting.clear()
            _write(waiting, file, digest)
            deliveries.made_durable(file)
    except psycopg.Error as error:
        raise PullError(
            f"The SELECT of {select.feed.name} stopped: {_said(error, is_about_rows=True)}",
            "Correct it in the file of SELECTs, or the rows it meets; nothing was delivered.",
        ) from None
    return max(rows, 0), digest.hexdigest()


def _copied(connection: psycopg.Connection[Any], sql: str) -> Iterator[memoryview]:
    """Yield the lines that a COPY sends, each valid until the next.

    This calls libpq directly, because psycopg's own loop takes three times as long for each line.
    """
    from psycopg import errors, pq

    asked = connection.pgconn
    result = asked.exec_(sql.encode())
    if result.status != pq.ExecStatus.COPY_OUT:
        raise errors.error_from_result(result)
    size, line = asked.get_copy_data(0)
    while size > 0:
        yield line
        size, line = asked.get_copy_data(0)
    last = asked.get_result()
    if last is None:
        raise errors.OperationalError("the connection was closed")
    while asked.get_result() is not None:
        pass  # the connection is free again
    if last.status != pq.ExecStatus.COMMAND_OK:
        raise errors.error_from_result(last)


def _write(chunk: bytes | bytearray, file: Any, digest: Any) -> None:
    digest.update(chunk)
    with memoryview(chunk) as view:
        written = 0
        while written < len(view):
            written += file.write(view[written:])


def _said(error: psycopg.Error, is_about_rows: bool = False) -> str:
    """Return the database's message, without values of rows, which may be personal data."""
    said = error.diag.message_primary or str(error) or type(error).__name__
    said = " ".join(said.split())
    if is_about_rows:
        return _QUOTED.sub("…", said)
    hint = error.diag.message_hint
    return f"{said}. {hint}" if hint else said
