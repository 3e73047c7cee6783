"""Whatever happens, in whatever order, readers learn everything, and nothing twice.

A state machine goes through the occasions for alerts: runs, pulls, looks every few minutes, processes that
die, channels that fail, a clock that is set. `Book` has what must be reported, as the chapter on alerts in
docs/operations.md promises. What watchers read, such as the marts of a release, is replaced by plain sets.
"""

from __future__ import annotations

import contextlib
import copy
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from dagster_project.alerts import fold, occasions, send
from dagster_project.alerts.fold import Message
from dagster_project.alerts.overview import overview
from dagster_project.answers.freshness import LateFeed
from dagster_project.arrival.archive import SideRecord
from dagster_project.failures import Failure
from dagster_project.settings import Settings

ZONE = ZoneInfo("Europe/Berlin")
BEGINNINGS = [
    datetime(2026, 3, 28, 22, 55, tzinfo=UTC),  # the next night skips an hour
    datetime(2026, 10, 24, 21, 55, tzinfo=UTC),  # the next night repeats an hour
    datetime(2026, 12, 31, 22, 55, tzinfo=UTC),
]
SOON = [0, 1, 5, 9]
LATER = [10, 10, 11, 59, 24 * 60 - 1, 24 * 60, 7 * 24 * 60, 8 * 24 * 60, -3, -30 * 24 * 60]
"""Minutes between occasions; negative if the clock is set back."""
MOST_RUNS, MOST_WAITING = 4, 5
CHANNELS = ("webhook", "email")
SOURCES = ("stripe", "postgres")
NAMES = ("m_a", "m_b", "m_c")
OF_A_RUN = ("run_failed", "release_refused", "pull_failed")
TOGETHER = ("file_refused", "new_findings", "terms_changed", "running_out", "month_open")
"""The kinds whose new members wait for the quiet time; the others are sent again while they persist."""

SETTINGS = Settings.model_validate(
    {
        "landing": Path("landing"),
        "reporting_time_zone": ZONE.key,
        "schedule_timezone": ZONE.key,
        "alert_webhook_url": "http://127.0.0.1:9/x",
        "alert_smtp_host": "127.0.0.1",
        "alert_email_from": "a@example.com",
        "alert_email_to": "b@example.com",
        "alert_ahead_days": 30,
        "close_working_day": 1,
    }
)

some = st.sampled_from(
    [frozenset(NAMES[first:last]) for first, last in ((0, 0), (0, 1), (0, 2), (1, 3), (0, 3))]
)
minutes = st.sampled_from([*SOON, *LATER])
Sight = tuple[str, str, frozenset[str]]
"""A message as a reader sees it: the kind, the status, and the members that it names."""


def sight(message: Message) -> Sight:
    """See a message as a reader does."""
    alert = message.alert
    told = [alert.happened]
    if alert.kind in ("file_refused", "new_findings", "terms_changed"):
        told += alert.details
    named = re.findall(r"m_[abc]|stripe|postgres|\d{4}-\d\d(?!-)", " ".join(told))
    return alert.kind, message.status, frozenset(named)


class Died(BaseException):
    """The process is killed."""


@dataclass
class Topic:
    """What readers know about one kind of alert, since it began."""

    knows: frozenset[str] = frozenset()
    told_at: datetime | None = None
    waits: bool = False


@dataclass(frozen=True)
class Due:
    """What channels still have to take."""

    sight: Sight
    at: datetime
    channels: tuple[str, ...]


@dataclass
class Book:
    """What was reported to readers, and what must be."""

    topics: dict[str, Topic] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    due: list[Due] = field(default_factory=list)
    has_seen_findings: bool = False


