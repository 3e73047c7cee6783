"""Which alerts persist and which were sent last, for a person who asks.

Reading what was remembered and logged belongs here. Looking again does not (`watch`).
"""

from __future__ import annotations

from typing import Any

from dagster_project.alerts import fold, send
from dagster_project.releases.files import read_lines
from dagster_project.settings import Settings


def overview(settings: Settings, limit: int) -> dict[str, Any]:
    """Return the overview of a data home, for a person who asks.

    Args:
        settings: The data home and the channels.
        limit: How many alerts at most.

    Returns:
        `channels`, where alerts go, without secrets; `going_on`, what holds now, by kind; `waiting`, how
        many messages each channel has not taken yet; `last`, the last alerts of the log, newest first,
        each with what became of it by channel.
    """
    state = fold.load(settings.home / "alerts" / "state.json")
    going_on = [
        {
            "kind": key.partition(":")[0],
            "since": entry.since.isoformat(timespec="seconds"),
            "times": entry.times,
            "told_at": entry.sent_at.isoformat(timespec="seconds") if entry.sent_at else None,
        }
        for key, entry in state.entries.items()
        if key != "running_out" or settings.alert_ahead_days
    ]
    waiting: dict[str, int] = {}
    for message in state.waiting:
        for channel in message.channels:
            waiting[channel] = waiting.get(channel, 0) + 1
    return {
        "channels": _channels(settings),
        "going_on": going_on,
        "waiting": waiting,
        "last": _last(settings, limit),
    }


def _channels(settings: Settings) -> dict[str, str]:
    found = {"log": str(send.log_path(settings.home))}
    ways = send.senders(settings)
    if "webhook" in ways:
        found["webhook"] = "set"
    if "email" in ways:
        number = len(send.recipients(settings))
        found["email"] = f"{number} by {settings.alert_smtp_host}:{settings.alert_smtp_port}"
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
