"""What a delivered text becomes: a typed value, or a rejected row with every reason that applies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path

import duckdb
import pytest

from dagster_project.feeds import feeds
from tests.dbt.compiled import CompiledModels, manifest
from tests.dbt.warehouse import dbt, fill_raw

INVOICE = {
    "invoice_id": "i", "workspace_id": "w", "status": "paid", "plan": "team",
    "billing_interval": "month", "currency": "USD", "period_start": "2025-01-01",
    "period_end": "2025-02-01", "issued_at": "2025-01-01T00:00:00Z", "list_amount": "120.00",
    "discount_amount": "0.00", "credit_amount": "0.00", "tax_amount": "0.00",
    "total_amount": "120.00", "mtus": "5", "updated_at": "2025-01-01T00:00:00Z",
}  # fmt: skip
COUPON = {
    "coupon_id": "c", "coupon_name": "C", "program": "special", "discount_type": "percent_off",
    "percent_off": "20", "duration": "forever", "updated_at": "2025-01-01T00:00:00Z",
}  # fmt: skip
REDEMPTION = {
    "redemption_id": "r", "coupon_id": "c", "workspace_id": "w",
    "redeemed_at": "2025-01-01T00:00:00Z", "updated_at": "2025-01-01T00:00:00Z",
}  # fmt: skip
WORKSPACE = {
    "workspace_id": "w", "created_at": "2025-01-01", "updated_at": "2025-01-01T00:00:00Z",
}  # fmt: skip
CREDIT_NOTE = {
    "credit_note_id": "n", "invoice_id": "i", "status": "issued", "currency": "USD", "amount": "5.00",
    "issued_at": "2025-01-01T00:00:00Z", "updated_at": "2025-01-01T00:00:00Z",
}  # fmt: skip
BUDGET = {
    "program": "special", "currency": "USD", "month": "2025-01-01", "amount": "5000.00",
    "updated_at": "2025-01-01T00:00:00Z",
}  # fmt: skip
VALID = {
    "invoices": INVOICE,
    "coupons": COUPON,
    "redemptions": REDEMPTION,
    "workspaces": WORKSPACE,
    "credit_notes": CREDIT_NOTE,
    "budgets": BUDGET,
}

AMOUNT = (
    "is not an amount like 120.00 with at most 13 digits before the point and no more places than its"
    " currency"
)
MOST = "9" * 18
INSTANT = "is not an ISO 8601 instant such as 2025-01-02T00:00:00Z"
WORD = (
    "is a word for a missing value (NULL, NA, NaN, None, nan), which is delivered as an empty one"
)
FLOAT = (
    "is a number ending in .0: a whole number went through a float on its way, so export it as text"
    " or as an integer"
)
ABOVE_LIST = "is above list_amount, or above 0 where list_amount is below 0"
WHOLE = "is not a whole number of at most 18 digits"

NOT_SHOWN = "(not shown: it has control characters)"

Case = tuple[str, dict[str, str], str | None]

CASES: Sequence[Case] = [
    (feed, {}, None) for feed in VALID
] + [
    ("invoices", {"list_amount": text}, f"list_amount {AMOUNT}")
    for text in ("1e3", "1,000.00", "$5", " 7.00 ", "7.001", "7.0010", "7.000.00", "1e+05", "١٢", "Infinity", "+7.00", ".5", "7.", "--7", "0x10", "10000000000000.00")
] + [
    ("invoices", {"list_amount": text}, None) for text in ("0", "-0.00", "7", "7.5", "007.50", "9999999999999.99", "7.5000", "7.000000000000000000000", "9999999999999.990")
] + [
    ("invoices", {"list_amount": "-0.01"}, None),
    ("invoices", {"list_amount": "-120.00", "tax_amount": "-24.00"}, None),
    ("invoices", {"list_amount": "0.00", "tax_amount": "-0.01"}, "tax_amount is below 0 where list_amount is not"),
    ("invoices", {"discountable_amount": "120.00"}, None),
    ("invoices", {"discountable_amount": "120.01"}, f"discountable_amount {ABOVE_LIST}"),
    ("invoices", {"discountable_amount": "-0.01"}, "discountable_amount is below 0"),
    ("invoices", {"list_amount": "-5.00", "discountable_amount": "0.00"}, None),
    ("invoices", {"list_amount": "-5.00", "discountable_amount": "0.01"}, f"discountable_amount {ABOVE_LIST}"),
    ("invoices", {"list_amount": "1e3", "discountable_amount": "120.00"}, f"list_amount {AMOUNT}"),
    ("invoices", {"list_amount": "", "discountable_amount": "120.00"}, "list_amount is missing"),
    ("invoices", {"creditable_amount": "500.00"}, None),
    ("invoices", {"creditable_amount": "-0.01"}, "creditable_amount is below 0"),
    ("invoices", {"billing_interval": "once"}, None),
    ("invoices", {"billing_interval": "quarter"}, "billing_interval is not one of month, year, day, week, once"),
    ("invoices", {"interval_count": "3"}, None),
    ("invoices", {"interval_count": "0"}, "interval_count is below 1"),
    ("invoices", {"invoice_id": "i~expected-0001"}, "invoice_id contains ~expected-, which is reserved for expected bills"),
    ("invoices", {"invoice_id": "i~expected"}, None),
    ("coupons", {"once_per": "subscription"}, None),
    ("coupons", {"once_per": "invoice"}, "once_per is not one of user, workspace, subscription, unlimited"),
    ("redemptions", {"subscription_id": "s" * 201}, "subscription_id is longer than 200 characters"),
    ("credit_notes", {"amount": "0.00"}, "amount is not above 0"),
    ("credit_notes", {"tax_amount": "-0.01"}, "tax_amount is below 0"),
    ("credit_notes", {"status": "draft"}, "status is not one of issued, void"),
    ("credit_notes", {"currency": "JPY", "amount": "5"}, None),
    ("budgets", {"month": "2025-01-02"}, "month is not the first day of a month"),
    ("budgets", {"program": "partner"}, "program is not one of startup, accelerator, non_profit, special"),
    ("budgets", {"amount": "0"}, None),
    ("budgets", {"amount": "-0.01"}, "amount is below 0"),
    ("invoices", {"discount_amount": "-0.01"}, "discount_amount is below 0"),
    ("invoices", {"total_amount": "-0.01"}, None),
    ("invoices", {"currency": "JPY", "list_amount": "120"}, None),
    ("invoices", {"currency": "KWD", "list_amount": "120.000"}, "currency is not supported: only currencies with 0 or 2 decimal places are"),
    ("invoices", {"currency": "JPY", "list_amount": "1234567.00", **dict.fromkeys(("discount_amount", "credit_amount", "tax_amount"), "0.0"), "total_amount": "1234567.000000"}, None),
    ("invoices", {"currency": "JPY", "list_amount": "1234567.50", **dict.fromkeys(("discount_amount", "credit_amount", "tax_amount"), "0"), "total_amount": "1234567"}, f"list_amount {AMOUNT}"),
    ("invoices", {"currency": "JPY", "list_amount": "1234567.", **dict.fromkeys(("discount_amount", "credit_amount", "tax_amount"), "0"), "total_amount": "1234567"}, f"list_amount {AMOUNT}"),
    ("invoices", {"currency": "usd"}, None),
    ("invoices", {"currency": "Eur"}, None),
    ("invoices", {"currency": "EURO"}, "currency is not an ISO 4217 currency"),
    # In capitals, these are USD and INR, and on Spark SSP.
    ("invoices", {"currency": "u\u017fd"}, "currency is not an ISO 4217 currency"),
    ("invoices", {"currency": "\u0131nr"}, "currency is not an ISO 4217 currency"),
    ("invoices", {"currency": "\u00dfp"}, "currency is not an ISO 4217 currency"),
    ("invoices", {"currency": "byr", "list_amount": "5.0", "discount_amount": "0", "credit_amount": "0", "tax_amount": "0", "total_amount": "5"}, None),
    ("invoices", {"currency": "", "mtus": "-1"}, "currency is missing; mtus is below 0"),
    ("invoices", {"mtus": "5.0"}, None),
    ("invoices", {"mtus": "5."}, None),
    ("invoices", {"mtus": "5.01"}, f"mtus {WHOLE}"),
    ("invoices", {"mtus": "5e3"}, f"mtus {WHOLE}"),
    ("invoices", {"mtus": ".0"}, f"mtus {WHOLE}"),
    ("invoices", {"mtus": "999999999999999999"}, None),
    ("invoices", {"mtus": "1000000000000000000"}, f"mtus {WHOLE}"),
    ("invoices", {"currency": "XCG"}, None),
    ("invoices", {"currency": "XAD"}, None),
    ("invoices", {"total_amount": "-99999999999999.99"}, None),
    ("invoices", {"total_amount": "100000000000000.00"}, f"total_amount {AMOUNT.replace('13', '14')}"),
    ("invoices", {"period_start": "0001-01-01"}, None),
    ("invoices", {"period_start": "0000-12-31"}, "period_start is before the year 1"),
    ("invoices", {"issued_at": "0001-01-01T00:00:00Z"}, None),
    ("invoices", {"issued_at": "0001-01-01T00:00:00+00:01"}, "issued_at is before the year 1 in UTC"),
    ("redemptions", {"ends_at": "9999-12-31T23:59:59.999999Z"}, None),
    ("redemptions", {"ends_at": "9999-12-31T23:59:59-05:00"}, "ends_at is after the year 9999 in UTC"),
    ("invoices", {"status": "Paid"}, "status is not one of draft, open, paid, void, uncollectible"),
    ("invoices", {"period_end": "2025-01-01"}, "period_end is not after period_start"),
    ("invoices", {"period_end": "2025-01-02"}, None),
    ("invoices", {"period_end": "2025-02-30"}, "period_end is not a date YYYY-MM-DD"),
    ("invoices", {"period_end": "2025-02-01T00:00:00.000000Z"}, "period_end is not a date YYYY-MM-DD"),
    ("invoices", {"period_end": "2025-02-01 00:00:01"}, "period_end is not a date YYYY-MM-DD"),
    ("invoices", {"period_end": "20250201"}, "period_end is not a date YYYY-MM-DD"),
    ("invoices", {"invoice_id": "i" * 200}, None),
    ("invoices", {"invoice_id": "i" * 201}, "invoice_id is longer than 200 characters"),
    ("invoices", {"invoice_id": "i\u0007"}, "invoice_id has control characters"),
    ("invoices", {"invoice_id": "i\u0085"}, "invoice_id has control characters"),
    ("invoices", {"plan": "team\n'; drop table x; --"}, None),
    ("invoices", {"workspace_id": "", "issued_at": ""}, "workspace_id is missing; issued_at is missing"),
] + [
    ("invoices", {"issued_at": text}, None)
    for text in ("2025-01-01T00:00:00+02:00", "2025-01-01T00:00:00+02", "2025-01-01T00:00+02:00", "2025-01-01T00:00", "2025-01-01 00:00:00", "2025-01-01T00:00:00.123456Z", "2025-01-01T00:00:00-0530", "2025-01-01T00:00:00+14:00", "2025-01-01T00:00Z", "2025-01-01", "2025-01-01 00:00:00 UTC", "2025-01-01 00:00:00 +0000", "2025-01-01 9:05:07+00", "2025-01-01T9:05Z", "2025-01-01 9:05 +02:00", "2025-01-01 00:00:00.1234567 +00:00", "2025-01-01 00:00:00UTC", "2025-01-01 00:00:00 Z")
] + [
    ("invoices", {"period_end": text}, None)
    for text in ("2025-02-01 00:00:00", "2025-02-01T00:00", "2025-02-01T00:00:00.000", "2025-02-01 0:00:00", "2025-02-01 00:00:00.000000000")
] + [
    (feed, {column: word}, f"{column} {WORD}")
    for word, feed, column in (("NULL", "workspaces", "owner_user_id"), ("NA", "invoices", "mtus"), ("nan", "coupons", "percent_off"), ("NaN", "invoices", "list_amount"), ("None", "redemptions", "ends_at"), ("NULL", "redemptions", "channel"), ("NA", "invoices", "currency"), ("None", "coupons", "requires_no_prior_coupon"), ("nan", "invoices", "period_start"))
] + [
    ("invoices", {"invoice_id": word}, None) for word in ("null", "NULLA", "N/A", "none", "NAN", "1.5", "v1.0", "1.0a", "70000001")
] + [
    ("workspaces", {"workspace_name": word}, None) for word in ("NULL", "NA", "70000001.0")
] + [
    ("workspaces", {"owner_user_id": text}, f"owner_user_id {FLOAT}") for text in ("70000001.0", "-5.0", "0.00")
] + [
    ("coupons", {"requires_no_prior_coupon": text}, None) for text in ("true", "FALSE", "t", "F", "1", "0", "True")
] + [
    ("coupons", {"requires_no_prior_coupon": text}, "requires_no_prior_coupon is not true or false") for text in ("yes", "1.0", "2", " t")
] + [
    ("invoices", {"issued_at": text}, f"issued_at {INSTANT}")
    for text in ("2025-01-01T24:00:00Z", "2025-02-29T00:00:00Z", "2025-01-01T00:60:00Z", "2025-01-01T00:00:00+15:00", "2025-01-01T00:00:00+05:60", "01/02/2025", "1735689600", "now", "infinity", "2025-01-01T00:00:00 Europe/Berlin", "2025-01-01T00:00:00  UTC", "2025-01-01 :00:00Z", "2025-01-01T00:00:00 GMT", "1735689600000", "2025-01-01t00:00:00z")
] + [
    ("coupons", {"percent_off": "0"}, "percent_off is not above 0"),
    ("coupons", {"percent_off": "0.0001"}, None),
    ("coupons", {"percent_off": "100"}, None),
    ("coupons", {"percent_off": "33.333300"}, None),
    ("coupons", {"percent_off": "100.0001"}, "percent_off is above 100"),
    ("coupons", {"percent_off": "33.33333"}, "percent_off is not a decimal with at most 9 digits before the point and 4 after it"),
    ("coupons", {"percent_off": "", "amount_off": "5.00", "currency": "USD"}, "discount_type percent_off takes percent_off and no other amount"),
    ("coupons", {"discount_type": "amount_off", "percent_off": "", "amount_off": "5.00"}, "currency is missing, amount_off and credit need one"),
    ("coupons", {"discount_type": "amount_off", "percent_off": "", "amount_off": "0.00", "currency": "USD"}, "amount_off is not above 0"),
    ("coupons", {"discount_type": "credit", "percent_off": "", "credit_amount": "5.00", "currency": "USD"}, None),
    ("coupons", {"credit_period_months": "1200", "credit_max_periods": "10"}, None),
    ("coupons", {"credit_period_months": "1200", "credit_max_periods": "11"}, "credit_period_months times credit_max_periods is above 12000"),
    ("coupons", {"credit_period_months": MOST, "credit_max_periods": MOST}, "credit_period_months is above 1200; credit_max_periods is above 1200; credit_period_months times credit_max_periods is above 12000"),
    ("coupons", {"credit_period_months": MOST, "credit_max_periods": f"-{MOST}"}, "credit_period_months is above 1200; credit_max_periods is below 1"),
    ("coupons", {"duration": "repeating"}, "duration repeating takes exactly one of duration_months and duration_invoices"),
    ("coupons", {"duration": "repeating", "duration_months": "1", "duration_invoices": "1"}, "duration repeating takes exactly one of duration_months and duration_invoices"),
    ("coupons", {"duration": "repeating", "duration_months": "1"}, None),
    ("coupons", {"duration": "once", "duration_months": "1"}, "duration_months and duration_invoices are only for duration repeating"),
    ("coupons", {"duration": "repeating", "duration_months": "0"}, "duration_months is below 1"),
    ("coupons", {"duration": "repeating", "duration_months": "1201"}, "duration_months is above 1200"),
    ("redemptions", {"redemption_id": "r~follow-up"}, "redemption_id ends in ~follow-up, which is reserved for derived redemptions"),
    ("redemptions", {"redemption_id": "r~follow-up2"}, None),
    ("redemptions", {"application_order": "-3"}, None),
    ("redemptions", {"channel": "fax"}, "channel is not one of self_serve, support, partner, follow_up"),
    ("workspaces", {"created_at": "yesterday"}, f"created_at {INSTANT}"),
]  # fmt: skip


RECORDS: Sequence[tuple[str, dict[str, str], Mapping[str, str | None]]] = [
    (feed, {column: f"x{character}SECRET", rejected: "odd"}, {column: NOT_SHOWN, rejected: "odd"})
    for feed, column, character, rejected in (
        ("redemptions", "coupon_id", "\n", "channel"),
        ("redemptions", "revoked_at", "\r\n", "channel"),
        ("redemptions", "application_order", "\t", "channel"),
        ("workspaces", "workspace_name", "\n", "created_at"),
        ("coupons", "coupon_name", "\u0085", "percent_off"),
        ("invoices", "list_amount", "\x1f", "mtus"),
        ("invoices", "currency", "\x7f", "mtus"),
    )
] + [
    ("redemptions", {"user_id": "SECRET", "channel": "é, \"ü\""}, {"channel": "é, \"ü\"", "starts_at": None}),
]  # fmt: skip


@pytest.fixture(scope="module")
def reasons(compiled: CompiledModels) -> dict[int, str | None]:
    """The reasons of every case by its number; each case is a delivery of its own."""
    cases = [{feed: [{**VALID[feed], **changes}]} for feed, changes, _ in CASES]
    with compiled.built(cases) as connection:
        rows = connection.execute(
            "select cast(substring(delivery_id, 2) as integer), reasons"
            " from staging.stg_billing__rejected_rows"
        ).fetchall()
    rejected = {(sequence - 1) // len(feeds()): text for sequence, text in rows}
    return {number: rejected.get(number) for number in range(len(CASES))}


@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=[f"{feed}-{changes}"[:70] for feed, changes, _ in CASES]
)
def test_a_row_is_accepted_or_rejected_for_the_right_reason(
    reasons: dict[int, str | None], number: int
) -> None:
    expected = CASES[number][2]
    assert reasons[number] == expected


VALUES: Sequence[tuple[str, str, str, object]] = [
    ("invoices", "mtus", "5.000", 5),
    ("invoices", "mtus", "999999999999999999.0", 999_999_999_999_999_999),
    ("invoices", "total_amount", "-0.50000", -50),
    ("invoices", "total_amount", "9999999999999.99000", 999_999_999_999_999),
    ("coupons", "percent_off", "33.333300", 333_333),
    ("coupons", "requires_no_prior_coupon", "T", True),
    ("coupons", "requires_no_prior_coupon", "0", False),
    ("invoices", "currency", "eur", "EUR"),
    ("invoices", "period_start", "2025-01-01 00:00:00.000", date(2025, 1, 1)),
    ("invoices", "issued_at", "2025-01-01 9:05:07.123456 +0130", datetime(2025, 1, 1, 7, 35, 7, 123456)),
    ("invoices", "issued_at", "2025-01-01T9:05 UTC", datetime(2025, 1, 1, 9, 5)),
    ("invoices", "issued_at", "2025-01-01 23:59:59.9999999 -05:30", datetime(2025, 1, 2, 5, 29, 59, 999999)),
    ("invoices", "issued_at", "2025-01-01", datetime(2025, 1, 1)),
]  # fmt: skip


def test_every_spelling_of_a_value_is_the_same_value(compiled: CompiledModels) -> None:
    rows = [{feed: [{**VALID[feed], column: text}]} for feed, column, text, _ in VALUES]
    typed = {"total_amount": "total_minor", "percent_off": "percent_off_e4"}
    with compiled.built(rows) as connection:
        for number, (feed, column, text, expected) in enumerate(VALUES):
            found = connection.execute(
                f"select {typed.get(column, column)}, rejection_reasons from"
                f" staging.base_billing__{feed} join raw.deliveries using (delivery_sequence)"
                f" where delivery_id = 'd{number * len(feeds()) + feed_place(feed)}'"
            ).fetchall()
            assert found == [(expected, None)], (column, text)


def feed_place(feed: str) -> int:
    """Place of a feed among the deliveries of one element, from 1."""
    return list(feeds()).index(feed) + 1


LOCAL_TIMES: Sequence[tuple[str, str, datetime | None]] = [
    ("Europe/Berlin", "2025-07-01 00:30:00", datetime(2025, 6, 30, 22, 30)),
    ("Europe/Berlin", "2025-01-01T0:30", datetime(2024, 12, 31, 23, 30)),
    ("Europe/Berlin", "2025-01-01", datetime(2024, 12, 31, 23)),
    ("Europe/Berlin", "2025-01-01T00:30:00Z", datetime(2025, 1, 1, 0, 30)),
    ("Europe/Berlin", "2025-01-01 00:30:00 +05", datetime(2024, 12, 31, 19, 30)),
    ("Europe/Berlin", "2025-03-30 01:59:59.999999", datetime(2025, 3, 30, 0, 59, 59, 999999)),
    ("Europe/Berlin", "2025-03-30 02:00:00", None),
    ("Europe/Berlin", "2025-03-30 02:59:59", None),
    ("Europe/Berlin", "2025-03-30 03:00:00", datetime(2025, 3, 30, 1)),
    ("Europe/Berlin", "2025-10-26 01:59:59", datetime(2025, 10, 25, 23, 59, 59)),
    ("Europe/Berlin", "2025-10-26 02:00:00", datetime(2025, 10, 26)),
    ("Europe/Berlin", "2025-10-26 02:59:59", datetime(2025, 10, 26, 0, 59, 59)),
    ("Europe/Berlin", "2025-10-26 03:00:00", datetime(2025, 10, 26, 2)),
    ("America/New_York", "2025-11-02 01:30:00", datetime(2025, 11, 2, 5, 30)),
    ("America/New_York", "2025-03-09 02:30:00", None),
    ("Australia/Lord_Howe", "2025-04-06 01:45:00", datetime(2025, 4, 5, 14, 45)),
    ("Australia/Lord_Howe", "2025-10-05 02:15:00", None),
    ("Pacific/Apia", "2011-12-30 12:00:00", None),
    ("Pacific/Apia", "2011-12-31 00:00:00", datetime(2011, 12, 30, 10)),
    ("Pacific/Apia", "2011-12-29 23:59:59", datetime(2011, 12, 30, 9, 59, 59)),
    ("Asia/Kolkata", "2025-02-30 12:00:00", None),
]  # fmt: skip
"""Zone, text without an offset, and its instant in UTC; None for a time that the zone's clocks never show."""


