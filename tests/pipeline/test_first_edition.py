"""Data of the first edition of the contract gives the marts it gave in 0.4.0, except where a rule changed.

The data are the committed sample without the files of its showcase. Version 0.4.0 was run on them once,
and `tests/fixtures/first_edition/totals-0.4.0.csv` keeps what its marts add up to: rows and sums by mart,
currency (findings: by type) and column. Each difference is named here with its reason.
"""

from __future__ import annotations

import csv
import shutil
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from dagster_project.arrival import arrive
from dagster_project.refresh import acceptances
from dagster_project.settings import CHECKOUT
from tests.dbt.compiled import CompiledModels
from tests.pipeline.conftest import LAST_DAY

KEPT = CHECKOUT / "tests" / "fixtures" / "first_edition" / "totals-0.4.0.csv"
SAMPLE = CHECKOUT / "data" / "sample" / "landing"
VARIANCE = "fct_percent_off_variance_monthly"
REWRITTEN = "fct_upcoming_expirations"
"""The outlook (R12) is now calculated by other rules, from other expected bills."""

Totals = dict[tuple[str, str, str], Decimal]


def kept_totals() -> Totals:
    """The totals of 0.4.0 by mart, currency or type of finding, and column."""
    with KEPT.open(encoding="utf-8", newline="") as file:
        return {
            (row["mart"], row["part"], row["column"]): Decimal(row["total"])
            for row in csv.DictReader(file)
        }


def totals_of(connection: duckdb.DuckDBPyConnection) -> Totals:
    """Rows of every mart and sums of its amounts, by currency or type of finding."""
    columns: dict[str, dict[str, str]] = defaultdict(dict)
    for mart, column, kind in connection.execute(
        "select table_name, column_name, data_type from duckdb_columns() where schema_name = 'marts'"
    ).fetchall():
        columns[mart][column] = kind
    totals: Totals = {}
    for mart, kinds in columns.items():
        part = "finding_type" if "finding_type" in kinds else "currency"
        by = f"coalesce({part}, '')" if part in kinds else "''"
        amounts = sorted(name for name, kind in kinds.items() if kind == "DECIMAL(18,2)")
        sums = ["count(*)", *(f"coalesce(sum({name}), 0)" for name in amounts)]
        for key, *values in connection.execute(
            f"select {by}, {', '.join(sums)} from marts.{mart} group by 1"
        ).fetchall():
            for name, value in zip(("rows", *amounts), values, strict=True):
                totals[mart, key, name] = Decimal(value)
    return totals


@pytest.fixture(scope="module")
def totals(compiled_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Totals:
    """The totals by the current models."""
    folder = tmp_path_factory.mktemp("first-edition")
    landing, home = folder / "landing", folder / "home"
    for feed in ("workspaces", "coupons", "redemptions", "invoices"):
        shutil.copytree(SAMPLE / feed, landing / feed, ignore=shutil.ignore_patterns("*showcase*"))
    reports = arrive(landing, home, "test", datetime(2026, 1, 1, tzinfo=UTC))
    assert {report.verdict for report in reports} == {"loaded"}
    compiled = CompiledModels(compiled_folder, LAST_DAY)
    with duckdb.connect(str(home / "build" / "warehouse.duckdb")) as connection:
        acceptances.load(connection, home / "accepted_findings.csv")
        compiled.build(connection)
        return totals_of(connection)


def test_the_totals_are_those_of_0_4_0_but_where_a_rule_changed(totals: Totals) -> None:
    kept = kept_totals()
    known = {(mart, column) for mart, _, column in kept if mart != REWRITTEN}
    assert len(known) > 50
    compared = {key for key in kept.keys() | totals.keys() if (key[0], key[2]) in known}
    differing = {key for key in compared if kept.get(key, 0) != totals.get(key, 0)}
    assert {(mart, column) for mart, _, column in differing} == {
        # R10: a promotion's first covered month is a start, though it was in force before; a coupon
        # limited to bills ends with its last use. Both were effects of bills.
        (VARIANCE, "start_effect_amount"),
        (VARIANCE, "bill_effect_amount"),
        (VARIANCE, "end_effect_amount"),
        # A new finding: the terms of a redeemed coupon were edited.
        ("fct_audit_findings", "rows"),
    }


def test_what_starts_and_ends_took_over_is_what_bills_gave_up(totals: Totals) -> None:
    kept = kept_totals()
    currencies = {part for mart, part, _ in kept if mart == VARIANCE}
    assert currencies == {"USD", "EUR", "GBP", "JPY"}
    for currency in currencies:
        moved = {
            name: totals[VARIANCE, currency, f"{name}_effect_amount"]
            - kept[VARIANCE, currency, f"{name}_effect_amount"]
            for name in ("start", "bill", "rate", "end")
        }
        assert sum(moved.values()) == moved["rate"] == 0
        assert moved["start"] >= 0 >= moved["end"]


def test_the_only_new_finding_is_the_closing_date_of_the_startup_program(totals: Totals) -> None:
    kept = kept_totals()
    found = {
        part: total
        for (mart, part, column), total in totals.items()
        if (mart, column) == ("fct_audit_findings", "rows")
    }
    was = {
        part: total
        for (mart, part, column), total in kept.items()
        if (mart, column) == ("fct_audit_findings", "rows")
    }
    assert found == was | {"coupon_terms_changed": 1}


def test_the_outlook_lists_other_redemptions(totals: Totals) -> None:
    listed = {
        name: sum(
            total
            for (mart, _, column), total in of.items()
            if (mart, column) == (REWRITTEN, "rows")
        )
        for name, of in (("0.4.0", kept_totals()), ("now", totals))
    }
    # Six of the nine were exhausted: nothing of them is left to run out, only their windows are open.
    assert listed == {"0.4.0": 9, "now": 3}
