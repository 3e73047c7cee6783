"""The questions asked about other terms: what each asked, and whether it has an answer.

A question has a data home of its own, `HOME/what-if/NAME`, in which `question.json` says what was asked. Its
answer is the current release of that home, which is never the current release of the recorded one. That file
and the list of questions belong here; asking a question belongs to `refresh/what_if.py`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from dagster_project.home import write_whole
from dagster_project.releases import files


@dataclass(frozen=True)
class Question:
    """What was asked.

    Attributes:
        name: Its name; its release is `what-if/NAME`.
        asked_at: When, UTC, ISO 8601.
        recorded_release_id: The release it is asked about.
        as_of_date: Last day whose events count, ISO 8601.
        terms: The changes to the recorded terms, one text each.
        terms_hold_from: The day from which bills are issued under these terms, ISO 8601; None if they hold
            for all bills.
        withdrawn_coupons: The coupons that count as never delivered.
    """

    name: str
    asked_at: str
    recorded_release_id: str
    as_of_date: str
    terms: tuple[str, ...]
    terms_hold_from: str | None = None
    withdrawn_coupons: tuple[str, ...] = ()

    @property
    def release_id(self) -> str:
        """The name of its release."""
        return f"{files.WHAT_IF}/{self.name}"

    @property
    def told(self) -> str:
        """What the question asks, for readers of its answer."""
        text = f"{self.release_id}: {'; '.join(self.terms)}."
        if self.terms_hold_from is not None:
            text += " Earlier bills are as recorded, whatever terms are shown."
        return f"{text} Findings are those of the recorded terms."

    @property
    def holds_from(self) -> date | None:
        """The day from which bills are issued under these terms; None if all are."""
        return None if self.terms_hold_from is None else date.fromisoformat(self.terms_hold_from)


def write(side: Path, question: Question) -> None:
    """Write a question into its data home."""
    write_whole(_path(side), json.dumps(asdict(question), indent=1) + "\n")


def asked_in(side: Path) -> Question | None:
    """Return the question of a data home; None if it is not that of a question, or the file cannot be read."""
    try:
        content = json.loads(_path(side).read_text("utf-8"))
        lists = {name: tuple(content[name]) for name in ("terms", "withdrawn_coupons")}
        return Question(**{**content, **lists})
    except (OSError, ValueError, KeyError, TypeError):  # absent, damaged, or of another version
        return None


def is_of_question(home: Path) -> bool:
    """Return whether a data home is that of a question, even one that cannot be read."""
    return _path(home).is_file()


def all_asked(home: Path) -> list[tuple[str, Question | None, bool]]:
    """Return the questions of a data home by name: `what-if/NAME`, what was asked, and whether there is an answer."""
    folder = home / files.WHAT_IF
    if not folder.is_dir():
        return []
    answered = set(files.what_ifs(home))
    names = sorted(f"{files.WHAT_IF}/{path.name}" for path in folder.iterdir() if path.is_dir())
    return [
        (name, asked_in(home / name), name in answered) for name in names if files.is_what_if(name)
    ]


def recorded_release(home: Path, release_id: str) -> str | None:
    """Return the recorded release that a question was asked about, None if it no longer exists."""
    question = asked_in(home / release_id)
    if question is None or not files.release_path(home, question.recorded_release_id).is_file():
        return None
    return question.recorded_release_id


def _path(side: Path) -> Path:
    return side / "question.json"
