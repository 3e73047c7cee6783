"""What a feed's check reports about its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from dagster_project.arrival import DeliveryReport, GateResult
from dagster_project.cli.run import _checks
from dagster_project.defs.ingestion import gate_result, must_have_come, outcome
from dagster_project.defs.tables import Deliveries
from dagster_project.releases.errors import ReleaseError

KEY = dg.AssetKey(["billing", "invoices"])
BROKEN = GateResult("invoice_adds_up", "warn", False, "3 of 100 rows")


def report(verdict: str, *failures: GateResult) -> DeliveryReport:
    return DeliveryReport("invoices", "invoices/a.csv", "d", verdict, gate_failures=failures)  # type: ignore[arg-type]


def test_files_that_hold_everything_pass() -> None:
    assert gate_result(KEY, [report("loaded")]).passed
    assert gate_result(KEY, []).passed


def test_a_broken_expectation_warns_and_says_which() -> None:
    result = gate_result(KEY, [report("loaded", BROKEN)])
    assert not result.passed
    assert result.severity == dg.AssetCheckSeverity.WARN
    assert "invoice_adds_up" in str(result.metadata["details"].value)


def test_a_refused_file_is_an_error() -> None:
    result = gate_result(KEY, [report("loaded"), report("refused")])
    assert not result.passed
    assert result.severity == dg.AssetCheckSeverity.ERROR


def test_a_file_known_before_is_not_held_against_the_feed_again() -> None:
    assert gate_result(KEY, [report("known", BROKEN)]).passed


def test_what_arrived_is_counted_in_words() -> None:
    assert outcome([]) == "0 files, 0 new with 0 rows"
    assert outcome([replace(report("loaded"), physical_rows=1)]) == "1 file, 1 new with 1 row"
    many = [replace(report("loaded"), physical_rows=1_000), report("known"), report("refused")]
    assert outcome(many) == "3 files, 1 new with 1,000 rows, 1 REFUSED"


def test_a_check_that_two_feeds_do_not_pass_is_reported_with_each_feed() -> None:
    failed = {"name": "workspace_id_is_mostly_known", "failures": 1, "unit": "file"}
    rows = {"name": "assert_no_debt", "failures": 2, "unit": "row", "feed": None}
    of_feeds = [{**failed, "feed": feed} for feed in ("invoices", "redemptions")]
    data = {"checks_not_passed": [*of_feeds, rows], "checks": 9, "checks_standing": 0}
    told = [" ".join(line.split()) for line in _checks(data)]
    assert told[2:] == [
        "workspace_id_is_mostly_known 1 file of invoices",
        "workspace_id_is_mostly_known 1 file of redemptions",
        "assert_no_debt 2 rows",
        "`coupon-ledger deliveries` names the files and what was found in each",
    ]
    only_rows = {**data, "checks_not_passed": [rows]}
    assert "deliveries" not in " ".join(_checks(only_rows))


class TestNothingToRefreshFrom:
    """A landing folder without a delivery is a mistake, unless some were loaded before."""

    LANDING = Path("/srv/drop")

    def test_an_empty_folder_is_reported_with_the_place_searched(self) -> None:
        with pytest.raises(ReleaseError) as caught:
            must_have_come(self.LANDING, [], {})
        assert "invoices/, credit_notes/ or budgets/ of /srv/drop" in str(caught.value)
        assert "--landing" in caught.value.remedy

    def test_files_elsewhere_are_reported(self) -> None:
        elsewhere = DeliveryReport("", "invoices.csv", "d", "refused")
        with pytest.raises(ReleaseError, match=r"1 file is elsewhere .* invoices\.csv"):
            must_have_come(self.LANDING, [elsewhere], {})

    def test_a_file_in_a_feeds_folder_or_loaded_before_is_enough(self) -> None:
        must_have_come(self.LANDING, [report("refused")], {})
        must_have_come(self.LANDING, [], {"invoices": Deliveries(1, ("invoices/a.csv",))})
