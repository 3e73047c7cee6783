"""What can go wrong with a release; each error says what it means and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster_project.releases.gate import Problem

_LOOK_INTO_FINDINGS = (
    "`coupon-ledger findings --review open` lists those of the current"
    " release, with what is wrong. Have billing corrected, or accept a finding by a line in"
    " accepted_findings.csv of the data home (finding_id,reason,approved_by,until), and run again;"
    " a run without --strict publishes all the same."
)

_LOAD_AGAIN = (
    "A file that the build keeps below build/raw is damaged. `coupon-ledger rebuild` loads all deliveries"
    " again from the archive; then run again."
)
_UNREADABLE = "Failed to read file"
"""DuckDB's message about a Parquet file whose metadata it can read, but not its values."""
_BUILD_AGAIN = (
    "A file of the build is damaged on the disk. Run again: everything is then built from nothing. If it"
    " fails in the same way, check the disk."
)
_CORRUPT = "Corrupt database file"
"""DuckDB's message about a block that does not match its checksum."""


class ReleaseError(Exception):
    """Something about releases did not work; the current release has not changed.

    Attributes:
        message: What is wrong, with the file concerned.
        remedy: What to do.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.message = message
        self.remedy = remedy


class NoRelease(ReleaseError):
    """The release asked for does not exist."""


class LaterMethod(ReleaseError):
    """A table has a fingerprint by the method of a later version, which this one does not know."""


class Busy(ReleaseError):
    """Another process is refreshing the same data home."""


class PublishRefused(ReleaseError):
    """The build did not pass its checks; nothing was published.

    Attributes:
        problems: Each check or model that prevents publication.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        first = "; ".join(str(problem) for problem in self.problems[:3])
        more = len(self.problems) - 3
        super().__init__(
            f"The build did not pass its checks; nothing was published: {first}"
            + (f"; and {more} more." if more > 0 else "."),
            _remedy(self.problems),
        )


def _remedy(problems: Sequence[Problem]) -> str:
    """Return what to do about what prevents publication."""
    if {problem.kind for problem in problems} == {"finding"}:
        return _LOOK_INTO_FINDINGS
    if any(_UNREADABLE in problem.message for problem in problems):
        return _LOAD_AGAIN
    if any(_CORRUPT in problem.message for problem in problems):
        return _BUILD_AGAIN
    return "Correct what the message names and run again."
