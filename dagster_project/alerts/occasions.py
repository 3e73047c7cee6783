"""When alerts are considered: after a run, every few minutes, and when a person tests the channels.

The parts come together here: look, decide, remember, log, send. Nothing here fails a run: any error is
logged, and what was not sent waits for the next occasion.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

from filelock import FileLock, Timeout

from dagster_project.alerts import fold, send, watch
from dagster_project.alerts.alert import Alert, Kind
from dagster_project.alerts.fold import Message, State
from dagster_project.alerts.watch import Watched
from dagster_project.failures import Failure, plain
from dagster_project.failures import told as discreetly
from dagster_project.home import make_private, writing
from dagster_project.releases import data_home, files
from dagster_project.releases.errors import ReleaseError
from dagster_project.settings import Settings, default_as_of, reporting_day

WAIT_SECONDS = 60
"""How long one occasion waits for another one of the same data home."""

Watcher = Callable[[State], Iterable[Watched]]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Told:
    """An alert that was issued on this occasion.

    Attributes:
        message: The alert.
        outcome: By channel, `ok` or why the channel did not take it.
    """

    message: Message
    outcome: dict[str, str] = field(default_factory=dict)


def after_run(
    settings: Settings, run_id: str, failure: Failure | None, as_of: date, now: datetime
) -> list[Told]:
    """Look at the data home after a run, however it was started; each run is looked at once.

    Args:
        settings: The data home, the channels and thresholds.
        run_id: The run.
        failure: How it failed, None if it did not.
        as_of: Last day whose events counted in it.
        now: The current time in UTC.
    """

    def watchers(state: State) -> Iterator[Watcher]:
        if run_id in state.runs:
            return
        state.runs.append(run_id)
        _remember_run(settings, run_id, failure, as_of, now)
        yield lambda _: watch.run(failure, run_id, settings.home, now)
        yield lambda state: _files(state, settings, now)
        if failure is None:
            yield lambda state: _findings(state, settings, now)
            yield lambda state: _terms(state, settings, now)
            yield lambda state: _running_out(state, settings, now)
            yield lambda state: _data(state, settings, now, as_of)
        yield lambda state: _disk(state, settings, now)

    return _occasion(settings, watchers, now)


def _remember_run(
    settings: Settings, run_id: str, failure: Failure | None, as_of: date, now: datetime
) -> None:
    why = None if failure is None else "; ".join(discreetly(failure))
    try:
        data_home.remember_run(settings.home, run_id, now, as_of, why)
    except OSError as error:
        _log.warning("%s: %s", data_home.last_run_path(settings.home), plain(str(error)))


def after_pull(
    settings: Settings, source: str, run_id: str, failure: Failure | None, now: datetime
) -> list[Told]:
    """Look at how a pull from a billing system ended; each run is looked at once.

    Args:
        settings: The data home, the channels and thresholds.
        source: The billing system.
        run_id: The run.
        failure: How it failed, None if it did not.
        now: The current time in UTC.
    """

    def watchers(state: State) -> Iterator[Watcher]:
        if run_id in state.runs:
            return
        state.runs.append(run_id)
        yield lambda _: watch.pull(source, failure, run_id, settings.home, now)
        yield lambda state: _pulls(state, settings, now)
        yield lambda state: _disk(state, settings, now)

    return _occasion(settings, watchers, now)


def look(settings: Settings, now: datetime) -> list[Told]:
    """Look at what changes without a run: data that grows old, a disk that fills, messages that wait.

    Args:
        settings: The data home, the channels and thresholds.
        now: The current time in UTC.
    """

    def watchers(state: State) -> Iterator[Watcher]:
        yield lambda state: _data(state, settings, now)
        yield lambda state: _pulls(state, settings, now)
        yield lambda state: _disk(state, settings, now)
        for kind, watcher in _WAITING.items():
            if _is_held(state, kind):
                yield partial(watcher, settings=settings, now=now)
        if "month_open" in state.entries:
            today = now.astimezone(ZoneInfo(settings.schedule_timezone)).date()
            yield lambda state: _months(state, settings, now, today)

    return _occasion(settings, watchers, now)


def close_reminder(settings: Settings, today: date, now: datetime) -> list[Told]:
    """Look for months that should be closed by now.

    Args:
        settings: The data home, the channels, and the working day on which a month is closed.
        today: The day to look as of, in the zone of the schedule.
        now: The current time in UTC.
    """

    def watchers(state: State) -> Iterator[Watcher]:
        yield lambda state: _months(state, settings, now, today)

    return _occasion(settings, watchers, now)


def test(settings: Settings, now: datetime) -> Told:
    """Send a test alert through every channel that is set.

    Args:
        settings: The data home and the channels.
        now: The current time in UTC.

    Raises:
        OSError: The log file cannot be written.
    """
    alert = Alert(
        "test",
        "info",
        "This is a test of the alerts",
        f"Nothing has happened; {watch.served_now(settings.home)}.",
        "coupon-ledger alerts",
        now,
    )
    ways = send.senders(settings)
    message = Message(uuid4().hex[:16], "test", alert, 1, now, tuple(ways))
    send.log_message(settings, message)
    outcome = {}
    for channel in ways:
        outcome[channel] = _try(ways[channel], message)[0]
        _log_outcome(settings, message, channel, outcome[channel], now)
    return Told(message, outcome)


def _occasion(
    settings: Settings, watchers: Callable[[State], Iterator[Watcher]], now: datetime
) -> list[Told]:
    """Look, decide, remember, log and send, exclusively for this data home."""
    try:
        folder = settings.home / "alerts"
        with writing(settings.home):
            make_private(folder)
            with FileLock(folder / "lock", timeout=WAIT_SECONDS):
                return _alone(settings, folder / "state.json", watchers, now)
    except (OSError, Timeout) as error:
        _log.warning("Alerts of %s cannot be handled: %s", settings.home, plain(str(error)))
        return []


def _alone(
    settings: Settings,
    path: Path,
    watchers: Callable[[State], Iterator[Watcher]],
    now: datetime,
) -> list[Told]:
    state = fold.load(path)
    ways = send.senders(settings)
    repeat_after = timedelta(hours=settings.alert_repeat_hours)
    quiet = timedelta(minutes=settings.alert_quiet_minutes)
    issued: list[Told] = []
    for watcher in watchers(state):
        for watched in _safely(watcher, state):
            entry = state.entries.get(watched.key)
            entry, message = fold.decide(entry, watched, now, repeat_after, quiet)
            if entry is None:
                state.entries.pop(watched.key, None)
            else:
                state.entries[watched.key] = entry
            if message is None:
                continue
            if message.status == "folded":
                # What is checked every few minutes would fill the log.
                if watched.is_event or not watched.is_repeated:
                    _write(settings, message)
                continue
            message = replace(message, channels=tuple(ways))
            _write(settings, message)
            issued.append(Told(message))
            if ways:
                state.waiting.append(message)
    try:
        fold.save(state, path)
    except OSError as error:
        # The disk may be full. Alerts about this run are sent once all the same; the others, and those that
        # wait, would be sent again and again.
        _log.warning("%s cannot be written: %s", path, error)
        state.waiting = [one.message for one in issued if one.message.alert.run_id is not None]
        _deliver(settings, state, ways, issued, now)
        return issued
    if state.waiting:
        _deliver(settings, state, ways, issued, now)
        fold.save(state, path)
    return issued


def _safely(watcher: Watcher, state: State) -> list[Watched]:
    """Return what a watcher sees; a watcher that fails does not stop the others."""
    try:
        return list(watcher(state))
    except Exception as error:  # noqa: BLE001 (alerts never fail a run)
        _log.warning("one kind of alert could not be checked: %s: %s", type(error).__name__, error)
        return []


def _deliver(
    settings: Settings,
    state: State,
    ways: dict[str, send.Sender],
    issued: list[Told],
    now: datetime,
) -> None:
    """Send what waits, oldest first; a channel that is down is tried once."""
    by_id = {one.message.id: one for one in issued}
    down: dict[str, str] = {}
    waiting = []
    for message in state.waiting:
        left = []
        for channel in message.channels:
            if channel not in ways:
                left.append(channel)  # a run by hand may lack the service's settings
                continue
            if channel in down:
                outcome, is_down = down[channel], True
            else:
                outcome, is_down = _try(ways[channel], message)
                if message.id in by_id or outcome == "ok":
                    _log_outcome(settings, message, channel, outcome, now)
            if is_down:
                down[channel] = outcome
            if outcome != "ok":
                left.append(channel)
            if message.id in by_id:
                by_id[message.id].outcome[channel] = outcome
        if not left:
            continue
        message = replace(message, channels=tuple(left))
        if now - message.alert.at > fold.GIVEN_UP_AFTER:
            _give_up(settings, message, now)
        else:
            waiting.append(message)
    for message in waiting[: -fold.MOST_WAITING]:
        _give_up(settings, message, now)
    state.waiting = waiting[-fold.MOST_WAITING :]


def _give_up(settings: Settings, message: Message, now: datetime) -> None:
    for channel in message.channels:
        _log_outcome(settings, message, channel, "given up", now)


def _try(way: send.Sender, message: Message) -> tuple[str, bool]:
    """Try once; return the result, and whether the channel is down."""
    try:
        way(message)
    except send.NotTaken as problem:
        return str(problem), problem.is_down
    return "ok", False


def _log_outcome(
    settings: Settings, message: Message, channel: str, outcome: str, now: datetime
) -> None:
    status = {"ok": "delivered", "given up": "given up"}.get(outcome, "not delivered")
    entry = {"id": message.id, "status": status, "channel": channel}
    if status == "not delivered":
        entry["why"] = outcome
        _log.warning("alert %s was not taken by %s: %s", message.id, channel, outcome)
    try:
        send.log(settings, entry, now)
    except OSError as error:
        _log.warning("%s: %s", send.log_path(settings.home), error)


def _write(settings: Settings, message: Message) -> None:
    try:
        send.log_message(settings, message)
    except OSError as error:
        _log.warning("%s: %s", send.log_path(settings.home), error)


def _is_held(state: State, kind: Kind) -> bool:
    entry = state.entries.get(kind)
    return entry is not None and entry.is_held


def _files(state: State, settings: Settings, now: datetime) -> Iterator[Watched]:
    from dagster_project.arrival.archive import Archive

    if not settings.archive.is_dir():
        return
    archive = Archive(settings.archive, settings.scratch)
    records = archive.records(archive.delivery_ids())
    yield watch.files_refused(records, state.known("file_refused"), settings.home, now)


def _findings(state: State, settings: Settings, now: datetime) -> Iterator[Watched]:
    from dagster_project.releases.read import open_release

    current = files.current_release(settings.home)
    if current is None:
        return
    known = state.known("new_findings")
    if not state.has_seen_findings:
        known = _findings_before(settings.home, current)
    with open_release(settings.home, current) as connection:
        found = watch.new_findings(connection, known, settings.home, now)
    state.has_seen_findings = True
    yield found


def _terms(state: State, settings: Settings, now: datetime) -> Iterator[Watched]:
    from dagster_project.answers import terms
    from dagster_project.answers.values import days_in

    current = files.current_release(settings.home)
    if current is None:
        return
    with days_in(ZoneInfo(settings.reporting_time_zone)):
        changed = terms.open_changes(settings.home, current)
    known = state.known("terms_changed")
    yield watch.terms_changed(changed, known, settings.home, now)


def _running_out(state: State, settings: Settings, now: datetime) -> Iterator[Watched]:
    from dagster_project.answers import expiring
    from dagster_project.answers.asking import zone_of
    from dagster_project.answers.values import days_in
    from dagster_project.releases.read import open_release

    days = settings.alert_ahead_days
    current = files.current_release(settings.home)
    if current is None or not days:
        return
    with open_release(settings.home, current) as connection, days_in(zone_of(connection)):
        ahead = expiring.ahead(connection, days, state.known("running_out"))
    yield watch.running_out(ahead, settings.home, now)


def _findings_before(home: Path, current: str) -> frozenset[str]:
    """Return the ids of the open findings of the release before the current one, none if it cannot be read."""
    import duckdb

    from dagster_project.releases.read import open_release

    before = [one for one in files.release_ids(home) if one < current]
    if not before:
        return frozenset()
    try:
        with open_release(home, before[-1]) as connection:
            return watch.open_findings(connection)
    except (ReleaseError, duckdb.Error):
        return frozenset()


def _data(
    state: State, settings: Settings, now: datetime, as_of: date | None = None
) -> Iterator[Watched]:
    from dagster_project.answers import freshness
    from dagster_project.releases.read import open_release

    if not settings.late_after_days:
        state.entries.pop("data_late", None)  # no feed is watched any more; that resolves nothing
        return
    today = default_as_of(settings, reporting_day(settings, now))
    if files.current_release(settings.home) is None or (as_of is not None and as_of < today):
        return  # a release as of an earlier day, made on request, is not late
    with open_release(settings.home) as connection:
        late = freshness.late_feeds(connection, settings, today)
    yield watch.data_late(late, state.known("data_late"), settings.home, now)


def _pulls(state: State, settings: Settings, now: datetime) -> Iterator[Watched]:
    from dagster_project.sources.deliveries import last_pull

    if not settings.pull_from:
        state.entries.pop("pull_late", None)  # no source is watched any more; that resolves nothing
        return
    last = {str(source): last_pull(settings.home, source) for source in settings.pull_from}
    within = timedelta(hours=settings.pull_within_hours)
    known = state.known("pull_late")
    yield watch.pulls_late(last, within, known, settings.home, now)


def _months(state: State, settings: Settings, now: datetime, today: date) -> Iterator[Watched]:
    from dagster_project.answers.asking import month_from
    from dagster_project.releases.closing import closed_months

    if files.current_release(settings.home) is None:
        return
    due = watch.month_due(settings, today)
    if due is None:
        state.entries.pop("month_open", None)  # nobody is reminded any more; that resolves nothing
        return
    if due != month_from(today, -1) and "month_open" not in state.entries:
        return  # its day has not come, and no reminder of an earlier month was sent
    closed = set(closed_months(settings.home))
    yield watch.months_open(due, closed, state.known("month_open"), settings.home, now)


def _disk(state: State, settings: Settings, now: datetime) -> Iterator[Watched]:
    yield watch.disk_nearly_full(settings, state.known("disk_nearly_full"), now)


_WAITING: dict[Kind, Callable[..., Iterator[Watched]]] = {
    "file_refused": _files,
    "new_findings": _findings,
    "terms_changed": _terms,
    "running_out": _running_out,
}
"""The kinds of alerts whose new members wait for the quiet time, and how to look for them."""
