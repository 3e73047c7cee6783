"""What went wrong, in words that contain no personal data.

Putting an error of any kind into sentences, for people and for stored records, belongs here. To whom and
when they are sent does not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dagster_project.feeds import feeds
from dagster_project.releases.errors import PublishRefused, ReleaseError
from dagster_project.releases.gate import Problem, in_words

_MOST_CHARACTERS = 500
_QUOTED = re.compile(r"(?<!\w)b?'((?:[^'\\]|\\.)*)'" + r"|(?<![\w.])\"([^\"\n]*)\"")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")


@dataclass(frozen=True)
class Failure:
    """How a failed run ended.

    Attributes:
        told: What was wrong, one sentence each, the cause first.
        remedy: What to do, if known.
        is_refusal: Whether the build was completed and its checks refused it.
        problems: What the gate named, if anything.
    """

    told: tuple[str, ...]
    remedy: str = ""
    is_refusal: bool = False
    problems: tuple[Problem, ...] = ()


def failure_of(error: BaseException) -> Failure:
    """Return what an exception says, for an alert.

    Args:
        error: The error that ended a run in this process.
    """
    if isinstance(error, PublishRefused):
        lines = tuple(in_words(error.problems))
        return Failure(lines, error.remedy, True, error.problems)
    if isinstance(error, ReleaseError):
        return Failure((error.message,), error.remedy)
    if _is_ours(error):
        return Failure((str(error),))
    # Later lines of a library's message may hold rows of the data.
    first = (str(error).strip().splitlines() or [""])[0]
    return Failure((f"{type(error).__name__}: {first}".removesuffix(": "),))


def failure_of_run(messages: Sequence[str], is_repeated: bool) -> Failure:
    """Return what can be said about a run that ended without an explanation of its own.

    Args:
        messages: What was recorded about its end, the cause first.
        is_repeated: Whether it is started again automatically.
    """
    again = "Nothing: it is started again automatically." if is_repeated else ""
    return Failure(tuple(messages), again or "Run again; it starts over: coupon-ledger run.")


def told(failure: Failure) -> list[str]:
    """Return what was wrong, one line each, without values that may be personal data.

    Args:
        failure: How a run ended.
    """
    return [plain(without_values(line)) for line in failure.told]


def make_discreet(error: BaseException) -> None:
    """Remove quoted values, which may be personal data, from an error and its causes.

    Dagster stores the errors of its steps; none of them then holds personal data.

    Args:
        error: The error that ended a step; it is changed in place.
    """
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        if isinstance(found, PublishRefused):
            problems = [
                replace(problem, message=without_values(problem.message))
                for problem in found.problems
            ]
            found.__init__(problems)  # type: ignore[misc]
        elif not _is_ours(found) and not isinstance(found, OSError):
            found.args = tuple(
                without_values(one) if isinstance(one, str) else one for one in found.args
            )
        found = found.__cause__ or found.__context__


def _is_ours(error: BaseException) -> bool:
    return type(error).__module__.startswith("dagster_project.")


def without_values(text: str) -> str:
    """Remove quoted values, which may be personal data, from a text of another program.

    The names of feeds and of their columns stay in quotes; e-mail addresses are removed everywhere.

    Args:
        text: For instance the reason why a file was refused, or an error of a library.
    """
    names = {*feeds(), *(name for feed in feeds().values() for name in feed.column_names)}

    def hidden(match: re.Match[str]) -> str:
        quoted = match.group(1) if match.group(1) is not None else match.group(2)
        mark = match.group(0)[-1]
        return match.group(0) if quoted in names else f"{mark}…{mark}"

    return _EMAIL.sub("…", _QUOTED.sub(hidden, text))


def plain(text: str, most: int = _MOST_CHARACTERS) -> str:
    """Put a text on one line, without invisible characters and cut to a readable length."""
    line = " ".join(text.split())
    shown = "".join(sign if sign.isprintable() else "·" for sign in line)
    return shown if len(shown) <= most else shown[: most - 1] + "…"
