"""Two bills side by side: the months of a period, and a bridge whose steps always sum to the difference."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.answers.bill_bridge import bridge, is_prorated, months_counted

CENTS = st.integers(0, 50_000).map(lambda cents: Decimal(cents) / 100)


def bill(start: str, end: str, listed: str = "100.00", **more: Any) -> dict[str, Any]:
    return {
        "invoice_id": start,
        "currency": "USD",
        "billing_interval": "month",
        "interval_count": 1,
        "period_start": date.fromisoformat(start),
        "period_end": date.fromisoformat(end),
        "list_amount": Decimal(listed),
        "discountable_amount": Decimal(listed),
        "credit_amount": Decimal(0),
        "net_amount": Decimal(listed),
        **more,
    }


def applied(redemption_id: str, base: str, off: str) -> dict[str, Any]:
    return {
        "redemption_id": redemption_id,
        "coupon_id": f"C-{redemption_id}",
        "base_amount": Decimal(base),
        "discount_amount": Decimal(off),
    }


def redemption(redemption_id: str, promotion_id: str, percent: str, reason: str = "covered") -> Any:
    return {
        "redemption_id": redemption_id,
        "promotion_id": promotion_id,
        "percent_off": Decimal(percent),
        "reason": reason,
    }


@pytest.mark.parametrize(
    ("start", "end", "months"),
    [
        ("2025-01-31", "2025-03-02", 1),
        ("2025-01-31", "2025-03-31", 2),
        ("2025-01-31", "2025-03-30", 1),
        ("2025-01-01", "2025-04-01", 3),
        ("2025-01-01", "2025-01-31", 1),
        ("2025-05-28", "2025-06-01", 1),
        ("2024-02-29", "2025-02-28", 12),
    ],
)
def test_months_are_counted_as_the_rules_count_them(start: str, end: str, months: int) -> None:
    assert months_counted(bill(start, end)) == months


@pytest.mark.parametrize(
    ("interval", "units", "start", "end", "expected"),
    [
        ("month", 1, "2025-01-31", "2025-02-28", False),
        ("month", 1, "2025-01-31", "2025-02-27", True),
        ("month", 3, "2025-01-01", "2025-04-01", False),
        ("year", 1, "2024-02-29", "2025-02-28", False),
        ("week", 2, "2025-01-01", "2025-01-15", False),
        ("week", 2, "2025-01-01", "2025-01-14", True),
        ("once", 1, "2025-01-01", "2025-01-02", False),
    ],
)
def test_a_period_that_is_not_a_whole_interval_is_prorated(
    interval: str, units: int, start: str, end: str, expected: bool
) -> None:
    found = bill(start, end, billing_interval=interval, interval_count=units)
    assert is_prorated(found) is expected


def test_a_prorated_last_bill_is_explained_as_proration() -> None:
    steps = bridge(
        bill("2025-06-01", "2025-07-01", "90.00"),
        bill("2025-07-01", "2025-07-11", "32.00"),
        [],
        [],
        [],
    )
    assert [(one["kind"], one["amount"]) for one in steps] == [
        ("price_or_usage", Decimal("2.00")),
        ("proration", Decimal("-60.00")),
    ]


def test_days_explain_nothing_where_a_stub_was_billed_in_full() -> None:
    stub, whole = (
        bill("2025-05-28", "2025-06-01", "90.00"),
        bill("2025-06-01", "2025-07-01", "94.00"),
    )
    assert [(one["kind"], one["amount"]) for one in bridge(stub, whole, [], [], [])] == [
        ("price_or_usage", Decimal("4.00"))
    ]


def test_a_follow_up_is_another_percentage_and_not_an_end_and_a_beginning() -> None:
    steps = bridge(
        bill("2025-06-01", "2025-07-01", "200.00"),
        bill("2025-07-01", "2025-08-01", "220.00"),
        [applied("a", "200.00", "80.00")],
        [applied("a~follow-up", "220.00", "22.00")],
        [redemption("a", "a", "40", "ended"), redemption("a~follow-up", "a", "10")],
    )
    assert [(one["kind"], one["about"], one["amount"]) for one in steps] == [
        ("price_or_usage", "price or usage", Decimal("20.00")),
        ("same_coupon", "C-a on another amount", Decimal("-8.00")),
        ("percentage", "percentage, C-a 40% → C-a~follow-up 10%", Decimal("66.00")),
    ]


@pytest.mark.parametrize(
    ("reason", "said"),
    [("ended", "ended"), ("used_up", "used up"), ("plan", "does not apply here")],
)
def test_a_coupon_that_gave_before_says_why_it_gives_no_more(reason: str, said: str) -> None:
    (step,) = bridge(
        bill("2025-06-01", "2025-07-01"),
        bill("2025-07-01", "2025-08-01"),
        [applied("a", "100.00", "12.50")],
        [],
        [redemption("a", "a", "12.5", reason)],
    )
    assert (step["about"], step["amount"]) == (f"C-a {said}", Decimal("12.50"))


@given(
    lists=st.tuples(CENTS, CENTS),
    parts=st.tuples(CENTS, CENTS),
    offs=st.tuples(CENTS, CENTS, CENTS),
    credits_drawn=st.tuples(CENTS, CENTS),
    days=st.integers(1, 40),
)
def test_the_steps_sum_to_the_difference_whatever_the_bills(
    lists: tuple[Decimal, Decimal],
    parts: tuple[Decimal, Decimal],
    offs: tuple[Decimal, Decimal, Decimal],
    credits_drawn: tuple[Decimal, Decimal],
    days: int,
) -> None:
    stayed, followed, began = offs
    made = []
    for place in (0, 1):
        discount = stayed + followed if place == 0 else stayed / 2 + began
        made.append(
            bill(
                "2025-06-01",
                "2025-07-01",
                str(lists[place]),
                discountable_amount=min(parts[place], lists[place]),
                credit_amount=credits_drawn[place],
                net_amount=lists[place] - discount - credits_drawn[place],
            )
        )
    made[1]["period_end"] = date.fromordinal(date(2025, 6, 1).toordinal() + days)
    steps = bridge(
        made[0],
        made[1],
        [applied("a", "100.00", str(stayed)), applied("b", "90.00", str(followed))],
        [applied("a", "80.00", str(stayed / 2)), applied("b2", "70.00", str(began))],
        [redemption("a", "a", "10"), redemption("b", "b", "20"), redemption("b2", "b", "5")],
    )
    assert sum((one["amount"] for one in steps), Decimal(0)) == (
        made[1]["net_amount"] - made[0]["net_amount"]
    )