@pytest.mark.parametrize("zone", sorted({zone for zone, _, _ in LOCAL_TIMES}))
def test_an_instant_without_an_offset_is_read_in_the_time_zone_of_its_feed(
    compiled_folder: Path, tmp_path: Path, zone: str
) -> None:
    cases = [(text, expected) for of, text, expected in LOCAL_TIMES if of == zone]
    warehouse = tmp_path / "warehouse.duckdb"
    rows = [{"invoices": [{**INVOICE, "issued_at": text}]} for text, _ in cases]
    rows.append({"workspaces": [{**WORKSPACE, "created_at": "2025-07-01 12:00:00"}]})
    fill_raw(warehouse, rows)
    with duckdb.connect(str(warehouse)) as connection:  # the same times as values of a Parquet file
        [(texts,)] = connection.execute(
            "select sql from duckdb_views() where schema_name = 'landed' and view_name = 'invoices'"
        ).fetchall()
        connection.execute(texts.replace("invoices", "texts", 1))
        connection.execute(
            "create or replace view landed.invoices as from landed.texts union all"
            " select * replace (delivery_sequence + 1000 as delivery_sequence, true as is_local, true as is_plain,"
            " cast(null as varchar) as issued_at, cast(issued_at as timestamp) as issued_at_value)"
            " from landed.texts where regexp_full_match(issued_at, '.{10}[T ][0-9:.]+')"
            " and try_cast(issued_at as timestamp) is not null"
        )
    outcome = dbt(
        warehouse,
        date(2025, 12, 31),
        *("build", "--select", "iso_4217_currencies", "base_billing__invoices"),
        *("base_billing__workspaces", "--exclude-resource-type", "test", "unit_test"),
        manifest=manifest(compiled_folder),
        variables={"feed_time_zones": {"invoices": zone}},
    )
    assert outcome.success, outcome.exception
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        found, values = (
            connection.execute(
                "select issued_at, rejection_reasons, delivery_sequence % 1000,"
                " rejected_record->>'issued_at' from staging.base_billing__invoices"
                f" where (delivery_sequence > 1000) = {is_value} order by delivery_sequence"
            ).fetchall()
            for is_value in (False, True)
        )
        other = connection.execute("select created_at from staging.base_billing__workspaces")
        assert other.fetchall() == [(datetime(2025, 7, 1, 12),)]
    assert [(text, instant) for (text, _), (instant, *_) in zip(cases, found, strict=True)] == cases
    times = [text for text, _ in cases if ":" in text and not set("Z+") & set(text)]
    assert len(values) == sum("02-30" not in text for text in times)
    assert {row[:3] for row in values} <= {row[:3] for row in found}
    assert {shown for *_, reasons, _, shown in values if reasons} <= {
        text.replace(" ", "T") for text, _ in cases
    }
    for (text, expected), (_, reasons, *_) in zip(cases, found, strict=True):
        if expected is not None:
            assert reasons is None
        elif "02-30" in text:
            assert reasons == f"issued_at {INSTANT}"
        else:
            assert reasons == (
                f"issued_at is a time that the clocks of {zone} never showed:"
                " they were put forward over it"
            )