@dataclass
class Mart:
    """The findings of a release."""

    findings: frozenset[str]
    is_broken: bool

    def execute(self, query: str) -> Mart:
        """Remember the answer to a query."""
        if self.is_broken:
            raise RuntimeError("broken")
        named = frozenset(re.findall(r"'(m_[abc])'", query)) or self.findings
        self.found: list[tuple[Any, ...]] = (
            [(one, None, 1, None) for one in sorted(self.findings & named)]
            if "count(*)" in query
            else [(one,) for one in sorted(self.findings)]
        )
        return self

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the answer."""
        return self.found


class Alerts(RuleBasedStateMachine):
    """Occasions for alerts, and what must be reported on each."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="alerts-"))
        self.home = self.folder / "home"
        (self.home / "archive").mkdir(parents=True)
        self.settings = SETTINGS.model_copy(update={"home": self.home, "pull_from": SOURCES})
        self.channels: tuple[str, ...] = CHANNELS
        self.book = Book()
        self.number = 0
        self.releases: list[frozenset[str]] = []  # each with its findings
        self.terms: frozenset[str] = frozenset()
        self.ahead: frozenset[str] = frozenset()
        self.records: list[SideRecord] = []
        self.late: frozenset[str] = frozenset()
        self.is_full = False
        self.closed: set[date] = set()
        self.pulled: dict[str, datetime | None] = dict.fromkeys(SOURCES)
        self.broken: frozenset[str] = frozenset()
        self.answers = dict.fromkeys(CHANNELS, "ok")
        self.accident, self.dies_after, self.saves = "", 0, 0
        self.expected: list[Sight] = []
        self.issued: list[Sight] = []
        self.taken: list[tuple[str, Sight]] = []
        self.patch = pytest.MonkeyPatch()
        self.replace_what_is_read()
        self.replace_what_is_written()

    def teardown(self) -> None:
        self.patch.undo()
        shutil.rmtree(self.folder, ignore_errors=True)

    def replace_what_is_read(self) -> None:
        def reading(kind: str, value: Callable[..., Any]) -> Callable[..., Any]:
            def read(*arguments: Any) -> Any:
                if kind in self.broken:
                    raise RuntimeError("broken")
                return value(*arguments)

            return read

        def ahead(_: object, days: int, known: frozenset[str]) -> dict[str, object]:
            new = self.ahead - known
            return {"redemption_ids": self.ahead, "new": new, "until": days, "workspaces_ahead": ()}

        def release(_: Path, name: str = "0") -> contextlib.AbstractContextManager[Mart]:
            mart = Mart(self.releases[int(name) - 1], "new_findings" in self.broken)
            return contextlib.nullcontext(mart)

        def names(_: Path) -> list[str]:
            return [f"{number + 1:04}" for number in range(len(self.releases))]

        def late(*_: object) -> list[LateFeed]:
            return [LateFeed(feed, None, None, 1) for feed in sorted(self.late)]

        def disk(_: Settings) -> dict[str, object]:
            return {"is_ok": not self.is_full, "free_bytes": 1, "free_percent": 1.0}

        for place, value in {
            "arrival.archive.Archive.delivery_ids": lambda _: set(),
            "arrival.archive.Archive.records": reading("file_refused", lambda *_: self.records),
            "releases.files.release_ids": names,
            "releases.files.current_release": lambda home: [None, *names(home)][-1],
            "releases.read.open_release": release,
            "releases.closing.closed_months": reading("month_open", lambda _: self.closed),
            "answers.terms.open_changes": reading(
                "terms_changed", lambda *_: {name: name for name in self.terms}
            ),
            "answers.asking.zone_of": lambda _: ZONE,
            "answers.expiring.ahead": reading("running_out", ahead),
            "answers.words.running_out": lambda found, _: str(found["new"]),
            "answers.freshness.late_feeds": reading("data_late", late),
            "answers.health.disk": reading("disk_nearly_full", disk),
            "sources.deliveries.last_pull": reading("pull_late", lambda _, name: self.pulled[name]),
        }.items():
            self.patch.setattr(f"dagster_project.{place}", value)

    def replace_what_is_written(self) -> None:
        save, log_message = fold.save, send.log_message

        def saving(*arguments: Any) -> None:
            self.saves += 1
            what, when = (self.accident or " ").split(" ")
            if when == ("first" if self.saves == 1 else "last"):
                raise Died if what == "killed" else OSError(28, "No space left on device")
            save(*arguments)

        def logging(settings: Settings, message: Message) -> None:
            if message.status != "folded":
                self.issued.append(sight(message))
            log_message(settings, message)

        def take(channel: str, message: Message) -> None:
            if self.answers[channel] != "ok" or self.accident == "channels down":
                raise send.NotTaken("no", is_down=self.answers[channel] != "refuses")
            self.taken.append((channel, sight(message)))
            if self.accident == "killed between" and len(self.taken) == self.dies_after:
                raise Died

        self.patch.setattr(os, "fsync", lambda _: None)
        self.patch.setattr(fold, "MOST_RUNS", MOST_RUNS)
        self.patch.setattr(fold, "MOST_WAITING", MOST_WAITING)
        self.patch.setattr(fold, "save", saving)
        self.patch.setattr(send, "log_message", logging)
        self.patch.setattr(send, "_post", lambda _, message: take("webhook", message))
        self.patch.setattr(send, "_mail", lambda _, message: take("email", message))

    # What must be reported

    def sees(self, key: str, present: frozenset[str], names: frozenset[str] | None = None) -> None:
        """What is wrong now is reported once, again after a while, and once when it is over."""
        kind = key.partition(":")[0]
        if kind in self.broken:
            return
        topic = self.book.topics.setdefault(key, Topic())
        passed = None if topic.told_at is None else abs(self.now - topic.told_at)
        if not present:
            del self.book.topics[key]
            if passed is not None:
                self.tells((kind, "resolved", names or frozenset()))
            return
        if kind not in OF_A_RUN:
            topic.knows &= present
        new = present - topic.knows
        quiet = timedelta(minutes=self.settings.alert_quiet_minutes)
        topic.waits = kind in TOGETHER and bool(new) and passed is not None and passed < quiet
        status = "new" if new and not topic.waits else ""
        if not new and kind not in TOGETHER and passed is not None:
            status = "again" if passed >= timedelta(hours=self.settings.alert_repeat_hours) else ""
        if status:
            topic.knows |= present
            topic.told_at = self.now
            whole = present if kind not in TOGETHER or kind == "month_open" else new
            self.tells((kind, status, whole if names is None else names))

    def tells(self, told: Sight) -> None:
        self.expected.append(told)
        if self.channels:
            self.book.due.append(Due(told, self.now, self.channels))

    def forgets(self, kind: str) -> None:
        """What is no longer watched is not reported as over."""
        self.book.topics.pop(kind, None)

    def sees_files(self) -> None:
        last = {record.file_name: record for record in self.records}
        refused = {
            one.delivery_id: name[:3] for name, one in last.items() if one.verdict == "refused"
        }
        topic = self.book.topics.get("file_refused", Topic())
        new = frozenset(refused[one] for one in refused if one not in topic.knows)
        self.sees("file_refused", frozenset(refused), new)

    def sees_findings(self) -> None:
        if not self.releases or "new_findings" in self.broken:
            return
        if not self.book.has_seen_findings:
            before = self.releases[-2] if len(self.releases) > 1 else frozenset()
            self.book.topics.setdefault("new_findings", Topic(knows=before))
        self.book.has_seen_findings = True
        self.sees("new_findings", self.releases[-1])

    def sees_terms(self) -> None:
        if self.releases:
            self.sees("terms_changed", self.terms)

    def sees_running_out(self) -> None:
        if self.releases and self.settings.alert_ahead_days:
            self.sees("running_out", self.ahead)

    def sees_late_data(self, is_earlier: bool = False) -> None:
        if not self.settings.late_after_days:
            self.forgets("data_late")
        elif self.releases and not is_earlier:
            self.sees("data_late", self.late)

    def sees_late_pulls(self) -> None:
        within = timedelta(hours=self.settings.pull_within_hours)
        late = [
            source
            for source in self.settings.pull_from
            if (last := self.pulled[source]) is not None and self.now - last > within
        ]
        if self.settings.pull_from:
            self.sees("pull_late", frozenset(late))
        else:
            self.forgets("pull_late")

    def sees_disk(self) -> None:
        full = frozenset({"disk"} if self.is_full else ())
        self.sees("disk_nearly_full", full, frozenset())

    def sees_months(self) -> None:
        number = self.settings.close_working_day
        if number == 0:
            self.forgets("month_open")
        if not self.releases or number == 0:
            return
        day, month = self.today, self.today.replace(day=1)
        days = [month + timedelta(days=past) for past in range(day.day)]
        has_come = sum(one.weekday() < 5 for one in days) >= number
        if not has_come and "month_open" not in self.book.topics:
            return
        due = before(month) if has_come else before(before(month))
        found = []
        while due not in self.closed:
            found.append(f"{due:%Y-%m}")
            due = before(due)
            if not any(one <= due for one in self.closed):
                break
        self.sees("month_open", frozenset(found))

    @property
    def today(self) -> date:
        """The day in the zone of the schedule."""
        return self.now.astimezone(ZONE).date()

    # What happens on each occasion

    def occasion(
        self, passed: int, happens: Callable[[], object], *sees: Callable[[], None]
    ) -> None:
        self.now += timedelta(minutes=passed)
        earlier = copy.deepcopy(self.book)
        self.expected, self.issued, self.taken, self.saves = [], [], [], 0
        for one in sees:
            one()
        with contextlib.suppress(Died):
            happens()
        assert self.issued == self.expected
        stored = list(self.book.due)
        taken, left = self.takes(self.book.due)
        if self.accident == "killed first":
            taken, self.book = [], earlier
        elif self.accident == "full first":
            # What cannot be remembered is not sent, except for alerts about this run.
            now = [one for one in self.book.due[len(earlier.due) :] if is_of_this_run(one.sight)]
            taken, self.book = self.takes(now)[0], earlier
        elif self.accident == "killed between" and len(taken) >= self.dies_after:
            taken, self.book.due = taken[: self.dies_after], stored
        elif self.accident in ("killed last", "full last"):
            self.book.due = stored
        else:
            self.book.due = left[-MOST_WAITING:]
        self.book.runs = self.book.runs[-MOST_RUNS:]
        self.accident, self.broken = "", frozenset()
        assert self.taken == taken
        self.compare_overview()

    def compare_overview(self) -> None:
        found = overview(self.settings, 1)
        kinds = [key.partition(":")[0] for key in self.book.topics]
        if "running_out" in kinds and not self.settings.alert_ahead_days:
            kinds.remove("running_out")
        assert sorted(one["kind"] for one in found["going_on"]) == sorted(kinds)
        waiting = [channel for one in self.book.due for channel in one.channels]
        assert found["waiting"] == {channel: waiting.count(channel) for channel in set(waiting)}

    def takes(self, due: list[Due]) -> tuple[list[tuple[str, Sight]], list[Due]]:
        """Return what channels take now, and what is left."""
        taken, left = [], []
        for one in due:
            takers = [
                channel
                for channel in one.channels
                if channel in self.channels
                and self.answers[channel] == "ok"
                and self.accident != "channels down"
            ]
            taken += [(channel, one.sight) for channel in takers]
            others = tuple(channel for channel in one.channels if channel not in takers)
            if others and self.now - one.at <= timedelta(days=7):
                left.append(replace(one, channels=others))
        return taken, left

    def new_run(self) -> str:
        self.number += 1
        return f"run {self.number}"

    def looks_after(self, run: str) -> Callable[[], None]:
        return lambda: self.book.runs.append(run)

    @initialize(now=st.sampled_from(BEGINNINGS))
    def begins(self, now: datetime) -> None:
        self.now = now

    @rule(findings=some, terms=some, ahead=some)
    def a_run_publishes_and_dies(
        self, findings: frozenset[str], terms: frozenset[str], ahead: frozenset[str]
    ) -> None:
        self.releases.append(findings)
        self.terms, self.ahead = terms, ahead

    @rule(findings=some, terms=some, ahead=some, is_unchanged=st.booleans(), passed=minutes,
          is_earlier=st.sampled_from([False, False, True]))  # fmt: skip
    def a_run_ends_well(
        self,
        findings: frozenset[str],
        terms: frozenset[str],
        ahead: frozenset[str],
        is_unchanged: bool,
        passed: int,
        is_earlier: bool,
    ) -> None:
        if not is_unchanged:
            self.a_run_publishes_and_dies(findings, terms, ahead)
        run = self.new_run()

        def happens() -> None:
            as_of = self.today - timedelta(days=is_earlier)
            occasions.after_run(self.settings, run, None, as_of, self.now)

        self.occasion(
            passed,
            happens,
            self.looks_after(run),
            lambda: self.sees("run_failed", frozenset()),
            lambda: self.sees("release_refused", frozenset()),
            self.sees_files,
            self.sees_findings,
            self.sees_terms,
            self.sees_running_out,
            lambda: self.sees_late_data(is_earlier),
            self.sees_disk,
        )

    @rule(findings=some, terms=some, ahead=some, passed=st.sampled_from(SOON))
    def another_run_ends_soon(
        self, findings: frozenset[str], terms: frozenset[str], ahead: frozenset[str], passed: int
    ) -> None:
        self.a_run_ends_well(findings, terms, ahead, False, passed, False)

    @rule(cause=st.sampled_from(NAMES), is_refusal=st.booleans(), passed=minutes)
    def a_run_fails(self, cause: str, is_refusal: bool, passed: int) -> None:
        run = self.new_run()
        kind = "release_refused" if is_refusal else "run_failed"
        failure = Failure((f"{cause} broke in run {self.number}",), is_refusal=is_refusal)
        self.occasion(
            passed,
            lambda: occasions.after_run(self.settings, run, failure, self.today, self.now),
            self.looks_after(run),
            lambda: self.sees(kind, frozenset({cause})),
            self.sees_files,
            self.sees_disk,
        )

    @rule(source=st.sampled_from(SOURCES), cause=st.sampled_from([None, *NAMES]), passed=minutes)
    def a_pull_ends(self, source: str, cause: str | None, passed: int) -> None:
        run = self.new_run()
        failure = None if cause is None else Failure((f"{cause} broke",))
        named = frozenset({source, cause} if cause else {source})

        def sees_pull() -> None:
            if cause is None:
                self.pulled[source] = self.now
            self.sees(f"pull_failed:{source}", named - {source}, named)

        self.occasion(
            passed,
            lambda: occasions.after_pull(self.settings, source, run, failure, self.now),
            self.looks_after(run),
            sees_pull,
            self.sees_late_pulls,
            self.sees_disk,
        )

    @precondition(lambda self: self.book.runs)
    @rule(data=st.data(), failure=st.sampled_from([None, Failure(("m_a broke",))]), passed=minutes)
    def a_run_is_looked_after_again(
        self, data: st.DataObject, failure: Failure | None, passed: int
    ) -> None:
        run = data.draw(st.sampled_from(self.book.runs))
        self.occasion(
            passed, lambda: occasions.after_run(self.settings, run, failure, self.today, self.now)
        )

    @rule(passed=minutes)
    def somebody_looks(self, passed: int) -> None:
        def if_it_waits(kind: str, sees: Callable[[], None]) -> None:
            if self.book.topics.get(kind, Topic()).waits:
                sees()

        self.occasion(
            passed,
            lambda: occasions.look(self.settings, self.now),
            self.sees_late_data,
            self.sees_late_pulls,
            self.sees_disk,
            lambda: if_it_waits("file_refused", self.sees_files),
            lambda: if_it_waits("new_findings", self.sees_findings),
            lambda: if_it_waits("terms_changed", self.sees_terms),
            lambda: if_it_waits("running_out", self.sees_running_out),
            lambda: self.sees_months() if "month_open" in self.book.topics else None,
        )

    @rule(passed=st.sampled_from([10, 11, 59]))
    def the_quiet_time_passes(self, passed: int) -> None:
        self.somebody_looks(passed)

    @rule(passed=minutes)
    def a_reminder_is_due(self, passed: int) -> None:
        self.occasion(
            passed,
            lambda: occasions.close_reminder(self.settings, self.today, self.now),
            self.sees_months,
        )

    # What changes in between

    @rule(
        change=st.one_of(
            st.tuples(st.sampled_from(NAMES), st.sampled_from(["refused", "refused", "loaded"])),
            st.tuples(some, st.booleans()),
            st.integers(0, 2),
        )
    )
    def the_world_changes(self, change: Any) -> None:
        """A file is judged, data is late, the disk is full, or a month is closed."""
        match change:
            case str(name), str(verdict):
                number = len(self.records)
                self.records.append(
                    SideRecord(f"d{number}", number, "coupons", f"{name}.csv", None, 1, 0,
                               "2026-01-01", "r", "csv", False, None, (), verdict)  # type: ignore[arg-type]
                )  # fmt: skip
            case late, bool(is_full):
                self.late, self.is_full = late, is_full
            case int(months):
                month = self.today.replace(day=1)
                for _ in range(months):
                    month = before(month)
                self.closed.add(month)

    @rule(
        change=st.sampled_from(
            [
                ("alert_quiet_minutes", 10),
                ("alert_quiet_minutes", 0),
                ("alert_quiet_minutes", 120),
                ("alert_repeat_hours", 24),
                ("alert_repeat_hours", 0),
                ("alert_ahead_days", 30),
                ("alert_ahead_days", 0),
                ("close_working_day", 1),
                ("close_working_day", 3),
                ("close_working_day", 0),
                ("late_after_days", {"invoices": 40}),
                ("late_after_days", {}),
                ("pull_from", SOURCES),
                ("pull_from", ("stripe",)),
                ("pull_from", ()),
                ("channels", CHANNELS),
                ("channels", ("webhook",)),
                ("channels", ("email",)),
                ("channels", ()),
            ]
        )
    )
    def a_setting_changes(self, change: tuple[str, Any]) -> None:
        name, value = change
        update = {name: value}
        if name == "channels":
            self.channels = value
            url = SETTINGS.alert_webhook_url if "webhook" in value else None
            host = SETTINGS.alert_smtp_host if "email" in value else None
            update = {"alert_webhook_url": url, "alert_smtp_host": host}
        self.settings = self.settings.model_copy(update=update)

    @rule(
        channel=st.sampled_from(CHANNELS),
        answer=st.sampled_from(["ok", "ok", "down", "refuses"]),
    )
    def a_channel_changes(self, channel: str, answer: str) -> None:
        self.answers[channel] = answer

    @rule(
        accident=st.sampled_from(
            [
                "killed first",
                "killed between",
                "killed last",
                "full first",
                "full last",
                "channels down",
                "watchers broken",
            ]
        ),
        dies_after=st.integers(1, 3),
        broken=st.frozensets(
            st.sampled_from([*TOGETHER, "data_late", "pull_late", "disk_nearly_full"]),
            min_size=1,
            max_size=2,
        ),
    )
    def an_accident_is_ahead(self, accident: str, dies_after: int, broken: frozenset[str]) -> None:
        """On the next occasion the process, the disk, channels or watchers fail."""
        self.accident, self.dies_after = accident, dies_after
        self.broken = broken if accident == "watchers broken" else frozenset()

    @precondition(lambda self: len(self.book.topics) > 3)
    @rule(content=st.sampled_from(["", "{", "[]", '{"entries": {"x": 1}}', "\x00"]))
    def what_is_remembered_is_damaged(self, content: str) -> None:
        (self.home / "alerts" / "state.json").write_text(content, "utf-8")
        self.book = Book()


def before(month: date) -> date:
    """The previous month."""
    return (month - timedelta(days=1)).replace(day=1)


def is_of_this_run(seen: Sight) -> bool:
    """Whether a message has the id of a run."""
    return seen[0] in OF_A_RUN and seen[1] != "resolved"


TestAlerts = Alerts.TestCase
TestAlerts.settings = hypothesis_settings(
    max_examples=100,
    stateful_step_count=50,
)
