"""What is going on and what was told last, for a person who asks.

Here belongs reading what was remembered and logged. Looking anew does not (`watch`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from dagster_project.alerts import fold, send
from dagster_project.alerts.wording import moment
from dagster_project.failures import plain
from dagster_project.releases.files import read_lines
from dagster_project.settings import Settings

_KINDS = {
    "run_failed": "the refresh fails",
    "release_refused": "the release is refused",
    "pull_failed": "pulls fail",
    "pull_late": "a pull is late",
    "file_refused": "files are refused",
    "new_findings": "findings of severity error are open",
    "running_out": "promotions run out",
    "data_late": "data is late",
    "disk_nearly_full": "the disk is nearly full",
    "month_open": "months are to be closed",
}


@dataclass(frozen=True)
class Overview:
    """What a person who asks is told.

    Attributes:
        channels: Where alerts go, without secrets.
        going_on: What holds now, by kind.
        waiting: How many messages each channel has not taken yet.
        last: The last alerts of the log, newest first, each with what became of it by channel.
    """

    channels: dict[str, str]
    going_on: list[dict[str, Any]]
    waiting: dict[str, int]
    last: list[dict[str, Any]]


def of(settings: Settings, limit: int) -> Overview:
    """Read what there is in a data home.

    Args:
        settings: The data home and the channels.
        limit: How many alerts, at most.
    """
    state = fold.load(settings.home / "alerts" / "state.json")
    going_on = [
        {
            "kind": kind,
            "since": entry.since.isoformat(timespec="seconds"),
            "times": entry.times,
            "told_at": entry.sent_at.isoformat(timespec="seconds") if entry.sent_at else None,
        }
        for kind, entry in state.entries.items()
    ]
    waiting: dict[str, int] = {}
    for message in state.waiting:
        for channel in message.channels:
            waiting[channel] = waiting.get(channel, 0) + 1
    return Overview(_channels(settings), going_on, waiting, _last(settings, limit))


def _channels(settings: Settings) -> dict[str, str]:
    found = {"log": str(send.log_path(settings.home))}
    ways = send.senders(settings)
    if "webhook" in ways:
        found["webhook"] = "set"
    if "email" in ways:
        recipients = len(str(settings.alert_email_to).split(","))
        found["email"] = f"{recipients} by {settings.alert_smtp_host}:{settings.alert_smtp_port}"
    return found


def _last(settings: Settings, limit: int) -> list[dict[str, Any]]:
    lines = read_lines(send.log_path(settings.home), passes_over_damage=True)
    alerts: dict[str, dict[str, Any]] = {}
    for line in lines:
        if "kind" in line:
            alerts[line["id"]] = {**line, "outcomes": {}}
        elif line.get("id") in alerts and "channel" in line:
            outcomes = alerts[line["id"]]["outcomes"]
            outcomes[line["channel"]] = line["status"]
    return list(reversed(alerts.values()))[:limit]


def as_json(found: Overview) -> str:
    """The overview for machines."""
    content = {
        "channels": found.channels,
        "going_on": found.going_on,
        "waiting": found.waiting,
        "last": found.last,
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def as_text(found: Overview) -> str:
    """The overview for people."""
    from datetime import datetime

    lines = ["Alerts go to"]
    lines += [f"  {channel:<8} {where}" for channel, where in found.channels.items()]
    lines += [f"  {number:,} wait for {channel}" for channel, number in found.waiting.items()]
    lines += ["", "Going on" if found.going_on else "Going on: nothing"]
    for one in found.going_on:
        since = moment(datetime.fromisoformat(one["since"]))
        times = f", seen {one['times']:,} times" if one["times"] > 1 else ""
        lines.append(f"  {_KINDS.get(one['kind'], one['kind'])}, since {since}{times}")
    lines += ["", "Last ones" if found.last else "Last ones: none"]
    for one in found.last:
        at = moment(datetime.fromisoformat(one["at"]))
        outcomes = ", ".join(f"{name} {status}" for name, status in one["outcomes"].items())
        lines.append(f"  {at}  {one['status']:<8}  {plain(one['happened'])}")
        lines += [f"      {plain(detail)}" for detail in one["details"]]
        if one["status"] not in ("resolved", "test", "folded"):
            lines += [f"      {plain(one['meaning'])}", f"      {one['command']}"]
        if outcomes:
            lines.append(f"      {outcomes}")
    return "\n".join(lines)
