"""Month close: which release certifies an accounting month, in a register that only grows.

Each line of the register has the sha256 of the line before it, and the history of releases has the
sha256 of the last line, so that a changed, removed or inserted line is noticed, even the last one.

The register and what may be written to it belong here. What has changed since a close is computed at
publication (`restatements`); `retention` sees to it that a closed release is retained.
"""

from __future__ import annotations

import calendar
import json
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.digests import sha256_of
from dagster_project.quoting import literal
from dagster_project.releases import files
from dagster_project.releases.errors import ReleaseError
from dagster_project.releases.lock import one_writer
from dagster_project.releases.read import read_pedigree, reading, verify

if TYPE_CHECKING:
    import duckdb

Pack = Callable[["duckdb.DuckDBPyConnection", Path], Mapping[str, str]]
"""Writes the files of a close pack into a folder; returns which files it left out, each with the reason."""
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_UNREADABLE = "Restore the register from a backup; nothing is published while it is damaged."


@dataclass(frozen=True)
class Closing:
    """A line of the register.

    Attributes:
        event: `closed` or `reopened`.
        month: First day of the month.
        release_id: The release that certifies it.
        by: Who did it.
        at: When, in UTC.
        reason: Why it was reopened, or closed with open findings of severity error.
        open_errors: How many of these findings were open in the month when it was closed.
        fingerprints: Rows and fingerprint by table, as `schema.table`, when it was closed.
    """

    event: str
    month: date
    release_id: str
    by: str
    at: datetime
    reason: str
    fingerprints: Mapping[str, tuple[int, str]]
    open_errors: int = 0

    @property
    def month_name(self) -> str:
        """The month as people write it: YYYY-MM."""
        return name_of(self.month)


def parse_month(text: str) -> date:
    """Return the first day of a month given as YYYY-MM.

    Raises:
        ValueError: The text is not a month.
    """
    if not _MONTH.fullmatch(text):
        raise ValueError(f"{text} is not a month; give one as YYYY-MM.")
    return date.fromisoformat(f"{text}-01")


def name_of(month: date) -> str:
    """Return a month as YYYY-MM."""
    return f"{month.year:04}-{month.month:02}"


def register(home: Path) -> list[Closing]:
    """Return every close and reopening, oldest first.

    Raises:
        ReleaseError: A line cannot be parsed, or lines were changed, removed or inserted.
    """
    path = files.closes_path(home)
    witnessed = [event["register"] for event in files.read_history(home) if "register" in event]
    last = str(witnessed[-1]) if witnessed else None
    return [_closing(line, path) for line in files.read_lines(path, ends_with=last)]


def closed_months(home: Path) -> dict[date, Closing]:
    """Return the months closed now, in order, each with the close that holds."""
    closed: dict[date, Closing] = {}
    for entry in register(home):
        if entry.event == "closed":
            closed[entry.month] = entry
        else:
            closed.pop(entry.month, None)
    return dict(sorted(closed.items()))


def certified_releases(home: Path) -> dict[str, list[str]]:
    """Return the releases that ever closed a month, with their months; all are retained forever."""
    certified: dict[str, list[str]] = {}
    for entry in register(home):
        months = certified.setdefault(entry.release_id, [])
        if entry.month_name not in months:
            months.append(entry.month_name)
    return certified


def check_closable(home: Path, month: date, release_id: str | None = None) -> str:
    """Return the release that would certify a month, if it may.

    Args:
        home: The data home.
        month: First day of the month.
        release_id: The release, or enough of its id; the current one by default.

    Raises:
        NoRelease: There is no such release.
        ReleaseError: The release does not cover the whole month, or the month is before all invoices
            or already closed.
    """
    wanted = files.resolve(home, release_id, is_recorded=True)
    earlier = closed_months(home).get(month)
    if earlier is not None:
        raise ReleaseError(
            f"{name_of(month)} was closed with release {earlier.release_id} by {earlier.by}"
            f" on {earlier.at:%Y-%m-%d}.",
            f"To close it again, first run `coupon-ledger reopen {name_of(month)} --by NAME --reason"
            " TEXT`.",
        )
    last_day = month.replace(day=calendar.monthrange(month.year, month.month)[1])
    as_of = read_pedigree(home, wanted)["as_of_date"]
    if as_of < last_day:
        raise ReleaseError(
            f"Release {wanted} is as of {as_of}, before the end of {name_of(month)}.",
            f"Close the month with a release as of {last_day} or later.",
        )
    _must_not_be_before_all(home, wanted, month)
    return wanted


