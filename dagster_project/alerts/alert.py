"""What an alert is, and what must be taken out of its texts.

Here belong plain data types and pure functions on texts. Reading a data home or sending does not.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Kind = Literal[
    "run_failed",
    "release_refused",
    "file_refused",
    "new_findings",
    "data_late",
    "disk_nearly_full",
    "month_open",
    "test",
]
Severity = Literal["error", "warn", "info"]

MOST_DETAILS = 10
_MOST_CHARACTERS = 500
_QUOTED = re.compile(r"(?<!\w)b?'((?:[^'\\]|\\.)*)'" + r"|(?<![\w.])\"([^\"\n]*)\"")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")


@dataclass(frozen=True)
class Alert:
    """Something a person must hear of.

    Attributes:
        kind: What kind of thing.
        severity: `error` needs somebody now, `warn` soon, `info` not.
        happened: What happened, in one sentence.
        meaning: What that means for those who read releases, in one sentence.
        command: What to enter to look further.
        at: When it was noticed, in UTC.
        details: One line each, at most `MOST_DETAILS` are shown.
        run_id: The run that it is about, if it is about one.
    """

    kind: Kind
    severity: Severity
    happened: str
    meaning: str
    command: str
    at: datetime
    details: tuple[str, ...] = ()
    run_id: str | None = None


def without_values(text: str, names: Collection[str] = ()) -> str:
    """A text of others without the values it quotes: they may be personal data.

    Quoted names that are known, such as columns, stay; e-mail addresses go wherever they are.

    Args:
        text: For instance why a file was refused, or an error of a library.
        names: What may be quoted.
    """

    def hidden(match: re.Match[str]) -> str:
        quoted = match.group(1) if match.group(1) is not None else match.group(2)
        mark = match.group(0)[-1]
        return match.group(0) if quoted in names else f"{mark}…{mark}"

    return _EMAIL.sub("…", _QUOTED.sub(hidden, text))


def plain(text: str, most: int = _MOST_CHARACTERS) -> str:
    """A text on one line, without signs that do not show, of a length that can be read."""
    line = " ".join(text.split())
    shown = "".join(sign if sign.isprintable() else "·" for sign in line)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def listed(lines: Collection[str], most: int = MOST_DETAILS) -> tuple[str, ...]:
    """The first lines, and how many more there are."""
    shown = tuple(lines)[:most]
    more = len(lines) - len(shown)
    return (*shown, f"and {more:,} more") if more else shown
