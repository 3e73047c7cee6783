"""What an alert is, and what must be removed from its texts.

Plain data types and pure functions on texts belong here. Reading a data home and sending do not.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Kind = Literal[
    "run_failed",
    "release_refused",
    "pull_failed",
    "pull_late",
    "file_refused",
    "new_findings",
    "terms_changed",
    "running_out",
    "data_late",
    "disk_nearly_full",
    "month_open",
    "test",
]
Severity = Literal["error", "warn", "info"]

MOST_DETAILS = 10


@dataclass(frozen=True)
class Alert:
    """Something a person must know.

    Attributes:
        kind: The kind of alert.
        severity: `error` needs attention now, `warn` soon, `info` never.
        happened: What happened, in one sentence.
        meaning: What that means for readers of releases, in one sentence.
        command: The command that shows more.
        at: When it was noticed, in UTC.
        details: One line each; at most `MOST_DETAILS` are shown.
        run_id: The run that it is about, if any.
    """

    kind: Kind
    severity: Severity
    happened: str
    meaning: str
    command: str
    at: datetime
    details: tuple[str, ...] = ()
    run_id: str | None = None


def listed(lines: Collection[str]) -> tuple[str, ...]:
    """Return the first lines, and how many more there are."""
    shown = tuple(lines)[:MOST_DETAILS]
    more = len(lines) - len(shown)
    return (*shown, f"and {more:,} more") if more else shown