def close(
    home: Path,
    month: date,
    *,
    by: str,
    now: datetime,
    release_id: str | None = None,
    with_open_findings: bool = False,
    reason: str = "",
    pack: Pack | None = None,
) -> Closing:
    """Certify a release for an accounting month.

    Args:
        home: The data home.
        month: First day of the month.
        by: Who certifies it.
        now: When this happens.
        release_id: The release, or enough of its id; the current one by default.
        with_open_findings: Whether to close the month although findings of severity error are open in it.
        reason: Why the month is closed with open findings; recorded.
        pack: Makes the close pack, which is stored with the closing; without it none is made.

    Raises:
        NoRelease: There is no such release.
        ReleaseError: The release is damaged, does not cover the whole month, or has open findings of
            severity error in it; the month is before all invoices or already closed; or the name, or
            a reason where one is required, is missing.
        Busy: A refresh is running.
    """
    _must_be_named(by)
    if with_open_findings and not reason.strip():
        raise ReleaseError(
            "A close with open findings needs a reason.", "Give it with --reason TEXT."
        )
    wanted = files.resolve(home, release_id, is_recorded=True)
    with one_writer(home, f"coupon-ledger close {name_of(month)}"):
        check_closable(home, month, wanted)
        files.remove_leftovers(home)
        verify(home, wanted).raise_unless_sound()
        with reading(home, wanted) as connection:
            errors = open_errors(connection, month)
        if errors and not with_open_findings:
            are = (
                "finding of severity error is" if errors == 1 else "findings of severity error are"
            )
            raise ReleaseError(
                f"{name_of(month)} is not closed: {errors:,} {are} open in it.",
                "Have billing corrected, or accept each in accepted_findings.csv, and run again; or"
                " close the month as it is with --with-open-findings --reason TEXT, which is recorded."
                " `coupon-ledger findings --severity error --review open --month"
                f" {name_of(month)}` lists them.",
            )
        line: dict[str, object] = {
            "event": "closed",
            "month": name_of(month),
            "release_id": wanted,
            "by": by,
            "at": now.astimezone(UTC).isoformat(),
            "fingerprints": _fingerprints(home, wanted),
        }
        if with_open_findings:
            line |= {"open_errors": errors, "reason": reason.strip()}
        made = _made_pack(home, wanted, month, now, pack) if pack else None
        _record(home, line, now)
        if made is not None:
            files.finish_pack(home, made)
    return _closing(line, files.closes_path(home))


def pack_of(home: Path, closing: Closing) -> Path | None:
    """Return the folder of a close's pack beside its release; None for a close of an earlier version.

    Args:
        home: The data home.
        closing: The close.
    """
    folder = files.pack_dir(home, closing.release_id, closing.month_name, closing.at)
    return folder if closing.event == "closed" and folder.is_dir() else None


def _made_pack(home: Path, release_id: str, month: date, now: datetime, make: Pack) -> Path:
    """Make a close pack in a temporary folder, which gets its final name once the close is recorded."""
    place = files.pack_dir(home, release_id, name_of(month), now)
    temporary = place.with_name(f"{place.name}.tmp")
    temporary.mkdir(parents=True)
    try:
        with reading(home, release_id) as connection:
            left_out = make(connection, temporary)
        pedigree = read_pedigree(home, release_id)
        about = {
            "month": name_of(month),
            "release_id": release_id,
            "as_of_date": str(pedigree["as_of_date"]),
            "code_version": str(pedigree["code_version"]),
            "content_hash": str(pedigree["content_hash"]),
            "tables": _fingerprints(home, release_id),
            "files": {file.name: sha256_of(file) for file in sorted(temporary.iterdir())},
            "left_out": left_out,
        }
        text = json.dumps(about, indent=1, ensure_ascii=False)
        (temporary / "fingerprints.json").write_text(text + "\n", "utf-8")
        files.make_durable(temporary)
    except BaseException:
        shutil.rmtree(temporary)
        raise
    return temporary


def open_errors(connection: duckdb.DuckDBPyConnection, month: date) -> int:
    """Count the findings of severity error that nobody has accepted, of one month.

    Args:
        connection: The release.
        month: First day of the month.
    """
    known = _columns(connection, "marts", "fct_audit_findings")
    if not known:
        return 0
    is_open = "true"  # a release made before reviews existed has only open findings
    if "review_status" in known:
        is_open = "findings.review_status = 'open'"
    row = connection.execute(
        "select count(*) from marts.fct_audit_findings as findings"
        " left join marts.fct_discounted_charges as charges"
        " on findings.invoice_id = charges.invoice_id"
        f" where findings.severity = 'error' and {is_open}"
        f" and {month_of_finding(connection)} = date {literal(month.isoformat())}"
    ).fetchone()
    assert row is not None
    return int(row[0])


