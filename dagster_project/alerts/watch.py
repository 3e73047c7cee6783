"""What can be noticed in a data home: each kind of alert is one function that only looks.

The conditions and their sentences belong here. Whether something is news is decided elsewhere (`fold`);
every function gets what readers know already and describes only what is new.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project import failures
from dagster_project.alerts.alert import Alert, Kind, listed
from dagster_project.answers import health
from dagster_project.answers.asking import month_from, months_from
from dagster_project.failures import Failure, plain, without_values
from dagster_project.quoting import literals
from dagster_project.releases import files
from dagster_project.settings import Settings

if TYPE_CHECKING:
    import duckdb

    from dagster_project.answers.asking import Row
    from dagster_project.answers.freshness import LateFeed
    from dagster_project.arrival.archive import SideRecord

    Total = tuple[str, str | None, int, Decimal | None]
    """Findings of a type and currency: how many, and what is at stake."""

_OPEN = "from marts.fct_audit_findings where severity = 'error' and review_status = 'open'"
_VARYING = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Watched:
    """What one kind of alert reports now.

    Attributes:
        kind: The kind.
        members: What is wrong now: findings, deliveries, feeds; or the cause, for a failed run.
        new: The members that were not yet reported to readers.
        alert: Describes the new members, or all if none is new; None if nothing is wrong.
        solved: What to report when nothing is wrong any more.
        is_event: Whether it is about one run, not about everything that is wrong.
        is_repeated: Whether it is sent again while it persists.
        source: The billing system that it is about, if it is about a single one.
    """

    kind: Kind
    members: frozenset[str]
    new: frozenset[str]
    alert: Alert | None
    solved: str
    is_event: bool = False
    is_repeated: bool = False
    source: str = ""

    @property
    def key(self) -> str:
        """The key under which it is remembered: the kind, with the source if it is about a single one."""
        return f"{self.kind}:{self.source}" if self.source else self.kind


def served(home: Path) -> str:
    """Say in words which release is current.

    Args:
        home: The data home.
    """
    from dagster_project.releases.read import read_pedigree

    try:
        release_id = files.current_release(home)
        if release_id is None:
            return "there is no current release yet"
        day = read_pedigree(home, release_id)["as_of_date"]
    except Exception as error:  # noqa: BLE001 (the first failure is the one to report)
        return f"the current release cannot be read ({plain(str(error), 200)})"
    return f"the release of {day_in_words(day)} ({release_id}) is still current"


def served_now(home: Path) -> str:
    """Say in words which release is current, if no failure held back a newer one.

    Args:
        home: The data home.
    """
    return served(home).replace(" still ", " ")


def day_in_words(day: date) -> str:
    """Return a day as people write it: 21 November 2026."""
    return f"{day.day} {day:%B %Y}"


def run(failure: Failure | None, run_id: str, home: Path, now: datetime) -> list[Watched]:
    """Report how a run ended: a failure is one of two kinds of alerts, a success resolves both.

    Args:
        failure: What went wrong, None if nothing did.
        run_id: The run.
        home: The data home, for what is served and the run's log.
        now: When this is noticed.
    """
    solved = f"Refreshing works again: {served_now(home)}."
    if failure is None:
        return [_event("run_failed", None, solved), _event("release_refused", None, solved)]
    lines = failures.told(failure)
    log = home / "logs" / f"{run_id}.log"
    look = f"less {shlex.quote(str(log))}" if log.is_file() else _command("releases", home)
    if any(problem.kind == "finding" for problem in failure.problems):
        look = _command("findings --severity error --review open", home)
    kind: Kind = "release_refused" if failure.is_refusal else "run_failed"
    what = "The release was refused" if failure.is_refusal else "The refresh failed"
    alert = Alert(
        kind=kind,
        severity="error",
        happened=f"{what}: {plain(lines[0] if lines else 'no reason was given', 300)}",
        meaning=f"Nothing was published; {served(home)}.",
        command=look,
        at=now,
        details=listed(lines[1:])
        + ((f"What to do: {plain(failure.remedy)}",) if failure.remedy else ()),
        run_id=run_id,
    )
    return [_event(kind, alert, solved)]


def pull(
    source: str, failure: Failure | None, run_id: str, home: Path, now: datetime
) -> list[Watched]:
    """Report how a pull from a billing system ended.

    Args:
        source: The billing system.
        failure: What went wrong, None if nothing did.
        run_id: The run.
        home: The data home, for what is served and the run's log.
        now: When this is noticed.
    """
    solved = f"Pulling from {source} works again."
    if failure is None:
        return [_event("pull_failed", None, solved, source)]
    lines = failures.told(failure)
    log = home / "logs" / f"{run_id}.log"
    alert = Alert(
        kind="pull_failed",
        severity="error",
        happened=f"The pull from {source} failed:"
        f" {plain(lines[0] if lines else 'no reason was given', 300)}",
        meaning=f"Nothing of it was delivered; the next pull continues; {served_now(home)}.",
        command=f"less {shlex.quote(str(log))}"
        if log.is_file()
        else _command(f"pull {source}", home),
        at=now,
        details=listed(lines[1:])
        + ((f"What to do: {plain(failure.remedy)}",) if failure.remedy else ()),
        run_id=run_id,
    )
    return [_event("pull_failed", alert, solved, source)]


def pulls_late(
    last: Mapping[str, datetime | None],
    within: timedelta,
    known: Collection[str],
    home: Path,
    now: datetime,
) -> Watched:
    """Report billing systems from which no pull has worked for too long.

    Args:
        last: By source to pull from, when a pull last worked; None for never.
        within: How long ago that may be.
        known: Sources that readers know of.
        home: The data home.
        now: When this is noticed.
    """
    late = {
        source: worked
        for source, worked in last.items()
        if worked is not None and now - worked > within
    }
    alert = None
    if late:
        alert = Alert(
            kind="pull_late",
            severity="warn",
            happened=f"No pull has worked for too long: {', '.join(sorted(late))}",
            meaning=f"What happened since then is missing; {served_now(home)}.",
            command=_command(f"pull {min(late)}", home),
            at=now,
            details=listed(
                [
                    f"{source}: {worked:%Y-%m-%d %H:%M} UTC,"
                    f" {(now - worked) / timedelta(hours=1):,.0f} hours ago;"
                    f" {within / timedelta(hours=1):g} are allowed"
                    for source, worked in sorted(late.items())
                ]
            ),
        )
    members = frozenset(late)
    solved = "Pulls are up to date again."
    return Watched(
        "pull_late", members, members - frozenset(known), alert, solved, is_repeated=True
    )


def _event(kind: Kind, alert: Alert | None, solved: str, source: str = "") -> Watched:
    cause = frozenset() if alert is None else frozenset({_fingerprint(alert.happened)})
    return Watched(
        kind, cause, cause, alert, solved, is_event=True, is_repeated=True, source=source
    )


def _fingerprint(text: str) -> str:
    """Return the same fingerprint for texts that differ only in numbers and ids."""
    return hashlib.sha256(_VARYING.sub("#", text).encode()).hexdigest()[:16]


def files_refused(
    records: Iterable[SideRecord], known: Collection[str], home: Path, now: datetime
) -> Watched:
    """Report deliveries refused as a whole, unless a later one of the same name was loaded.

    Args:
        records: The archive's records of all deliveries, in their order.
        known: Ids of the refused deliveries that readers know of.
        home: The data home.
        now: When this is noticed.
    """
    last: dict[str, SideRecord] = {}
    for record in records:
        if record.verdict is not None:
            last[record.file_name] = record
    refused = {one.delivery_id: one for one in last.values() if one.verdict == "refused"}
    new = frozenset(refused) - frozenset(known)
    shown = [refused[key] for key in refused if key in new] or list(refused.values())
    alert = None
    if shown:
        count = len(shown)
        first = plain(shown[0].file_name, 100)
        alert = Alert(
            kind="file_refused",
            severity="error",
            happened=f"The file {first} was refused"
            if count == 1
            else f"{count:,} files were refused, the first is {first}",
            meaning=f"{'Its' if count == 1 else 'Their'} rows are in no release; {served_now(home)}.",
            command=_command("deliveries", home),
            at=now,
            details=listed([_refusal(record) for record in shown]),
        )
    solved = "The files that were refused have been delivered again and loaded."
    return Watched("file_refused", frozenset(refused), new, alert, solved)


def _refusal(record: SideRecord) -> str:
    reason = without_values(record.reason or "refused")
    remedy = without_values(record.remedy or "")
    return plain(f"{record.file_name}: {reason}" + (f"; {remedy}" if remedy else ""))


def open_findings(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """Return the ids of the open findings of severity error.

    Args:
        connection: A release.
    """
    return frozenset(row[0] for row in connection.execute(f"select finding_id {_OPEN}").fetchall())


def new_findings(
    connection: duckdb.DuckDBPyConnection, known: Collection[str], home: Path, now: datetime
) -> Watched:
    """Report open findings of severity error that readers do not know of.

    Args:
        connection: The current release.
        known: Ids of those that readers know of.
        home: The data home.
        now: When this is noticed.
    """
    found = open_findings(connection)
    new = found - frozenset(known)
    alert = None
    if found:
        is_shown = f"finding_id in ({literals(new)})" if new and new != found else "true"
        shown: list[Total] = connection.execute(
            "select finding_type, currency, count(*), sum(amount_at_stake)"
            f" {_OPEN} and {is_shown} group by all order by all"
        ).fetchall()
        by_type = {
            name: _counted([one for one in shown if one[0] == name])
            for name in dict.fromkeys(one[0] for one in shown)
        }
        number = len(new or found)
        many = "finding" if number == 1 else "findings"
        alert = Alert(
            kind="new_findings",
            severity="warn",
            happened=f"{number:,} new {many} of severity error{_at_stake(shown, ': ')}",
            meaning=f"Billing got something wrong, and nobody has accepted it; {served_now(home)} and lists it.",
            command=_command("findings --severity error --review open", home),
            at=now,
            details=listed([f"{name} {line}" for name, line in by_type.items()]),
        )
    solved = "No finding of severity error is open any more."
    return Watched("new_findings", found, new, alert, solved)


def terms_changed(
    changed: Mapping[str, str], known: Collection[str], home: Path, now: datetime
) -> Watched:
    """Report changes of a coupon's terms that nobody has accepted and readers do not know of.

    Args:
        changed: In words, by the id of their findings.
        known: Ids of those that readers know of.
        home: The data home.
        now: When this is noticed.
    """
    new = frozenset(changed) - frozenset(known)
    shown = [changed[key] for key in changed if key in new] or list(changed.values())
    alert = None
    if shown:
        alert = Alert(
            kind="terms_changed",
            severity="warn",
            happened="The terms of a coupon were changed"
            if len(shown) == 1
            else f"The terms of coupons were changed {len(shown):,} times",
            meaning="They apply to earlier bills too, which may now differ from what was billed;"
            f" {served_now(home)}.",
            command=_command("findings --type coupon_terms_changed", home),
            at=now,
            details=listed([plain(line, 400) for line in shown]),
        )
    solved = "No change of terms is open any more."
    return Watched("terms_changed", frozenset(changed), new, alert, solved)


def running_out(ahead: Row, home: Path, now: datetime) -> Watched:
    """Report promotions that run out soon and readers do not know of, in the words of the reading commands.

    Args:
        ahead: As `answers.expiring.ahead` returns it.
        home: The data home.
        now: When this is noticed.
    """
    from dagster_project.answers import words

    members, new = frozenset(ahead["redemption_ids"]), frozenset(ahead["new"])
    alert = None
    if members:
        alert = Alert(
            kind="running_out",
            severity="info",
            happened=words.running_out(ahead, ahead["until"]),
            meaning=f"Bills change if nothing else happens; {served_now(home)}.",
            command=_command("expiring --sort amount", home),
            at=now,
            details=listed(
                [
                    plain(f"{one['workspace_id']}: {sentence}", 400)
                    for one in ahead["workspaces_ahead"]
                    for sentence in one["words"]
                ]
            ),
        )
    solved = f"No promotion runs out by {ahead['until']} any more."
    return Watched("running_out", members, new, alert, solved)


def _counted(told: Iterable[Total]) -> str:
    return f"{sum(number for _, _, number, _ in told):,}{_at_stake(told, ': ')}"


def _at_stake(told: Iterable[Total], lead: str) -> str:
    """Return amounts by currency, never added up across currencies."""
    from dagster_project.answers.values import money

    totals: dict[str | None, Decimal] = {}
    for _, currency, _, amount in told:
        if amount is not None:
            totals[currency] = totals.get(currency, Decimal(0)) + amount
    amounts = [money(totals[key], key) for key in sorted(totals, key=lambda key: key or "")]
    return f"{lead}{', '.join(amounts)} at stake" if amounts else ""


def data_late(
    late: Collection[LateFeed], known: Collection[str], home: Path, now: datetime
) -> Watched:
    """Report feeds whose newest record is too old.

    Args:
        late: The feeds.
        known: Names of those that readers know of.
        home: The data home.
        now: When this is noticed.
    """
    names = frozenset(one.feed for one in late)
    alert = None
    if late:
        feeds = ", ".join(one.feed for one in late)
        alert = Alert(
            kind="data_late",
            severity="warn",
            happened=f"Data is late: {feeds}",
            meaning=f"What happened since the newest record is missing; {served_now(home)}.",
            command=_command("deliveries", home),
            at=now,
            details=listed([str(one) for one in late]),
        )
    solved = "Data is up to date again."
    return Watched("data_late", names, names - frozenset(known), alert, solved, is_repeated=True)


def disk_nearly_full(settings: Settings, known: Collection[str], now: datetime) -> Watched:
    """Report whether the disk of the data home has less space than the settings ask for.

    Args:
        settings: The data home and the least free space, in 10^9 bytes and in percent.
        known: Whether readers know of it.
        now: When this is noticed.
    """
    found = health.disk(settings)
    free = f"{found['free_bytes'] / 10**9:,.1f} GB"
    members = frozenset({"disk"} if not found["is_ok"] else ())
    alert = None
    if members:
        alert = Alert(
            kind="disk_nearly_full",
            severity="error",
            happened=f"The disk is nearly full: {free}, {found['free_percent']:.1f} percent, are free",
            meaning=f"When it is full, refreshing fails; {served(settings.home)}.",
            command=f"du -sh {shlex.quote(str(settings.home))}/*",
            at=now,
            details=(
                f"The least required is {settings.disk_free_gb:g} GB and"
                f" {settings.disk_free_percent:g} percent.",
                f"`{_command('prune --keep 10', settings.home)}` removes old releases.",
            ),
        )
    solved = f"The disk has space again: {free} are free."
    new = members - frozenset(known)
    return Watched("disk_nearly_full", members, new, alert, solved, is_repeated=True)


def months_open(
    due: date | None, closed: Collection[date], known: Collection[str], home: Path, now: datetime
) -> Watched:
    """Report months that should have been closed by now: those after the last one closed.

    Args:
        due: The last month whose closing day has come; None if there is no such month.
        closed: The months that are closed.
        known: Names of the open months that readers know of.
        home: The data home.
        now: When this is noticed.
    """
    months: list[str] = []
    if due is not None and due not in closed:
        first = max((month for month in closed if month < due), default=None)
        open_since = due if first is None else month_from(first, 1)
        months = [f"{month:%Y-%m}" for month in months_from(open_since, due)]
    alert = None
    if months:
        alert = Alert(
            kind="month_open",
            severity="warn",
            happened=f"{', '.join(months)} {'is' if len(months) == 1 else 'are'} not closed yet",
            meaning="Until a month is closed, later changes in it are not reported;"
            f" {served_now(home)}.",
            command=_command(f"close {months[0]} --by NAME", home),
            at=now,
            details=(f"`{_command('closes', home)}` lists what was closed, when and by whom.",),
        )
    new = frozenset(months) - frozenset(known)
    return Watched("month_open", frozenset(months), new, alert, "Every month due is closed.")


def month_due(settings: Settings, today: date) -> date | None:
    """Return the last month whose closing day has come, None if no such day is set.

    Args:
        settings: On which working day a month is closed, and which days are holidays.
        today: The day, in the zone of the schedule.
    """
    if settings.close_working_day == 0:
        return None
    this = today.replace(day=1)
    has_come = today >= working_day(this, settings.close_working_day, settings.holidays)
    return month_from(this, -1 if has_come else -2)


def working_day(month: date, number: int, holidays: Collection[date]) -> date:
    """Return the nth working day of a month: Monday to Friday, without the holidays.

    Args:
        month: First day of the month.
        number: Its number, from 1; if the month has fewer, days of the next month follow.
        holidays: Days on which nobody works.
    """
    day = month - timedelta(days=1)
    while number:
        day += timedelta(days=1)
        number -= day.weekday() < 5 and day not in holidays
    return day


def _command(command: str, home: Path) -> str:
    return f"coupon-ledger {command} --home {shlex.quote(str(home))}"
