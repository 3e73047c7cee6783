"""A landing folder whose workspaces each ask one question about the future, as of 30 June 2026."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path

from dagster_project.feeds import feeds

AS_OF = date(2026, 6, 30)
LONG_AGO = "2023-01-01T00:00:00Z"

Record = Mapping[str, str]

COUPONS: Sequence[Record] = (
    # Two grants on one workspace, of which the second is not drawn before the first is gone.
    {"coupon_id": "FIRST-800", "discount_type": "credit", "credit_amount": "800.00"},
    {"coupon_id": "SECOND-800", "discount_type": "credit", "credit_amount": "800.00"},
    # Limited in months, on yearly bills.
    {"coupon_id": "QUARTER-OFF", "discount_type": "percent_off", "percent_off": "25"},
    # Half off, while credit pays the other half.
    {"coupon_id": "HALF", "discount_type": "percent_off", "percent_off": "50"},
    {"coupon_id": "LARGE", "discount_type": "credit", "credit_amount": "9000.00"},
    # Followed by a smaller one.
    {"coupon_id": "SIXTY", "discount_type": "percent_off", "percent_off": "60"},
    {"coupon_id": "THEN-45", "discount_type": "percent_off", "percent_off": "45"},
    # Limited in bills.
    {"coupon_id": "THREE-BILLS", "discount_type": "percent_off", "percent_off": "25"},
    {"coupon_id": "ONE-BILL", "discount_type": "amount_off", "amount_off": "12.00"},
    # Credit for two years, that of the first nearly used up.
    {"coupon_id": "TWO-YEARS", "discount_type": "credit", "credit_amount": "1440.00"},
)
_TERMS: Mapping[str, Record] = {
    "FIRST-800": {"duration": "repeating", "duration_months": "12"},
    "SECOND-800": {"duration": "repeating", "duration_months": "12"},
    "QUARTER-OFF": {"duration": "repeating", "duration_months": "24"},
    "HALF": {"duration": "repeating", "duration_months": "6"},
    "LARGE": {"duration": "repeating", "duration_months": "12"},
    "SIXTY": {"duration": "repeating", "duration_months": "6", "follow_up_coupon_id": "THEN-45"},
    "THEN-45": {"duration": "repeating", "duration_months": "12"},
    "THREE-BILLS": {"duration": "repeating", "duration_invoices": "3"},
    "ONE-BILL": {"duration": "once"},
    "TWO-YEARS": {"duration": "forever", "credit_period_months": "12", "credit_max_periods": "2"},
}
# Redemption, coupon, workspace, day.
_REDEMPTIONS = (
    ("queue-1", "FIRST-800", "ws_queue", "2025-12-01"),
    ("queue-2", "SECOND-800", "ws_queue", "2025-12-15"),
    ("yearly-1", "QUARTER-OFF", "ws_yearly", "2024-08-01"),
    ("half-1", "HALF", "ws_half", "2026-03-01"),
    ("half-2", "LARGE", "ws_half", "2026-03-01"),
    ("follow-1", "SIXTY", "ws_follow", "2026-02-01"),
    ("bills-1", "THREE-BILLS", "ws_bills", "2026-05-01"),
    ("once-1", "ONE-BILL", "ws_once", "2026-06-05"),
    ("years-1", "TWO-YEARS", "ws_years", "2025-08-01"),
)
# Workspace, days, months of a bill, list, discount and credit as billed.
_BILLS = (
    ("ws_queue", [f"2026-{n:02}-20" for n in range(1, 7)], "month", "120.00", "0", "120.00"),
    ("ws_yearly", ["2024-08-01", "2025-08-01"], "year", "2400.00", "600.00", "0"),
    ("ws_half", [f"2026-{n:02}-02" for n in range(3, 7)], "month", "600.00", "300.00", "300.00"),
    ("ws_follow", [f"2026-{n:02}-05" for n in range(2, 7)], "month", "200.00", "120.00", "0"),
    ("ws_bills", ["2026-05-01", "2026-06-01"], "month", "80.00", "20.00", "0"),
    ("ws_years", [f"2025-{n:02}-01" for n in range(8, 13)], "month", "120.00", "0", "120.00"),
    ("ws_years", [f"2026-{n:02}-01" for n in range(1, 7)], "month", "120.00", "0", "120.00"),
)


def coupons() -> list[dict[str, str]]:
    """Return the rows of the coupons feed."""
    return [
        {
            "coupon_name": one["coupon_id"].title(),
            "program": "special",
            "currency": "USD" if one["discount_type"] != "percent_off" else "",
            "updated_at": LONG_AGO,
            **one,
            **_TERMS[one["coupon_id"]],
        }
        for one in COUPONS
    ]


def redemptions() -> list[dict[str, str]]:
    """Return the rows of the redemptions feed."""
    return [
        {
            "redemption_id": redemption_id,
            "coupon_id": coupon_id,
            "workspace_id": workspace_id,
            "redeemed_at": f"{day}T00:00:00Z",
            "updated_at": f"{day}T00:00:00Z",
        }
        for redemption_id, coupon_id, workspace_id, day in _REDEMPTIONS
    ]


def invoices() -> list[dict[str, str]]:
    """Return the rows of the invoices feed."""
    rows = []
    for workspace_id, days, interval, listed, discount, credit in _BILLS:
        for day in days:
            start = date.fromisoformat(day)
            month = start.year * 12 + start.month - 1 + (12 if interval == "year" else 1)
            end = start.replace(year=month // 12, month=month % 12 + 1)
            total = Decimal(listed) - Decimal(discount) - Decimal(credit)
            rows.append(
                {
                    "invoice_id": f"{workspace_id}-{day}",
                    "workspace_id": workspace_id,
                    "status": "paid",
                    "plan": "team",
                    "billing_interval": interval,
                    "currency": "USD",
                    "period_start": day,
                    "period_end": end.isoformat(),
                    "issued_at": f"{day}T00:00:00Z",
                    "list_amount": listed,
                    "discount_amount": discount,
                    "credit_amount": credit,
                    "tax_amount": "0",
                    "total_amount": f"{total:.2f}",
                    "updated_at": f"{day}T00:00:00Z",
                }
            )
    return rows


def workspaces() -> list[dict[str, str]]:
    """Return the rows of the workspaces feed."""
    names = dict.fromkeys(row[2] for row in _REDEMPTIONS)
    return [
        {
            "workspace_id": name,
            "workspace_name": name.removeprefix("ws_").title(),
            "created_at": LONG_AGO,
            "updated_at": LONG_AGO,
        }
        for name in names
    ]


def budgets() -> list[dict[str, str]]:
    """Return the rows of the budgets feed: of a past month and one to come."""
    return [
        {
            "program": "special",
            "currency": "USD",
            "month": month,
            "amount": amount,
            "updated_at": LONG_AGO,
        }
        for month, amount in (("2026-06-01", "1000.00"), ("2026-07-01", "900.00"))
    ]


def write(landing: Path, **changed: Sequence[Record]) -> Path:
    """Write the landing folder.

    Args:
        landing: The folder to write to.
        changed: Rows of a feed in place of those above.
    """
    rows: dict[str, Sequence[Record]] = {
        "coupons": coupons(),
        "redemptions": redemptions(),
        "invoices": invoices(),
        "workspaces": workspaces(),
        "budgets": budgets(),
        **changed,
    }
    for feed, of_feed in rows.items():
        path = landing / feed / f"{feed}.csv"
        path.parent.mkdir(parents=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, feeds()[feed].column_names)
            writer.writeheader()
            writer.writerows(of_feed)
    return landing
