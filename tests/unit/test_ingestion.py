"""What a feed's check says of its files."""

from __future__ import annotations

import dagster as dg

from dagster_project.arrival import DeliveryReport, GateResult
from dagster_project.defs.ingestion import gate_result

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
