"""What the reading commands say about the future is what the rules will do, and the same everywhere."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from dagster_project.alerts import occasions
from dagster_project.answers import expiring
from dagster_project.answers.summary import summary
from dagster_project.cli import app
from dagster_project.cli.run import tell
from dagster_project.releases import open_release
from dagster_project.settings import Settings
from tests.pipeline import ahead


@pytest.fixture(scope="module")
def home(ahead_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data home with the release of the invented workspaces."""
    home = tmp_path_factory.mktemp("ahead") / "home"
    return Path(shutil.copytree(ahead_home, home, symlinks=True))


def told(home: Path, *arguments: str) -> str:
    """Return the text of an answer, its lines joined."""
    shown = CliRunner().invoke(app, [*arguments, "--home", str(home)])
    assert (shown.exit_code, shown.stderr) == (0, ""), shown.output
    assert max(map(len, shown.stdout.splitlines())) <= 80
    return " ".join(shown.stdout.split())


def data(home: Path, *arguments: str) -> dict[str, Any]:
    """Return the JSON of an answer, amounts as Decimal."""
    shown = CliRunner().invoke(app, [*arguments, "--json", "--home", str(home)])
    assert (shown.exit_code, shown.stderr) == (0, ""), shown.output
    found = json.loads(shown.stdout, object_hook=_with_amounts)
    assert isinstance(found, dict)
    return found


def _with_amounts(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: Decimal(value) if name.endswith("amount") and isinstance(value, str) else value
        for name, value in found.items()
    }


class TestGrantsInAQueue:
    """Once the first of two grants is used up, the second goes on paying."""

    def test_the_bill_rises_only_when_the_second_is_gone(self, home: Path) -> None:
        shown = told(home, "workspace", "ws_queue")
        assert "Next: FIRST-800 is used up on 2026-07-20." in shown
        assert "Next bill, 2026-07: 0.00 USD net (list 120.00, less 120.00 credit)." in shown
        assert (
            "From 2026-12: 120.00 USD net (list 120.00), 0.00 before: SECOND-800 ends on 2026-12-15."
        ) in shown
        assert "once its credit is used up (2026-07-20), the bill does not rise" in shown
        assert "a month, used up" not in shown

    def test_only_what_no_bill_will_use_lapses(self, home: Path) -> None:
        (of_queue,) = (
            one
            for one in data(home, "expiring")["credit_running_out"]
            if one["grant_id"] == "queue-2#1"
        )
        assert of_queue["projected_breakage_amount"] == Decimal("280.00")
        assert of_queue["expected_use_amount"] == Decimal("520.00")
        shown = told(home, "expiring")
        assert re.search(r"queue-1#1 80.00 0.00 USD no rise", shown)
        assert "list" not in shown.partition("Grants")[2].partition("Used up")[0]
        assert "0.00 a month" not in told(home, "burndown", "ws_queue")


class TestYearlyBills:
    """A yearly bill rises once; its monthly rise is a twelfth of that."""

    def test_the_rise_is_of_the_bill_and_of_a_month(self, home: Path) -> None:
        shown = told(home, "workspace", "ws_yearly")
        assert "expect 600.00 USD more a bill, 50.00 USD a month" in shown
        assert "Next bill, 2026-08: 2,400.00 USD net (list 2,400.00), 1,800.00 before" in shown


class TestPromotionsTogether:
    """The rise of a bill is reported for all its promotions together."""

    def test_credit_that_pays_the_rest_keeps_the_bill_as_it_is(self, home: Path) -> None:
        shown = told(home, "workspace", "ws_half")
        assert "when it ends (2026-09-01), the bill does not rise" in shown
        (grant,) = (
            one
            for part in data(home, "burndown", "ws_half")["currencies"]
            for one in part["grants_left"]
        )
        assert grant["projected_breakage_amount"] == Decimal("3600.00")

    def test_a_follow_up_takes_its_share_of_the_rise(self, home: Path) -> None:
        (row,) = (
            one
            for one in data(home, "expiring")["expirations"]
            if one["workspace_id"] == "ws_follow"
        )
        assert (row["monthly_rise_amount"], row["is_followed_up"]) == (Decimal("30.00"), True)
        assert (
            "From 2026-08: 110.00 USD net (list 200.00, less 90.00 discount), 80.00 before: SIXTY"
            " ends on 2026-08-01, then THEN-45 follows."
        ) in told(home, "workspace", "ws_follow")


