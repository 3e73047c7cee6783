"""An alert says what happened, what it means and what to enter; nothing in it is read as markup."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dagster_project.alerts import Alert, wording
from dagster_project.alerts.alert import MOST_DETAILS, listed
from dagster_project.alerts.fold import Message, Status
from dagster_project.failures import plain, without_values

HOME = Path("/srv/my ledger")
NOW = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)


def message(happened: str = "It failed", status: Status = "new", **more: object) -> Message:
    alert = Alert(
        "run_failed",
        "error",
        happened,
        "The release of 20 November is still current.",
        "coupon-ledger alerts",
        NOW,
        ("one", "two"),
        **more,  # type: ignore[arg-type]
    )
    return Message("abc", status, alert, 3, NOW)


def test_text_says_what_happened_what_it_means_and_what_to_enter() -> None:
    text = wording.text(message(run_id="r-1"), HOME)
    assert text.splitlines()[:3] == ["It failed", "- one", "- two"]
    assert "What it means: The release of 20 November is still current." in text
    assert f"Look further:  coupon-ledger alerts --home {shlex.quote(str(HOME))}" in text
    assert "run r-1, alert abc" in text


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("new", "It failed"),
        ("again", "It failed (3 times since 21 November 2026, 05:00 UTC)"),
        ("folded", "It failed (3 times since 21 November 2026, 05:00 UTC)"),
        ("resolved", "Resolved: It failed"),
        ("test", "Test: It failed"),
    ],
)
def test_a_title_says_whether_an_alert_persists_or_is_over(status: Status, expected: str) -> None:
    assert wording.title(message(status=status)) == expected


def test_slack_takes_what_others_wrote_as_text() -> None:
    body = wording.slack(message("<!channel> & <http://x|y> was refused"), HOME)
    assert "<" not in json.dumps(body)
    assert body["text"].startswith("&lt;!channel&gt; &amp; ")
    assert body["blocks"][0]["text"]["text"].startswith("🔴 *&lt;!channel&gt;")


def test_slack_takes_blocks_of_three_thousand_characters() -> None:
    alert = Alert("run_failed", "error", "x" * 900, "y" * 900, "z", NOW, ("w" * 600,) * 10)
    body = wording.slack(Message("abc", "new", alert, 1, NOW), HOME)
    assert all(len(block["text"]["text"]) <= 3_000 for block in body["blocks"][:-1])


def test_a_mail_has_one_subject_line_whatever_happened() -> None:
    mail = wording.mail(
        message("a\r\nBcc: all@example.com\n" + "x" * 300), HOME, "a@b.c", ["d@e.f"]
    )
    assert mail["Bcc"] is None
    assert "\n" not in mail["Subject"]
    assert len(mail["Subject"]) < 200
    assert mail["Message-ID"] == "<abc@coupon-ledger>"
    assert mail["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Could not convert string 'usr_1' to INT64", "Could not convert string '…' to INT64"),
        ('value "usr_1" of list_amount', 'value "…" of list_amount'),
        ("column 'list_amount' is missing", "column 'list_amount' is missing"),
        ("found b'usr_1' there", "found '…' there"),
        ("ask jo.doe+x@example.co.uk now", "ask … now"),
        ("it's the supplier's", "it's the supplier's"),
        (r"'it\'s usr_1' is wrong", "'…' is wrong"),
        ("nothing quoted", "nothing quoted"),
    ],
)
def test_quoted_values_are_removed_and_known_names_stay(text: str, expected: str) -> None:
    assert without_values(text) == expected


def test_a_text_is_one_line_of_signs_that_show() -> None:
    assert plain("a\n\tb\u202ec\x07") == "a b·c·"
    assert plain("x" * 900, 10) == "x" * 9 + "…"


def test_a_list_says_how_many_more_there_are() -> None:
    lines = [f"line {number}" for number in range(MOST_DETAILS + 3)]
    assert listed(lines) == (*lines[:MOST_DETAILS], "and 3 more")
    assert listed(lines[:MOST_DETAILS]) == tuple(lines[:MOST_DETAILS])