def month_of_finding(connection: duckdb.DuckDBPyConnection) -> str:
    """Return SQL for the month of a finding, in `findings` joined with the bills that they are about as `charges`.

    A finding about a bill belongs to the bill's month, any other finding to the month in which it occurred,
    in the reporting time zone of the release. A finding about a credit note occurred when the note was issued.

    Args:
        connection: The release.
    """
    bill_month = "charges.billing_month"
    if "credit_note_id" in _columns(connection, "marts", "fct_audit_findings"):
        bill_month = f"case when findings.credit_note_id is null then {bill_month} end"
    happened = "findings.occurred_at"
    if "reporting_time_zone" in _columns(connection, "release", "release"):
        zone = "(select reporting_time_zone from release.release)"
        happened = f"timezone({zone}, timezone('UTC', {happened}))"
    return f"coalesce({bill_month}, cast(date_trunc('month', {happened}) as date))"


def _columns(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> set[str]:
    return {
        str(name)
        for (name,) in connection.execute(
            f"select column_name from duckdb_columns() where schema_name = {literal(schema)}"
            f" and table_name = {literal(table)}"
        ).fetchall()
    }


def reopen(home: Path, month: date, *, by: str, now: datetime, reason: str) -> Closing:
    """Take back the close of a month; its release is still retained.

    Args:
        home: The data home.
        month: First day of the month.
        by: Who reopens it.
        now: When this happens.
        reason: Why.

    Raises:
        ReleaseError: The month is not closed, or the name or the reason is missing.
        Busy: A refresh is running.
    """
    _must_be_named(by)
    if not reason.strip():
        raise ReleaseError("A reopening needs a reason.", "Give it with --reason TEXT.")
    with one_writer(home, f"coupon-ledger reopen {name_of(month)}"):
        closed = closed_months(home)
        if month not in closed:
            names = ", ".join(map(name_of, closed))
            others = f"closed months: {names}" if names else "no month is closed"
            raise ReleaseError(f"{name_of(month)} is not closed; {others}.")
        line = {
            "event": "reopened",
            "month": name_of(month),
            "release_id": closed[month].release_id,
            "by": by,
            "at": now.astimezone(UTC).isoformat(),
            "reason": reason.strip(),
        }
        _record(home, line, now)
    return _closing(line, files.closes_path(home))


def _record(home: Path, line: Mapping[str, object], now: datetime) -> None:
    written = files.append_line(files.closes_path(home), line, is_chained=True)
    with suppress(OSError):  # the register is valid without this second record
        files.remember(
            home,
            str(line["event"]),
            str(line["release_id"]),
            now,
            month=line["month"],
            by=line["by"],
            register=written,
        )


def must_be_as_certified(home: Path, closing: Closing) -> None:
    """Make sure that the release of a close exists and holds what it held when it was certified.

    Raises:
        ReleaseError: The release is gone or altered.
    """
    remedy = (
        f"Restore {files.release_path(home, closing.release_id)} from a backup, or reopen"
        f" {closing.month_name} and close it again."
    )
    try:
        found = _fingerprints(home, closing.release_id)
    except ReleaseError as error:
        raise ReleaseError(
            f"The release that closed {closing.month_name} cannot be read: {error.message}", remedy
        ) from error
    if {name: list(value) for name, value in closing.fingerprints.items()} != found:
        raise ReleaseError(
            f"Release {closing.release_id} has changed since it closed {closing.month_name}: its"
            " tables have other fingerprints than the register.",
            remedy,
        )


def _must_not_be_before_all(home: Path, release_id: str, month: date) -> None:
    """Refuse a month before the first invoice, which must be a typing error."""
    with reading(home, release_id) as connection:
        row = connection.execute(
            "select min(billing_month) from marts.fct_discounted_charges"
        ).fetchone()
    first = row[0] if row else None
    if first is not None and month < first:
        raise ReleaseError(
            f"{name_of(month)} is before the month of the first invoice, {name_of(first)}.",
            "Check the month and give it as YYYY-MM.",
        )


def _must_be_named(by: str) -> None:
    if not by.strip():
        raise ReleaseError("The register must say who did this.", "Give a name with --by NAME.")


def _fingerprints(home: Path, release_id: str) -> dict[str, list[object]]:
    with reading(home, release_id) as connection:
        rows = connection.execute(
            "select table_schema || '.' || table_name, row_count, fingerprint from release.tables"
            " order by all"
        ).fetchall()
    return {str(name): [int(count), str(fingerprint)] for name, count, fingerprint in rows}


def _closing(line: Mapping[str, Any], path: Path) -> Closing:
    try:
        if line["event"] not in ("closed", "reopened"):
            raise ValueError(f"event {line['event']!r}")
        return Closing(
            event=str(line["event"]),
            month=parse_month(str(line["month"])),
            release_id=str(line["release_id"]),
            by=str(line["by"]),
            at=datetime.fromisoformat(str(line["at"])),
            reason=str(line.get("reason", "")),
            open_errors=int(line.get("open_errors", 0)),
            fingerprints={
                str(name): (int(count), str(fingerprint))
                for name, (count, fingerprint) in line.get("fingerprints", {}).items()
            },
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ReleaseError(
            f"{path} has a line that is neither a close nor a reopening ({error}): {dict(line)}",
            _UNREADABLE,
        ) from error