class TestCouponsOfSoManyBills:
    """A coupon counted in bills ends with a bill, not on a day."""

    def test_the_last_use_is_told(self, home: Path) -> None:
        shown = told(home, "workspace", "ws_bills")
        assert "no end date, 1 bill left" in shown
        assert "Next: THREE-BILLS has its last use on 2026-07-01." in shown
        assert "after its last use (2026-07-01), expect 20.00 USD more a month" in shown

    def test_one_without_a_bill_to_expect_has_a_bill_left(self, home: Path) -> None:
        shown = told(home, "workspace", "ws_once")
        assert "Next: no day is known; ONE-BILL has 1 bill left." in shown
        assert "1 more promotion counted in bills" in told(home, "expiring")


class TestEverywhereTheSame:
    """The totals come first, and every command has the same."""

    def test_run_tells_what_will_lapse_and_what_bills_rise_by(self, home: Path) -> None:
        with open_release(home) as connection:
            found = summary(connection)
        assert [row["projected_breakage_amount"] for row in found["credit_left"]] == [0]
        shown = " ".join(tell({**found, "terms_changed": []}, home, {}).split())
        assert "bills rise by 100.00 USD a month" in shown

    def test_an_alert_says_it_in_the_words_of_run_and_outlook(self, home: Path) -> None:
        settings = Settings(home=home, alert_ahead_days=90)
        now = datetime(2026, 7, 1, 6, tzinfo=UTC)
        alerts = {
            one.message.alert.kind: one.message.alert
            for one in occasions.after_run(settings, "a-run", None, ahead.AS_OF, now)
        }
        alert = alerts["running_out"]
        with open_release(home) as connection:
            said = " ".join(tell({**summary(connection), "terms_changed": []}, home, {}).split())
        assert alert.happened.startswith("Running out by 2026-09-28: 5 promotions on 5 workspaces")
        assert alert.happened in said
        for detail in alert.details:
            workspace_id, _, sentence = detail.partition(": ")
            assert sentence in told(home, "outlook", workspace_id)
            assert sentence in told(home, "workspace", workspace_id)
        assert any(
            detail.startswith("ws_follow: From 2026-08: 110.00 USD net") for detail in alert.details
        )

    def test_an_alert_is_of_what_is_new_and_off_unless_asked_for(self, home: Path) -> None:
        with open_release(home) as connection:
            known = expiring.ahead(connection, 30, ())["redemption_ids"]
            later = expiring.ahead(connection, 90, known)
        assert known and set(later["redemption_ids"]) == {*known, *later["new"]}
        assert (
            later["redemptions"] == len(later["new"]) == len(later["redemption_ids"]) - len(known)
        )
        now = datetime(2026, 7, 1, 6, tzinfo=UTC)
        kinds = [
            one.message.alert.kind
            for one in occasions.after_run(Settings(home=home), "b-run", None, ahead.AS_OF, now)
        ]
        assert "running_out" not in kinds

    def test_ids_may_have_question_marks(self, home: Path, tmp_path: Path) -> None:
        with open_release(home) as connection:
            expected = expiring.ahead(connection, 90, ())
        with duckdb.connect(
            shutil.copyfile(home / "current", tmp_path / "with_question_marks")
        ) as connection:
            connection.execute(
                "update marts.fct_upcoming_expirations set redemption_id = redemption_id || '?'"
            )
            found = expiring.ahead(connection, 90, ())
        assert found["redemption_ids"] == [f"{one}?" for one in expected["redemption_ids"]]
        assert (found["redemptions"], found["rises"]) == (
            expected["redemptions"],
            expected["rises"],
        )

    def test_credit_of_the_first_year_does_not_lapse(self, home: Path) -> None:
        shown = told(home, "expiring")
        assert re.search(r"2026-07-01 .*years-1#1 .*120.00 .*0.00 .*more 2026-08-01", shown)

    def test_the_largest_rise_comes_first_and_totals_are_of_all(self, home: Path) -> None:
        everything = data(home, "expiring")
        cut = data(home, "expiring", "--sort", "amount", "--top", "2")
        assert [one["workspace_id"] for one in cut["expirations"]] == ["ws_half", "ws_queue"]
        assert cut["totals_by_currency"] == everything["totals_by_currency"]
        shown = told(home, "expiring", "--sort", "amount", "--top", "2")
        assert shown.index("In total") < shown.index("Promotions, the largest first, 2 of")

    def test_the_outlook_is_what_the_mart_holds(self, home: Path) -> None:
        (part,) = data(home, "outlook", "ws_queue")["currencies"]
        expected = [row for row in part["months"] if row["is_expected"]]
        assert len(expected) == 12
        assert part["totals_expected"]["credit_amount"] == Decimal("600.00")
        assert part["totals_expected"]["net_amount"] == Decimal("840.00")
        assert part["totals_before"]["list_amount"] == Decimal("720.00")
        (of_all,) = data(home, "outlook")["currencies"]
        (of_program,) = data(home, "outlook", "special")["currencies"]
        assert of_program == of_all
        assert "No bill is expected" in told(home, "outlook", "startup")


