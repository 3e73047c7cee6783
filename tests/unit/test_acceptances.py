"""The reviewed file of accepted findings is read as written, or refused with line and remedy."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from dagster_project.refresh import acceptances

HEADER = "finding_id,reason,approved_by,until\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "accepted_findings.csv"
    path.write_text(text, "utf-8")
    return path


def test_no_file_means_nothing_is_accepted(tmp_path: Path) -> None:
    assert acceptances.read(tmp_path / "none.csv") == []


def test_an_entry_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + 'over_discounted:in_1,"Goodwill, agreed",R. Roe,2026-03-31\n')
    assert acceptances.read(path) == [
        acceptances.Acceptance(
            "over_discounted:in_1", "Goodwill, agreed", "R. Roe", date(2026, 3, 31)
        )
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("finding_id,reason\n", "the header lacks approved_by, until"),
        (HEADER + "f,r,,2026-03-31\n", "line 2: approved_by is empty"),
        (
            HEADER + "f,r,a,31.03.2026\n",
            "line 2: until is '31.03.2026'; write the day as YYYY-MM-DD",
        ),
        (
            HEADER + "f,r,a,2026-03-31\nf,r,a,2026-04-30\n",
            "line 3: finding_id 'f' occurs twice",
        ),
    ],
)
def test_a_faulty_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(acceptances.AcceptancesUnreadable, match=message):
        acceptances.read(write(tmp_path, text))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(acceptances.AcceptancesUnreadable, match="cannot be read: Is a directory"):
        acceptances.read(tmp_path)
