"""What is news: the same thing is sent once, again after a while, and once more when it is over.

What is remembered between occasions, `HOME/alerts/state.json`, and the decision belong here. The clock
is an argument.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from dagster_project.alerts.alert import Alert, Kind
from dagster_project.alerts.watch import Watched
from dagster_project.home import write_whole

MOST_RUNS = 500
MOST_WAITING = 200  # if there are more, the oldest are given up
GIVEN_UP_AFTER = timedelta(days=7)

Status = Literal["new", "again", "folded", "resolved", "test"]


@dataclass(frozen=True)
class Message:
    """An alert on its way.

    Attributes:
        id: Identifies it: two messages with the same id are the same message.
        status: Whether it is new, persists, is over or is a test.
        alert: Its content.
        times: How often it was seen since it began.
        since: When it began.
        channels: The channels it must still go to.
    """

    id: str
    status: Status
    alert: Alert
    times: int
    since: datetime
    channels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """What is remembered about a kind of alert that persists.

    Attributes:
        told: The members that readers know of.
        since: When it began.
        times: How often it was seen since.
        sent_at: When it was last sent; None if everything was known before.
        is_held: Whether something new waits for the end of the quiet time.
    """

    told: frozenset[str]
    since: datetime
    times: int = 1
    sent_at: datetime | None = None
    is_held: bool = False


@dataclass
class State:
    """What is remembered between occasions.

    Attributes:
        entries: What persists, by the `key` of what is watched.
        runs: The last runs that were looked at, so that none is reported twice.
        waiting: Messages that some channel has not taken yet, oldest first.
        has_seen_findings: Whether the findings of a release were looked at. If they were and none is remembered,
            none was open then.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    waiting: list[Message] = field(default_factory=list)
    has_seen_findings: bool = False

    def known(self, kind: Kind) -> frozenset[str]:
        """Return the members of this kind that readers know of."""
        entry = self.entries.get(kind)
        return frozenset() if entry is None else entry.told


def decide(
    entry: Entry | None,
    watched: Watched,
    now: datetime,
    repeat_after: timedelta,
    quiet: timedelta,
) -> tuple[Entry | None, Message | None]:
    """Decide whether to send what was noticed.

    Args:
        entry: What is remembered about this kind of alert.
        watched: What was noticed.
        now: When.
        repeat_after: After how long an alert that persists is sent again.
        quiet: How long after a message new members wait, for kinds of alerts that are not repeated.

    Returns:
        What to remember, None for nothing, and the message; a folded one is for the log only.
    """
    if watched.alert is None:
        if entry is None or entry.sent_at is None:
            return None, None
        over = Alert(
            watched.kind,
            "info",
            watched.solved,
            "Nothing needs to be done.",
            "coupon-ledger alerts",
            now,
        )
        return None, _message("resolved", over, entry)
    if entry is None and not watched.new:
        return Entry(watched.members, now), None
    entry = entry or Entry(frozenset(), now, times=0)
    new = watched.new - entry.told
    still_known = entry.told if watched.is_event else entry.told & watched.members
    entry = replace(entry, told=still_known, times=entry.times + 1, is_held=False)
    sent = replace(entry, told=still_known | watched.members, sent_at=now)
    age = None if entry.sent_at is None else abs(now - entry.sent_at)  # the clock may be set back
    if new and age is not None and age < quiet and not watched.is_repeated:
        return replace(entry, is_held=True), _message("folded", watched.alert, entry)
    if new:
        return sent, _message("new", watched.alert, sent)
    if not watched.is_repeated:
        return entry, None
    if age is None or age >= repeat_after:
        return sent, _message("again", watched.alert, sent)
    return entry, _message("folded", watched.alert, entry)


def _message(status: Status, alert: Alert, entry: Entry) -> Message:
    return Message(uuid4().hex[:16], status, alert, entry.times, entry.since)


def load(path: Path) -> State:
    """Return what is remembered; nothing if the file is absent or damaged.

    Args:
        path: The state's file.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        return State(
            {key: _entry(entry) for key, entry in content["entries"].items()},
            [str(run) for run in content["runs"]],
            [_waiting(message) for message in content["waiting"]],
            # Earlier versions did not say so.
            bool(content.get("has_seen_findings", "new_findings" in content["entries"])),
        )
    except FileNotFoundError:
        return State()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logging.getLogger(__name__).warning(
            "%s cannot be read (%s); it is started again", path, error
        )
        return State()


def save(state: State, path: Path) -> None:
    """Write the state to its file, in one rename.

    Args:
        state: What to remember; only the newest runs are stored.
        path: The state's file, in a folder that exists.

    Raises:
        OSError: The file cannot be written.
    """
    content = {
        "entries": {key: vars(entry) for key, entry in state.entries.items()},
        "runs": state.runs[-MOST_RUNS:],
        "waiting": [asdict(message) for message in state.waiting],
        "has_seen_findings": state.has_seen_findings,
    }
    write_whole(path, json.dumps(content, default=_plain))


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"{value!r} cannot be written as JSON")


def _entry(content: Mapping[str, Any]) -> Entry:
    sent_at = content["sent_at"]
    return Entry(
        frozenset(content["told"]),
        datetime.fromisoformat(content["since"]),
        int(content["times"]),
        None if sent_at is None else datetime.fromisoformat(sent_at),
        bool(content["is_held"]),
    )


def _waiting(content: Mapping[str, Any]) -> Message:
    said = content["alert"]
    alert = Alert(
        **{**said, "at": datetime.fromisoformat(said["at"]), "details": tuple(said["details"])}
    )
    return Message(
        content["id"],
        content["status"],
        alert,
        int(content["times"]),
        datetime.fromisoformat(content["since"]),
        tuple(content["channels"]),
    )
