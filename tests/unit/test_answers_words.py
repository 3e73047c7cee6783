"""Names, offers and reasons in words for people; a misspelt name gets its near matches."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
import yaml

from dagster_project.answers import asking, words
from dagster_project.answers.explain import _differs_without_finding, conclusion, verdict
from dagster_project.answers.workspace import _next_event
from dagster_project.cli.reading import sentence
from dagster_project.cli.workspace import _coupon, _rise, _today
from dagster_project.feeds import feeds
from dagster_project.product import DBT_PROJECT
from dagster_project.settings import add_months

COUPON: dict[str, Any] = {
    "discount_type": "percent_off",
    "percent_off": Decimal("20.0000"),
    "amount_off": None,
    "amount_off_per": "invoice",
    "credit_amount": None,
    "credit_period_months": None,
    "credit_max_periods": 1,
    "currency": "USD",
    "applies_to_plan": None,
    "applies_to_interval": None,
    "duration": "forever",
    "duration_months": None,
    "duration_invoices": None,
}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "20% off"),
        ({"percent_off": Decimal("100.0000"), "duration": "once"}, "100% off, one bill only"),
        (
            {"percent_off": Decimal("33.3333"), "duration_invoices": 3},
            "33.3333% off, the first 3 bills",
        ),
        (
            {
                "discount_type": "amount_off",
                "amount_off": Decimal("120.00"),
                "amount_off_per": "month",
                "applies_to_plan": "team",
                "applies_to_interval": "year",
            },
            "120.00 USD off each month, team plan only, yearly bills only",
        ),
        (
            {
                "discount_type": "credit",
                "credit_amount": Decimal("25000.00"),
                "credit_period_months": 12,
                "credit_max_periods": 2,
                "duration_months": 24,
            },
            "25,000.00 USD of credit for 12 months, granted up to 2 times",
        ),
        (
            {
                "discount_type": "credit",
                "credit_amount": Decimal("25000.00"),
                "credit_period_months": 12,
                "credit_max_periods": 2,
                "duration_months": 23,
            },
            "25,000.00 USD of credit for 12 months, granted up to 2 times, for 23 months in all",
        ),
        (
            {
                "discount_type": "credit",
                "credit_amount": Decimal("9000.00"),
                "currency": "JPY",
                "duration_months": 1,
            },
            "9,000 JPY of credit, for 1 month",
        ),
        ({"subscription_id": "sub_2"}, "20% off, subscription sub_2 only"),
    ],
)
def test_an_offer_is_one_phrase(changes: dict[str, Any], text: str) -> None:
    assert words.offer({**COUPON, **changes}) == text


def test_the_types_of_findings_are_those_of_the_mart() -> None:
    models = yaml.safe_load(
        (DBT_PROJECT / "models/marts/finance/_finance__models.yml").read_text("utf-8")
    )["models"]
    (mart,) = (model for model in models if model["name"] == "fct_audit_findings")
    allowed = {
        column["name"]: test["accepted_values"]["arguments"]["values"]
        for column in mart["columns"]
        for test in column.get("data_tests", [])
        if isinstance(test, dict) and "accepted_values" in test
    }
    assert set(allowed["finding_type"]) == set(words.FINDING_TYPES)
    assert set(allowed["severity"]) == set(words.SEVERITIES)
    assert set(allowed["review_status"]) == set(words.REVIEWS)


def test_the_programs_are_those_that_suppliers_may_name() -> None:
    assert tuple(sorted(feeds()["coupons"].column("program").values)) == words.PROGRAMS


REDEMPTION: dict[str, Any] = {
    "is_honoured": True,
    "refusal_reason": None,
    "refusal": None,
    "started_at": datetime(2024, 1, 1),
    "ends_at": datetime(2024, 7, 1),
    "ended_by": "expiry",
    "applies_to_plan": None,
    "applies_to_interval": None,
    "coupon_currency": "USD",
    "discount_type": "amount_off",
    "duration": "repeating",
    "duration_invoices": None,
}


def bill(issued_at: datetime, **changes: Any) -> dict[str, Any]:
    return {
        "invoice_id": f"in_{issued_at:%m%d%H}",
        "issued_at": issued_at,
        "plan": "team",
        "billing_interval": "month",
        "currency": "USD",
        "list_amount": Decimal("120.00"),
        **changes,
    }


@pytest.mark.parametrize(
    ("redemption", "invoice", "why"),
    [
        ({}, {"issued_at": datetime(2024, 1, 1)}, None),
        ({}, {"issued_at": datetime(2023, 12, 31, 23, 59, 59)}, ("R3", "not_started")),
        ({}, {"issued_at": datetime(2024, 6, 30, 23, 59, 59)}, None),
        ({}, {"issued_at": datetime(2024, 7, 1)}, ("R3", "ended")),
        ({"ends_at": None}, {"issued_at": datetime(2034, 7, 1)}, None),
        ({"ends_at": datetime(2024, 1, 1)}, {}, ("R3", "never_in_force")),
        ({"applies_to_plan": "business"}, {}, ("R5", "plan")),
        ({"applies_to_interval": "year"}, {}, ("R5", "billing_interval")),
        ({}, {"currency": "EUR"}, ("R5", "currency")),
        ({"discount_type": "percent_off"}, {"currency": "EUR"}, None),
        (
            {"is_honoured": False, "refusal_reason": "prior_coupon", "refusal": "no"},
            {},
            ("R2", "prior_coupon"),
        ),
    ],
)
def test_why_a_redemption_does_not_cover_an_invoice(
    redemption: dict[str, Any], invoice: dict[str, Any], why: tuple[str, str] | None
) -> None:
    of = bill(**{"issued_at": datetime(2024, 2, 1), **invoice})
    found = verdict({**REDEMPTION, **redemption}, of, [of])
    assert (found and found[:2]) == why


def test_uses_are_counted_over_eligible_bills_that_are_not_zero() -> None:
    once = {**REDEMPTION, "duration": "once"}
    bills = [
        bill(datetime(2023, 12, 1)),
        bill(datetime(2024, 1, 5), list_amount=Decimal("0.00")),
        bill(datetime(2024, 2, 5), currency="EUR"),
        bill(datetime(2024, 3, 5)),
        bill(datetime(2024, 4, 5)),
        bill(datetime(2024, 5, 5), list_amount=Decimal("0.00")),
    ]
    covered = [verdict(once, one, bills) is None for one in bills]
    assert covered == [False, True, False, True, False, False]
    used_up = verdict(once, bills[4], bills)
    assert used_up is not None and used_up[2] == "it is used up, on one bill: in_030500"


@pytest.mark.parametrize(
    ("start", "months", "end"),
    [
        (datetime(2024, 1, 31, 10), 1, datetime(2024, 2, 29, 10)),
        (datetime(2024, 1, 31, 10), 2, datetime(2024, 3, 31, 10)),
        (datetime(2023, 12, 15), 13, datetime(2025, 1, 15)),
        (datetime(2024, 2, 29), 12, datetime(2025, 2, 28)),
    ],
)
def test_months_are_added_clamped(start: datetime, months: int, end: datetime) -> None:
    assert add_months(start, months) == end


@pytest.mark.parametrize("text", ["2024-02", "2024-02-17", " 2024-02 "])
def test_a_month_is_read(text: str) -> None:
    assert asking.month_in(text, date(2023, 12, 1), date(2024, 3, 1)) == date(2024, 2, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2024-2", "Did you mean 2024-02"),
        ("202402", "Did you mean 2024-02"),
        ("2024-04", "from 2023-12 to 2024-03"),
        ("2024-13", "from 2023-12 to 2024-03"),
        ("February", "give one as YYYY-MM"),
    ],
)
def test_a_wrong_month_is_answered_with_the_existing_months(text: str, message: str) -> None:
    with pytest.raises(asking.NotThere) as missing:
        asking.month_in(text, date(2023, 12, 1), date(2024, 3, 1))
    assert message in sentence(missing.value)


def test_an_unprintable_name_is_escaped_once() -> None:
    missing = asking.NotThere("workspace", "ws_\x1b[31m1\u202e")
    assert r"workspace 'ws_\x1b[31m1\u202e' in" in sentence(missing)


def test_near_matches_are_listed_nearest_first() -> None:
    known = ["fct_credit_ledger", "dim_coupons", "dim_coupon_redemptions"]
    assert asking.near("dim_coupon", known)[0] == "dim_coupons"
    assert asking.near("zzz", known) == []
    with pytest.raises(asking.NotThere) as missing:
        asking.must_be("table", "zzz", known)
    assert (missing.value.wanted, missing.value.near, missing.value.known) == ("zzz", [], known)
    assert "fct_credit_ledger, dim_coupons" in sentence(missing.value)


@pytest.mark.parametrize(
    ("rises", "told"),
    [
        ([], "no bill rises"),
        ([("10.00", "USD")], "bills rise by 10.00 USD a month"),
        ([("10.00", "EUR"), ("5.00", "USD")], "bills rise by 10.00 EUR, 5.00 USD a month"),
        ([("-10.00", "USD")], "bills fall by 10.00 USD a month"),
        (
            [("-10.00", "EUR"), ("5.00", "USD")],
            "bills rise by 5.00 USD a month and fall by 10.00 EUR a month",
        ),
    ],
)
def test_bills_rise_or_fall_when_promotions_run_out(
    rises: list[tuple[str, str]], told: str
) -> None:
    """A follow-up can give more than what it follows."""
    row = {
        "redemptions": 1,
        "workspaces": 1,
        "followed_up": 1,
        "rises": [
            {"monthly_rise_amount": Decimal(value), "currency": currency}
            for value, currency in rises
        ],
    }
    assert words.running_out(row, date(2026, 1, 31)).endswith(f"1 with a follow-up; {told}")


@pytest.mark.parametrize(
    ("rise", "monthly", "told"),
    [
        ("0.00", "0.00", "the bill does not rise"),
        ("20.00", "20.00", "expect 20.00 USD more a month"),
        ("-20.00", "-20.00", "expect 20.00 USD less a month"),
        ("-60.00", "-5.00", "expect 60.00 USD less a bill, 5.00 USD a month"),
        ("0.05", "0.00", "expect 0.05 USD more a bill, 0.00 USD a month"),
        (None, "20.00", "expect 20.00 USD more a month"),
    ],
)
def test_a_bill_rises_or_falls_when_a_promotion_ends(
    rise: str | None, monthly: str, told: str
) -> None:
    coupon = {
        "rise_to_expect": None if rise is None else Decimal(rise),
        "monthly_rise_to_expect": Decimal(monthly),
        "currency": "USD",
    }
    assert _rise(coupon) == told


@pytest.mark.parametrize(
    ("billed", "currency", "told"),
    [
        ("50.00", "USD", "By the recorded terms 50.00 USD was billed, 30.00 USD less."),
        ("80.03", "USD", "By the recorded terms 80.03 USD was billed, 0.03 USD more."),
        (
            "80.02",
            "USD",
            "80.02 USD was billed; the difference of 0.02 USD is rounding, not a finding.",
        ),
        ("82", "JPY", "82 JPY was billed; the difference of 2 JPY is rounding, not a finding."),
        ("77", "JPY", "By the recorded terms 77 JPY was billed, 3 JPY less."),
    ],
)
def test_only_minor_units_are_rounding(billed: str, currency: str, told: str) -> None:
    """In a what-if, a bill differs from what the other terms ask for, and that is not a finding."""
    invoice = {
        "list_amount": Decimal(100),
        "billed_discount_amount": Decimal(100) - Decimal(billed),
        "billed_credit_amount": Decimal(0),
        "credit_amount": Decimal(0),
    }
    data = {"invoice": invoice, "grants": []}
    assert _differs_without_finding(data, currency, Decimal(80), Decimal(billed)) == told


@pytest.mark.parametrize(
    ("finding_type", "variance", "told"),
    [
        (
            "under_discounted",
            "-90.00",
            "Before tax it should have come to 150.00 USD; 240.00 USD was billed, 90.00 USD too much.",
        ),
        # The terms that were asked about give 90.00 more than was due when the bill was judged.
        (
            "credited_beyond_bill",
            "0.00",
            "Before tax it comes to 150.00 USD. By the recorded terms 240.00 USD was billed, 90.00 USD"
            " more.",
        ),
        (
            "under_discounted",
            "-5.00",
            "Before tax it comes to 150.00 USD. By the recorded terms 240.00 USD was billed, 90.00 USD"
            " more.",
        ),
    ],
)
def test_too_much_was_billed_only_where_a_finding_about_these_terms_says_so(
    finding_type: str, variance: str, told: str
) -> None:
    invoice = {
        **bill(datetime(2024, 2, 1)),
        "list_amount": Decimal(300),
        "discount_amount": Decimal(150),
        "credit_amount": Decimal(0),
        "net_amount": Decimal(150),
        "billed_discount_amount": Decimal(60),
        "billed_credit_amount": Decimal(0),
        "billed_net_amount": Decimal(240),
        "discount_variance_amount": Decimal(variance),
        "currency": "USD",
    }
    finding = {
        "finding_type": finding_type,
        "description": "It is said.",
        "review_status": "open",
    }
    data = {
        **{name: [] for name in ("redemptions", "discounts", "grants")},
        "invoice": invoice,
        "findings": [finding],
        "bill_before": None,
    }
    assert " ".join(conclusion(data)) == f"Billing made a mistake. It is said. {told}"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "by the month"),
        ({"interval_count": 1, "billing_interval": "year"}, "by the year"),
        ({"interval_count": 3}, "every 3 months"),
        ({"interval_count": 1, "billing_interval": "once"}, "not recurring"),
    ],
)
def test_how_often_a_bill_recurs_is_one_phrase(changes: dict[str, Any], told: str) -> None:
    assert words.interval(bill(datetime(2024, 2, 1), **changes)) == told


def held(coupon_id: str, status: str, started_at: datetime, ends_at: datetime) -> dict[str, Any]:
    """A redemption that ends by revocation and gave nothing, as `workspace` returns it."""
    nothing = (
        *("coupon_name", "currency", "offer", "uses_left", "granted_amount", "expired_amount"),
        *("next_event", "next_event_at", "monthly_rise_to_expect", "last_discounted_invoice_at"),
        *("runs_out_at", "runs_out_by", "is_followed_up"),
    )
    return {
        **dict.fromkeys(nothing),
        "redemption_id": f"r_{coupon_id}",
        "coupon_id": coupon_id,
        "status": status,
        "standing": "now" if status == "exhausted" else "past",
        "started_at": started_at,
        "ends_at": ends_at,
        "ended_by": "revocation",
        "is_honoured": True,
        "is_derived": False,
        "terms_changed": [],
        "grants_left": [],
        "follow_up_coupon_id": "NEXT",
        "invoices_discounted": 0,
    }


def test_a_coupon_that_ended_before_it_began_is_never_said_to_have_ended() -> None:
    used_up = held("USED", "exhausted", datetime(2024, 1, 1), datetime(2024, 12, 1))
    cancelled = held("CANCELLED", "revoked", datetime(2024, 6, 1), datetime(2024, 3, 1))
    data = {"coupons": [used_up, cancelled], "credit_left": [], "next_event": None}
    said = " ".join(_today({**data, "bill_changes": []}))
    assert said.startswith("Today: list price; nothing is taken off. USED is used up.")
    assert (
        "never in force: its end, 2024-03-01, is not after its start, 2024-06-01 (r_CANCELLED)"
        in " ".join(map(str.strip, _coupon(cancelled)))
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ended_by": "expiry"}, "then NEXT follows"),
        ({"ended_by": None, "ends_at": None}, "NEXT does not follow: this coupon has no end date"),
        (
            {"ended_by": None, "ends_at": None, "uses_left": 0},
            "NEXT does not follow: this coupon has no end date, and using it up is not an expiry",
        ),
        ({}, "NEXT does not follow: this coupon is revoked before it expires"),
        (
            {"ended_by": "eligibility"},
            "NEXT does not follow: eligibility ends before this coupon expires",
        ),
        (
            {"ended_by": "expiry", "ends_at": datetime(2023, 12, 1)},
            "NEXT does not follow: this coupon is never in force",
        ),
        (
            {"ended_by": "expiry", "coupon_id": "NEXT", "is_followed_up": False},
            "NEXT does not follow: no coupon follows itself",
        ),
        (
            {"ended_by": "expiry", "is_followed_up": False, "is_follow_up_known": False},
            "NEXT does not follow: there is no such coupon",
        ),
        (
            {"ended_by": "expiry", "is_followed_up": False},
            "NEXT does not follow: it would be refused then, or follows another coupon first",
        ),
    ],
)
def test_a_follow_up_that_does_not_come_has_its_reason(changes: dict[str, Any], told: str) -> None:
    coupon = held("USED", "exhausted", datetime(2024, 1, 1), datetime(2024, 12, 1))
    said = _coupon({**coupon, "is_follow_up_known": True, **changes})
    assert " ".join(map(str.strip, said)).endswith(told)


@pytest.mark.parametrize(("ended_by", "told"), [("expiry", "expiry"), ("revocation", None)])
def test_for_a_used_up_coupon_only_an_end_with_a_follow_up_is_reported(
    ended_by: str, told: str | None
) -> None:
    coupon = held("USED", "exhausted", datetime(2024, 1, 1), datetime(2024, 12, 1))
    event = {"next_event": ended_by, "next_event_at": coupon["ends_at"]}
    assert _next_event({**coupon, **event})["next_event"] == told


@pytest.mark.parametrize(
    ("issued_at", "told"),
    [
        (datetime(2023, 12, 31, 23, 59), "before 2024-01-01 00:00 UTC"),
        (datetime(2024, 1, 1), "before 2024-01-01 00:00:00.000001 UTC"),
    ],
)
def test_instants_within_the_same_minute_are_given_exactly(issued_at: datetime, told: str) -> None:
    starts = {"started_at": datetime(2024, 1, 1, microsecond=1)}
    of = bill(issued_at)
    found = verdict({**REDEMPTION, **starts}, of, [of])
    assert found is not None
    assert found[2] == f"it does not start {told}"


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (datetime(2024, 11, 2), ("2024-11-01 00:00 UTC", "2024-11-02 00:00 UTC")),
        (
            datetime(2024, 11, 1, microsecond=1),
            ("2024-11-01 00:00:00 UTC", "2024-11-01 00:00:00.000001 UTC"),
        ),
        (None, ("2024-11-01 00:00 UTC", "none")),
    ],
)
def test_old_and_new_terms_are_distinguished(after: datetime | None, told: tuple[str, str]) -> None:
    before = datetime(2024, 11, 1)
    assert told == (
        words.term("redeem_by", before, None, after),
        words.term("redeem_by", after, None, before),
    )


def redeemed(
    redemption_id: str, coupon_id: str, at: datetime, *, is_derived: bool = False, **more: Any
) -> dict[str, Any]:
    return {
        "redemption_id": redemption_id,
        "coupon_id": coupon_id,
        "redeemed_at": at,
        "is_derived": is_derived,
        "subscription_id": None,
        "follow_up_coupon_id": None,
        "redeem_by": None,
        "max_redemptions": None,
        "once_per": "user",
        "refusal_reason": None,
        **more,
    }


DAY = datetime(2024, 3, 5)


@pytest.mark.parametrize(
    ("refused", "others", "told"),
    [
        pytest.param(
            {"refusal_reason": "prior_coupon"},
            [redeemed("a", "OLD", DAY, follow_up_coupon_id="C"), redeemed("b", "HALF", DAY)],
            "HALF was redeemed on 2024-03-05",
            id="the coupon that C follows is no prior coupon",
        ),
        pytest.param(
            {"refusal_reason": "prior_coupon"},
            [redeemed("a", "OLD", DAY, follow_up_coupon_id="C")],
            "on another workspace",
            id="only the coupon that C follows here",
        ),
        pytest.param(
            {"refusal_reason": "duplicate_for_workspace"},
            [redeemed("a~follow-up", "C", DAY, is_derived=True), redeemed("b", "C", DAY)],
            "before, on 2024-03-05 (b)",
            id="a derived redemption is in nobody's way on record",
        ),
        pytest.param(
            {"refusal_reason": "duplicate_for_workspace", "is_derived": True},
            [redeemed("z", "C", datetime(2024, 9, 1))],
            "the workspace has a redemption of this coupon of its own, on 2024-09-01 (z)",
            id="a later one on record is in the way of a derived one",
        ),
        pytest.param(
            {"refusal_reason": "redeemed_after_close", "redeem_by": datetime(2024, 5, 1)},
            [],
            "redeemed on 2024-06-01, the coupon closed on 2024-05-01",
            id="closed on another day",
        ),
        pytest.param(
            {"refusal_reason": "redeemed_after_close", "redeem_by": datetime(2024, 6, 1)},
            [],
            "redeemed at 2024-06-01 00:00:00.500000 UTC, the coupon closed at 2024-06-01 00:00:00 UTC",
            id="closed within the same minute",
        ),
    ],
)
def test_a_refusal_names_what_it_is_due_to(
    refused: dict[str, Any], others: list[dict[str, Any]], told: str
) -> None:
    at = datetime(2024, 6, 1, microsecond=500_000)
    redemption = redeemed("r", "C", at) | refused
    everything = sorted(
        [*others, redemption], key=lambda one: (one["redeemed_at"], one["redemption_id"])
    )
    assert told in words.refusal(redemption, everything)


@pytest.mark.parametrize(
    ("reason", "discount", "credit", "text"),
    [
        (
            "void",
            "573.52",
            "0.00",
            "It shows a discount of 573.52 USD, which does not count either.",
        ),
        (
            *("void", "5.00", "7.00"),
            "It shows a discount of 5.00 USD and credit of 7.00 USD, which do not count either: credit"
            " that it drew can be drawn again.",
        ),
        ("draft", "0.00", "7.00", "It shows credit of 7.00 USD, which does not count yet."),
        ("draft", "0.00", "0.00", None),
    ],
)
def test_a_bill_that_does_not_count_shows_only_what_it_has(
    reason: str, discount: str, credit: str, text: str | None
) -> None:
    invoice = {
        "reason": reason,
        "currency": "USD",
        "issued_at": datetime(2025, 1, 1),
        "billed_discount_amount": Decimal(discount),
        "billed_credit_amount": Decimal(credit),
    }
    assert words.does_not_count(invoice, date(2025, 6, 30))[1:] == ([text] if text else [])