def test_a_rejected_row_shows_no_value_that_may_have_swallowed_another(
    compiled: CompiledModels,
) -> None:
    rows = [{feed: [{**VALID[feed], **changes}]} for feed, changes, _ in RECORDS]
    with compiled.built(rows) as connection:
        records = connection.execute(
            "select record from staging.stg_billing__rejected_rows order by delivery_sequence"
        ).fetchall()
    assert len(records) == len(RECORDS)
    for (record,), (feed, _, expected) in zip(records, RECORDS, strict=True):
        assert "SECRET" not in record, feed
        shown = json.loads(record)
        assert {name: shown[name] for name in expected} == expected


def test_of_rows_with_one_updated_at_the_later_delivery_is_current(
    compiled: CompiledModels,
) -> None:
    """Numbers of rows go down from delivery to delivery, so that only the order of deliveries tells."""
    named = {
        "coupons": ("coupon_id", "coupon_name"),
        "invoices": ("invoice_id", "plan"),
        "workspaces": ("workspace_id", "workspace_name"),
    }
    day, day_before = "2025-01-01T00:00:00Z", "2024-12-31T00:00:00Z"
    deliveries = [
        [("other", "x", day), ("this", "B", "soon"), ("this", "A", day)],
        [("this", "B", "soon"), ("this", "B", day)],
        [("this", "A", day)],  # current again
        [("this", "B", day_before)],
    ]
    given = [
        {
            feed: [
                {**VALID[feed], key: this, name: value, "updated_at": updated_at}
                for this, value, updated_at in rows
            ]
            for feed, (key, name) in named.items()
        }
        for rows in deliveries
    ]
    with compiled.built(given) as connection:
        for feed, (_, name) in named.items():
            fates = connection.execute(
                "select dense_rank() over (order by delivery_sequence), row_number, fate"
                f" from staging.stg_billing__repeated_rows where feed = '{feed}' order by all"
            ).fetchall()
            assert fates == [
                (1, 3, "accepted"), (2, 2, "superseded"), (3, 1, "duplicate"), (4, 1, "superseded"),
            ]  # fmt: skip
            current = f"select {name} from staging.stg_billing__{feed} order by all"
            assert connection.execute(current).fetchall() == [("A",), ("x",)]
        superseded = connection.execute(
            "select feed, row_number, updated_at from intermediate.int_rows_superseded order by all"
        ).fetchall()
        assert superseded == [
            (feed, number, datetime(*at))
            for feed in named
            for number, at in ((1, (2024, 12, 31)), (2, (2025, 1, 1)))
        ]
        versions = connection.execute(
            "select coupon_name, is_current, version_number from"
            " intermediate.int_coupon_versions_delivered where coupon_id = 'this' order by version_number"
        ).fetchall()
        assert versions == [("B", False, 1), ("A", False, 2), ("B", False, 3), ("A", True, 4)]
