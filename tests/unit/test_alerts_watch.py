"""What there is to notice, and what is reported about it: never a value that may be personal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest

from dagster_project import failures
from dagster_project.alerts import watch
from dagster_project.answers import health
from dagster_project.answers.freshness import LateFeed
from dagster_project.arrival.archive import SideRecord
from dagster_project.releases.errors import Busy, PublishRefused
from dagster_project.releases.gate import Problem
from dagster_project.settings import Settings

NOW = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)
PERSON = "usr_0123456789abc"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def record(name: str, verdict: str | None, sequence: int, **more: Any) -> SideRecord:
    return SideRecord(
        delivery_id=f"d{sequence}",
        delivery_sequence=sequence,
        feed="coupons",
        file_name=name,
        sha256=f"d{sequence}",
        size_bytes=1,
        modified_ns=0,
        arrived_at="2026-11-21T05:00:00",
        run_id="r",
        format="csv",
        is_packed=False,
        manifest=None,
        circumstances=(),
        verdict=verdict,  # type: ignore[arg-type]
        **more,
    )


def files(home: Path, *records: SideRecord, known: Sequence[str] = ()) -> watch.Watched:
    return watch.files_refused(records, known, home, NOW)


def test_a_refused_file_is_reported_with_the_reason_and_what_to_do(home: Path) -> None:
    reason = f"row 3: '{PERSON}' is no date; column 'coupon_id' is there"
    found = files(home, record("coupons/a.csv", "refused", 1, reason=reason, remedy="correct it"))
    assert found.alert is not None
    assert found.alert.happened == "The file coupons/a.csv was refused"
    assert found.alert.meaning == "Its rows are in no release; there is no current release yet."
    (detail,) = found.alert.details
    assert detail == "coupons/a.csv: row 3: '…' is no date; column 'coupon_id' is there; correct it"


def test_a_file_that_was_delivered_again_and_loaded_is_no_longer_refused(home: Path) -> None:
    found = files(home, record("coupons/a.csv", "refused", 1), record("coupons/a.csv", "loaded", 2))
    assert (found.members, found.alert) == (frozenset(), None)
    assert "delivered again" in found.solved


def test_only_files_nobody_knows_of_are_described(home: Path) -> None:
    records = [record(f"coupons/{name}.csv", "refused", n) for n, name in enumerate("abc")]
    found = files(home, *records, known=["d0"])
    assert found.members == {"d0", "d1", "d2"}
    assert found.new == {"d1", "d2"}
    assert found.alert is not None
    assert found.alert.happened == "2 files were refused, the first is coupons/b.csv"


def test_new_findings_are_counted_and_added_up_by_currency(home: Path) -> None:
    with duckdb.connect() as release:
        release.execute("create schema marts")
        release.execute(
            "create table marts.fct_audit_findings as select *, cast(amount as decimal(18, 2))"
            " as amount_at_stake from (values"
            " ('f1', 'over_discounted', 'error', 'open', 'USD', '10.50'),"
            " ('f2', 'over_discounted', 'error', 'open', 'JPY', '700.00'),"
            " ('f3', 'duplicate_for_user', 'error', 'open', null, null),"
            " ('f4', 'over_discounted', 'error', 'open', 'USD', '1.00'),"
            " ('f5', 'over_discounted', 'error', 'accepted', 'USD', '2.00'),"
            " ('f6', 'follow_up_not_immediate', 'warn', 'open', 'USD', '4.00'))"
            " as findings(finding_id, finding_type, severity, review_status, currency, amount)"
        )
        found = watch.new_findings(release, ["f4"], home, NOW)
        all_of_them = watch.new_findings(release, [], home, NOW)
        none = watch.new_findings(release, ["f1", "f2", "f3", "f4"], home, NOW)
    assert found.new == {"f1", "f2", "f3"}
    assert found.members == all_of_them.new == none.members == {"f1", "f2", "f3", "f4"}
    assert found.alert is not None
    assert found.alert.happened == "3 new findings of severity error: 700 JPY, 10.50 USD at stake"
    assert found.alert.details == (
        "duplicate_for_user 1",
        "over_discounted 2: 700 JPY, 10.50 USD at stake",
    )
    assert "--severity error --review open" in found.alert.command
    assert none.new == frozenset()
    assert none.alert == all_of_them.alert
    assert none.alert is not None
    assert none.alert.happened == "4 new findings of severity error: 700 JPY, 11.50 USD at stake"


def test_late_data_is_reported_by_feed_with_its_age(home: Path) -> None:
    late = [
        LateFeed("invoices", date(2026, 10, 1), 51, 40),
        LateFeed("coupons", None, None, 10),
    ]
    found = watch.data_late(late, (), home, NOW)
    assert found.alert is not None
    assert found.alert.happened == "Data is late: invoices, coupons"
    assert found.alert.details[0].endswith("of 2026-10-01, 51 days ago; 40 are allowed")
    assert found.alert.details[1] == "coupons: no record exists"
    assert watch.data_late([], (), home, NOW).alert is None


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(
    ("free_gb", "total_gb", "is_told"),
    [(100, 1000, False), (4, 50, True), (6, 1000, True), (6, 100, False)],
)
def test_a_disk_is_nearly_full_by_bytes_or_by_percent(
    home: Path, monkeypatch: pytest.MonkeyPatch, free_gb: int, total_gb: int, is_told: bool
) -> None:
    usage = Usage(total_gb * 10**9, 0, free_gb * 10**9)
    monkeypatch.setattr(health.shutil, "disk_usage", lambda _: usage)  # type: ignore[attr-defined]
    found = watch.disk_nearly_full(Settings(home=home / "not" / "yet"), (), NOW)
    assert (found.alert is not None) == is_told
    if found.alert is not None:
        assert f"{free_gb}.0 GB" in found.alert.happened
        assert "prune" in found.alert.details[1]


def failed(error: BaseException, home: Path) -> watch.Watched:
    (found,) = watch.run(failures.failure_of(error), "run-1", home, NOW)
    return found


def test_a_refused_release_names_the_checks_and_what_readers_get(home: Path) -> None:
    problems = [
        Problem("test", "assert_adds_up", "fail", "3 rows do not hold", "tests/a.sql"),
        Problem("model", "fct_x", "error", f"cannot cast '{PERSON}'", "models/x.sql"),
        Problem("test", "assert_after", "skipped", "", ""),
    ]
    found = failed(PublishRefused(problems), home)
    assert found.kind == "release_refused"
    assert found.alert is not None
    assert found.alert.happened == (
        "The release was refused: test assert_adds_up: 3 rows do not hold (tests/a.sql)"
    )
    assert found.alert.meaning == "Nothing was published; there is no current release yet."
    text = " ".join(found.alert.details)
    assert "fct_x" in text
    assert PERSON not in text
    assert "1 model or test after it was skipped" in text


def test_open_findings_of_a_strict_run_lead_to_the_findings(home: Path) -> None:
    found = failed(PublishRefused([Problem("finding", "x", "open", "1 open", "")]), home)
    assert found.alert is not None
    assert found.alert.command.startswith("coupon-ledger findings --severity error")


def test_an_error_of_a_library_is_reported_by_its_first_line_without_values(home: Path) -> None:
    error = ValueError(f"Could not convert '{PERSON}'\nrow: {PERSON}, 12")
    found = failed(error, home)
    assert found.kind == "run_failed"
    assert found.alert is not None
    assert found.alert.happened == "The refresh failed: ValueError: Could not convert '…'"
    assert PERSON not in str(found.alert)


def test_a_failure_of_ours_is_reported_with_its_remedy(home: Path) -> None:
    found = failed(Busy("Another refresh is running.", "Wait for it."), home)
    assert found.alert is not None
    assert found.alert.details == ("What to do: Wait for it.",)


def test_failures_that_differ_in_numbers_only_have_one_cause(home: Path) -> None:
    first = failed(OSError(28, "disk full at 12:00, 3 of 7"), home)
    assert first.members == failed(OSError(28, "disk full at 13:30, 4 of 9"), home).members
    assert first.members != failed(OSError(13, "no permission"), home).members


def test_a_run_that_ends_well_solves_both_kinds_of_failure(home: Path) -> None:
    found = watch.run(None, "run-1", home, NOW)
    assert [(one.kind, one.alert) for one in found] == [
        ("run_failed", None),
        ("release_refused", None),
    ]


def test_an_error_is_made_discreet_with_what_caused_it() -> None:
    try:
        try:
            raise KeyError(f"no 'list_amount' in '{PERSON}'")
        except KeyError as cause:
            raise RuntimeError(f'row "{PERSON}"', 3) from cause
    except RuntimeError as error:
        failures.make_discreet(error)
        assert error.args == ('row "…"', 3)
        assert PERSON not in str(error.__cause__)
        assert "list_amount" in str(error.__cause__)


def test_a_refusal_is_made_discreet_in_all_its_parts() -> None:
    error = PublishRefused([Problem("model", "fct_x", "error", f"cast '{PERSON}'", "x.sql")])
    failures.make_discreet(error)
    assert PERSON not in str(error) + error.message + str(error.problems)
    assert error.problems[0].name == "fct_x"


def test_our_own_errors_and_those_of_the_system_keep_their_names() -> None:
    ours, system = Busy("Release 'a' is busy."), FileNotFoundError(2, "No such file", "/a/b")
    for error in (ours, system):
        before = str(error)
        failures.make_discreet(error)
        assert str(error) == before


def open_months(home: Path, due: str | None, *closed: str) -> watch.Watched:
    months = {date.fromisoformat(f"{month}-01") for month in closed}
    day = None if due is None else date.fromisoformat(f"{due}-01")
    return watch.months_open(day, months, (), home, NOW)


def test_the_month_to_be_closed_is_named_with_the_command(home: Path) -> None:
    found = open_months(home, "2026-10")
    assert found.alert is not None
    assert found.alert.happened == "2026-10 is not closed yet"
    assert found.alert.command.startswith("coupon-ledger close 2026-10 --by NAME --home ")


def test_months_after_the_last_one_closed_are_all_named(home: Path) -> None:
    assert open_months(home, "2027-01", "2026-10").members == {"2026-11", "2026-12", "2027-01"}
    assert open_months(home, "2026-10", "2026-10").members == frozenset()
    assert open_months(home, None).alert is None


@pytest.mark.parametrize(
    ("today", "due"),
    [
        (date(2026, 11, 1), date(2026, 9, 1)),  # a Sunday
        (date(2026, 11, 3), date(2026, 9, 1)),
        (date(2026, 11, 4), date(2026, 10, 1)),  # third working day
        (date(2026, 11, 30), date(2026, 10, 1)),
        (date(2026, 1, 5), date(2025, 11, 1)),
        (date(2026, 1, 6), date(2025, 12, 1)),  # New Year is a holiday
    ],
)
def test_a_month_is_due_from_its_working_day_on(today: date, due: date) -> None:
    settings = Settings(close_working_day=3, holidays=(date(2026, 1, 1),))
    assert watch.month_due(settings, today) == due


def test_nobody_is_reminded_if_no_working_day_is_set() -> None:
    assert watch.month_due(Settings(close_working_day=0), date(2026, 11, 20)) is None


def test_holidays_put_the_working_day_off() -> None:
    first = date(2026, 1, 1)
    assert watch.working_day(first, 1, ()) == date(2026, 1, 1)
    assert watch.working_day(first, 1, {first, date(2026, 1, 2)}) == date(2026, 1, 5)


def test_a_change_of_terms_is_reported_once_and_is_resolved_when_none_is_open(home: Path) -> None:
    changed = {"t:A": "A: percentage 5% → 6%.", "t:B": "B: amount off 7.00 USD → 8.00 USD."}
    first = watch.terms_changed(changed, (), home, NOW)
    assert first.alert is not None
    assert first.alert.happened == "The terms of coupons were changed 2 times"
    assert first.alert.details == tuple(changed.values())
    second = watch.terms_changed(changed, {"t:A"}, home, NOW)
    assert second.alert is not None
    assert second.new == {"t:B"}
    assert list(second.alert.details) == [changed["t:B"]]
    assert watch.terms_changed({}, {"t:A"}, home, NOW).alert is None
