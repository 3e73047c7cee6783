"""Queries on an open release, and checks that the ids, months and tables asked for exist.

Helpers that all answers share belong here. Rows are dictionaries; amounts are Decimal, as `fetchall`
returns them. A name that does not exist raises `NotThere`, which has near matches as data: the command
line and the pages each suggest them in their own way.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

import duckdb

from dagster_project.answers.values import month
from dagster_project.answers.words import PROGRAMS
from dagster_project.quoting import literals
from dagster_project.settings import first_instant

Connection = duckdb.DuckDBPyConnection
Row = dict[str, Any]

_Found = tuple[list[str], list[tuple[Any, ...]]]
_remembered: ContextVar[dict[tuple[Connection, str], _Found] | None] = ContextVar(
    "_remembered", default=None
)
_LONGEST_ID = 200
_CANDIDATES = 40
_LIKE = 0.6
_SLIP = 0.9
_MOST_NEAR = 4
_LEAST_BEGINNING = 3


@dataclass(frozen=True)
class Other:
    """The ids of another kind that match an id, or begin with it.

    Attributes:
        kind: `workspace`, `invoice`, `redemption` or `credit_note`.
        ids: The id itself, or the ids that begin with it.
        owner_id: The workspace of the first id; for a credit note, its invoice.
        is_exact: Whether the id itself exists.
    """

    kind: str
    ids: list[str]
    owner_id: str
    is_exact: bool


@dataclass(eq=False)  # an exception is itself, and can be hashed
class NotThere(Exception):
    """The thing asked for does not exist; near matches are data.

    Attributes:
        kind: What was asked for: `workspace`, `invoice`, `month`, `table`, `target` …
        wanted: What was given.
        near: Similar names, nearest first.
        known: All names that exist, if they are few.
        others: Ids of other kinds that match.
        named: The workspaces with this name.
        rejected: The rejected row with this id: `feed`, `file_name`, `row_number` and `reasons`.
        as_of_date: The last day whose events count.
    """

    kind: str
    wanted: str
    near: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    others: list[Other] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    rejected: Row | None = None
    as_of_date: date | None = None

    def __str__(self) -> str:
        """Return what is missing, without near matches."""
        return f"There is no {self.kind} {self.wanted!r}"


def rows(connection: Connection, sql: str, values: Sequence[object] = ()) -> list[Row]:
    """Return the rows of a select as dictionaries by column name.

    Args:
        connection: The release.
        sql: The select; every `?` in it is replaced by a value.
        values: Text, whole numbers, days and instants.
    """
    # A bound parameter would make DuckDB import pandas, which takes longer than the whole answer.
    parts = sql.split("?") if values else [sql]
    given = [*map(_literal, values), ""]
    text = "".join(part + one for part, one in zip(parts, given, strict=True))
    remembered = _remembered.get()
    if remembered is None:
        names, found = _asked(connection, text)
    else:
        if (connection, text) not in remembered:
            remembered[connection, text] = _asked(connection, text)
        names, found = remembered[connection, text]
    return [dict(zip(names, row, strict=True)) for row in found]


def _asked(connection: Connection, sql: str) -> _Found:
    cursor = connection.execute(sql)
    return [str(column[0]) for column in cursor.description or []], cursor.fetchall()


@contextmanager
def remembering() -> Iterator[None]:
    """Run each query of `rows` once within this context, however often it is asked.

    A release does not change while it is open, and the pages for its currencies share many queries.
    """
    token = _remembered.set({})
    try:
        yield
    finally:
        _remembered.reset(token)


def _literal(value: object) -> str:
    if isinstance(value, str):
        # No text in a release has NUL characters, or bytes that are not UTF-8.
        value = value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    return literals([value])


def facts(connection: Connection) -> Row:
    """Return the identity of the release: `release_id` and `as_of_date`."""
    (found,) = rows(connection, "select release_id, as_of_date from release.release")
    return found


def has_table(connection: Connection, table: str, schema: str = "marts") -> bool:
    """Return whether a release has a table; one made by an earlier version may not."""
    return bool(
        rows(
            connection,
            "select 1 from release.tables where table_schema = ? and table_name = ?",
            [schema, table],
        )
    )


def has_column(connection: Connection, table: str, column: str, schema: str = "marts") -> bool:
    """Return whether a table of a release has a column; one made by an earlier version may not."""
    return bool(
        rows(
            connection,
            "select 1 from duckdb_columns() where database_name = current_database()"
            " and schema_name = ? and table_name = ? and column_name = ?",
            [schema, table, column],
        )
    )


def zone_of(connection: Connection) -> ZoneInfo:
    """Return the reporting time zone of a release, in which its days and months begin (R0)."""
    zone = "UTC"
    if has_column(connection, "release", "reporting_time_zone", "release"):
        ((found),) = rows(connection, "select reporting_time_zone from release.release")
        zone = found["reporting_time_zone"] or zone
    return ZoneInfo(zone)


def local(instant: str, zone: ZoneInfo) -> str:
    """Return SQL for the time that the clocks of a time zone show at an instant.

    Args:
        instant: SQL for the instant, a timestamp in UTC.
        zone: The time zone, as `zone_of` gives it.
    """
    if zone.key == "UTC":
        return instant
    return f"timezone({_literal(zone.key)}, timezone('UTC', {instant}))"


def end_of(connection: Connection, day: date) -> datetime:
    """Return the instant at which a day ends in the reporting time zone of a release (R0)."""
    return first_instant(day + timedelta(days=1), zone_of(connection))


def month_to_come(as_of_date: date) -> datetime:
    """Return the first day of the month that contains the day after the as-of date, as an instant."""
    return datetime.combine((as_of_date + timedelta(days=1)).replace(day=1), datetime.min.time())


def month_from(day: date, months: int) -> date:
    """Return the first day of the month that is `months` after a day's month, or before it if negative."""
    place = day.year * 12 + day.month - 1 + months
    return date(place // 12, place % 12 + 1, 1)


def months_from(first: date, last: date) -> list[date]:
    """Return the first days of the months from one day's month to another's, both included."""
    count = (last.year - first.year) * 12 + last.month - first.month + 1
    return [month_from(first, place) for place in range(count)]


def near(wanted: str, known: Iterable[str]) -> list[str]:
    """Find near matches of a name, nearest first; equally near names stay in the order given.

    Names that begin with it or differ by a typing slip come before all others. Within each group, names
    with the same first word come first, as ids of one kind have it.
    """
    plain = wanted.casefold()
    matcher = difflib.SequenceMatcher(b=plain)
    places: dict[str, tuple[bool, bool, float]] = {}
    for name in known:
        matcher.set_seq1(name.casefold())
        ratio = matcher.ratio()
        begins = _is_beginning(plain, name.casefold())
        if begins or ratio >= _LIKE:
            is_other = _first_word(name) != _first_word(wanted)
            places[name] = (not begins and ratio < _SLIP, is_other, -ratio)
    return sorted(places, key=lambda name: places[name])[:_MOST_NEAR]


def _is_beginning(text: str, name: str) -> bool:
    """Return whether a name continues a text by more than the one character that may be mistyped."""
    longer = len(name) - len(text)
    return len(text) >= _LEAST_BEGINNING and longer > 1 and name.startswith(text)


def _first_word(name: str) -> str:
    return re.split(r"[^a-z]", name.casefold(), maxsplit=1)[0]


def must_be(kind: str, wanted: str, known: Iterable[str]) -> str:
    """Return the name if it is one of a small list.

    Raises:
        NotThere: The name is not in the list.
    """
    names = list(known)
    if wanted in names:
        return wanted
    raise NotThere(kind, wanted, near=near(wanted, names), known=names)


def of_plan(plan: str | None, workspace_id: str = "workspace_id") -> str:
    """Return SQL for whether a workspace is on a plan, that is, whether its last bill is for the plan.

    Every workspace with bills is on one plan, whatever plans its earlier bills were for, so the amounts of
    all plans add up to those of all workspaces with bills. A workspace without bills is on no plan.

    Args:
        plan: The plan; None selects every workspace.
        workspace_id: SQL for the id of the workspace.
    """
    if plan is None:
        return "true"
    wanted = _literal(plan).replace("?", "' || chr(63) || '")  # `rows` puts values in place of `?`
    return (
        f"{workspace_id} in (select workspace_id from marts.fct_discounted_charges semi join"
        " (select workspace_id, max(issued_at) as issued_at from marts.fct_discounted_charges"
        " group by workspace_id) using (workspace_id, issued_at)"
        f" group by workspace_id having last(plan order by invoice_id) = {wanted})"
    )


def bills_of_program(program: str) -> str:
    """Return SQL for the ids of the bills on which a program gave something; a bill can be of several programs.

    Args:
        program: SQL for the program.
    """
    coupons = f"(select coupon_id from marts.dim_coupons where program = {program})"
    return (
        f"(select invoice_id from marts.fct_discount_applications where coupon_id in {coupons}"
        " union all select invoice_id from marts.fct_credit_ledger"
        f" where invoice_id is not null and coupon_id in {coupons})"
    )


def program(wanted: str) -> str:
    """Return the program, or raise `NotThere` if it does not exist."""
    return must_be("program", wanted, PROGRAMS)


def workspace(connection: Connection, wanted: str) -> str:
    """Return the id of a workspace that is on record, or at least has bills or redemptions.

    Raises:
        NotThere: There is no workspace with that id.
    """
    if _has(connection, _WORKSPACES, "workspace_id", wanted):
        return wanted
    others = _of_another_kind(connection, wanted, ("invoice", "redemption", "credit_note"))
    named = rows(
        connection,
        "select workspace_id from marts.dim_workspaces where lower(workspace_name) = lower(?)"
        " order by workspace_id limit 4",
        [wanted],
    )
    is_known = bool(others or named)
    raise NotThere(
        "workspace",
        wanted,
        near=[] if is_known else _near_ids(connection, _WORKSPACES, "workspace_id", wanted),
        others=others,
        named=[row["workspace_id"] for row in named],
    )


def invoice(connection: Connection, wanted: str) -> str:
    """Return the id of an invoice that counts.

    Raises:
        NotThere: No invoice with that id counts.
    """
    if _has(connection, _INVOICES, "invoice_id", wanted):
        return wanted
    rejected = _rejected(connection, wanted, ("invoice",))
    others = _of_another_kind(connection, wanted, ("workspace", "redemption", "credit_note"))
    is_found = bool(rejected or others)
    raise NotThere(
        "invoice",
        wanted,
        near=[] if is_found else _near_ids(connection, _INVOICES, "invoice_id", wanted),
        others=others,
        rejected=rejected[0] if rejected else None,
        as_of_date=facts(connection)["as_of_date"],
    )


def record(
    connection: Connection, wanted: str
) -> list[tuple[Literal["invoice", "redemption"], str]]:
    """Return the meaning of an INVOICE|REDEMPTION argument: its kind and id, or two such pairs if it is both.

    Args:
        connection: The release.
        wanted: The argument; `invoice:ID` and `redemption:ID` say which is meant if an id is both.

    Raises:
        NotThere: It is neither.
    """
    found = _records(connection, wanted)
    kind, _, name = wanted.partition(":")
    if not found and kind in ("invoice", "redemption"):
        found = [one for one in _records(connection, name) if one[0] == kind]
        wanted = name
    if found:
        return found
    kinds = ("invoice", "redemption")
    rejected = _rejected(connection, wanted, kinds)
    others = _of_another_kind(connection, wanted, ("workspace", *kinds, "credit_note"))
    close: list[str] = []
    if not rejected and not others:
        for one in kinds:
            close += _near_ids(connection, _TABLES[one], f"{one}_id", wanted)
    raise NotThere(
        "record",
        wanted,
        near=near(wanted, close),
        others=others,
        rejected=rejected[0] if rejected else None,
        as_of_date=facts(connection)["as_of_date"],
    )


def _records(
    connection: Connection, wanted: str
) -> list[tuple[Literal["invoice", "redemption"], str]]:
    found: list[tuple[Literal["invoice", "redemption"], str]] = []
    is_invoice = _has(connection, _INVOICES, "invoice_id", wanted)
    if not is_invoice and has_table(connection, "invoices_not_counted", "release"):
        is_invoice = _has(connection, ("release.invoices_not_counted",), "invoice_id", wanted)
    if is_invoice:
        found.append(("invoice", wanted))
    if _has(connection, _TABLES["redemption"], "redemption_id", wanted):
        found.append(("redemption", wanted))
    return found


def _rejected(connection: Connection, wanted: str, kinds: Sequence[str]) -> list[Row]:
    """Return the first rejected row with this id as one of the kinds, as a list of at most one row."""
    is_its = " or ".join(
        f"feed = '{kind}s' and json_extract_string(record, '$.{kind}_id') = ?" for kind in kinds
    )
    return rows(
        connection,
        "select feed, file_name, row_number, reasons from release.rejected_rows"
        f" where json_valid(record) and ({is_its}) order by feed, file_name, row_number limit 1",
        [wanted] * len(kinds),
    )


def target(
    connection: Connection, wanted: str | None
) -> tuple[Literal["all", "program", "workspace"], str]:
    """Return the meaning of a WS|PROGRAM argument: everything, a program or a workspace.

    Args:
        connection: The release.
        wanted: The argument; `workspace:ID` and `program:NAME` distinguish an id from the same name of
            a program.

    Raises:
        NotThere: The argument is neither.
    """
    if wanted is None:
        return "all", ""
    kind, _, name = wanted.partition(":")
    if kind == "workspace" and not _has(connection, _WORKSPACES, "workspace_id", wanted):
        return "workspace", workspace(connection, name)
    if kind == "program" and not _has(connection, _WORKSPACES, "workspace_id", wanted):
        return "program", program(name)
    if wanted in PROGRAMS:
        return "program", wanted
    if _has(connection, _WORKSPACES, "workspace_id", wanted):
        return "workspace", wanted
    others = _of_another_kind(connection, wanted, ("invoice", "redemption", "credit_note"))
    close = near(wanted, PROGRAMS)
    if not others:
        close += _near_ids(connection, _WORKSPACES, "workspace_id", wanted)
    raise NotThere("target", wanted, near=close, known=list(PROGRAMS), others=others)


def month_in(wanted: str, first: date | None, last: date | None) -> date:
    """Return a month given as 2024-02, within the months that have data.

    Raises:
        NotThere: The text is not a month, or is too early or too late.
    """
    known = [] if first is None or last is None else [*map(month, months_from(first, last))]
    plain = re.fullmatch(r"([0-9]{4}-[0-9]{2})(-[0-9]{2})?", wanted.strip())
    if plain and plain.group(1) in known:
        return date.fromisoformat(f"{plain.group(1)}-01")
    loose = re.fullmatch(r"([0-9]{4})[-/. ]?([0-9]{1,2})", wanted.strip())
    close = [f"{loose.group(1)}-{int(loose.group(2)):02}"] if loose else []
    close = [one for one in close if one in known] if loose else near(wanted, known)[:3]
    raise NotThere("month", wanted, near=close, known=known)


_WORKSPACES = (
    "marts.dim_workspaces",
    "marts.fct_discounted_charges",
    "marts.dim_coupon_redemptions",
)
_INVOICES = ("marts.fct_discounted_charges",)
_TABLES = {
    "workspace": _WORKSPACES,
    "invoice": _INVOICES,
    "redemption": ("marts.dim_coupon_redemptions",),
    "credit_note": ("marts.fct_credit_notes",),
}


def _has(connection: Connection, tables: Sequence[str], column: str, wanted: str) -> bool:
    return any(
        rows(connection, f"select 1 from {table} where {column} = ? limit 1", [wanted])
        for table in tables
    )


def _of_another_kind(connection: Connection, wanted: str, kinds: Sequence[str]) -> list[Other]:
    """Return the ids of other kinds that match an id, or begin with it.

    Args:
        connection: The release.
        wanted: The id.
        kinds: `workspace`, `invoice`, `redemption` or `credit_note`.
    """
    others = []
    for kind in kinds:
        is_note = kind == "credit_note"
        if is_note and not has_table(connection, "fct_credit_notes"):
            continue
        owner = "invoice_id" if is_note else "workspace_id"
        union = " union ".join(
            f"select {kind}_id as id, {owner} as owner_id from {table}" for table in _TABLES[kind]
        )
        found = rows(
            connection,
            f"select id, owner_id from ({union}) where id = ? or length(?) >= ?"
            " and starts_with(id, ?) order by id limit ?",
            [wanted, wanted, _LEAST_BEGINNING, wanted, _MOST_NEAR],
        )
        if found:
            is_exact = found[0]["id"] == wanted
            ids = [row["id"] for row in found]
            others.append(Other(kind, ids[:1] if is_exact else ids, found[0]["owner_id"], is_exact))
    return others


def _near_ids(connection: Connection, tables: Sequence[str], column: str, wanted: str) -> list[str]:
    """Return similar ids out of very many: DuckDB preselects a few by prefix and similarity."""
    union = " union ".join(f"select {column} as id from {table}" for table in tables)
    candidates = rows(
        connection,
        f"select id from ({union}) where id is not null"
        " order by starts_with(lower(id), lower(?)) and length(id) > length(?) + 1 desc,"
        " jaro_winkler_similarity(lower(left(id, 200)), lower(?)) desc, id limit ?",
        [*[wanted[:_LONGEST_ID]] * 3, _CANDIDATES],
    )
    return near(wanted[:_LONGEST_ID], [row["id"] for row in candidates])
