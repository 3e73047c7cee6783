"""What a delivered text becomes: a typed value, or a rejected row with every reason that holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import pytest

from tests.dbt.compiled import CompiledModels
from tests.dbt.warehouse import fill_raw

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
ABOVE_LIST = "is above list_amount, or above 0 where list_amount is below 0"
INSTANT = "is not an ISO 8601 instant"
WHOLE = "is not a whole number of at most 18 digits"

NOT_SHOWN = "(not shown: it has control characters)"

Case = tuple[str, dict[str, str], str | None]

CASES: Sequence[Case] = [
    (feed, {}, None) for feed in VALID
] + [
    ("invoices", {"list_amount": text}, f"list_amount {AMOUNT}")
    for text in ("1e3", "1,000.00", "$5", " 7.00 ", "7.001", "١٢", "NaN", "Infinity", "+7.00", ".5", "7.", "--7", "0x10", "10000000000000.00")
] + [
    ("invoices", {"list_amount": text}, None) for text in ("0", "-0.00", "7", "7.5", "007.50", "9999999999999.99")
] + [
    ("invoices", {"list_amount": "-0.01"}, None),
    ("invoices", {"list_amount": "-120.00", "tax_amount": "-24.00"}, None),
    ("invoices", {"list_amount": "0.00", "tax_amount": "-0.01"}, "tax_amount is below 0 where list_amount is not"),
    ("invoices", {"discountable_amount": "120.00"}, None),
    ("invoices", {"discountable_amount": "120.01"}, f"discountable_amount {ABOVE_LIST}"),
    ("invoices", {"discountable_amount": "-0.01"}, "discountable_amount is below 0"),
    ("invoices", {"list_amount": "-5.00", "discountable_amount": "0.00"}, None),
    ("invoices", {"list_amount": "-5.00", "discountable_amount": "0.01"}, f"discountable_amount {ABOVE_LIST}"),
    ("invoices", {"creditable_amount": "500.00"}, None),
    ("invoices", {"creditable_amount": "-0.01"}, "creditable_amount is below 0"),
    ("invoices", {"billing_interval": "once"}, None),
    ("invoices", {"billing_interval": "quarter"}, "billing_interval is not one of month, year, day, week, once"),
    ("invoices", {"interval_count": "3"}, None),
    ("invoices", {"interval_count": "0"}, "interval_count is below 1"),
    ("invoices", {"invoice_id": "i~expected-0001"}, "invoice_id contains ~expected-, which is kept for expected bills"),
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
    ("invoices", {"total_amount": "-0.01"}, None),
    ("invoices", {"currency": "JPY", "list_amount": "120"}, "total_amount"),
    ("invoices", {"currency": "KWD", "list_amount": "120.000"}, "currency is not supported: only currencies with 0 or 2 decimal places are"),
    ("invoices", {"currency": "usd"}, "currency is not an ISO 4217 currency"),
    ("invoices", {"currency": "", "mtus": "-1"}, "currency is missing; mtus is below 0"),
    ("invoices", {"mtus": "5.0"}, f"mtus {WHOLE}"),
    ("invoices", {"mtus": "999999999999999999"}, None),
    ("invoices", {"mtus": "1000000000000000000"}, f"mtus {WHOLE}"),
    ("invoices", {"currency": "XCG"}, None),
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
    ("invoices", {"period_end": "20250201"}, "period_end is not a date YYYY-MM-DD"),
    ("invoices", {"invoice_id": "i" * 200}, None),
    ("invoices", {"invoice_id": "i" * 201}, "invoice_id is longer than 200 characters"),
    ("invoices", {"invoice_id": "i\u0007"}, "invoice_id has control characters"),
    ("invoices", {"invoice_id": "i\u0085"}, "invoice_id has control characters"),
    ("invoices", {"plan": "team\n'; drop table x; --"}, None),
    ("invoices", {"workspace_id": "", "issued_at": ""}, "workspace_id is missing; issued_at is missing"),
] + [
    ("invoices", {"issued_at": text}, None)
    for text in ("2025-01-01T00:00:00+02:00", "2025-01-01T00:00:00+02", "2025-01-01T00:00+02:00", "2025-01-01T00:00", "2025-01-01 00:00:00", "2025-01-01T00:00:00.123456Z", "2025-01-01T00:00:00-0530", "2025-01-01T00:00:00+14:00", "2025-01-01T00:00Z", "2025-01-01")
] + [
    ("invoices", {"issued_at": text}, f"issued_at {INSTANT}")
    for text in ("2025-01-01T24:00:00Z", "2025-02-29T00:00:00Z", "2025-01-01T00:60:00Z", "2025-01-01T00:00:00+15:00", "2025-01-01T00:00:00+05:60", "01/02/2025", "1735689600", "now", "infinity", "2025-01-01T00:00:00 Europe/Berlin")
] + [
    ("coupons", {"percent_off": "0"}, "percent_off is not above 0"),
    ("coupons", {"percent_off": "0.0001"}, None),
    ("coupons", {"percent_off": "100"}, None),
    ("coupons", {"percent_off": "100.0001"}, "percent_off is above 100"),
    ("coupons", {"percent_off": "33.33333"}, "percent_off is not a decimal with at most 9 digits before the point and 4 after it"),
    ("coupons", {"percent_off": "", "amount_off": "5.00", "currency": "USD"}, "discount_type percent_off takes percent_off and no other amount"),
    ("coupons", {"discount_type": "amount_off", "percent_off": "", "amount_off": "5.00"}, "currency is missing, amount_off and credit need one"),
    ("coupons", {"discount_type": "amount_off", "percent_off": "", "amount_off": "0.00", "currency": "USD"}, "amount_off is not above 0"),
    ("coupons", {"discount_type": "credit", "percent_off": "", "credit_amount": "5.00", "currency": "USD"}, None),
    ("coupons", {"duration": "repeating"}, "duration repeating takes exactly one of duration_months and duration_invoices"),
    ("coupons", {"duration": "repeating", "duration_months": "1", "duration_invoices": "1"}, "duration repeating takes exactly one of duration_months and duration_invoices"),
    ("coupons", {"duration": "repeating", "duration_months": "1"}, None),
    ("coupons", {"duration": "once", "duration_months": "1"}, "duration_months and duration_invoices are only for duration repeating"),
    ("coupons", {"duration": "repeating", "duration_months": "0"}, "duration_months is below 1"),
    ("coupons", {"duration": "repeating", "duration_months": "1201"}, "duration_months is above 1200"),
    ("coupons", {"requires_no_prior_coupon": "True"}, "requires_no_prior_coupon is not true or false"),
    ("redemptions", {"redemption_id": "r~follow-up"}, "redemption_id ends in ~follow-up, which is kept for derived redemptions"),
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
def reasons(
    compiled: CompiledModels, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, str | None]:
    """The reasons of every case, each a delivery of its own, by its number."""
    warehouse = tmp_path_factory.mktemp("staging") / "warehouse.duckdb"
    fill_raw(warehouse, [{feed: [{**VALID[feed], **changes}]} for feed, changes, _ in CASES])
    with duckdb.connect(str(warehouse)) as connection:
        compiled.build(connection)
        rows = connection.execute(
            "select cast(substring(delivery_id, 2) as integer), reasons"
            " from staging.stg_billing__rejected_rows"
        ).fetchall()
    rejected = {(sequence - 1) // len(VALID): text for sequence, text in rows}
    return {number: rejected.get(number) for number in range(len(CASES))}


@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=[f"{feed}-{changes}"[:70] for feed, changes, _ in CASES]
)
def test_a_row_is_accepted_or_rejected_for_the_right_reason(
    reasons: dict[int, str | None], number: int
) -> None:
    expected = CASES[number][2]
    if expected == "total_amount":  # 120.00 is not an amount of a currency without decimals
        text = reasons[number] or ""
        assert [part.split()[0] for part in text.split("; ")] == [
            "discount_amount", "credit_amount", "tax_amount", "total_amount",
        ]  # fmt: skip
    else:
        assert reasons[number] == expected


def test_a_rejected_row_shows_no_value_that_may_have_swallowed_another(
    compiled: CompiledModels, tmp_path: Path
) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    fill_raw(warehouse, [{feed: [{**VALID[feed], **changes}]} for feed, changes, _ in RECORDS])
    with duckdb.connect(str(warehouse)) as connection:
        compiled.build(connection)
        records = connection.execute(
            "select record from staging.stg_billing__rejected_rows order by delivery_sequence"
        ).fetchall()
    assert len(records) == len(RECORDS)
    for (record,), (feed, _, expected) in zip(records, RECORDS, strict=True):
        assert "SECRET" not in record, feed
        shown = json.loads(record)
        assert {name: shown[name] for name in expected} == expected