class TestMonthEnd:
    """Questions of a month end add up to the marts."""

    def test_a_bridge_leads_from_list_to_what_was_kept(self, home: Path) -> None:
        (part,) = data(home, "bridge", "--month", "2026-06")["currencies"]
        given = sum(
            part[one] for one in ("percent_off_amount", "amount_off_amount", "credit_amount")
        )
        assert part["list_amount"] - given == part["net_amount"]
        assert part["net_amount"] + part["billing_error_amount"] == part["billed_net_amount"]
        assert part["list_amount"] == Decimal("1120.00")
        for name in ("percent_off_amount", "amount_off_amount", "credit_amount"):
            assert sum(row[name] for row in part["programs"]) == part[name]
        assert "special 440.00 0.00 540.00 980.00" in told(
            home, "bridge", "--month", "2026-06", "--by", "program"
        )

    def test_credit_rolls_forward(self, home: Path) -> None:
        found = data(home, "burndown", "--roll-forward")
        assert found["programs"]
        for part in found["programs"]:
            before = part["opening_amount"]
            for row in part["months"]:
                assert row["opening_amount"] == before
                lapsed = row["expired_amount"] + row["forfeited_amount"]
                before += row["granted_amount"] - row["drawn_amount"] - lapsed
                assert row["closing_amount"] == before
        assert "special, USD" in told(home, "burndown", "--roll-forward")

    def test_the_largest_come_with_their_names(self, home: Path) -> None:
        found = data(home, "top", "--top", "1")
        assert [row["workspace_name"] for row in found["rises"]] == ["Half"]
        assert [row["workspace_name"] for row in found["balances"]] == ["Half"]
        assert [row["amount"] for row in found["balances"]] == [Decimal("7800.00")]
        assert "ws_half Half" in told(home, "top", "--top", "1")

    def test_too_early_is_not_gone(self, home: Path) -> None:
        found = {
            (row["start_quarter"], row["age_months"]): row
            for row in data(home, "cohorts", "--program", "special")["cohorts"]
        }
        one = found["2026-01-01", 3]  # ws_half, whose credit pays all, and ws_follow
        assert (one["workspaces"], one["paying"], one["gone"], one["too_early"]) == (2, 1, 1, 0)
        later = found["2026-01-01", 6]
        assert (later["paying"], later["gone"], later["too_early"]) == (0, 0, 2)
        assert all(
            row["paying"] + row["gone"] + row["too_early"] == row["workspaces"]
            for row in found.values()
        )
        assert "too early" in told(home, "cohorts", "--program", "special", "--age", "3")

    def test_a_budget_stands_beside_what_was_given_and_is_expected(self, home: Path) -> None:
        found = {row["budget_month"]: row for row in data(home, "programs", "--budget")["budgets"]}
        june, july = found["2026-06-01"], found["2026-07-01"]
        assert (june["given_amount"], june["expected_amount"]) == (Decimal("980.00"), 0)
        assert june["difference_amount"] == Decimal("20.00")
        assert (july["given_amount"], july["expected_amount"]) == (0, Decimal("980.00"))
        assert july["difference_amount"] == Decimal("-80.00")
        assert found["2026-08-01"]["difference_amount"] is None
        assert "total: the 2 months with a budget" in told(home, "programs", "--budget")
