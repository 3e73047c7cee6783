"""The same thing is reported once, again after a while, and once more when it is over."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.alerts import Alert, fold
from dagster_project.alerts.fold import Entry, Message, State, decide
from dagster_project.alerts.watch import Watched

NOW = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)
DAY, QUIET = timedelta(hours=24), timedelta(minutes=10)


def watched(
    *members: str, known: frozenset[str] = frozenset(), repeated: bool = True, event: bool = False
) -> Watched:
    alert = Alert("data_late", "warn", "Data is late", "Old.", "look", NOW) if members else None
    held = frozenset(members)
    return Watched("data_late", held, held - known, alert, "It is over.", event, repeated)


def after(entry: Entry | None, seen: Watched, minutes: float) -> tuple[Entry | None, str | None]:
    new, message = decide(entry, seen, NOW + timedelta(minutes=minutes), DAY, QUIET)
    return new, None if message is None else message.status


def test_what_is_new_is_reported_and_then_folded_until_it_has_persisted_for_long() -> None:
    entry, status = after(None, watched("invoices"), 0)
    assert status == "new"
    assert entry is not None
    known = entry.told
    for minutes in (5, 60, 23 * 60):
        entry, status = after(entry, watched("invoices", known=known), minutes)
        assert status == "folded"
    entry, status = after(entry, watched("invoices", known=known), 24 * 60)
    assert status == "again"
    assert entry is not None
    assert entry.times == 5
    assert entry.since == NOW


def test_a_new_member_of_a_repeated_kind_is_reported_at_once() -> None:
    entry, _ = after(None, watched("invoices"), 0)
    assert entry is not None
    _, status = after(entry, watched("invoices", "coupons", known=entry.told), 1)
    assert status == "new"


def test_new_members_of_a_kind_that_is_not_repeated_wait_for_the_quiet_time() -> None:
    entry, _ = after(None, watched("a", repeated=False), 0)
    assert entry is not None
    entry, status = after(entry, watched("a", "b", known=entry.told, repeated=False), 5)
    assert status == "folded"
    assert entry is not None
    assert entry.is_held
    assert entry.told == {"a"}
    entry, status = after(entry, watched("a", "b", "c", known=entry.told, repeated=False), 11)
    assert status == "new"
    assert entry is not None
    assert entry.told == {"a", "b", "c"}
    assert not entry.is_held
    entry, status = after(entry, watched("a", "b", "c", known=entry.told, repeated=False), 9999)
    assert status is None


def test_what_is_over_is_reported_once() -> None:
    entry, _ = after(None, watched("invoices"), 0)
    entry, status = after(entry, watched(), 30)
    assert (entry, status) == (None, "resolved")
    assert after(entry, watched(), 60) == (None, None)


def test_what_comes_back_after_it_was_over_is_new() -> None:
    entry, _ = after(None, watched("invoices"), 0)
    entry, _ = after(entry, watched(), 30)
    assert after(entry, watched("invoices"), 60)[1] == "new"


def test_what_was_known_before_anything_was_remembered_is_not_reported() -> None:
    seen = watched("f1", known=frozenset({"f1"}), repeated=False)
    entry, status = after(None, seen, 0)
    assert status is None
    assert entry is not None
    assert after(entry, watched(), 5) == (None, None), "nor that it is over"


def test_failures_of_one_cause_fold_and_another_cause_is_reported() -> None:
    entry, status = after(None, watched("disk", event=True), 0)
    assert status == "new"
    entry, status = after(entry, watched("disk", event=True), 60)
    assert status == "folded"
    entry, status = after(entry, watched("network", event=True), 120)
    assert status == "new"
    _, status = after(entry, watched("disk", event=True), 180)
    assert status == "folded", "two causes that take turns are no storm"


def test_a_clock_that_is_set_back_keeps_nothing_from_being_reported() -> None:
    month = -30 * 24 * 60
    entry, _ = after(None, watched("a", repeated=False), 0)
    assert after(entry, watched("a", "b", repeated=False), month)[1] == "new"
    entry, _ = after(None, watched("invoices"), 0)
    assert after(entry, watched("invoices"), month)[1] == "again"


@given(
    st.lists(
        st.tuples(st.frozensets(st.sampled_from("abc")), st.integers(1, 2000), st.booleans()),
        max_size=40,
    )
)
def test_whatever_happens_every_member_is_reported_and_messages_are_few(
    story: list[tuple[frozenset[str], int, bool]],
) -> None:
    """Each message that goes out has a reason: something new, a day that passed, or an end."""
    entry: Entry | None = None
    minutes, told_at = 0, None
    for members, pause, _ in story:
        minutes += pause
        known = frozenset() if entry is None else entry.told
        before = entry
        entry, status = after(entry, watched(*sorted(members), known=known), minutes)
        if status == "new":
            assert members - known
        elif status == "again":
            assert told_at is not None
            assert minutes - told_at >= 24 * 60
        elif status == "resolved":
            assert not members
            assert before is not None
        if status in ("new", "again"):
            told_at = minutes
        if members:
            assert entry is not None
            assert members <= entry.told
        else:
            assert entry is None


def message(number: int = 1) -> Message:
    alert = Alert("run_failed", "error", "It failed", "Old.", "look", NOW, ("a", "b"), "run-1")
    return Message(f"id{number}", "new", alert, 2, NOW, ("webhook",))


@pytest.mark.parametrize("kind", ["new_findings", "data_late"])
def test_an_earlier_version_has_seen_findings_where_it_remembers_some(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "state.json"
    fold.save(State({kind: Entry(frozenset({"a"}), NOW, 1, NOW)}), path)
    content = json.loads(path.read_text("utf-8"))
    del content["has_seen_findings"]
    path.write_text(json.dumps(content), "utf-8")
    assert fold.load(path).has_seen_findings == (kind == "new_findings")


def test_what_is_remembered_is_read_back_unchanged(tmp_path: Path) -> None:
    entry = Entry(frozenset({"b", "a"}), NOW, 3, NOW, True)
    state = State(
        {"run_failed": entry, "data_late": replace(entry, sent_at=None)},
        ["r1"],
        has_seen_findings=True,
    )
    state.waiting = [message()]
    path = tmp_path / "state.json"
    fold.save(state, path)
    assert fold.load(path) == state
    assert [one.name for one in tmp_path.iterdir()] == ["state.json"]


def test_a_message_that_an_earlier_version_left_waiting_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    fold.save(State(waiting=[message()]), path)
    content = json.loads(path.read_text("utf-8"))
    content["waiting"][0]["attempts"] = 3  # earlier versions counted them
    path.write_text(json.dumps(content), "utf-8")
    assert fold.load(path).waiting == [message()]


def test_only_the_newest_runs_are_kept(tmp_path: Path) -> None:
    state = State(runs=[str(number) for number in range(fold.MOST_RUNS + 5)])
    fold.save(state, tmp_path / "state.json")
    assert fold.load(tmp_path / "state.json").runs == state.runs[5:]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"entries": {"x": 1}}', "\x00"])
def test_a_damaged_memory_starts_again_empty(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content, "utf-8")
    assert fold.load(tmp_path / "state.json") == State()
    assert fold.load(tmp_path / "none.json") == State()
