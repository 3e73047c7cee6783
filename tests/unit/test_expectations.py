"""The suites agree with the definitions of the feeds, and find the violations they are made for and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dagster_project.feeds import feeds
from expectations import CONTRACTS, Finding, ask
from expectations.building import number_name, places, unreadable_fact
from expectations.hints import explanation_of, form_of

CHECKOUT = Path(__file__).resolve().parents[2]

VALID: dict[str, dict[str, str | None]] = {
    "workspaces": {
        "workspace_id": "ws_1",
        "workspace_name": None,
        "owner_user_id": "u_1",
        "created_at": "2026-01-01",
        "updated_at": "2026-01-01T00:00:00.123+02:00",
    },
    "coupons": {
        "coupon_id": "c_1",
        "coupon_name": "Non-profit",
        "program": "non_profit",
        "discount_type": "amount_off",
        "amount_off": "120.00",
        "amount_off_per": "month",
        "currency": "USD",
        "duration": "repeating",
        "duration_months": "12",
        "credit_priority": "-1",
        "percent_off": None,
        "requires_no_prior_coupon": "false",
        "updated_at": "2026-01-01 00:00:00Z",
    },
    "redemptions": {
        "redemption_id": "r_1",
        "coupon_id": "c_1",
        "workspace_id": "ws_1",
        "user_id": "u_1",
        "redeemed_at": "2026-01-01T00:00:00Z",
        "channel": "support",
        "updated_at": "2026-01-01T00:00:00Z",
    },
    "invoices": {
        "invoice_id": "in_1",
        "workspace_id": "ws_1",
        "status": "paid",
        "plan": "team",
        "billing_interval": "month",
        "currency": "USD",
        "period_start": "2026-01-01",
        "period_end": "2026-02-01",
        "issued_at": "2026-01-01T00:00:00Z",
        "list_amount": "120.00",
        "discount_amount": "12.00",
        "credit_amount": "8",
        "tax_amount": "0.5",
        "total_amount": "100.50",
        "mtus": "0",
        "updated_at": "2026-01-01T00:00:00Z",
    },
}
FACTS = {"malformed_rows": 0, "malformed_percent": 0, "repeated_keys": 0}


def frame(feed: str, rows: list[dict[str, str | None]]) -> pd.DataFrame:
    """Rows of text as the gate passes them on, with every number also as an integer."""
    found = pd.DataFrame(rows, columns=list(VALID[feed]), dtype=object)
    for column in feeds()[feed].columns:
        scale = places(column)
        if column.name in found and scale is not None:
            numbers = [_scaled(value, scale) for value in found[column.name]]
            found[number_name(column)] = pd.array(numbers, dtype="Int64")
    return found


def _scaled(value: str | None, scale: int) -> int | None:
    if value is None or not re.fullmatch(r"-?[0-9]+([.][0-9]+)?", value, re.ASCII):
        return None
    return int(Decimal(value).scaleb(scale))


def failures(feed: str, rows: list[dict[str, str | None]], **facts: int) -> dict[str, Finding]:
    """What fails for these rows."""
    findings = ask(CONTRACTS[feed], [frame(feed, rows)], FACTS | facts, is_sample=False)
    return {finding.check_name: finding for finding in findings if not finding.passed}


@pytest.mark.parametrize("feed", list(VALID))
def test_a_valid_batch_passes_everything(feed: str) -> None:
    assert failures(feed, [VALID[feed]] * 30) == {}


@pytest.mark.parametrize("feed", list(VALID))
def test_an_empty_batch_passes_everything(feed: str) -> None:
    assert failures(feed, []) == {}


def test_a_check_that_cannot_be_asked_warns_and_leaves_the_others_alone() -> None:
    broken = frame("invoices", [VALID["invoices"]] * 30).assign(mtus_number=["x"] * 30)
    findings = ask(CONTRACTS["invoices"], [broken], FACTS, is_sample=False)
    [failed] = [finding for finding in findings if not finding.passed]
    assert (failed.check_name, failed.severity) == ("mtus_is_in_range", "warn")
    assert failed.observed.startswith("could not be asked: ")


@pytest.mark.parametrize("feed", list(VALID))
def test_every_check_has_one_name_and_can_be_asked(feed: str) -> None:
    findings = ask(CONTRACTS[feed], [frame(feed, [VALID[feed]] * 30)], FACTS, is_sample=False)
    names = [finding.check_name for finding in findings]
    assert len(names) == len(set(names))
    assert not any("could not be asked" in finding.observed for finding in findings)
    for column in feeds()[feed].columns:
        if column.required:
            assert f"{column.name}_is_given" in names
            assert f"{column.name}_is_mostly_readable" in names
        if column.values and column.name in VALID[feed]:
            assert f"{column.name}_is_readable" in names


VIOLATIONS: list[tuple[str, dict[str, str | None], str]] = [
    ("workspaces", {"workspace_id": None}, "workspace_id_is_given"),
    ("workspaces", {"workspace_id": "a\nb"}, "workspace_id_is_readable"),
    ("workspaces", {"workspace_id": "x" * 201}, "workspace_id_is_readable"),
    ("workspaces", {"created_at": "01.02.2026"}, "created_at_is_readable"),
    ("workspaces", {"created_at": "2026-01-01T00:00:00 GMT"}, "created_at_is_readable"),
    ("coupons", {"program": "Startup"}, "program_is_readable"),
    ("coupons", {"amount_off": "120.001"}, "amount_off_is_readable"),
    ("coupons", {"amount_off": "0"}, "amount_off_is_in_range"),
    ("coupons", {"duration_months": "0"}, "duration_months_is_in_range"),
    ("coupons", {"duration_months": "1.5"}, "duration_months_is_readable"),
    ("coupons", {"duration_months": None}, "repeating_has_one_length"),
    ("coupons", {"duration": "forever"}, "repeating_has_one_length"),
    ("coupons", {"discount_type": "credit"}, "discount_type_has_its_amount_only"),
    ("coupons", {"percent_off": "10"}, "discount_type_has_its_amount_only"),
    ("coupons", {"currency": None}, "amount_has_a_currency"),
    ("coupons", {"currency": "US$"}, "currency_is_readable"),
    ("coupons", {"coupon_id": "7001.0"}, "coupon_id_is_readable"),
    ("coupons", {"coupon_id": "NULL"}, "coupon_id_is_readable"),
    ("coupons", {"requires_no_prior_coupon": "no"}, "requires_no_prior_coupon_is_readable"),
    ("redemptions", {"redemption_id": "r~follow-up"}, "redemption_id_is_not_derived"),
    ("redemptions", {"channel": "mail"}, "channel_is_readable"),
    ("invoices", {"list_amount": "1e3"}, "list_amount_is_readable"),
    ("invoices", {"list_amount": "١٢"}, "list_amount_is_readable"),
    ("invoices", {"list_amount": " 7.00 "}, "list_amount_is_readable"),
    ("invoices", {"discount_amount": "-12.00"}, "discount_amount_is_in_range"),
    ("invoices", {"total_amount": "100.49"}, "invoice_adds_up"),
    ("invoices", {"period_end": "2026-01-01"}, "period_ends_after_it_starts"),
    ("coupons", {"percent_off": "0.9999"}, "percent_off_is_a_percentage_not_a_fraction"),
]


@pytest.mark.parametrize("feed", list(VALID))
def test_violations_are_found_counted_and_refuse_nothing(feed: str) -> None:
    violations = [(change, check) for name, change, check in VIOLATIONS if name == feed]
    rows = [VALID[feed]] * 30 + [VALID[feed] | change for change, _ in violations]
    found = failures(feed, rows)
    assert {finding.severity for finding in found.values()} == {"warn"}
    for check, times in Counter(check for _, check in violations).items():
        assert int(found[check].observed.split()[0]) >= times, check
        assert f" of {len(rows)} rows" in found[check].observed
    assert "nan" not in str(found)


@pytest.mark.parametrize(("feed", "change", "check"), VIOLATIONS[::5])
def test_a_violation_is_found_under_its_name_alone(
    feed: str, change: dict[str, str | None], check: str
) -> None:
    assert list(failures(feed, [VALID[feed]] * 29 + [VALID[feed] | change])) == [check]


@pytest.mark.parametrize(("column", "digits"), [("list_amount", 13), ("total_amount", 14)])
def test_an_amount_has_as_many_digits_as_the_models_accept(column: str, digits: int) -> None:
    rows = [{**VALID["invoices"], column: f"{'9' * many}.99"} for many in (digits, digits + 1)]
    few, many = (failures("invoices", [row]) for row in rows)
    assert f"{column}_is_readable" not in few
    assert f"{column}_is_readable" in many
    assert f"at most {digits} digits" in form_of(feeds()["invoices"].column(column))


@pytest.mark.parametrize(("end", "is_ordered"), [("2025-01-01", False), ("2025-01-02", True)])
def test_a_period_of_days_and_midnights_is_one_of_days(end: str, is_ordered: bool) -> None:
    for midnight in ("", "T00:00:00"):
        period = {"period_start": "2025-01-01", "period_end": end + midnight}
        failed = failures("invoices", [{**VALID["invoices"], **period}])
        assert ("period_ends_after_it_starts" not in failed) == is_ordered


@pytest.mark.parametrize(
    ("interval", "start", "inclusive", "exclusive"),
    [
        ("month", "2025-03-01", "2025-03-31", "2025-04-01"),
        ("month", "2025-01-15", "2025-02-14T00:00:00Z", "2025-02-15T00:00:00Z"),
        ("year", "2025-01-01", "2025-12-31", "2026-01-01"),
    ],
)
def test_periods_that_end_with_their_last_day_are_told_where_most_do(
    interval: str, start: str, inclusive: str, exclusive: str
) -> None:
    """Dollar-off per month counts one month less of such a period, which no other check notices."""
    right = VALID["invoices"] | {
        "billing_interval": interval, "period_start": start, "period_end": exclusive
    }  # fmt: skip
    wrong = right | {"period_end": inclusive}
    by_day = wrong | {"billing_interval": "day"}
    unreadable = right | {"period_end": "soon"}
    check = "period_end_is_exclusive"
    clamped = right | {"period_start": "2024-02-29", "period_end": "2025-02-28"}
    found = failures("invoices", [right] * 14 + [wrong] * 16 + [by_day] * 40)[check]
    assert found.severity == "warn"
    assert found.observed.startswith("inclusive end: 54%; deliver the day after")
    assert check not in failures("invoices", [right] * 15 + [wrong] * 15)
    assert check not in failures("invoices", [wrong] * 19)
    assert check not in failures("invoices", [wrong] * 19 + [by_day] * 40)
    assert check in failures("invoices", [wrong] * 20)
    assert check not in failures("invoices", [by_day] * 30)
    assert check not in failures("invoices", [clamped] * 30)
    assert check not in failures("invoices", [unreadable] * 3 + [right] * 30)


def test_a_percentage_from_one_on_is_no_fraction() -> None:
    check = "percent_off_is_a_percentage_not_a_fraction"
    coupon = VALID["coupons"] | {"discount_type": "percent_off", "amount_off": None}
    assert failures("coupons", [coupon | {"percent_off": "1"}] * 3) == {}
    found = failures("coupons", [coupon | {"percent_off": "0.2"}, coupon | {"percent_off": "20"}])
    assert found.keys() == {check}
    assert found[check].observed.startswith("1 of 2 rows")
    assert check not in failures(
        "coupons", [coupon | {"percent_off": text} for text in ("0", "-1")]
    )


def test_facts_out_of_bounds_are_found() -> None:
    facts = {
        "malformed_rows": 1,
        "malformed_percent": 51,
        "repeated_keys": 1,
        "rows_percent_of_usual": 49,
        "workspace_id_unknown_percent": 6,
        "list_amount_percent_of_usual": 201,
    }
    found = failures("invoices", [VALID["invoices"]] * 30, **facts)
    assert {name: finding.severity for name, finding in found.items()} == {
        "no_record_is_malformed": "warn",
        "records_have_all_fields": "error",
        "invoice_id_is_unique_in_the_file": "warn",
        "row_count_is_as_usual": "warn",
        "workspace_id_is_mostly_known": "warn",
        "average_list_amount_is_as_usual": "warn",
    }


def test_facts_at_their_bounds_are_not() -> None:
    facts = {
        "malformed_percent": 50,
        "rows_percent_of_usual": 50,
        "workspace_id_unknown_percent": 5,
        "list_amount_percent_of_usual": 200,
    }
    assert failures("invoices", [VALID["invoices"]] * 30, **facts) == {}


def test_a_column_unreadable_in_more_than_half_of_the_rows_refuses_the_file() -> None:
    bad = VALID["invoices"] | {"issued_at": "soon"}
    check = "issued_at_is_mostly_readable"
    assert failures("invoices", [VALID["invoices"]] * 9 + [bad] * 21)[check].severity == "error"
    assert check not in failures("invoices", [VALID["invoices"]] * 15 + [bad] * 15)
    assert check not in failures("invoices", [bad] * 19)


def test_a_missing_required_column_refuses_the_file() -> None:
    rows = frame("invoices", [VALID["invoices"]] * 30).drop(columns="plan")
    findings = ask(CONTRACTS["invoices"], [rows], FACTS, is_sample=False)
    (failed,) = (finding for finding in findings if not finding.passed)
    assert (failed.check_name, failed.severity) == ("required_columns_are_present", "error")


def test_frames_are_added_up() -> None:
    bad = VALID["invoices"] | {"status": "payed"}
    frames = [frame("invoices", [VALID["invoices"]] * 20 + [bad]) for _ in range(3)]
    findings = ask(CONTRACTS["invoices"], frames, FACTS, is_sample=True)
    (failed,) = (finding for finding in findings if not finding.passed)
    assert failed.observed == "3 of 63 sampled rows, such as 'payed'"


def test_personal_values_are_never_shown() -> None:
    found = failures("workspaces", [VALID["workspaces"] | {"owner_user_id": "se\ncret"}] * 2)
    assert found["owner_user_id_is_readable"].observed == "2 of 2 rows"


def test_the_names_of_facts_come_from_the_feed() -> None:
    suite: Any = CONTRACTS["invoices"].facts_suite([unreadable_fact("invoice_id")])
    assert [expectation.column for expectation in suite.expectations] == [
        "invoice_id_unreadable_percent"
    ]


def test_nothing_is_sent_shown_or_left_behind(tmp_path: Path) -> None:
    script = (
        "import sys, pandas as pd\n"
        "from expectations import CONTRACTS, ask\n"
        "import os; assert os.environ['GX_ANALYTICS_ENABLED'] == 'false'\n"
        "rows = pd.DataFrame({'workspace_id': ['a'], 'created_at': ['b'], 'updated_at': ['c']})\n"
        "facts = {'malformed_rows': 0, 'malformed_percent': 0, 'repeated_keys': 0}\n"
        "ask(CONTRACTS['workspaces'], [rows], facts, is_sample=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:great_expectations", "-c", script],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env={**os.environ, "TMPDIR": str(tmp_path), "GX_ANALYTICS_ENABLED": "true"},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


HOSTILE = [
    "",
    " ",
    "\0",
    "\n",
    "'",
    "%s",
    "(",
    "\\",
    "NaN",
    "nan",
    "None",
    "1e999",
    "١٢",
    "🎉",
    "x" * 9_999,
]


@pytest.mark.parametrize("feed", list(VALID))
def test_any_text_can_be_asked(feed: str) -> None:
    rows: list[dict[str, str | None]] = [dict.fromkeys(VALID[feed], text) for text in HOSTILE]
    findings = ask(CONTRACTS[feed], [frame(feed, rows)], FACTS, is_sample=False)
    assert not any("could not be asked" in finding.observed for finding in findings)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("issued_at", "1735689600", "a number since an epoch"),
        ("issued_at", "45658.5", "the day number of a spreadsheet"),
        ("period_start", "45658", "the day number of a spreadsheet"),
        ("period_start", "01/02/2025", "day and month are ambiguous"),
        ("period_start", "31-Jan-2025", "the name of a month"),
        ("issued_at", "3mar2025", "the name of a month"),
        ("period_start", "2025-01", "write its first day"),
        ("issued_at", "2025-01-31 01:00:00 PM", "hours from 0 to 23"),
        ("list_amount", "120,00", "a decimal comma"),
        ("list_amount", "1,234.50", "thousands separators"),
        ("list_amount", "1.234,50", "a decimal comma"),
        ("list_amount", "1\u2009234.50", "thousands separators"),
        ("list_amount", "1'234", "thousands separators"),
        ("list_amount", "1.00E+2", "an exponent"),
        ("list_amount", "+5", "write no plus"),
        ("list_amount", "(5.00)", "a minus before the first digit"),
        ("list_amount", "5.00-", "a minus before the first digit"),
        ("discount_amount", "(5.00)", "never below zero here: write the digits alone"),
        ("credit_amount", " - ", "write 0"),
        ("list_amount", ".5", "a digit before and after the point"),
        ("list_amount", "12.", "a digit before and after the point"),
        ("list_amount", "5.00\xa0", "blanks around it"),
        ("list_amount", "$5", "a currency sign"),
        ("status", " paid", "blanks around it"),
        ("status", "Paid", "in small letters"),
        ("billing_interval", "quarterly", "3 as interval_count"),
        ("list_amount", "20%", "a percent sign"),
        ("mtus", "10.5", "it has places"),
        ("mtus", "NA", "a word for a missing value"),
        ("invoice_id", "7.0", "went through a float"),
        ("list_amount", "free", None),
    ],
)
def test_what_a_value_looks_like_is_reported_beside_the_expected_form(
    name: str, value: str, told: str | None
) -> None:
    (column,) = (one for one in feeds()["invoices"].columns if one.name == name)
    explained = explanation_of(column, value)
    assert explained.startswith(f"expected: {form_of(column)}")
    assert explained == f"expected: {form_of(column)}" if told is None else told in explained
