"""After a run, every few minutes, on a working day: what is noticed is reported once, and waits if it must."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project.alerts import Kind, fold, occasions, send, watch
from dagster_project.alerts.overview import overview
from dagster_project.cli.service import tell_alerts
from dagster_project.failures import Failure
from dagster_project.releases.files import read_lines
from dagster_project.settings import Settings, default_as_of
from tests.pipeline.conftest import HandMade
from tests.receivers import SECRET, Mailbox, Webhook, receivers, settings_of

NOW = datetime(2026, 4, 7, 5, 0, tzinfo=UTC)
DAY = date(2026, 4, 7)
BROKEN = Failure(("the disk is broken",), "Buy one.")


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Webhook, Mailbox]]:
    with receivers() as found:
        yield found


@pytest.fixture
def settings(tmp_path: Path, both: tuple[Webhook, Mailbox]) -> Settings:
    both[0].bodies.clear()
    both[1].messages.clear()
    (tmp_path / "landing").mkdir()
    return Settings.model_validate(
        {
            "home": tmp_path / "home",
            "landing": tmp_path / "landing",
            "disk_free_gb": 0,
            "disk_free_percent": 0,
            **settings_of(*both),
        }
    )


def titles(both: tuple[Webhook, Mailbox]) -> list[str]:
    posted = [str(body["text"]).splitlines()[0] for body in both[0].bodies]
    subjects = [" ".join(str(mail["Subject"]).split()) for mail in both[1].messages]
    mailed = [subject.removeprefix("[Coupon Ledger] ") for subject in subjects]
    assert posted == mailed
    return posted


def fail(settings: Settings, run_id: str, hours: float = 0) -> list[occasions.Told]:
    return occasions.after_run(settings, run_id, BROKEN, DAY, NOW + timedelta(hours=hours))


def test_a_run_that_failed_is_reported_by_every_channel(
    settings: Settings, both: tuple[Webhook, Mailbox]
) -> None:
    (told,) = fail(settings, "r1")
    assert told.outcome == {"webhook": "ok", "email": "ok"}
    assert titles(both) == ["The refresh failed: the disk is broken"]


def test_a_run_is_looked_at_only_once(settings: Settings, both: tuple[Webhook, Mailbox]) -> None:
    fail(settings, "r1")
    assert fail(settings, "r1") == []
    assert occasions.after_run(settings, "r1", None, DAY, NOW) == []
    assert len(titles(both)) == 1


def test_the_same_failure_is_folded_reported_again_after_a_day_and_when_it_is_over(
    settings: Settings, both: tuple[Webhook, Mailbox]
) -> None:
    for number in range(30):
        fail(settings, f"r{number}", hours=number)
    occasions.after_run(settings, "well", None, DAY, NOW + timedelta(hours=40))
    assert titles(both) == [
        "The refresh failed: the disk is broken",
        "The refresh failed: the disk is broken (25 times since 7 April 2026, 05:00 UTC)",
        "Resolved: Refreshing works again: there is no current release yet.",
    ]
    logged = [line for line in read_lines(send.log_path(settings.home)) if "kind" in line]
    assert [line["status"] for line in logged].count("folded") == 28


def test_a_pull_from_one_system_does_not_report_that_another_works_again(
    settings: Settings, both: tuple[Webhook, Mailbox]
) -> None:
    pulls = [("stripe", BROKEN), ("postgres", None), ("stripe", BROKEN), ("stripe", None)]
    for hours, (source, failure) in enumerate(pulls):
        now = NOW + timedelta(hours=hours)
        occasions.after_pull(settings, source, f"p{hours}", failure, now)
        going_on = [one["kind"] for one in overview(settings, 5)["going_on"]]
        assert going_on == ["pull_failed"] * (hours < 3)
    assert titles(both) == [
        "The pull from stripe failed: the disk is broken",
        "Resolved: Pulling from stripe works again.",
    ]


def test_a_channel_that_is_down_gets_its_messages_later_and_none_twice(
    settings: Settings, both: tuple[Webhook, Mailbox]
) -> None:
    both[0].status = 503
    try:
        (told,) = fail(settings, "r1")
        assert told.outcome["webhook"].startswith("it answered 503")
        assert told.outcome["email"] == "ok"
        both[0].bodies.clear()
        occasions.look(settings, NOW + timedelta(minutes=5))
        assert len(both[0].bodies) == 1
    finally:
        both[0].status = 200
    both[0].bodies.clear()
    occasions.look(settings, NOW + timedelta(minutes=10))
    occasions.look(settings, NOW + timedelta(minutes=15))
    assert titles(both) == ["The refresh failed: the disk is broken"]
    assert fold.load(settings.home / "alerts" / "state.json").waiting == []


def test_what_waits_is_not_lost_by_a_run_without_the_settings_of_the_channel(
    settings: Settings, both: tuple[Webhook, Mailbox]
) -> None:
    both[0].status = 503
    fail(settings, "r1")
    both[0].status = 200
    both[0].bodies.clear()
    by_hand = settings.model_copy(update={"alert_webhook_url": None})
    occasions.look(by_hand, NOW + timedelta(minutes=5))
    occasions.look(settings, NOW + timedelta(minutes=10))
    occasions.look(settings, NOW + timedelta(minutes=15))
    assert titles(both) == ["The refresh failed: the disk is broken"]


def test_what_waits_is_not_sent_again_and_again_while_nothing_can_be_remembered(
    settings: Settings, both: tuple[Webhook, Mailbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    both[0].status = 503
    fail(settings, "r1")
    both[0].status = 200
    both[0].bodies.clear()
    with monkeypatch.context() as full:
        full.setattr(fold, "save", fails)
        occasions.look(settings, NOW + timedelta(minutes=5))
        occasions.look(settings, NOW + timedelta(minutes=10))
    assert both[0].bodies == []
    occasions.look(settings, NOW + timedelta(minutes=15))
    occasions.look(settings, NOW + timedelta(minutes=20))
    assert titles(both) == ["The refresh failed: the disk is broken"]


def test_a_message_that_nobody_takes_for_a_week_is_given_up(settings: Settings) -> None:
    broken = settings.model_copy(
        update={"alert_smtp_host": None, "alert_timeout_seconds": 1, "late_after_days": {}}
    )
    unreachable = Settings.model_validate(
        {
            **broken.model_dump(),
            "alert_webhook_url": "http://127.0.0.1:9/x",
            "alert_smtp_host": None,
        }
    )
    fail(unreachable, "r1")
    occasions.look(unreachable, NOW + timedelta(days=8))
    assert fold.load(settings.home / "alerts" / "state.json").waiting == []
    last = read_lines(send.log_path(settings.home))[-1]
    assert (last["status"], last["channel"]) == ("given up", "webhook")


def test_the_oldest_of_too_many_that_wait_are_given_up(
    settings: Settings, both: tuple[Webhook, Mailbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold, "MOST_WAITING", 2)
    quick = settings.model_copy(update={"alert_quiet_minutes": 0, "late_after_days": {}})
    both[0].status = 503
    ids = []
    for number, cause in enumerate(("a disk", "a cable", "a fan")):
        failure = Failure((f"{cause} is broken",), "Buy one.")
        (told,) = occasions.after_run(
            quick, f"r{number}", failure, DAY, NOW + timedelta(hours=number)
        )
        ids.append(told.message.id)
    both[0].status = 200
    waiting = fold.load(settings.home / "alerts" / "state.json").waiting
    assert [(one.id, one.channels) for one in waiting] == [(one, ("webhook",)) for one in ids[1:]]
    logged = read_lines(send.log_path(settings.home))
    given_up = [(one["id"], one["channel"]) for one in logged if one["status"] == "given up"]
    assert given_up == [(ids[0], "webhook")]


@pytest.mark.parametrize(
    ("zone", "late_from"),
    [
        ("UTC", "2026-04-07T00:00:00"),
        ("America/Los_Angeles", "2026-04-07T07:00:00"),
        ("Pacific/Kiritimati", "2026-04-07T10:00:00"),
    ],
)
def test_data_is_late_from_a_day_on_that_begins_in_the_reporting_time_zone(
    settings: Settings, both: tuple[Webhook, Mailbox], zone: str, late_from: str
) -> None:
    """The newest bill is of 1 March, 10:00 UTC, which is 2 March in Kiritimati; 36 days are allowed."""
    HandMade(settings.home).write().publish(reporting_time_zone=zone)
    there = settings.model_copy(
        update={"reporting_time_zone": zone, "late_after_days": {"invoices": 36}}
    )
    begins = datetime.fromisoformat(late_from).replace(tzinfo=UTC)
    occasions.look(there, begins - timedelta(microseconds=1))
    assert titles(both) == []
    occasions.look(there, begins)
    assert titles(both) == ["Data is late: invoices"]


def test_a_refresh_as_of_today_tells_that_data_is_late_and_one_of_an_earlier_day_does_not(
    settings: Settings, both: tuple[Webhook, Mailbox]
) -> None:
    HandMade(settings.home).write().publish()
    watched = settings.model_copy(update={"late_after_days": {"invoices": 36}})
    now = datetime(2026, 4, 8, 9, tzinfo=UTC)
    today = default_as_of(watched, now.date())
    occasions.after_run(watched, "on request", None, today - timedelta(days=1), now)
    assert titles(both) == []
    occasions.after_run(watched, "usual", None, today, now)
    assert titles(both) == ["Data is late: invoices"]


def test_alerts_that_cannot_be_looked_after_fail_nothing(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the data home should be", "utf-8")
    settings = Settings(home=tmp_path / "home", landing=tmp_path / "landing")
    assert occasions.after_run(settings, "r1", BROKEN, DAY, NOW) == []
    assert occasions.look(settings, NOW) == []


def test_a_watcher_that_fails_does_not_keep_the_others_from_looking(
    settings: Settings, both: tuple[Webhook, Mailbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(watch, "disk_nearly_full", fails)
    fail(settings, "r1")
    assert titles(both) == ["The refresh failed: the disk is broken"]


def publish_findings(settings: Settings, hours: int, *findings: str) -> None:
    """Publish a release with open findings of severity error."""
    built = HandMade(settings.home, marts={"fct_audit_findings": ("finding_id",)})
    built.statuses["model.p.fct_audit_findings"] = "success"
    built.write()
    rows = ", ".join(f"('{finding}')" for finding in findings) or "(null)"
    with duckdb.connect(str(built.candidate)) as connection:
        connection.execute(
            "create table marts.fct_audit_findings as select finding_id, 'error' as severity,"
            " 'open' as review_status, 'over_discounted' as finding_type, 'USD' as currency,"
            " cast(1 as decimal(18, 2)) as amount_at_stake"
            f" from (values {rows}) as _ (finding_id) where finding_id is not null"
        )
    built.publish(NOW + timedelta(hours=hours))


def end_well(settings: Settings, hours: int) -> list[str]:
    """What is reported after a run that published."""
    when = NOW + timedelta(hours=hours)
    told = occasions.after_run(settings, f"r{hours}", None, DAY, when)
    return [one.message.alert.happened for one in told if one.message.status == "new"]


@pytest.mark.parametrize("first", [(), ("f0",)])
def test_findings_of_a_run_that_died_before_reporting_them_are_reported_after_the_next(
    settings: Settings, first: tuple[str, ...]
) -> None:
    publish_findings(settings, 0, *first)
    assert len(end_well(settings, 0)) == len(first)
    publish_findings(settings, 1, *first, "f1", "f2")  # and nobody looked
    publish_findings(settings, 2, *first, "f1", "f2", "f3")
    assert end_well(settings, 2) == ["3 new findings of severity error: 3.00 USD at stake"]
    publish_findings(settings, 3, *first, "f1", "f2", "f3")
    assert end_well(settings, 3) == []


def test_findings_that_were_open_before_anything_is_remembered_are_not_reported(
    settings: Settings,
) -> None:
    publish_findings(settings, 0, "f1")
    publish_findings(settings, 1, "f1", "f2")
    assert end_well(settings, 1) == ["1 new finding of severity error: 1.00 USD at stake"]


def test_changes_of_terms_that_had_to_wait_are_reported_after_the_quiet_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = {"t1": "C1 gives more"}
    monkeypatch.setattr("dagster_project.answers.terms.open_changes", lambda *_: changed)
    HandMade(settings.home).write().publish()
    assert end_well(settings, 0) == ["The terms of a coupon were changed"]
    changed["t2"] = "C2 gives less"
    within = NOW + timedelta(minutes=settings.alert_quiet_minutes - 1)
    assert occasions.after_run(settings, "soon after", None, DAY, within) == []
    assert occasions.look(settings, within) == []
    (told,) = occasions.look(settings, within + timedelta(minutes=5))
    assert told.message.alert.details == ("C2 gives less",)
    assert occasions.look(settings, within + timedelta(minutes=10)) == []


def test_a_test_goes_through_every_channel_and_says_which_failed(
    settings: Settings, both: tuple[Webhook, Mailbox]
) -> None:
    assert occasions.test(settings, NOW).outcome == {"webhook": "ok", "email": "ok"}
    assert titles(both) == ["Test: This is a test of the alerts"]
    both[0].status = 404
    try:
        assert occasions.test(settings, NOW).outcome["webhook"].startswith("it answered 404")
    finally:
        both[0].status = 200


def closing_on(settings: Settings, day: date, hours: float = 0) -> list[str]:
    told = occasions.close_reminder(settings, day, NOW + timedelta(hours=hours))
    return [one.message.alert.happened for one in told]


def test_a_month_to_close_is_reported_once_from_its_working_day_on_and_when_it_is_closed(
    settings: Settings,
) -> None:
    from dagster_project.releases.closing import close

    assert closing_on(settings, DAY) == [], "there is nothing to close yet"
    HandMade(settings.home).write().publish()
    assert closing_on(settings, date(2026, 4, 2)) == [], "its day has not come"
    assert closing_on(settings, date(2026, 4, 3)) == ["2026-03 is not closed yet"]
    assert closing_on(settings, date(2026, 4, 6), hours=48) == []
    close(settings.home, date(2026, 3, 1), by="me", now=NOW)
    (told,) = occasions.look(settings, NOW + timedelta(hours=50))
    assert told.message.status == "resolved"


def test_nobody_is_reminded_of_a_month_that_is_closed(settings: Settings) -> None:
    from dagster_project.releases.closing import close

    HandMade(settings.home).write().publish()
    close(settings.home, date(2026, 3, 1), by="me", now=NOW)
    assert closing_on(settings, DAY) == []


@pytest.mark.parametrize(
    ("kind", "off"),
    [
        ("month_open", {"close_working_day": 0}),
        ("data_late", {"late_after_days": {}}),
        ("pull_late", {"pull_from": ()}),
        ("running_out", {"alert_ahead_days": 0}),
    ],
)
def test_what_is_switched_off_neither_persists_nor_is_over(
    settings: Settings, kind: Kind, off: dict[str, object]
) -> None:
    HandMade(settings.home).write().publish()
    assert occasions.look(settings, NOW) == []
    entry = fold.Entry(frozenset({"2026-03"}), NOW, sent_at=NOW)
    fold.save(fold.State({kind: entry}), settings.home / "alerts" / "state.json")
    without = settings.model_copy(update={"late_after_days": {"invoices": 1}, **off})
    told = occasions.after_run(without, "r1", None, DAY, NOW)
    told += occasions.look(without, NOW)
    assert kind not in [one.message.alert.kind for one in told]
    assert kind not in [one["kind"] for one in overview(without, 5)["going_on"]]


def test_an_overview_shows_what_persists_and_what_became_of_the_last_alerts(
    settings: Settings, both: tuple[Webhook, Mailbox]
) -> None:
    both[0].status = 503
    try:
        fail(settings, "r1")
    finally:
        both[0].status = 200
    found = overview(settings, 5)
    assert found["waiting"] == {"webhook": 1}
    text = tell_alerts(found)
    assert "the refresh fails, since 7 April 2026, 05:00 UTC" in text
    assert "webhook not delivered, email delivered" in text
    assert "1 wait for webhook" in text
    assert SECRET not in text + json.dumps(found)
    assert found["going_on"][0]["kind"] == "run_failed"


def test_an_overview_of_nothing_says_so(tmp_path: Path) -> None:
    text = tell_alerts(overview(Settings(home=tmp_path), 5))
    assert "Ongoing: nothing" in text
    assert "Last alerts: none" in text


def test_an_overview_counts_the_recipients_to_whom_mail_goes(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        alert_smtp_host="mail",
        alert_email_from="a@example.com",
        alert_email_to="b@example.com, c@example.com,",
    )
    assert send.recipients(settings) == ["b@example.com", "c@example.com"]
    assert overview(settings, 5)["channels"]["email"] == "2 by mail:25"
