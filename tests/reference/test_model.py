"""The reference model against the specification's own examples, its edges and its invariants.

The tests of the model and of the histories it is tried on belong here; the comparison of the model with
what the pipeline publishes does not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings

from dagster_project.feeds import feeds
from tests.reference.histories import (
    AS_OF,
    FEEDS,
    ID_COLUMNS,
    Records,
    as_deliveries,
    combine,
    sample_worlds,
    workspace_histories,
)
from tests.reference.model import MART_NAMES, publish
from tests.reference.outlook import look_ahead, run_rate
from tests.reference.rules import (
    ReportingCalendar,
    Row,
    add_months,
    effective_percent,
    read_coupon_versions,
    round_half_away,
    to_major,
    to_minor,
)

MICROSECOND = timedelta(microseconds=1)
START = datetime(2025, 1, 10, 9)
Marts = dict[str, list[Row]]
Record = dict[str, Any]


# ------------------------------------------------------------------------ small hand-made worlds


def coupon(coupon_id: str = "ten", **columns: object) -> Record:
    """A coupon; by default 10% off for ever."""
    amounts = ("percent_off", "amount_off", "credit_amount")
    record: Record = {
        "coupon_id": coupon_id,
        "coupon_name": coupon_id,
        "program": "special",
        "duration": "forever",
        **columns,
    }
    given = [name for name in amounts if name in columns] or ["percent_off"]
    record.setdefault("percent_off", Decimal(10) if given == ["percent_off"] else None)
    record["discount_type"] = "credit" if given == ["credit_amount"] else given[0]
    if given != ["percent_off"]:
        record.setdefault("currency", "USD")
    return record


def redemption(redemption_id: str = "r", coupon_id: str = "ten", **columns: object) -> Record:
    """A redemption by workspace `w` at START."""
    return {
        "redemption_id": redemption_id,
        "coupon_id": coupon_id,
        "workspace_id": "w",
        "redeemed_at": START,
        **columns,
    }


def invoice(invoice_id: str, issued_at: datetime = START, **columns: object) -> Record:
    """A paid invoice of 100.00 USD, billed at list unless it says otherwise."""
    record: Record = {
        "invoice_id": invoice_id,
        "workspace_id": "w",
        "status": "paid",
        "plan": "team",
        "billing_interval": "month",
        "currency": "USD",
        "period_start": date(2025, 1, 1),
        "period_end": date(2025, 2, 1),
        "issued_at": issued_at,
        "list_amount": Decimal(100),
        "discount_amount": Decimal(0),
        "credit_amount": Decimal(0),
        "tax_amount": Decimal(0),
        "mtus": None,
        **columns,
    }
    billed = Decimal(str(record["list_amount"])) - Decimal(str(record["discount_amount"]))
    record.setdefault("total_amount", billed - Decimal(str(record["credit_amount"])))
    return record


def credit_note(credit_note_id: str, invoice_id: str, **columns: object) -> Record:
    """An issued credit note of 10.00 USD, a month after START."""
    return {
        "credit_note_id": credit_note_id,
        "invoice_id": invoice_id,
        "status": "issued",
        "issued_at": START + timedelta(31),
        "currency": "USD",
        "amount": Decimal(10),
        "updated_at": START,
        **columns,
    }


def marts_of(
    coupons: Sequence[Record] = (),
    redemptions: Sequence[Record] = (),
    invoices: Sequence[Record] = (),
    workspaces: Iterable[str] = ("w", "v"),
    as_of: date = AS_OF,
    credit_notes: Sequence[Record] = (),
    budgets: Sequence[Record] = (),
    time_zone: str = "UTC",
) -> Marts:
    """What is published of these records."""
    known = [{"workspace_id": name, "created_at": START} for name in workspaces]
    return publish(
        {
            "workspaces": known,
            "coupons": coupons,
            "redemptions": redemptions,
            "invoices": invoices,
            "credit_notes": credit_notes,
            "budgets": budgets,
        },
        as_of,
        time_zone,
    )


def by_id(marts: Marts, mart: str, key: str, column: str) -> dict[object, object]:
    """One column of a mart by its key."""
    return {row[key]: row[column] for row in marts[mart]}


def discounts(marts: Marts) -> dict[object, object]:
    """Expected discount by invoice."""
    return by_id(marts, "fct_discounted_charges", "invoice_id", "discount_amount")


def credit_of(marts: Marts) -> dict[object, object]:
    """Expected credit by invoice."""
    return by_id(marts, "fct_discounted_charges", "invoice_id", "credit_amount")


def of_redemptions(marts: Marts, column: str) -> dict[object, object]:
    """One column of dim_coupon_redemptions by redemption."""
    return by_id(marts, "dim_coupon_redemptions", "redemption_id", column)


def finding_ids(marts: Marts) -> set[object]:
    """Ids of all findings."""
    return {row["finding_id"] for row in marts["fct_audit_findings"]}


def entries(marts: Marts) -> list[tuple[object, ...]]:
    """The credit ledger, shortened."""
    columns = ("grant_id", "entry_type", "invoice_id", "amount", "balance_amount")
    return [tuple(row[column] for column in columns) for row in marts["fct_credit_ledger"]]


# ------------------------------------------------------------------------------------------- R0


def test_halves_round_away_from_zero_on_both_sides() -> None:
    quotients = [(5, 10), (-5, 10), (4, 10), (-4, 10), (15, 10), (25, 10), (-25, 10), (0, 7)]
    assert [round_half_away(*pair) for pair in quotients] == [1, -1, 0, 0, 2, 3, -3, 0]


def test_months_are_added_from_the_original_start_and_clamp_to_the_end_of_the_month() -> None:
    start = datetime(2025, 1, 31, 8)
    assert add_months(start, 1) == datetime(2025, 2, 28, 8)
    assert add_months(start, 2) == datetime(2025, 3, 31, 8)
    assert add_months(start, 12) == datetime(2026, 1, 31, 8)
    assert add_months(datetime(2023, 1, 31), 13) == datetime(2024, 2, 29)
    assert add_months(datetime(2024, 2, 29), 12) == datetime(2025, 2, 28)
    assert add_months(start, 12 * 8000) is None


def test_yen_has_no_minor_unit_and_two_places_when_published() -> None:
    assert to_minor(Decimal("120"), "JPY") == 120
    assert to_minor(Decimal("120"), "USD") == 12_000
    assert str(to_major(120, "JPY")) == "120.00"
    assert str(to_major(-1, "USD")) == "-0.01"
    with pytest.raises(ValueError, match="more places"):
        to_minor(Decimal("0.5"), "JPY")


def test_effective_percent_has_four_places_and_none_of_nothing() -> None:
    assert str(effective_percent(1, 3)) == "33.3333"
    assert str(effective_percent(2, 3)) == "66.6667"
    assert effective_percent(0, 0) is None


def test_a_wrongly_typed_value_is_named() -> None:
    with pytest.raises(TypeError, match="issued_at: expected datetime, got '2025-01-01'"):
        publish({"invoices": [invoice("i") | {"issued_at": "2025-01-01"}]}, AS_OF)


@pytest.mark.parametrize(
    ("zone", "day", "first"),
    [
        ("UTC", date(2025, 7, 1), datetime(2025, 7, 1)),
        ("Asia/Kathmandu", date(2025, 7, 1), datetime(2025, 6, 30, 18, 15)),
        ("Australia/Eucla", date(2025, 7, 1), datetime(2025, 6, 30, 15, 15)),
        ("America/St_Johns", date(2025, 7, 1), datetime(2025, 7, 1, 2, 30)),
        ("Europe/Berlin", date(2025, 3, 30), datetime(2025, 3, 29, 23)),
        ("Europe/Berlin", date(2025, 3, 31), datetime(2025, 3, 30, 22)),
        # The calendar of Apia has no 30 December 2011, that of Kiritimati no 31 December 1994.
        ("Pacific/Apia", date(2011, 12, 29), datetime(2011, 12, 29, 10)),
        ("Pacific/Apia", date(2011, 12, 30), datetime(2011, 12, 30, 10)),
        ("Pacific/Apia", date(2011, 12, 31), datetime(2011, 12, 30, 10)),
        ("Pacific/Apia", date(2012, 1, 1), datetime(2011, 12, 31, 10)),
        ("Pacific/Kiritimati", date(1995, 1, 1), datetime(1994, 12, 31, 10)),
        ("Pacific/Kiritimati", date(1979, 4, 1), datetime(1979, 4, 1, 10, 40)),
        # Clocks that leap over midnight, and clocks that go back over it.
        ("America/Sao_Paulo", date(2018, 11, 4), datetime(2018, 11, 4, 3)),
        ("America/Toronto", date(1919, 3, 31), datetime(1919, 3, 31, 4, 30)),
        ("America/Havana", date(2024, 11, 3), datetime(2024, 11, 3, 4)),
        ("America/St_Johns", date(2010, 11, 7), datetime(2010, 11, 7, 2, 30)),
    ],
)
def test_a_day_begins_with_its_first_instant_in_the_reporting_time_zone(
    zone: str, day: date, first: datetime
) -> None:
    calendar = ReportingCalendar(ZoneInfo(zone))
    assert calendar.first_instant(day) == first
    assert calendar.day_of(first) >= day > calendar.day_of(first - MICROSECOND)


def test_days_and_months_are_those_of_the_reporting_time_zone_and_windows_are_not() -> None:
    end, last = datetime(2025, 6, 30, 18, 15), datetime(2025, 5, 31, 18, 15)
    marts = marts_of(
        [coupon(duration="repeating", duration_months=1)],
        [redemption(redeemed_at=datetime(2025, 4, 30, 18, 15))],
        [
            invoice("may", last - MICROSECOND),
            invoice("june", last),
            invoice("known", end - MICROSECOND),
            invoice("unknown", end),
        ],
        time_zone="Asia/Kathmandu",
    )
    may, june = date(2025, 5, 1), date(2025, 6, 1)
    months = by_id(marts, "fct_discounted_charges", "invoice_id", "billing_month")
    assert months == {"may": may, "june": june, "known": june}
    # One month from 30 April is 30 May, though it is the first of May in Kathmandu.
    assert of_redemptions(marts, "ends_at") == {"r": datetime(2025, 5, 30, 18, 15)}
    assert discounts(marts) == {"may": 0, "june": 0, "known": 0}


def test_withdrawn_currencies_have_the_places_they_had() -> None:
    assert to_minor(Decimal("120"), "BYR") == 120
    assert to_minor(Decimal("120"), "HRK") == 12_000


# ------------------------------------------------------------------------------------------- R1


def test_only_issued_open_paid_and_uncollectible_invoices_of_the_past_count() -> None:
    midnight = datetime(2025, 7, 1)
    invoices = [
        invoice(status, status=status)
        for status in ("draft", "open", "paid", "void", "uncollectible")
    ]
    invoices += [invoice("last", midnight - MICROSECOND), invoice("late", midnight)]
    assert set(discounts(marts_of(invoices=invoices))) == {"open", "paid", "uncollectible", "last"}


def test_a_void_invoice_uses_up_no_coupon_and_no_credit() -> None:
    marts = marts_of(
        [coupon(duration="once"), coupon("credit", credit_amount=Decimal(90))],
        [redemption(), redemption("s", "credit")],
        [invoice("a", status="void"), invoice("b")],
    )
    assert discounts(marts) == {"b": Decimal("10.00")}
    assert credit_of(marts) == {"b": Decimal("90.00")}


def test_a_negative_bill_counts_and_takes_draws_and_uses_nothing() -> None:
    marts = marts_of(
        [coupon(duration="once"), coupon("credit", credit_amount=Decimal(500), duration="once")],
        [redemption(), redemption("s", "credit")],
        [
            invoice("back", START, list_amount=Decimal(-40), discountable_amount=Decimal(0)),
            invoice("bill", START + timedelta(1)),
        ],
    )
    assert discounts(marts) == {"back": 0, "bill": 10}
    assert credit_of(marts) == {"back": 0, "bill": 90}
    rows = {row["invoice_id"]: row for row in marts["fct_discounted_charges"]}
    assert (rows["back"]["net_amount"], rows["back"]["discountable_amount"]) == (-40, 0)
    assert rows["back"]["audit_status"] == "matched"
    assert [row["invoice_id"] for row in marts["fct_credit_draws"]] == ["bill"]
    assert marts["fct_percent_off_variance_monthly"][0]["bill_amount"] == 100


def test_money_taken_off_a_negative_bill_is_found() -> None:
    negative: Record = {"list_amount": Decimal(-40), "credit_amount": Decimal(7)}
    marts = marts_of(
        [coupon(), coupon("credit", credit_amount=Decimal(50))],
        [redemption(), redemption("s", "credit")],
        [invoice("i", discount_amount=Decimal(4), **negative)],
    )
    assert finding_ids(marts) == {"over_discounted:i", "credit_over_drawn:i"}


# ------------------------------------------------------------------------------------------- R2


def reasons(
    coupons: Sequence[Record], redemptions: Sequence[Record], workspaces: Iterable[str] = "wvx"
) -> dict[object, object]:
    """Refusal reason by redemption."""
    return of_redemptions(marts_of(coupons, redemptions, workspaces=workspaces), "refusal_reason")


def test_unknown_coupons_and_workspaces_are_refused_in_that_order() -> None:
    assert reasons(
        [coupon()],
        [
            redemption("a", "missing", workspace_id="missing"),
            redemption("b", workspace_id="missing"),
            redemption("c"),
        ],
    ) == {"a": "unknown_coupon", "b": "unknown_workspace", "c": None}


def test_a_coupon_can_be_redeemed_at_its_closing_instant_and_not_after() -> None:
    assert reasons(
        [coupon(redeem_by=START)],
        [
            redemption("a"),
            redemption("b", workspace_id="v", redeemed_at=START + MICROSECOND),
        ],
    ) == {"a": None, "b": "redeemed_after_close"}


def test_ties_are_broken_by_redemption_id_and_a_refused_redemption_is_earlier_too() -> None:
    found = reasons(
        [coupon()],
        [
            redemption("z", user_id="u", workspace_id="v"),
            redemption("b", user_id="u"),
            redemption("a"),
        ],
    )
    assert found == {"a": None, "b": "duplicate_for_workspace", "z": "duplicate_for_user"}


def test_no_user_is_not_the_same_user() -> None:
    assert set(
        reasons([coupon()], [redemption("a"), redemption("b", workspace_id="v")]).values()
    ) == {None}


def test_a_prior_coupon_refuses_unless_this_coupon_is_its_follow_up() -> None:
    coupons = [
        coupon("other"),
        coupon("leads", follow_up_coupon_id="startup"),
        coupon("startup", requires_no_prior_coupon=True),
    ]
    second = START + MICROSECOND
    after_other = [redemption("a", "other"), redemption("s", "startup", redeemed_at=second)]
    after_leads = [redemption("a", "leads"), redemption("s", "startup", redeemed_at=second)]
    by_user = [
        redemption("a", "missing", user_id="u", workspace_id="v"),
        redemption("s", "startup", user_id="u", redeemed_at=second),
    ]
    later = [redemption("s", "startup"), redemption("t", "other", redeemed_at=second)]
    assert reasons(coupons, after_other)["s"] == "prior_coupon"
    assert reasons(coupons, after_leads)["s"] is None
    assert reasons(coupons, by_user)["s"] == "prior_coupon"
    assert reasons(coupons, later) == {"s": None, "t": None}


def test_max_redemptions_counts_earlier_ones_not_refused_for_another_reason() -> None:
    found = reasons(
        [coupon(max_redemptions=1)],
        [
            redemption("a", workspace_id="missing"),
            redemption("b", workspace_id="w"),
            redemption("c", workspace_id="v"),
            redemption("d", workspace_id="x"),
        ],
    )
    assert found == {
        "a": "unknown_workspace",
        "b": None,
        "c": "over_redeemed",
        "d": "over_redeemed",
    }


def test_a_redemption_made_after_the_as_of_day_appears_nowhere() -> None:
    midnight = datetime(2025, 7, 1)
    marts = marts_of(
        [coupon()],
        [
            redemption("a", redeemed_at=midnight),
            redemption("b", workspace_id="v", redeemed_at=midnight - MICROSECOND),
        ],
    )
    assert list(of_redemptions(marts, "status")) == ["b"]


@pytest.mark.parametrize(
    ("once_per", "expected"),
    [
        (None, ["duplicate_for_workspace", "duplicate_for_workspace", "duplicate_for_user"]),
        ("user", ["duplicate_for_workspace", "duplicate_for_workspace", "duplicate_for_user"]),
        ("workspace", ["duplicate_for_workspace", "duplicate_for_workspace", None]),
        ("subscription", ["duplicate_for_workspace", None, None]),
        ("unlimited", [None, None, None]),
    ],
)
def test_a_coupon_says_how_often_it_may_be_redeemed(
    once_per: str | None, expected: list[str | None]
) -> None:
    second: Record = {"redeemed_at": START + MICROSECOND, "user_id": "u"}
    found = reasons(
        [coupon(once_per=once_per)],
        [
            redemption("first", user_id="u", subscription_id="s"),
            redemption("same", subscription_id="s", **second),
            redemption("other", subscription_id="t", **second),
            redemption("elsewhere", workspace_id="v", subscription_id="s", **second),
        ],
    )
    assert [found[name] for name in ("same", "other", "elsewhere")] == expected


def test_of_subscriptions_empty_equals_empty_and_nothing_else() -> None:
    found = reasons(
        [coupon(once_per="subscription")],
        [
            redemption("a"),
            redemption("b"),
            redemption("c", subscription_id="s"),
        ],
    )
    assert found == {"a": None, "b": "duplicate_for_workspace", "c": None}


# ------------------------------------------------------------------------------------- R3 and R5


def test_a_window_includes_its_start_and_excludes_its_end() -> None:
    end = datetime(2025, 2, 10, 9)
    marts = marts_of(
        [coupon(duration="repeating", duration_months=1)],
        [redemption()],
        [
            invoice("1", START - MICROSECOND),
            invoice("2", START),
            invoice("3", end - MICROSECOND),
            invoice("4", end),
        ],
    )
    taken = Decimal("10.00")
    assert discounts(marts) == {"1": 0, "2": taken, "3": taken, "4": 0}
    assert of_redemptions(marts, "first_list_rate_invoice_at") == {"r": end}
    assert of_redemptions(marts, "last_discounted_invoice_at") == {"r": end - MICROSECOND}


@pytest.mark.parametrize(
    ("columns", "ended_by", "days"),
    [
        ({}, None, None),
        ({"ends_at": START + timedelta(5)}, "expiry", 5),
        ({"revoked_at": START + timedelta(5)}, "revocation", 5),
        ({"eligible_until": START + timedelta(5)}, "eligibility", 5),
        ({"ends_at": START + timedelta(5), "revoked_at": START + timedelta(5)}, "expiry", 5),
        (
            {"eligible_until": START + timedelta(5), "revoked_at": START + timedelta(5)},
            "revocation",
            5,
        ),
        (
            {"ends_at": START + timedelta(6), "eligible_until": START + timedelta(5)},
            "eligibility",
            5,
        ),
    ],
)
def test_the_least_end_counts_and_in_a_tie_the_first(
    columns: Record, ended_by: str | None, days: int | None
) -> None:
    marts = marts_of([coupon()], [redemption(**columns)])
    end = None if days is None else START + timedelta(days)
    assert of_redemptions(marts, "ended_by") == {"r": ended_by}
    assert of_redemptions(marts, "ends_at") == {"r": end}


def test_a_redemption_that_ends_as_it_starts_is_never_in_force() -> None:
    marts = marts_of([coupon()], [redemption(revoked_at=START)], [invoice("a")])
    assert discounts(marts) == {"a": 0}
    assert of_redemptions(marts, "status") == {"r": "revoked"}


def test_once_is_the_first_eligible_invoice_and_an_empty_one_uses_nothing_up() -> None:
    marts = marts_of(
        [coupon(duration="once", applies_to_plan="team")],
        [redemption()],
        [
            invoice("1", START, plan="free"),
            invoice("2", START, list_amount=Decimal(0)),
            invoice("3b", START + timedelta(1)),
            invoice("3a", START + timedelta(1)),
            invoice("4", START + timedelta(2), list_amount=Decimal(0)),
        ],
    )
    assert [key for key, amount in discounts(marts).items() if amount] == ["3a"]
    assert of_redemptions(marts, "status") == {"r": "exhausted"}


def test_plan_interval_and_currency_must_fit_but_percent_off_ignores_its_currency() -> None:
    marts = marts_of(
        [
            coupon("dollars", amount_off=Decimal(5), applies_to_interval="month"),
            coupon("percent", currency="EUR", applies_to_plan="team"),
        ],
        [
            redemption("d", "dollars", application_order=1),
            redemption("p", "percent"),
        ],
        [
            invoice("both"),
            invoice("yearly", billing_interval="year"),
            invoice("other plan", plan="Team"),
            invoice("yen", currency="JPY"),
        ],
    )
    assert discounts(marts) == {
        "both": Decimal("14.50"),
        "yearly": Decimal(10),
        "other plan": Decimal(5),
        "yen": Decimal(10),
    }


@pytest.mark.parametrize(
    ("amounts", "uses_left"),
    [
        ({"discountable_amount": Decimal(0)}, {"d": 1, "c": 0}),
        ({"creditable_amount": Decimal(0)}, {"d": 0, "c": 1}),
        ({"list_amount": Decimal(0)}, {"d": 1, "c": 1}),
        (
            {"discountable_amount": Decimal("0.01"), "creditable_amount": Decimal("0.01")},
            {"d": 0, "c": 0},
        ),
    ],
)
def test_an_invoice_uses_up_only_what_may_act_on_it(
    amounts: Record, uses_left: dict[object, object]
) -> None:
    marts = marts_of(
        [coupon("d", duration="once"), coupon("c", credit_amount=Decimal(500), duration="once")],
        [redemption("d", "d"), redemption("c", "c")],
        [invoice("i", **amounts)],
    )
    assert of_redemptions(marts, "uses_left") == uses_left


def test_uses_left_is_empty_where_unlimited_or_refused() -> None:
    marts = marts_of(
        [coupon(), coupon("three", duration="repeating", duration_invoices=3)],
        [redemption(), redemption("n", "three"), redemption("again", "three")],
        [invoice("i")],
    )
    assert of_redemptions(marts, "uses_left") == {"r": None, "again": 2, "n": None}


def test_a_redemption_of_one_subscription_covers_no_other_and_one_of_none_covers_all() -> None:
    marts = marts_of(
        [coupon("a"), coupon("b", percent_off=Decimal(50))],
        [redemption("one", "a", subscription_id="s"), redemption("all", "b")],
        [
            invoice("mine", subscription_id="s"),
            invoice("other", subscription_id="t"),
            invoice("none"),
        ],
    )
    covering = {
        (row["invoice_id"], row["redemption_id"]) for row in marts["fct_discount_applications"]
    }
    assert covering == {("mine", "all"), ("mine", "one"), ("other", "all"), ("none", "all")}


def test_a_coupon_for_monthly_bills_covers_quarterly_ones_too() -> None:
    marts = marts_of(
        [coupon(applies_to_interval="month")],
        [redemption()],
        [
            invoice("quarter", interval_count=3),
            invoice("weekly", billing_interval="week"),
            invoice("single", billing_interval="once"),
        ],
    )
    assert discounts(marts) == {"quarter": 10, "weekly": 0, "single": 0}


# ------------------------------------------------------------------------------------------- R4


def follow_up_world(*more: Record, **columns: object) -> Marts:
    """20% for a month that gives way to 10%, with more redemptions on record."""
    return marts_of(
        [
            coupon(
                "first",
                percent_off=Decimal(20),
                duration="repeating",
                duration_months=1,
                follow_up_coupon_id="ten",
            ),
            coupon(duration="repeating", duration_months=2, follow_up_coupon_id="first"),
        ],
        [redemption("a", "first", **columns), *more],
    )


def test_a_follow_up_is_derived_at_the_instant_of_expiry_and_has_none_of_its_own() -> None:
    marts = follow_up_world(user_id="u")
    rows = {row["redemption_id"]: row for row in marts["dim_coupon_redemptions"]}
    assert set(rows) == {"a", "a~follow-up"}
    derived = rows["a~follow-up"]
    assert derived["is_derived"] is True
    assert derived["is_honoured"] is True
    assert derived["redeemed_at"] == derived["started_at"] == datetime(2025, 2, 10, 9)
    assert derived["ends_at"] == datetime(2025, 4, 10, 9)


def test_nothing_is_derived_after_a_revocation_or_before_the_end_has_passed() -> None:
    midnight = datetime(2025, 7, 1)
    revoked = follow_up_world(revoked_at=START + timedelta(1))
    ending = follow_up_world(ends_at=midnight)
    ended = follow_up_world(ends_at=midnight - MICROSECOND)
    assert set(of_redemptions(revoked, "status")) == {"a"}
    assert set(of_redemptions(ending, "status")) == {"a"}
    assert of_redemptions(ended, "status") == {"a": "expired", "a~follow-up": "active"}


def test_a_follow_up_on_record_is_used_and_found_late_unless_it_starts_at_the_end() -> None:
    end = datetime(2025, 2, 10, 9)
    prompt = follow_up_world(redemption("b", redeemed_at=START, starts_at=end))
    late = follow_up_world(redemption("b", redeemed_at=end + MICROSECOND))
    before = follow_up_world(redemption("b", redeemed_at=START - timedelta(9), ends_at=START))
    assert set(of_redemptions(prompt, "status")) == {"a", "b"}
    assert finding_ids(prompt) == set()
    assert finding_ids(late) == {"follow_up_not_immediate:b"}
    assert late["fct_audit_findings"][0]["occurred_at"] == end + MICROSECOND
    assert finding_ids(before) == set()


def test_a_follow_up_derived_for_a_user_who_has_it_elsewhere_is_refused_without_a_finding() -> None:
    elsewhere = redemption(
        "b", workspace_id="v", user_id="u", redeemed_at=datetime(2025, 6, 1), revoked_at=START
    )
    marts = follow_up_world(elsewhere, user_id="u")
    assert of_redemptions(marts, "refusal_reason")["a~follow-up"] == "duplicate_for_user"
    assert finding_ids(marts) == set()


def test_of_two_coupons_with_one_follow_up_the_first_to_expire_gets_it() -> None:
    short = {"duration": "repeating", "follow_up_coupon_id": "ten"}
    marts = marts_of(
        [
            coupon("one", duration_months=1, **short),
            coupon("two", duration_months=2, **short),
            coupon(),
            coupon("self", duration="repeating", duration_months=1, follow_up_coupon_id="self"),
        ],
        [redemption("b", "one"), redemption("a", "two"), redemption("c", "self")],
    )
    assert of_redemptions(marts, "refusal_reason") == {
        "a": None,
        "b": None,
        "c": None,
        "b~follow-up": None,
        "a~follow-up": "duplicate_for_workspace",
    }
    assert finding_ids(marts) == set()


def test_a_follow_up_is_derived_for_nobody_though_nobody_has_it_elsewhere() -> None:
    marts = follow_up_world(redemption("b", workspace_id="v"))
    assert of_redemptions(marts, "refusal_reason")["a~follow-up"] is None


def test_a_chain_of_three_phases_is_derived_link_by_link_and_then_the_bill_is_at_list() -> None:
    phases = [
        coupon(
            name,
            percent_off=Decimal(percent),
            duration="repeating",
            duration_months=2,
            follow_up_coupon_id=then,
        )
        for name, percent, then in (("half", 50, "25"), ("25", 25, "ten"), ("ten", 10, None))
    ]
    marts = marts_of(
        phases,
        [redemption("a", "half", redeemed_at=datetime(2025, 1, 1), subscription_id="s")],
        [
            invoice(f"{month}", datetime(2025, month, 1), subscription_id="s")
            for month in range(1, 8)
        ],
        as_of=date(2025, 7, 1),
    )
    assert list(discounts(marts).values()) == [50, 50, 25, 25, 10, 10, 0]
    assert of_redemptions(marts, "started_at") == {
        "a": datetime(2025, 1, 1),
        "a~follow-up": datetime(2025, 3, 1),
        "a~follow-up~follow-up": datetime(2025, 5, 1),
    }
    assert set(of_redemptions(marts, "promotion_id").values()) == {"a"}
    assert set(of_redemptions(marts, "subscription_id").values()) == {"s"}


def test_a_chain_comes_to_no_coupon_twice() -> None:
    marts = marts_of(
        [
            coupon(name, duration="repeating", duration_months=1, follow_up_coupon_id=then)
            for name, then in (("x", "y"), ("y", "z"), ("z", "y"))
        ],
        [redemption("a", "x")],
    )
    assert list(of_redemptions(marts, "coupon_id").values()) == ["x", "y", "z"]
    there_and_back = marts_of(
        [
            coupon(name, duration="repeating", duration_months=1, follow_up_coupon_id=then)
            for name, then in (("x", "y"), ("y", "x"))
        ],
        [redemption("a", "x")],
    )
    assert list(of_redemptions(there_and_back, "coupon_id").values()) == ["x", "y"]


def test_a_derived_redemption_is_followed_up_by_one_on_record_where_there_is_one() -> None:
    coupons = [
        coupon(name, duration="repeating", duration_months=1, follow_up_coupon_id=then)
        for name, then in (("x", "y"), ("y", "z"), ("z", None))
    ]
    third = datetime(2025, 3, 10, 9)
    late = marts_of(
        coupons,
        [redemption("a", "x"), redemption("b", "z", redeemed_at=third + MICROSECOND)],
    )
    prompt = marts_of(coupons, [redemption("a", "x"), redemption("b", "z", redeemed_at=third)])
    assert set(of_redemptions(late, "status")) == {"a", "a~follow-up", "b"}
    assert finding_ids(late) == {"follow_up_not_immediate:b"}
    assert finding_ids(prompt) == set()
    assert of_redemptions(prompt, "promotion_id")["b"] == "a"


@pytest.mark.parametrize(
    ("own", "on_record", "derived"),
    [("s", "s", False), ("s", "t", True), (None, "t", False), ("s", None, False)],
)
def test_a_follow_up_of_another_subscription_is_not_on_record_for_this_one(
    own: str | None, on_record: str | None, derived: bool
) -> None:
    coupons = [
        coupon("x", duration="repeating", duration_months=1, follow_up_coupon_id="ten"),
        coupon(once_per="subscription"),
    ]
    marts = marts_of(
        coupons,
        [
            redemption("a", "x", subscription_id=own),
            redemption("b", redeemed_at=START + timedelta(40), subscription_id=on_record),
        ],
    )
    assert ("a~follow-up" in of_redemptions(marts, "status")) is derived
    assert (finding_ids(marts) == set()) is derived


@pytest.mark.parametrize(
    ("once_per", "reason"),
    [
        (None, "duplicate_for_workspace"),
        ("workspace", "duplicate_for_workspace"),
        ("subscription", None),
        ("unlimited", None),
    ],
)
def test_of_a_derived_follow_up_only_what_its_coupon_asks_is_asked(
    once_per: str | None, reason: str | None
) -> None:
    marts = marts_of(
        [
            coupon("x", duration="repeating", duration_months=1, follow_up_coupon_id="ten"),
            coupon(once_per=once_per),
        ],
        [
            redemption("a", "x", subscription_id="s"),
            redemption("b", redeemed_at=datetime(2025, 6, 1), subscription_id="t"),
        ],
    )
    assert of_redemptions(marts, "refusal_reason")["a~follow-up"] == reason
    assert finding_ids(marts) == set()


def test_a_promotion_begins_with_the_redemption_at_whose_end_the_follow_up_starts() -> None:
    short = {"duration": "repeating", "follow_up_coupon_id": "ten"}
    coupons = [
        coupon("one", duration_months=1, **short),
        coupon("two", duration_months=2, **short),
        coupon(),
    ]
    before = [redemption("a", "one"), redemption("b", "two")]

    def promotion(at: datetime) -> object:
        marts = marts_of(coupons, [*before, redemption("c", redeemed_at=at)])
        return of_redemptions(marts, "promotion_id")["c"]

    assert promotion(datetime(2025, 2, 10, 9)) == "a"
    assert promotion(datetime(2025, 3, 10, 9)) == "b"
    assert promotion(datetime(2025, 4, 10, 9)) == "a"


def test_a_follow_up_on_record_is_a_promotion_of_its_own_until_what_it_follows_has_ended() -> None:
    end = datetime(2025, 6, 10, 9)
    coupons = [coupon("x", follow_up_coupon_id="ten"), coupon()]
    redemptions = [
        redemption("a", "x", ends_at=end),
        redemption("b", starts_at=end),
    ]

    def promotion(as_of: date) -> object:
        return of_redemptions(marts_of(coupons, redemptions, as_of=as_of), "promotion_id")["b"]

    assert promotion(date(2025, 6, 9)) == "b"
    assert promotion(date(2025, 6, 10)) == "a"


def test_a_circle_of_redemptions_dated_back_is_one_promotion_that_begins_with_the_first_start() -> (
    None
):
    marts = marts_of(
        [
            coupon(name, duration="repeating", duration_months=1, follow_up_coupon_id=then)
            for name, then in (("x", "y"), ("y", "z"), ("z", "x"))
        ],
        [
            redemption(
                *("a", "x"),
                redeemed_at=datetime(2025, 6, 1),
                starts_at=datetime(2025, 1, 1),
                ends_at=datetime(2025, 2, 1),
            ),
            redemption("b", "z", redeemed_at=datetime(2025, 3, 1)),
        ],
    )
    assert of_redemptions(marts, "promotion_id") == {"a": "a", "a~follow-up": "a", "b": "a"}
    assert finding_ids(marts) == {"follow_up_not_immediate:a"}


def test_refused_redemptions_are_promotions_of_their_own_unless_they_were_derived() -> None:
    elsewhere = redemption("b", workspace_id="v", user_id="u", redeemed_at=datetime(2025, 6, 1))
    again = redemption("c", "first", redeemed_at=START + MICROSECOND)
    marts = follow_up_world(elsewhere, again, user_id="u")
    found = of_redemptions(marts, "promotion_id")
    assert of_redemptions(marts, "is_honoured")["a~follow-up"] is False
    assert found == {"a": "a", "b": "b", "c": "c", "a~follow-up": "a"}


def test_one_follow_up_of_several_is_immediate_when_it_starts_at_any_of_their_ends() -> None:
    short = {"duration": "repeating", "follow_up_coupon_id": "ten"}
    coupons = [
        coupon("one", duration_months=1, **short),
        coupon("two", duration_months=2, **short),
        coupon(),
    ]
    before = [redemption("a", "one"), redemption("b", "two")]
    at_second = redemption("c", redeemed_at=datetime(2025, 3, 10, 9))
    at_neither = redemption("c", redeemed_at=datetime(2025, 4, 10, 9))
    assert finding_ids(marts_of(coupons, [*before, at_second])) == set()
    assert finding_ids(marts_of(coupons, [*before, at_neither])) == {"follow_up_not_immediate:c"}


# ------------------------------------------------------------------------------------------- R6


@pytest.mark.parametrize(
    ("orders", "amounts", "net"),
    [((1, 2), ["10.00", "18.00"], "72.00"), ((2, 1), ["20.00", "10.00"], "70.00")],
)
def test_the_worked_example_of_two_coupons_in_either_order(
    orders: tuple[int, int], amounts: list[str], net: str
) -> None:
    first, second = (START - timedelta(3 - order) for order in orders)
    marts = marts_of(
        [coupon("dollars", amount_off=Decimal(10)), coupon("percent", percent_off=Decimal(20))],
        [
            redemption("d", "dollars", redeemed_at=first),
            redemption("p", "percent", redeemed_at=second),
        ],
        [invoice("i")],
    )
    rows = marts["fct_discount_applications"]
    assert [row["application_rank"] for row in rows] == [1, 2]
    assert [str(row["discount_amount"]) for row in rows] == amounts
    assert str(rows[-1]["remaining_amount"]) == net
    assert str(marts["fct_discounted_charges"][0]["net_amount"]) == net


def test_application_order_comes_first_and_empty_last() -> None:
    marts = marts_of(
        [coupon("a"), coupon("b"), coupon("c")],
        [
            redemption("1", "a", redeemed_at=START - timedelta(2)),
            redemption("2", "b", application_order=1),
            redemption("3", "c", application_order=-1),
        ],
        [invoice("i")],
    )
    assert [row["coupon_id"] for row in marts["fct_discount_applications"]] == ["c", "b", "a"]


def test_an_application_of_zero_leaves_no_row_and_no_gap() -> None:
    marts = marts_of(
        [
            coupon("all", percent_off=Decimal(100)),
            coupon("bit", percent_off=Decimal("0.0001")),
            coupon("dollars", amount_off=Decimal(200)),
        ],
        [
            redemption("1", "bit"),
            redemption("2", "dollars", redeemed_at=START),
            redemption("3", "all"),
        ],
        [invoice("i", list_amount=Decimal("0.01"))],
    )
    rows = marts["fct_discount_applications"]
    assert [(row["application_rank"], row["redemption_id"]) for row in rows] == [(1, "2")]


@pytest.mark.parametrize(
    ("start", "end", "months"),
    [
        (date(2025, 1, 31), date(2025, 2, 1), 1),
        (date(2025, 1, 1), date(2025, 1, 31), 1),
        (date(2025, 1, 31), date(2025, 3, 2), 1),
        (date(2025, 1, 31), date(2025, 3, 30), 1),
        (date(2025, 1, 31), date(2025, 3, 31), 2),
        (date(2025, 1, 1), date(2025, 4, 1), 3),
        (date(2024, 2, 29), date(2025, 2, 27), 11),
        (date(2024, 2, 29), date(2025, 2, 28), 12),
    ],
)
def test_dollars_per_month_count_the_whole_months_of_the_period_and_at_least_one(
    start: date, end: date, months: int
) -> None:
    marts = marts_of(
        [coupon(amount_off=Decimal(5), amount_off_per="month")],
        [redemption()],
        [invoice("i", period_start=start, period_end=end)],
    )
    assert discounts(marts) == {"i": 5 * months}


@pytest.mark.parametrize(
    ("discountable", "amounts"),
    [
        (None, [125, 125]),
        (Decimal(150), [75, 75]),
        (Decimal("0.01"), ["0.01", 0]),
        (Decimal(0), [0, 0]),
    ],
)
def test_coupons_act_on_what_is_discountable_alone(
    discountable: Decimal | None, amounts: list[Any]
) -> None:
    marts = marts_of(
        [coupon(percent_off=Decimal(50)), coupon("rest", amount_off=Decimal(900))],
        [redemption("p"), redemption("q", "rest")],
        [invoice("i", list_amount=Decimal(250), discountable_amount=discountable)],
    )
    (charge,) = marts["fct_discounted_charges"]
    taken = [Decimal(amount) for amount in amounts]
    assert [charge["percent_off_amount"], charge["amount_off_amount"]] == taken
    assert charge["net_amount"] == 250 - sum(taken)


# ------------------------------------------------------------------------------------------- R7


def test_the_worked_example_of_two_yearly_grants() -> None:
    start = datetime(2024, 3, 1)
    firsts = [datetime(2024 + (m - 1) // 12, (m - 1) % 12 + 1, 1) for m in range(4, 16)]
    marts = marts_of(
        [coupon(credit_amount=Decimal(25_000), credit_period_months=12, credit_max_periods=2)],
        [redemption(redeemed_at=start)],
        [invoice(f"{at:%Y-%m}", at, list_amount=Decimal(1_000)) for at in firsts],
        as_of=date(2025, 3, 1),
    )
    ledger = entries(marts)
    first = [entry for entry in ledger if entry[0] == "r#1"]
    assert first[0][1:] == ("grant", None, Decimal("25000.00"), Decimal("25000.00"))
    assert [entry[1] for entry in first[1:12]] == ["draw"] * 11
    assert first[11][2:] == ("2025-02", Decimal("-1000.00"), Decimal("14000.00"))
    assert first[12:] == [("r#1", "expire", None, Decimal("-14000.00"), Decimal("0.00"))]
    assert [entry[1:] for entry in ledger if entry[0] == "r#2"] == [
        ("grant", None, Decimal("25000.00"), Decimal("25000.00")),
        ("draw", "2025-03", Decimal("-1000.00"), Decimal("24000.00")),
    ]
    assert marts["fct_credit_ledger"][1]["entry_id"] == "r#1:draw:2024-04"
    assert of_redemptions(marts, "next_event") == {"r": "expiry"}
    burndown = marts["fct_credit_burndown_monthly"]
    assert [row["burn_month"] for row in burndown if row["grant_id"] == "r#1"][-1] == date(
        2025, 3, 1
    )
    assert burndown[-1]["run_rate_amount"] is None


def test_credit_pays_only_what_discounts_left() -> None:
    marts = marts_of(
        [coupon(percent_off=Decimal(30)), coupon("credit", credit_amount=Decimal(500))],
        [redemption(), redemption("s", "credit")],
        [invoice("i")],
    )
    assert credit_of(marts) == {"i": Decimal("70.00")}
    assert marts["fct_discounted_charges"][0]["net_amount"] == 0


def draw_order(*credit: tuple[str, Record, Record]) -> list[object]:
    """Order in which an invoice of 100.00 draws on credits of 1.00 each."""
    marts = marts_of(
        [coupon(name, credit_amount=Decimal(1), **columns) for name, columns, _ in credit],
        [redemption(name, name, **columns) for name, _, columns in credit],
        [invoice("i")],
    )
    draws = marts["fct_discounted_charges"][0]["credit_amount"]
    assert draws == len(credit)
    limited: list[object] = []
    for amount in range(1, len(credit) + 1):
        some = marts_of(
            [coupon(name, credit_amount=Decimal(1), **columns) for name, columns, _ in credit],
            [redemption(name, name, **columns) for name, _, columns in credit],
            [invoice("i", list_amount=Decimal(amount))],
        )
        drawn = {entry[0] for entry in entries(some) if entry[1] == "draw"}
        limited.append((drawn - set(limited)).pop())
    return limited


def test_grants_are_drawn_by_priority_then_scheduled_end_then_start_then_id() -> None:
    soon, later = START + timedelta(9), START + timedelta(99)
    order = draw_order(
        ("f", {}, {"redeemed_at": START - timedelta(1)}),
        ("e", {"credit_priority": 2}, {"ends_at": soon}),
        ("d", {"credit_priority": 1}, {}),
        ("c", {"credit_priority": 1}, {"ends_at": later, "revoked_at": soon}),
        ("b", {"credit_priority": 1}, {"ends_at": later, "redeemed_at": START - timedelta(1)}),
        ("a", {"credit_priority": 1}, {"ends_at": later, "eligible_until": START + timedelta(1)}),
        ("g", {"credit_priority": -1}, {}),
    )
    assert order == [f"{name}#1" for name in "gbacdef"]


@pytest.mark.parametrize(
    ("columns", "entry_type"),
    [
        ({"revoked_at": datetime(2025, 2, 10, 9)}, "expire"),
        ({"revoked_at": datetime(2025, 2, 10, 9) - MICROSECOND}, "forfeit"),
        ({"eligible_until": datetime(2025, 2, 1)}, "forfeit"),
        ({"ends_at": datetime(2025, 2, 1)}, "expire"),
        ({"ends_at": datetime(2025, 2, 1), "revoked_at": datetime(2025, 2, 1)}, "expire"),
    ],
)
def test_what_is_left_expires_with_its_period_and_is_forfeited_when_cut_short(
    columns: Record, entry_type: str
) -> None:
    marts = marts_of(
        [coupon(credit_amount=Decimal(7), credit_period_months=1, credit_max_periods=1)],
        [redemption(**columns)],
    )
    assert [entry[1] for entry in entries(marts)] == ["grant", entry_type]
    assert of_redemptions(marts, "credit_balance_amount") == {"r": 0}


def test_a_revocation_between_two_periods_forfeits_nothing() -> None:
    between = datetime(2025, 2, 10, 9)
    marts = marts_of(
        [coupon(credit_amount=Decimal(7), credit_period_months=1, credit_max_periods=2)],
        [redemption(revoked_at=between)],
    )
    assert [entry[:2] for entry in entries(marts)] == [("r#1", "grant"), ("r#1", "expire")]


def test_an_end_at_the_end_of_the_as_of_day_has_not_happened_yet() -> None:
    world = [coupon(credit_amount=Decimal(7))], [redemption(ends_at=datetime(2025, 7, 1))]
    assert [entry[1] for entry in entries(marts_of(*world))] == ["grant"]
    assert of_redemptions(marts_of(*world), "status") == {"r": "active"}
    day_after = marts_of(*world, as_of=AS_OF + timedelta(1))
    assert [entry[1] for entry in entries(day_after)] == ["grant", "expire"]
    assert of_redemptions(day_after, "status") == {"r": "expired"}


def test_a_further_grant_needs_to_start_by_the_closing_date_and_before_the_end() -> None:
    second = datetime(2025, 2, 10, 9)

    def grants(redeem_by: datetime, **columns: Any) -> int:
        marts = marts_of(
            [
                coupon(
                    credit_amount=Decimal(7),
                    credit_period_months=1,
                    credit_max_periods=3,
                    redeem_by=redeem_by,
                )
            ],
            [redemption(**columns)],
        )
        return len([entry for entry in entries(marts) if entry[1] == "grant"])

    assert grants(second - MICROSECOND) == 1
    assert grants(second) == 2
    assert grants(datetime(2025, 12, 1)) == 3
    assert grants(datetime(2025, 12, 1), revoked_at=second) == 1
    assert grants(datetime(2025, 12, 1), revoked_at=second + MICROSECOND) == 2


def test_once_limits_a_credit_to_one_invoice() -> None:
    marts = marts_of(
        [coupon(credit_amount=Decimal(500), duration="once")],
        [redemption()],
        [invoice("a"), invoice("b")],
    )
    assert credit_of(marts) == {"a": 100, "b": 0}
    assert of_redemptions(marts, "status") == {"r": "exhausted"}
    assert of_redemptions(marts, "credit_balance_amount") == {"r": 400}


@pytest.mark.parametrize(
    ("creditable", "credit"),
    [
        (None, 70),
        (Decimal(200), 70),
        (Decimal(70), 70),
        (Decimal("69.99"), "69.99"),
        (Decimal(0), 0),
    ],
)
def test_credit_pays_at_most_what_is_creditable_of_what_discounts_left(
    creditable: Decimal | None, credit: Any
) -> None:
    marts = marts_of(
        [coupon(percent_off=Decimal(30)), coupon("credit", credit_amount=Decimal(500))],
        [redemption(), redemption("s", "credit")],
        [invoice("i", creditable_amount=creditable, discount_amount=Decimal(30))],
    )
    assert credit_of(marts) == {"i": Decimal(credit)}


def test_the_draws_show_every_grant_that_covers_a_bill_and_what_each_was_billed_for() -> None:
    marts = marts_of(
        [coupon(name, credit_amount=Decimal(amount)) for name, amount in (("x", 30), ("y", 90))]
        + [coupon("z", credit_amount=Decimal(5), credit_priority=9)],
        [redemption(name, name) for name in "xy"]
        + [redemption("z", "z", redeemed_at=START - timedelta(1))],
        [invoice("i", credit_amount=Decimal(20)), invoice("j", START + timedelta(1))],
    )
    columns = ("balance_before", "draw", "billed_balance_before", "billed_draw")
    rows = [
        (
            *(row["invoice_id"], row["draw_rank"], row["grant_id"]),
            *(int(amount(row, f"{column}_amount")) for column in columns),
        )
        for row in marts["fct_credit_draws"]
    ]
    assert rows == [
        ("i", 1, "z#1", 5, 5, 5, 5),
        ("i", 2, "x#1", 30, 30, 30, 15),
        ("i", 3, "y#1", 90, 65, 90, 0),
        ("j", 1, "z#1", 0, 0, 0, 0),
        ("j", 2, "x#1", 0, 0, 15, 0),
        ("j", 3, "y#1", 25, 25, 90, 0),
    ]


# ------------------------------------------------------------------------------------------- R9


def billed(amount: str, credit: str = "0") -> Marts:
    """A 10% coupon and credit of 50.00; an invoice of 100.00 billed so."""
    return marts_of(
        [coupon(), coupon("credit", credit_amount=Decimal(50))],
        [redemption(), redemption("s", "credit")],
        [invoice("i", discount_amount=Decimal(amount), credit_amount=Decimal(credit))],
    )


@pytest.mark.parametrize(
    ("discount", "credit", "findings", "status"),
    [
        ("10", "50", set(), "matched"),
        ("10.01", "50", set(), "matched"),
        ("9.99", "49.99", set(), "matched"),
        ("10.02", "50", {"over_discounted:i"}, "over_discounted"),
        ("9.98", "50", {"under_discounted:i"}, "under_discounted"),
        ("0", "50", {"under_discounted:i"}, "under_discounted"),
        ("10", "50.02", {"credit_over_drawn:i"}, "over_discounted"),
        ("10", "49.98", {"credit_under_drawn:i"}, "under_discounted"),
        ("12", "48", {"over_discounted:i", "credit_under_drawn:i"}, "matched"),
        ("60", "40", {"over_discounted:i"}, "over_discounted"),
    ],
)
def test_differences_above_one_minor_unit_are_findings(
    discount: str, credit: str, findings: set[object], status: str
) -> None:
    marts = billed(discount, credit)
    assert finding_ids(marts) == findings
    assert marts["fct_discounted_charges"][0]["audit_status"] == status


def test_one_wrong_draw_is_not_repeated_by_every_later_invoice() -> None:
    marts = marts_of(
        [coupon(credit_amount=Decimal(150))],
        [redemption()],
        [
            invoice("1", START, credit_amount=Decimal(40)),
            invoice("2", START + timedelta(1), credit_amount=Decimal(100)),
            invoice("3", START + timedelta(2), credit_amount=Decimal(10)),
        ],
    )
    assert credit_of(marts) == {"1": 100, "2": 50, "3": 0}
    assert finding_ids(marts) == {"credit_under_drawn:1"}
    assert marts["fct_audit_findings"][0]["amount_at_stake"] == Decimal("60.00")


def test_a_billed_discount_with_nothing_in_force_is_one_finding() -> None:
    end = START + timedelta(10)
    off: Record = {"discount_amount": Decimal(5)}
    after_expiry = marts_of([coupon()], [redemption(ends_at=end)], [invoice("i", end, **off)])
    at_last = marts_of(
        [coupon()],
        [redemption(ends_at=end)],
        [invoice("i", end - MICROSECOND, discount_amount=Decimal(10))],
    )
    refused = marts_of(redemptions=[redemption()], invoices=[invoice("i", **off)])
    refused_ended = marts_of(
        redemptions=[redemption(ends_at=end)], invoices=[invoice("i", end, **off)]
    )
    credit_ended = marts_of(
        [coupon(credit_amount=Decimal(1))], [redemption(ends_at=end)], [invoice("i", end, **off)]
    )
    tolerated = marts_of(invoices=[invoice("i", discount_amount=Decimal("0.01"))])
    assert finding_ids(after_expiry) == {"discount_after_expiry:i"}
    assert finding_ids(at_last) == set()
    assert finding_ids(refused) == {"unknown_coupon:r", "discount_on_refused_redemption:i"}
    assert finding_ids(refused_ended) == {"unknown_coupon:r", "discount_without_coupon:i"}
    assert finding_ids(credit_ended) == {"discount_without_coupon:i"}
    assert finding_ids(tolerated) == set()


def test_an_invoice_that_does_not_add_up_is_found_to_the_minor_unit() -> None:
    marts = marts_of(
        invoices=[
            invoice("right", tax_amount=Decimal("8.50"), total_amount=Decimal("108.50")),
            invoice("wrong", tax_amount=Decimal("8.50"), total_amount=Decimal("108.49")),
        ]
    )
    assert finding_ids(marts) == {"invoice_does_not_add_up:wrong"}
    assert marts["fct_audit_findings"][0]["amount_at_stake"] == Decimal("0.01")


@pytest.mark.parametrize(
    ("billed_credit", "findings"),
    [
        ("40", set()),
        ("40.01", set()),
        ("40.02", {"credit_over_drawn:i"}),
        ("39.99", set()),
        ("39.98", {"credit_under_drawn:i"}),
    ],
)
def test_credit_billed_beyond_what_is_creditable_is_over_drawn_though_grants_cover_it(
    billed_credit: str, findings: set[object]
) -> None:
    marts = marts_of(
        [coupon(credit_amount=Decimal(500))],
        [redemption()],
        [invoice("i", creditable_amount=Decimal(40), credit_amount=Decimal(billed_credit))],
    )
    assert finding_ids(marts) == findings


def test_what_is_over_drawn_beyond_the_creditable_amount_is_served_all_the_same() -> None:
    marts = marts_of(
        [coupon(credit_amount=Decimal(100))],
        [redemption()],
        [
            invoice("i", creditable_amount=Decimal(40), credit_amount=Decimal(90)),
            invoice("j", START + timedelta(1), credit_amount=Decimal(12)),
        ],
    )
    at_stake = by_id(marts, "fct_audit_findings", "finding_id", "amount_at_stake")
    assert at_stake == {"credit_over_drawn:i": 50, "credit_over_drawn:j": 2}


def test_a_used_up_coupon_given_again_is_over_discounted() -> None:
    marts = marts_of(
        [coupon(amount_off=Decimal(15), duration="once")],
        [redemption()],
        [
            invoice("a", status="void", discount_amount=Decimal(15)),
            invoice("b", START + timedelta(1), discount_amount=Decimal(15), status="uncollectible"),
            invoice("c", START + timedelta(2), discount_amount=Decimal(15)),
        ],
    )
    assert by_id(marts, "fct_audit_findings", "finding_id", "amount_at_stake") == {
        "over_discounted:c": 15
    }


# ------------------------------------------------------------------------------ R13, what is found


def test_a_credit_note_counts_where_its_invoice_counts_in_its_currency() -> None:
    midnight = datetime(2025, 7, 1)
    marts = marts_of(
        invoices=[invoice("i"), invoice("draft", status="draft"), invoice("yen", currency="JPY")],
        credit_notes=[
            credit_note("good", "i", amount=Decimal("12.50"), tax_amount=Decimal("1.25")),
            credit_note("last", "i", issued_at=midnight - MICROSECOND, reason="goodwill"),
            credit_note("late", "i", issued_at=midnight),
            credit_note("void", "i", status="void"),
            credit_note("uncounted", "draft"),
            credit_note("currency", "yen"),
            credit_note("unknown", "missing"),
        ],
    )
    counted = by_id(marts, "fct_credit_notes", "credit_note_id", "is_counted")
    assert counted == {
        "good": True,
        "last": True,
        "uncounted": False,
        "currency": False,
        "unknown": False,
    }
    charges = {row["invoice_id"]: row for row in marts["fct_discounted_charges"]}
    assert charges["i"]["credited_amount"] == Decimal("22.50")
    assert charges["i"]["billed_net_after_notes_amount"] == Decimal("77.50")
    assert charges["yen"]["credited_amount"] == 0
    assert finding_ids(marts) == {
        f"credit_note_without_invoice:{name}" for name in ("uncounted", "currency", "unknown")
    }
    workspaces = by_id(marts, "fct_credit_notes", "credit_note_id", "workspace_id")
    assert (workspaces["uncounted"], workspaces["unknown"]) == ("w", None)
    delivered = by_id(marts, "fct_audit_findings", "credit_note_id", "invoice_id")
    assert delivered["unknown"] == "missing"


@pytest.mark.parametrize(
    ("more", "at_stake"), [("40.00", None), ("40.01", None), ("40.02", "0.02")]
)
def test_crediting_more_than_was_billed_is_found_at_the_last_note(
    more: str, at_stake: str | None
) -> None:
    last = START + timedelta(50)
    marts = marts_of(
        [coupon()],
        [redemption()],
        [invoice("i", list_amount=Decimal(60), discount_amount=Decimal(6))],
        credit_notes=[
            credit_note("b", "i", amount=Decimal(more), issued_at=last),
            credit_note("a", "i", amount=Decimal(14)),
        ],
    )
    found = [
        (row["finding_id"], row["amount_at_stake"], row["occurred_at"], row["credit_note_id"])
        for row in marts["fct_audit_findings"]
    ]
    expected = [("credited_beyond_bill:i", Decimal(at_stake), last, None)] if at_stake else []
    assert found == expected
    assert discounts(marts) == {"i": 6}


def terms_changed(*versions: Record, redeemed: bool = True) -> list[tuple[object, ...]]:
    """What is found of these versions of a coupon, in the order of their arrival."""
    marts = marts_of(versions, [redemption()] if redeemed else [])
    return [
        (row["coupon_id"], row["occurred_at"], row["amount_at_stake"], row["severity"])
        for row in marts["fct_audit_findings"]
        if row["finding_type"] == "coupon_terms_changed"
    ]


def test_a_change_of_a_redeemed_coupons_terms_is_found_once_per_version() -> None:
    first, second, third = (START + timedelta(days) for days in (1, 40, 400))
    ten, fifteen = coupon(updated_at=first), coupon(percent_off=Decimal(15), updated_at=second)
    back = coupon(updated_at=third)
    assert terms_changed(ten, fifteen) == [("ten", second, None, "warn")]
    assert terms_changed(ten, fifteen, redeemed=False) == []
    # Out of order, and dated after the as-of day.
    changes = terms_changed(back, ten, fifteen)
    assert [when for _, when, _, _ in changes] == [second, third]


def test_of_two_versions_of_one_instant_the_later_to_arrive_is_the_later() -> None:
    ten, twenty = coupon(updated_at=START), coupon(percent_off=Decimal(20), updated_at=START)
    assert len(terms_changed(ten, twenty)) == 1
    marts = marts_of([ten, twenty], [redemption()], [invoice("i")])
    assert discounts(marts) == {"i": 20}


@pytest.mark.parametrize(
    "columns",
    [
        {"coupon_name": "another"},
        {"program": "startup"},
        {"amount_off_per": "invoice"},
        {"credit_max_periods": 1},
        {"requires_no_prior_coupon": False},
        {"once_per": "user"},
        {"percent_off": Decimal("10.0000")},
    ],
)
def test_another_name_or_program_or_a_default_written_out_changes_no_terms(columns: Record) -> None:
    later = START + timedelta(1)
    assert terms_changed(coupon(updated_at=START), coupon(updated_at=later, **columns)) == []


@pytest.mark.parametrize(
    "columns",
    [
        {"amount_off_per": "month"},
        {"credit_priority": 1},
        {"currency": "EUR"},
        {"applies_to_plan": "team"},
        {"applies_to_interval": "year"},
        {"duration": "once"},
        {"redeem_by": datetime(2026, 1, 1)},
        {"max_redemptions": 5},
        {"requires_no_prior_coupon": True},
        {"once_per": "workspace"},
        {"follow_up_coupon_id": "missing"},
    ],
)
def test_every_other_column_is_part_of_the_terms(columns: Record) -> None:
    later = START + timedelta(1)
    assert len(terms_changed(coupon(updated_at=START), coupon(updated_at=later, **columns))) == 1


# ------------------------------------------------------------------------------------------ R10


def effects(marts: Marts) -> list[tuple[object, ...]]:
    """The variance rows, shortened to month, discount, delta and the four effects."""
    columns = [f"{name}_effect_amount" for name in ("bill", "rate", "start", "end")]
    return [
        (
            f"{row['variance_month']:%Y-%m}",
            *(int(Decimal(str(row[name]))) for name in ("percent_off_amount", "delta_amount")),
            *(int(Decimal(str(row[name]))) for name in columns),
        )
        for row in marts["fct_percent_off_variance_monthly"]
    ]


def test_the_worked_example_of_a_growing_bill_and_a_lower_follow_up() -> None:
    marts = marts_of(
        [
            coupon(
                "first",
                percent_off=Decimal(20),
                duration="repeating",
                duration_months=2,
                follow_up_coupon_id="ten",
            ),
            coupon(duration="repeating", duration_months=1),
        ],
        [redemption("a", "first", redeemed_at=datetime(2025, 1, 1))],
        [
            invoice("1", datetime(2025, 1, 5), list_amount=Decimal(500)),
            invoice("2", datetime(2025, 2, 5), list_amount=Decimal(620)),
            invoice("3", datetime(2025, 3, 5), list_amount=Decimal(600)),
        ],
    )
    assert effects(marts) == [
        ("2025-01", 100, 100, 0, 0, 100, 0),
        ("2025-02", 124, 24, 24, 0, 0, 0),
        ("2025-03", 60, -64, -4, -60, 0, 0),
        # In force until the very end of March counts as in force at its end, not at April's.
        ("2025-04", 0, -60, 0, 0, 0, -60),
    ]


def test_a_month_without_a_bill_is_a_bill_effect_while_the_coupon_is_in_force() -> None:
    marts = marts_of(
        [coupon()],
        [redemption(redeemed_at=datetime(2025, 1, 31), ends_at=datetime(2025, 6, 1))],
        [invoice("1", datetime(2025, 2, 5)), invoice("2", datetime(2025, 5, 5))],
    )
    assert effects(marts) == [
        ("2025-02", 10, 10, 0, 0, 10, 0),
        ("2025-03", 0, -10, -10, 0, 0, 0),
        ("2025-04", 0, 0, 0, 0, 0, 0),
        ("2025-05", 10, 10, 10, 0, 0, 0),
        ("2025-06", 0, -10, 0, 0, 0, -10),
    ]


def test_nothing_is_shown_past_the_month_of_the_as_of_day_and_an_empty_bill_has_no_percent() -> (
    None
):
    marts = marts_of(
        [coupon()],
        [redemption()],
        [
            invoice("1", datetime(2025, 5, 5), list_amount=Decimal(0)),
            invoice("2", datetime(2025, 6, 5)),
        ],
    )
    assert effects(marts) == [
        ("2025-05", 0, 0, 0, 0, 0, 0),
        ("2025-06", 10, 10, 10, 0, 0, 0),
    ]
    percents = [row["effective_percent"] for row in marts["fct_percent_off_variance_monthly"]]
    assert percents == [None, Decimal("10.0000")]


def test_the_first_covered_month_is_a_start_though_the_coupon_was_in_force_before() -> None:
    marts = marts_of(
        [coupon(percent_off=Decimal(50))],
        [redemption(redeemed_at=datetime(2025, 5, 20))],
        [invoice("1", datetime(2025, 6, 5), list_amount=Decimal(120))],
    )
    assert effects(marts) == [("2025-06", 60, 60, 0, 0, 60, 0)]


def test_one_promotion_ends_while_another_starts() -> None:
    marts = marts_of(
        [coupon("old", percent_off=Decimal(20)), coupon("new", percent_off=Decimal(5))],
        [
            redemption("a", "old", ends_at=datetime(2025, 5, 1)),
            redemption("b", "new", redeemed_at=datetime(2025, 5, 1)),
        ],
        [
            invoice("1", datetime(2025, 4, 5)),
            invoice("2", datetime(2025, 5, 5)),
            invoice("3", datetime(2025, 6, 5), list_amount=Decimal(300)),
        ],
    )
    assert effects(marts) == [
        ("2025-04", 20, 20, 0, 0, 20, 0),
        # The old one is in force at the very end of April, not of May, and covered no bill of May.
        ("2025-05", 5, -15, 0, 0, 5, -20),
        ("2025-06", 15, 10, 10, 0, 0, 0),
    ]


def test_a_follow_up_of_another_percentage_is_a_rate_and_no_start() -> None:
    marts = marts_of(
        [coupon("old", percent_off=Decimal(20), follow_up_coupon_id="ten"), coupon()],
        [
            redemption("a", "old", ends_at=datetime(2025, 5, 1)),
            redemption("b", redeemed_at=datetime(2025, 5, 1)),
        ],
        [invoice("1", datetime(2025, 4, 5)), invoice("2", datetime(2025, 5, 5))],
    )
    assert effects(marts)[:2] == [
        ("2025-04", 20, 20, 0, 0, 20, 0),
        ("2025-05", 10, -10, 0, -10, 0, 0),
    ]


def test_effects_of_two_promotions_are_worked_out_apart_and_rounded_apart() -> None:
    marts = marts_of(
        [coupon("a", percent_off=Decimal(50)), coupon("b", percent_off=Decimal(50))],
        [redemption("1", "a", subscription_id="s"), redemption("2", "b", subscription_id="t")],
        [
            invoice("1", datetime(2025, 4, 5), subscription_id="s"),
            invoice("2", datetime(2025, 4, 5), subscription_id="t", list_amount=Decimal(200)),
            invoice("3", datetime(2025, 5, 5), subscription_id="s", list_amount=Decimal(140)),
        ],
    )
    assert effects(marts)[:2] == [
        ("2025-04", 150, 150, 0, 0, 150, 0),
        # 20.00 more on one subscription; on the other, whose coupon is in force, no bill came.
        ("2025-05", 70, -80, -80, 0, 0, 0),
    ]
    assert marts["fct_percent_off_variance_monthly"][0]["bill_amount"] == 300


@pytest.mark.parametrize(("bills", "effect"), [(1, "end"), (2, "bill")])
def test_a_coupon_without_uses_left_is_not_in_force_at_the_end_of_a_month(
    bills: int, effect: str
) -> None:
    marts = marts_of(
        [coupon(duration="repeating", duration_invoices=bills)],
        [redemption()],
        [invoice("1", datetime(2025, 4, 5))],
    )
    assert effects(marts)[1] == (
        "2025-05",
        *(0, -10),
        *(-10 if effect == "bill" else 0, 0, 0, -10 if effect == "end" else 0),
    )


def test_what_is_billed_is_what_coupons_may_act_on_and_from_nothing_all_is_the_bill() -> None:
    marts = marts_of(
        [coupon()],
        [redemption()],
        [
            invoice("1", datetime(2025, 4, 5), discountable_amount=Decimal(0)),
            invoice("2", datetime(2025, 5, 5), discountable_amount=Decimal(40)),
        ],
    )
    assert effects(marts)[:2] == [("2025-04", 0, 0, 0, 0, 0, 0), ("2025-05", 4, 4, 4, 0, 0, 0)]
    bills = [row["bill_amount"] for row in marts["fct_percent_off_variance_monthly"]]
    assert bills[:2] == [0, 40]
    assert marts["fct_percent_off_variance_monthly"][0]["is_covered"] is True


# ------------------------------------------------------------------------------ R11, R12, the rest


def test_each_status_at_the_end_of_the_as_of_day() -> None:
    midnight = datetime(2025, 7, 1)
    marts = marts_of(
        [coupon(name) for name in "abcdef"],
        [
            redemption("refused", "missing"),
            redemption("revoked", "a", revoked_at=midnight - MICROSECOND),
            redemption("ineligible", "b", eligible_until=START + timedelta(1)),
            redemption("expired", "c", ends_at=START + timedelta(1)),
            redemption("scheduled", "d", starts_at=midnight),
            redemption("active", "e", starts_at=midnight - MICROSECOND, revoked_at=midnight),
        ],
    )
    statuses = of_redemptions(marts, "status")
    assert statuses == {name: name for name in statuses}
    assert of_redemptions(marts, "next_event_at")["scheduled"] == midnight
    assert of_redemptions(marts, "next_event")["active"] == "revocation"
    assert {row["is_discounted"] for row in marts["dim_workspaces"]} == {True, False}


def test_a_credit_is_exhausted_only_when_no_further_grant_will_come() -> None:
    def status(periods: int) -> tuple[object, object]:
        marts = marts_of(
            [coupon(credit_amount=Decimal(9), credit_period_months=12, credit_max_periods=periods)],
            [redemption()],
            [invoice("i")],
        )
        row = marts["dim_coupon_redemptions"][0]
        return row["status"], row["next_event"]

    assert status(1) == ("exhausted", "expiry")
    assert status(2) == ("active", "grant")


def test_the_run_rate_is_the_mean_of_up_to_three_ended_months_since_the_start() -> None:
    spent = {date(2025, 3, 1): 900, date(2025, 4, 1): 100, date(2025, 6, 1): 5}
    calendar, last = ReportingCalendar(ZoneInfo("UTC")), date(2025, 6, 30)
    assert run_rate(spent, datetime(2024, 1, 1), last, calendar) == 35
    assert run_rate(spent, datetime(2025, 5, 31), last, calendar) == 3
    assert run_rate(spent, datetime(2025, 7, 1), last, calendar) is None
    assert run_rate(spent, datetime(2024, 1, 1), last - timedelta(1), calendar) == 333


# ---------------------------------------------------------------------------- R12, the outlook

NOW = datetime(2025, 7, 1)
"""The end of AS_OF."""


def monthly(
    first: datetime = datetime(2025, 4, 5), count: int = 3, **columns: object
) -> list[Record]:
    """Bills of a workspace, month by month; by default those of April to June on the fifth."""
    bills = []
    for number in range(count):
        issued_at = add_months(first, number)
        assert issued_at is not None
        bills.append(invoice(f"{columns.get('prefix', 'i')}{number}", issued_at, **columns))
    return bills


def expiring(marts: Marts) -> dict[object, tuple[object, ...]]:
    """Per redemption that runs out: when, by what, the rise and the rise by the month."""
    columns = ("runs_out_at", "runs_out_by", "rise_amount", "monthly_rise_amount")
    return {
        row["redemption_id"]: tuple(row[column] for column in columns)
        for row in marts["fct_upcoming_expirations"]
    }


def ahead(marts: Marts, column: str = "net_amount") -> list[object]:
    """One column of the bills of the outlook, month by month."""
    rows = sorted(marts["fct_bill_outlook_monthly"], key=lambda row: str(row["outlook_month"]))
    return [row[column] for row in rows]


def projections(marts: Marts) -> dict[object, tuple[object, object]]:
    """Per grant still valid its projected exhaustion and breakage."""
    last = {row["grant_id"]: row for row in marts["fct_credit_burndown_monthly"]}
    return {
        grant_id: (row["projected_exhaustion_date"], row["projected_breakage_amount"])
        for grant_id, row in last.items()
    }


def test_bills_are_expected_from_the_end_of_the_as_of_day_and_before_the_horizon() -> None:
    def months(issued_at: datetime) -> list[object]:
        return ahead(
            marts_of([coupon()], [redemption()], [invoice("i", issued_at)]), "outlook_month"
        )

    at_end = months(datetime(2025, 6, 1))
    assert (at_end[0], at_end[-1], len(at_end)) == (date(2025, 7, 1), date(2027, 6, 1), 24)
    earlier = months(datetime(2025, 6, 1) - MICROSECOND)
    # The bill of the last instant of the as-of day did not come and is expected no more, that of the
    # last instant before the horizon is.
    assert (earlier[0], earlier[-1], len(earlier)) == (date(2025, 7, 1), date(2027, 6, 1), 24)
    ids = [
        bill.invoice_id
        for bill in look_ahead(
            {"invoices": [invoice("i", datetime(2025, 6, 1))]}, {}, NOW
        ).state.invoices
    ]
    assert (ids[1], ids[-1]) == ("i~expected-0001", "i~expected-0024")


def test_expected_bills_are_counted_from_the_last_bill_and_clamped_to_the_end_of_the_month() -> (
    None
):
    outlook = look_ahead(
        {"invoices": [invoice("i", datetime(2025, 5, 31, 9), subscription_id="s")]}, {}, NOW
    )
    bills = outlook.state.invoices[1:4]
    assert [bill.invoice_id for bill in bills] == [f"i~expected-000{k}" for k in (2, 3, 4)]
    assert [bill.issued_at.day for bill in bills] == [31, 31, 30]
    assert (bills[2].period_start, bills[2].period_end) == (date(2025, 9, 30), date(2025, 10, 30))
    assert {(bill.subscription_id, bill.is_expected) for bill in bills} == {("s", True)}


@pytest.mark.parametrize(
    ("interval", "count", "step"),
    [
        ("day", 1, timedelta(days=1)),
        ("day", 45, timedelta(days=45)),
        ("week", 2, timedelta(days=14)),
    ],
)
def test_days_and_weeks_are_counted_as_such(interval: str, count: int, step: timedelta) -> None:
    columns: Record = {"billing_interval": interval, "interval_count": count}
    outlook = look_ahead({"invoices": [invoice("i", NOW - MICROSECOND, **columns)]}, {}, NOW)
    first, second = outlook.state.invoices[1:3]
    assert (first.issued_at - second.issued_at) == -step
    assert first.issued_at == NOW - MICROSECOND + step
    assert first.period_end - first.period_start == step


@pytest.mark.parametrize(
    ("interval", "count", "last"),
    [
        ("month", 1, datetime(2025, 5, 16)),
        ("month", 3, datetime(2025, 3, 16)),
        ("year", 1, datetime(2024, 6, 16)),
        ("week", 1, datetime(2025, 6, 9)),
        ("day", 1, datetime(2025, 6, 15)),
    ],
)
def test_a_line_runs_until_its_next_bill_is_fifteen_days_overdue(
    interval: str, count: int, last: datetime
) -> None:
    columns: Record = {"billing_interval": interval, "interval_count": count}

    def is_running(issued_at: datetime) -> bool:
        outlook = look_ahead({"invoices": [invoice("i", issued_at, **columns)]}, {}, NOW)
        return len(outlook.state.invoices) > 1

    assert is_running(last)
    assert not is_running(last - MICROSECOND)


def test_bills_that_do_not_recur_and_bills_of_nothing_or_less_are_no_line() -> None:
    june = datetime(2025, 6, 5)
    marts = marts_of(
        [coupon()],
        [redemption()],
        [
            invoice("a", june, billing_interval="once"),
            invoice("b", june, list_amount=Decimal(0)),
            invoice("c", june, list_amount=Decimal(-5)),
            invoice("d", june, status="void"),
        ],
    )
    assert ahead(marts) == []


def test_bills_of_another_subscription_plan_interval_or_currency_are_another_line() -> None:
    june = datetime(2025, 6, 5)
    marts = marts_of(
        [coupon()],
        [redemption()],
        [
            invoice("a", june),
            invoice("b", june, subscription_id="s"),
            invoice("c", june, plan="business"),
            invoice("d", june, interval_count=2),
            invoice("e", june, currency="EUR"),
        ],
    )
    first_months: dict[object, list[object]] = defaultdict(list)
    for row in marts["fct_bill_outlook_monthly"]:
        first_months[row["currency"]].append(row["expected_bills"])
    assert first_months["USD"][:2] == [3, 4]
    assert first_months["EUR"][:2] == [1, 1]


def test_an_expected_bill_is_the_mean_of_the_last_three_and_of_a_year_the_last() -> None:
    amounts = (Decimal(900), Decimal("10.00"), Decimal("10.01"), Decimal("10.00"))
    bills = [
        invoice(
            f"{number}",
            datetime(2025, 3 + number, 5),
            list_amount=each,
            discountable_amount=Decimal(1) if number == 3 else None,
            creditable_amount=Decimal("0.10") if number == 1 else None,
        )
        for number, each in enumerate(amounts)
    ]
    yearly = [bill | {"billing_interval": "year"} for bill in bills]
    expected = look_ahead({"invoices": bills}, {}, NOW).state.invoices[-1]
    # 30.01 / 3, (10.00 + 10.01 + 1.00) / 3, (0.10 + 10.01 + 10.00) / 3
    assert (expected.list_minor, expected.discountable, expected.creditable) == (1000, 700, 670)
    expected = look_ahead({"invoices": yearly}, {}, NOW).state.invoices[-1]
    assert (expected.list_minor, expected.discountable, expected.creditable) == (1000, 100, 1000)


def test_halves_of_a_mean_are_rounded_away_from_zero() -> None:
    bills = [
        invoice("a", datetime(2025, 5, 5), list_amount=Decimal("0.01")),
        invoice("b", datetime(2025, 6, 5), list_amount=Decimal("0.02")),
    ]
    assert look_ahead({"invoices": bills}, {}, NOW).state.invoices[-1].list_minor == 2


def test_the_outlook_is_of_workspaces_with_something_active_scheduled_or_to_come() -> None:
    june = datetime(2025, 6, 5)

    def concerned(coupon_columns: Record, more: Sequence[Record] = (), **columns: Any) -> bool:
        marts = marts_of(
            [coupon(**coupon_columns), *more], [redemption(**columns)], [invoice("i", june)]
        )
        return bool(ahead(marts))

    once = {"duration": "once"}
    followed = once | {"follow_up_coupon_id": "next"}
    horizon = datetime(2027, 7, 1)
    assert not ahead(marts_of(invoices=[invoice("i", june)]))
    assert concerned({})
    assert concerned({}, starts_at=datetime(2026, 1, 1))
    assert not concerned({}, ends_at=june)
    assert not concerned(once)
    assert not concerned(once, [coupon("next")], ends_at=datetime(2026, 1, 1))
    assert concerned(followed, [coupon("next")], ends_at=datetime(2026, 1, 1))
    assert concerned(followed, [coupon("next")], ends_at=horizon - MICROSECOND)
    assert not concerned(followed, [coupon("next")], ends_at=horizon)
    grants = {"credit_amount": Decimal(9), "credit_period_months": 7, "credit_max_periods": 2}
    assert concerned(grants | once)
    assert not concerned(grants | once | {"credit_max_periods": 1})


def test_two_grants_of_which_the_first_is_used_up_before_it_ends() -> None:
    marts = marts_of(
        [coupon("x", credit_amount=Decimal(1_000)), coupon("y", credit_amount=Decimal(1_000))],
        [
            redemption("a", "x", ends_at=datetime(2026, 5, 1), redeemed_at=datetime(2025, 6, 30)),
            redemption("b", "y", ends_at=datetime(2027, 7, 1), redeemed_at=datetime(2025, 6, 30)),
        ],
        [invoice("i", datetime(2025, 6, 2))],
    )
    last = datetime(2026, 4, 2)
    assert expiring(marts) == {"a": (last, "credit", 0, 0)}
    assert projections(marts) == {
        "a#1": (date(2026, 4, 2), 0),
        "b#1": (date(2027, 2, 2), None),
    }
    assert ahead(marts) == [0] * 20 + [100] * 4


def test_a_lower_follow_up_raises_the_bill_by_the_difference() -> None:
    marts = marts_of(
        [
            coupon("x", percent_off=Decimal(60), follow_up_coupon_id="y"),
            coupon("y", percent_off=Decimal(45)),
        ],
        [redemption("a", "x", ends_at=datetime(2025, 10, 1))],
        monthly(list_amount=Decimal(200)),
    )
    assert expiring(marts) == {"a": (datetime(2025, 10, 1), "end", 30, 30)}
    (row,) = marts["fct_upcoming_expirations"]
    assert row["is_followed_up"] is True
    assert row["last_benefit_invoice_id"] == "i2~expected-0003"
    assert row["last_benefit_at"] == datetime(2025, 9, 5)
    assert row["ends_month"] == date(2025, 10, 1)
    assert ahead(marts) == [80] * 3 + [110] * 21


def test_of_two_stacked_coupons_the_first_ends_and_the_other_gives_more() -> None:
    marts = marts_of(
        [coupon("x", percent_off=Decimal(50)), coupon("y", percent_off=Decimal(20))],
        [redemption("a", "x", ends_at=datetime(2026, 1, 1)), redemption("b", "y")],
        monthly(),
    )
    assert expiring(marts) == {"a": (datetime(2026, 1, 1), "end", 40, 40)}


def test_while_credit_pays_the_rest_the_bill_rises_by_nothing() -> None:
    marts = marts_of(
        [coupon(percent_off=Decimal(50)), coupon("c", credit_amount=Decimal(3_000))],
        [
            redemption(ends_at=datetime(2026, 1, 1)),
            redemption("s", "c", ends_at=datetime(2026, 10, 1)),
        ],
        monthly(),
    )
    assert expiring(marts) == {"r": (datetime(2026, 1, 1), "end", 0, 0)}
    # 3 and 6 bills of 50.00, then 9 of 100.00: 1,350.00 of 3,000.00.
    assert projections(marts)["s#1"] == (None, Decimal("1650.00"))


@pytest.mark.parametrize(
    ("interval", "count", "monthly_rise"),
    [
        ("year", 1, "20.00"),
        ("year", 2, "10.00"),
        ("month", 1, "240.00"),
        ("month", 7, "34.29"),
        ("week", 1, "1040.00"),
        ("week", 3, "346.67"),
        ("day", 1, "7300.00"),
        ("day", 30, "243.33"),
    ],
)
def test_a_rise_is_spread_over_the_months_of_the_interval(
    interval: str, count: int, monthly_rise: str
) -> None:
    marts = marts_of(
        [coupon(percent_off=Decimal(20))],
        [redemption(ends_at=NOW)],
        [
            invoice(
                "i",
                NOW - timedelta(1),
                list_amount=Decimal(1_200),
                billing_interval=interval,
                interval_count=count,
            )
        ],
    )
    assert expiring(marts)["r"] == (NOW, "end", Decimal(240), Decimal(monthly_rise))


def test_a_yearly_bill_that_falls_on_the_end_is_at_list() -> None:
    marts = marts_of(
        [coupon(percent_off=Decimal(25))],
        [redemption(redeemed_at=datetime(2024, 9, 1), ends_at=datetime(2025, 9, 1))],
        [invoice("i", datetime(2024, 9, 1), list_amount=Decimal(960), billing_interval="year")],
    )
    assert expiring(marts) == {"r": (datetime(2025, 9, 1), "end", 240, 20)}


def test_credit_for_yearly_bills_lapses_where_the_next_but_one_comes_too_late() -> None:
    marts = marts_of(
        [coupon(credit_amount=Decimal(9_000))],
        [redemption(redeemed_at=datetime(2024, 8, 1), ends_at=datetime(2026, 8, 7))],
        [invoice("i", datetime(2024, 8, 7), list_amount=Decimal(2_000), billing_interval="year")],
    )
    assert projections(marts) == {"r#1": (None, 5_000)}


def test_a_queue_of_grants_lapses_by_what_the_first_leaves_to_draw() -> None:
    marts = marts_of(
        [coupon("x", credit_amount=Decimal(500)), coupon("y", credit_amount=Decimal(500))],
        [
            redemption("a", "x", ends_at=datetime(2025, 11, 1)),
            redemption("b", "y", ends_at=datetime(2025, 11, 20)),
        ],
        monthly(datetime(2025, 3, 15), 4),
    )
    # 400.00 of the first are gone; 400.00 more come by November, 100.00 from it and 300.00 from the other.
    assert projections(marts) == {"a#1": (date(2025, 7, 15), 0), "b#1": (None, 100)}
    # The bill of 15 November is covered by what is left of the second.
    assert expiring(marts)["a"] == (datetime(2025, 7, 15), "credit", 0, 0)
    assert expiring(marts)["b"] == (datetime(2025, 11, 20), "end", 100, 100)


def test_a_coupon_of_n_bills_runs_out_with_the_bill_that_uses_its_last_use() -> None:
    def rows(bills: int) -> dict[object, tuple[object, ...]]:
        return expiring(
            marts_of(
                [coupon(amount_off=Decimal(40), duration="repeating", duration_invoices=bills)],
                [redemption()],
                monthly(),
            )
        )

    assert rows(3) == {}
    assert rows(4) == {"r": (datetime(2025, 7, 5), "uses", 40, 40)}
    assert rows(15) == {"r": (datetime(2026, 6, 5), "uses", 40, 40)}
    assert rows(16) == {}


def test_a_one_bill_coupon_without_a_bill_yet_runs_out_with_the_next() -> None:
    marts = marts_of(
        [coupon(duration="once")],
        [redemption(redeemed_at=datetime(2025, 6, 20))],
        monthly(),
    )
    assert expiring(marts) == {"r": (datetime(2025, 7, 5), "uses", 10, 10)}


def test_the_bill_that_uses_the_last_of_a_credit_is_not_the_bill_it_rises_from() -> None:
    def row(credit: int) -> Row:
        (found,) = marts_of([coupon(credit_amount=Decimal(credit))], [redemption()], monthly())[
            "fct_upcoming_expirations"
        ]
        return found

    # 50.00 are left for the second bill: the first of 100.00 is the last full benefit.
    assert (row(450)["runs_out_at"], row(450)["rise_amount"]) == (datetime(2025, 8, 5), 100)
    assert row(450)["last_benefit_invoice_id"] == "i2~expected-0001"
    # Of 400.00 nothing is left to pay: the bill that uses it up is its own last benefit.
    assert row(400)["last_benefit_invoice_id"] == "i2~expected-0001"
    assert row(400)["runs_out_at"] == datetime(2025, 7, 5)
    assert row(400)["rise_amount"] == 100


def test_the_only_bill_a_credit_ever_paid_part_of_is_the_bill_it_rises_from() -> None:
    marts = marts_of(
        [coupon(credit_amount=Decimal(30))],
        [redemption(redeemed_at=datetime(2025, 6, 20))],
        monthly(),
    )
    assert expiring(marts) == {"r": (datetime(2025, 7, 5), "credit", 30, 30)}


def test_a_further_grant_keeps_a_credit_from_running_out() -> None:
    def row(periods: int) -> dict[object, tuple[object, ...]]:
        return expiring(
            marts_of(
                [
                    coupon(
                        credit_amount=Decimal(150),
                        credit_period_months=5,
                        credit_max_periods=periods,
                    )
                ],
                [redemption(redeemed_at=datetime(2025, 6, 1))],
                monthly(),
            )
        )

    assert row(1)["r"][:2] == (datetime(2025, 7, 5), "credit")
    # The second grant, of 1 November, is used up in December.
    assert row(2)["r"][:2] == (datetime(2025, 12, 5), "credit")
    assert row(9) == {}


def test_a_credit_ends_with_its_last_grant_not_with_its_redemption() -> None:
    second = datetime(2025, 9, 1)

    def row(redeem_by: datetime) -> tuple[object, ...]:
        marts = marts_of(
            [
                coupon(
                    credit_amount=Decimal(5_000),
                    credit_period_months=5,
                    credit_max_periods=3,
                    redeem_by=redeem_by,
                )
            ],
            [redemption(redeemed_at=datetime(2025, 4, 1))],
            monthly(),
        )
        assert of_redemptions(marts, "ends_at") == {"r": datetime(2026, 7, 1)}
        return expiring(marts)["r"]

    assert row(second - MICROSECOND) == (second, "end", 100, 100)
    assert row(second) == (datetime(2026, 2, 1), "end", 100, 100)


def test_in_a_tie_a_redemption_runs_out_by_its_end_then_by_its_uses() -> None:
    marts = marts_of(
        [coupon(credit_amount=Decimal(100), duration="once")],
        [redemption(redeemed_at=datetime(2025, 6, 20))],
        monthly(),
    )
    assert expiring(marts)["r"][:2] == (datetime(2025, 7, 5), "uses")


def test_only_what_runs_out_within_twelve_months_is_listed() -> None:
    last = datetime(2026, 7, 1)

    def listed(ends_at: datetime, **columns: Any) -> bool:
        return bool(expiring(marts_of([coupon()], [redemption(ends_at=ends_at, **columns)])))

    assert listed(last - MICROSECOND)
    assert not listed(last)
    assert listed(NOW)
    assert not listed(NOW - MICROSECOND)
    assert not listed(last - MICROSECOND, starts_at=NOW)


def test_nothing_rises_where_no_bill_had_a_benefit_or_none_is_to_come() -> None:
    ends_at = datetime(2025, 9, 1)
    none = marts_of([coupon(applies_to_plan="other")], [redemption(ends_at=ends_at)], monthly())
    stopped = marts_of([coupon()], [redemption(ends_at=ends_at)], monthly(datetime(2025, 1, 15), 3))
    assert expiring(none) == {"r": (ends_at, "end", None, None)}
    assert none["fct_upcoming_expirations"][0]["last_benefit_invoice_id"] is None
    assert expiring(stopped) == {"r": (ends_at, "end", None, None)}
    assert stopped["fct_upcoming_expirations"][0]["last_benefit_invoice_id"] == "i2"


def test_a_rise_in_another_currency_than_the_rows_is_left_out() -> None:
    ends_at = datetime(2025, 9, 1)
    dollars = [redemption(ends_at=ends_at)], monthly(currency="USD")
    of_dollars = marts_of([coupon(currency="USD")], *dollars)
    of_euros = marts_of([coupon(currency="EUR")], *dollars)
    both = [*monthly(), *monthly(datetime(2025, 4, 6), currency="JPY", prefix="j")]
    shared = marts_of([coupon()], dollars[0], both)
    assert expiring(of_dollars)["r"][2] == 10
    assert expiring(of_euros)["r"][2] is None
    assert expiring(shared)["r"][2] is None
    assert shared["fct_upcoming_expirations"][0]["currency"] is None


def test_bills_of_the_outlook_give_a_row_the_currency_that_no_bill_has_given_it_yet() -> None:
    marts = marts_of(
        [coupon()],
        [redemption(starts_at=datetime(2025, 6, 30), ends_at=datetime(2025, 9, 1))],
        monthly(currency="JPY"),
    )
    assert marts["fct_upcoming_expirations"][0]["currency"] == "JPY"
    assert of_redemptions(marts, "currency") == {"r": None}


def test_an_expiring_promotion_is_shown_with_its_run_rate_and_its_follow_up() -> None:
    last = datetime(2026, 7, 1) - MICROSECOND

    def rows(*more: Record) -> list[tuple[object, object]]:
        marts = marts_of(
            [coupon("first", follow_up_coupon_id="ten"), coupon()],
            [redemption("a", "first", ends_at=last, user_id="u"), *more],
            [invoice("i", datetime(2025, 6, 3))],
        )
        return [
            (row["run_rate_amount"], row["is_followed_up"])
            for row in marts["fct_upcoming_expirations"]
        ]

    assert rows() == [(Decimal("3.33"), True)]
    assert rows(redemption("b", workspace_id="v", user_id="u")) == [(Decimal("3.33"), False)]
    earlier = redemption("b", redeemed_at=START - timedelta(1), ends_at=START)
    assert rows(earlier) == [(Decimal("3.33"), False)]


def test_a_follow_up_that_would_begin_after_the_horizon_follows_nothing_up_yet() -> None:
    horizon = datetime(2027, 7, 1)

    def is_followed_up(ends_at: datetime, *more: Record) -> object:
        marts = marts_of(
            [
                coupon(
                    "first", duration="repeating", duration_invoices=4, follow_up_coupon_id="ten"
                ),
                coupon(),
            ],
            [redemption("a", "first", ends_at=ends_at), *more],
            monthly(),
        )
        return by_id(marts, "fct_upcoming_expirations", "redemption_id", "is_followed_up")["a"]

    on_record = redemption("b", redeemed_at=datetime(2025, 6, 1))
    assert is_followed_up(horizon - MICROSECOND) is True
    assert is_followed_up(horizon) is False
    assert is_followed_up(horizon - MICROSECOND, on_record) is True
    assert is_followed_up(horizon, on_record) is False


def test_what_is_given_and_expected_is_set_against_the_budget_of_its_month() -> None:
    def budget(month: date, planned: int, **columns: object) -> Record:
        base = {"program": "special", "currency": "USD", "month": month}
        return {**base, "amount": Decimal(planned), **columns}

    marts = marts_of(
        [coupon(), coupon("c", credit_amount=Decimal(12), program="startup")],
        [redemption(ends_at=datetime(2025, 8, 1)), redemption("s", "c")],
        monthly(),
        budgets=[
            budget(date(2025, 6, 1), 15),
            budget(date(2025, 7, 1), 7),
            budget(date(2030, 1, 1), 0),
            budget(date(2025, 6, 1), 1, currency="JPY"),
        ],
    )
    rows = {
        (row["program"], row["currency"], f"{row['budget_month']:%Y-%m}"): (
            row["budget_amount"],
            row["given_amount"],
            row["expected_amount"],
            row["difference_amount"],
        )
        for row in marts["fct_program_budget_monthly"]
    }
    assert rows == {
        ("special", "USD", "2025-04"): (None, 10, 0, None),
        ("special", "USD", "2025-05"): (None, 10, 0, None),
        ("special", "USD", "2025-06"): (15, 10, 0, 5),
        ("special", "USD", "2025-07"): (7, 0, 10, -3),
        ("special", "USD", "2030-01"): (0, 0, 0, 0),
        ("special", "JPY", "2025-06"): (1, 0, 0, 1),
        ("startup", "USD", "2025-04"): (None, 12, 0, None),
    }


def test_the_bridge_leads_from_list_to_what_was_billed_after_notes() -> None:
    marts = marts_of(
        [coupon(), coupon("c", credit_amount=Decimal(25))],
        [redemption(), redemption("s", "c")],
        [
            invoice("a", discount_amount=Decimal(13)),
            invoice("b", list_amount=Decimal(-30)),
            invoice("other", plan="free"),
        ],
        credit_notes=[credit_note("n", "a", issued_at=START + timedelta(100))],
    )
    row = next(row for row in marts["fct_charge_bridge_monthly"] if row["plan"] == "team")
    assert {name: value for name, value in row.items() if isinstance(value, Decimal | int)} == {
        "invoices": 2,
        "list_amount": 70,
        "percent_off_amount": 10,
        "amount_off_amount": 0,
        "credit_amount": 25,
        "net_amount": 35,
        "billing_error_amount": 22,
        "billed_net_amount": 57,
        "credited_amount": 10,
        "billed_net_after_notes_amount": 47,
    }


def test_retention_is_empty_while_it_is_too_early_to_say() -> None:
    marts = marts_of(
        [coupon(duration="repeating", duration_months=1)],
        [redemption()],
        [invoice("1", START), invoice("2", datetime(2025, 3, 10, 9))],
    )
    (row,) = marts["fct_promotion_retention"]
    kept = [row[f"is_retained_{months}m"] for months in (1, 3, 6, 12)]
    assert kept == [True, False, None, None]
    assert row["total_discount_amount"] == 10
    assert row["net_amount_12m"] == 100


def test_it_is_no_longer_too_early_once_the_day_has_come_and_gone() -> None:
    def is_retained(ended_at: datetime) -> object:
        marts = marts_of([coupon()], [redemption(ends_at=ended_at)])
        return marts["fct_promotion_retention"][0]["is_retained_1m"]

    assert is_retained(datetime(2025, 6, 1)) is None
    assert is_retained(datetime(2025, 6, 1) - MICROSECOND) is False


def test_a_redemption_that_ends_with_the_as_of_day_has_not_ended_in_its_program() -> None:
    def ended(ends_at: datetime) -> dict[object, object]:
        redeemed_at = datetime(2025, 6, 2)
        marts = marts_of(
            [coupon(currency="USD")],
            [redemption(redeemed_at=redeemed_at, ends_at=ends_at)],
            as_of=date(2025, 6, 14),
        )
        name = "fct_program_performance_monthly"
        return by_id(marts, name, "performance_month", "ended_redemptions")

    assert ended(datetime(2025, 6, 15)) == {date(2025, 6, 1): 0}
    assert ended(datetime(2025, 6, 15) - MICROSECOND) == {date(2025, 6, 1): 1}


def test_program_performance_counts_each_touched_invoice_once() -> None:
    marts = marts_of(
        [coupon("a"), coupon("b"), coupon("c", credit_amount=Decimal(1), program="startup")],
        [redemption("1", "a"), redemption("2", "b"), redemption("3", "c")],
        [invoice("i")],
    )
    rows = {(r["program"], r["currency"]): r for r in marts["fct_program_performance_monthly"]}
    special, startup = rows["special", "USD"], rows["startup", "USD"]
    assert special["new_redemptions"] == 2
    assert special["list_amount"] == 100
    assert special["discount_amount"] == 19
    assert special["net_amount"] == 80
    assert special["effective_percent"] == Decimal("19.0000")
    assert (startup["credit_amount"], startup["net_amount"]) == (1, 80)


def test_amounts_of_a_redemption_are_empty_when_its_invoices_share_no_currency() -> None:
    marts = marts_of([coupon()], [redemption()], [invoice("a"), invoice("b", currency="JPY")])
    (row,) = marts["dim_coupon_redemptions"]
    assert row["currency"] is None
    assert row["discount_to_date_amount"] is None
    assert row["invoices_discounted"] == 2


# ------------------------------------------------------------------------------ what always holds


def amount(row: Mapping[str, object], column: str) -> Decimal:
    """An amount that may not be missing."""
    value = row[column]
    assert isinstance(value, Decimal)
    assert value == value.quantize(Decimal("0.01"))
    return value


def check_invariant_1(marts: Marts, records: Records) -> None:
    """At most one honoured redemption per coupon and workspace, and per user, as `once_per` asks."""
    users = {r["redemption_id"]: r.get("user_id") for r in records["redemptions"]}
    once_per = {row["coupon_id"]: row["once_per"] for row in marts["dim_coupons"]}
    seen: set[tuple[object, ...]] = set()
    for row in marts["dim_coupon_redemptions"]:
        asked = once_per.get(row["coupon_id"])
        if not row["is_honoured"] or asked == "unlimited":
            continue
        subscription = row["subscription_id"] if asked == "subscription" else None
        keys = [("workspace", row["coupon_id"], row["workspace_id"], subscription)]
        user = users[str(row["redemption_id"]).split("~")[0]]
        if user is not None and asked == "user":
            keys.append(("user", row["coupon_id"], user, None))
        assert not seen.intersection(keys)
        seen.update(keys)


def check_invariant_2(marts: Marts, records: Records) -> None:
    """No discount or credit outside the window of its redemption, or on a bill of another workspace."""
    windows = {row["redemption_id"]: row for row in marts["dim_coupon_redemptions"]}
    bills = {row["invoice_id"]: row for row in marts["fct_discounted_charges"]}
    given = [row for row in marts["fct_credit_ledger"] if row["entry_type"] == "draw"]
    for row in [*marts["fct_discount_applications"], *given]:
        window, bill = windows[row["redemption_id"]], bills[row["invoice_id"]]
        started_at, ends_at, issued_at = window["started_at"], window["ends_at"], bill["issued_at"]
        assert isinstance(started_at, datetime)
        assert isinstance(issued_at, datetime)
        assert started_at <= issued_at
        assert ends_at is None or (isinstance(ends_at, datetime) and issued_at < ends_at)
        assert window["is_honoured"]
        assert window["workspace_id"] == bill["workspace_id"]


def check_invariant_3(marts: Marts, records: Records) -> None:
    """List = discount + credit + net per invoice, none negative, and in the programs' totals."""
    applied: dict[object, Decimal] = defaultdict(Decimal)
    creditable: dict[object, Decimal] = {
        row["invoice_id"]: (
            amount(row, "list_amount")
            if row.get("creditable_amount") is None
            else amount(row, "creditable_amount")
        )
        for row in records["invoices"]
    }
    for row in marts["fct_discount_applications"]:
        assert amount(row, "discount_amount") > 0
        base = amount(row, "base_amount")
        assert base == amount(row, "discount_amount") + amount(row, "remaining_amount")
        applied[row["invoice_id"]] += amount(row, "discount_amount")
    for row in marts["fct_discounted_charges"]:
        parts = [amount(row, f"{part}_amount") for part in ("discount", "credit", "net")]
        assert sum(parts) == amount(row, "list_amount")
        assert parts[0] == applied[row["invoice_id"]]
        assert parts[0] <= amount(row, "discountable_amount")
        if amount(row, "list_amount") >= 0:
            assert min(parts) >= 0
            assert parts[1] <= creditable[row["invoice_id"]]
        else:
            assert parts[:2] == [0, 0]
    for part in ("discount", "credit"):
        by_program = sum(
            amount(r, f"{part}_amount") for r in marts["fct_program_performance_monthly"]
        )
        by_invoice = sum(amount(r, f"{part}_amount") for r in marts["fct_discounted_charges"])
        assert by_program == by_invoice


def check_invariant_4(marts: Marts, records: Records) -> None:
    """Per grant: grant = drawn + expired + forfeited + balance; draws = the invoices' credit."""
    balances: dict[object, Decimal] = defaultdict(Decimal)
    drawn: dict[object, Decimal] = defaultdict(Decimal)
    for row in marts["fct_credit_ledger"]:
        balances[row["grant_id"]] += amount(row, "amount")
        assert amount(row, "amount") != 0
        assert balances[row["grant_id"]] == amount(row, "balance_amount") >= 0
        if row["entry_type"] == "draw":
            drawn[row["invoice_id"]] -= amount(row, "amount")
        if row["entry_type"] in ("expire", "forfeit"):
            assert balances[row["grant_id"]] == 0
    for row in marts["fct_discounted_charges"]:
        assert amount(row, "credit_amount") == drawn[row["invoice_id"]]
    shown: dict[object, Decimal] = defaultdict(Decimal)
    for row in marts["fct_credit_draws"]:
        shown[row["invoice_id"]] += amount(row, "draw_amount")
        for kind in ("", "billed_"):
            before = amount(row, f"{kind}balance_before_amount")
            assert before >= amount(row, f"{kind}draw_amount") >= 0
    assert {key: value for key, value in shown.items() if value} == {
        key: value for key, value in drawn.items() if value
    }
    closing: dict[object, Decimal] = {}
    for row in marts["fct_credit_burndown_monthly"]:
        opening = amount(row, "opening_amount") + amount(row, "granted_amount")
        gone = ("drawn_amount", "expired_amount", "forfeited_amount")
        left = opening - sum(amount(row, column) for column in gone)
        assert left == amount(row, "closing_amount") >= 0
        assert amount(row, "opening_amount") == closing.get(row["grant_id"], 0)
        closing[row["grant_id"]] = left
    assert closing == dict(balances)


def check_invariant_5(marts: Marts, records: Records) -> None:
    """The four effects sum to the delta, the deltas of a workspace to its last discount."""
    total: dict[tuple[object, object], Decimal] = defaultdict(Decimal)
    last: dict[tuple[object, object], Decimal] = {}
    for row in marts["fct_percent_off_variance_monthly"]:
        parts = [amount(row, f"{part}_effect_amount") for part in ("start", "end", "bill", "rate")]
        assert sum(parts) == amount(row, "delta_amount")
        key = (row["workspace_id"], row["currency"])
        total[key] += amount(row, "delta_amount")
        last[key] = amount(row, "percent_off_amount")
    assert dict(total) == last


def check_invariant_7(marts: Marts, records: Records) -> None:
    """The outlook adds up, keeps within windows and grants, and leaves the past unchanged."""
    for row in marts["fct_bill_outlook_monthly"]:
        parts = [amount(row, f"{part}_amount") for part in ("discount", "credit", "net")]
        kinds = [amount(row, f"{kind}_amount") for kind in ("percent_off", "amount_off")]
        assert sum(parts) == amount(row, "list_amount") > 0
        assert sum(kinds) == parts[0]
        assert min(parts) >= 0
    versions = read_coupon_versions(records["coupons"])
    coupons = {coupon_id: of_coupon[-1] for coupon_id, of_coupon in versions.items()}
    outlook = look_ahead(records, coupons, NOW)
    past = {row["invoice_id"]: row for row in marts["fct_discounted_charges"]}
    for bill in outlook.state.invoices:
        assert bill.is_expected == (bill.issued_at >= NOW) == (bill.invoice_id not in past)
        if not bill.is_expected:
            given = to_major(outlook.given[bill.invoice_id], bill.currency)
            charge = past[bill.invoice_id]
            assert given == amount(charge, "discount_amount") + amount(charge, "credit_amount")
        elif bill.list_minor > 0:
            assert 0 <= bill.discount_given <= bill.discountable <= bill.list_minor
            assert 0 <= bill.credit_given <= bill.creditable
    for redemption in outlook.state.honoured:
        for gift in redemption.gifts:
            assert redemption.start <= gift.invoice.issued_at
            assert redemption.end is None or gift.invoice.issued_at < redemption.end
        for grant in redemption.grants:
            drawn = sum(draw for _, draw in grant.draws)
            assert grant.balance >= 0
            assert grant.amount == drawn + grant.expired + grant.forfeited + grant.balance


INVARIANTS = (
    check_invariant_1,
    check_invariant_2,
    check_invariant_3,
    check_invariant_4,
    check_invariant_5,
    check_invariant_7,
)


@pytest.mark.parametrize("check", INVARIANTS)
@settings(max_examples=60)
@given(records=workspace_histories())
def test_the_invariants_hold_of_any_history(
    check: Callable[[Marts, Records], None], records: Records
) -> None:
    check(publish(records, AS_OF), records)


@pytest.mark.parametrize("check", INVARIANTS)
def test_the_invariants_hold_of_many_worlds_in_one_build(
    check: Callable[[Marts, Records], None],
) -> None:
    records, marts = large_build()
    check(marts, records)


# ---------------------------------------------------------------------------------- the histories


@cache
def large_build() -> tuple[Records, Marts]:
    """A thousand worlds and what is published of them."""
    records = combine(sample_worlds(1_000, seed=7))
    return records, publish(records, AS_OF)


# These marts add workspaces up, so one of their rows may be of several worlds.
ADDED_UP = {
    "fct_program_performance_monthly",
    "fct_program_budget_monthly",
    "fct_charge_bridge_monthly",
}


def test_worlds_in_one_build_do_not_touch_each_other() -> None:
    worlds = sample_worlds(40, seed=3)
    together = publish(combine(worlds), AS_OF)
    apart = [
        publish(combine([{}] * number + [world]), AS_OF) for number, world in enumerate(worlds)
    ]
    for mart in set(MART_NAMES) - ADDED_UP:
        alone = [row for marts in apart for row in marts[mart]]
        assert sorted(map(repr, together[mart])) == sorted(map(repr, alone)), mart


@pytest.mark.parametrize(
    ("mart", "column", "values"),
    [
        (
            "dim_coupon_redemptions",
            "status",
            "refused revoked ineligible expired scheduled exhausted active",
        ),
        (
            "fct_audit_findings",
            "finding_type",
            "unknown_coupon unknown_workspace redeemed_after_close duplicate_for_workspace"
            " duplicate_for_user prior_coupon over_redeemed follow_up_not_immediate"
            " discount_after_expiry discount_on_refused_redemption discount_without_coupon"
            " over_discounted under_discounted credit_over_drawn credit_under_drawn"
            " invoice_does_not_add_up credited_beyond_bill credit_note_without_invoice"
            " coupon_terms_changed",
        ),
        ("fct_credit_ledger", "entry_type", "grant draw expire forfeit"),
        ("fct_discounted_charges", "audit_status", "matched over_discounted under_discounted"),
        ("fct_discounted_charges", "currency", "USD EUR JPY"),
        ("dim_coupon_redemptions", "next_event", "start grant expiry revocation eligibility None"),
        ("fct_upcoming_expirations", "is_followed_up", "True False"),
        ("fct_upcoming_expirations", "runs_out_by", "end uses credit"),
        ("fct_credit_notes", "is_counted", "True False"),
        ("fct_credit_draws", "draw_rank", "1 2 3"),
        ("dim_coupon_redemptions", "uses_left", "None 0 1 2 3"),
        ("dim_coupons", "once_per", "user workspace subscription unlimited"),
        ("fct_promotion_retention", "is_retained_3m", "True False None"),
        ("fct_discount_applications", "application_rank", "1 2 3"),
    ],
)
def test_the_histories_reach_every_outcome(mart: str, column: str, values: str) -> None:
    _, marts = large_build()
    assert set(values.split()) <= {str(row[column]) for row in marts[mart]}


def test_the_histories_reach_every_kind_of_follow_up_and_every_effect() -> None:
    _, marts = large_build()
    redemptions = marts["dim_coupon_redemptions"]
    derived = {r["refusal_reason"] for r in redemptions if r["is_derived"]}
    assert derived == {None, "duplicate_for_workspace", "duplicate_for_user"}
    links = {str(row["redemption_id"]).count("~") for row in redemptions}
    assert links >= {0, 1, 2}
    promotions = {row["promotion_id"] for row in redemptions if not row["is_derived"]}
    assert promotions < {row["redemption_id"] for row in redemptions}
    for effect in ("start", "end", "bill", "rate"):
        column = f"{effect}_effect_amount"
        assert any(row[column] for row in marts["fct_percent_off_variance_monthly"]), effect


def test_the_histories_reach_every_case_of_the_outlook() -> None:
    _, marts = large_build()
    rows = marts["fct_upcoming_expirations"]
    assert {"~expected-" in str(row["last_benefit_invoice_id"]) for row in rows} == {True, False}
    rises = [row["rise_amount"] for row in rows]
    assert None in rises
    assert {int((rise > 0) - (rise < 0)) for rise in rises if isinstance(rise, Decimal)} == {
        *(-1, 0, 1)
    }
    burndown = marts["fct_credit_burndown_monthly"]
    assert len({row["projected_exhaustion_date"] for row in burndown}) > 5
    assert {row["projected_breakage_amount"] == 0 for row in burndown} == {True, False}
    outlook = marts["fct_bill_outlook_monthly"]
    for column in ("percent_off_amount", "amount_off_amount", "credit_amount"):
        assert any(row[column] for row in outlook), column
    budgets = marts["fct_program_budget_monthly"]
    assert any(row["expected_amount"] and row["budget_amount"] for row in budgets)
    assert any(row["given_amount"] and row["budget_amount"] for row in budgets)


def test_the_histories_reach_every_kind_of_bill() -> None:
    records, marts = large_build()
    charges = marts["fct_discounted_charges"]
    intervals = {(row["billing_interval"], int(str(row["interval_count"])) > 1) for row in charges}
    assert intervals >= {
        *((interval, True) for interval in ("day", "week", "month", "year")),
        *((interval, False) for interval in ("day", "week", "month", "year", "once")),
    }
    assert any(amount(row, "net_amount") < 0 for row in charges)
    assert any(amount(row, "discountable_amount") < amount(row, "list_amount") for row in charges)
    assert any(row["subscription_id"] for row in charges)
    assert any(row["creditable_amount"] is not None for row in records["invoices"])


def test_a_delivery_has_every_column_of_the_feed_as_text() -> None:
    records = combine(sample_worlds(30, seed=5))
    deliveries = as_deliveries(records)
    assert set(deliveries) == set(FEEDS) == set(feeds())
    for name, feed in feeds().items():
        assert len(deliveries[name]) == len(records[name])
        if name not in ("coupons", "budgets"):
            keys = [row[feed.key.name] for row in deliveries[name]]
            assert len(keys) == len(set(keys))
        for row in deliveries[name]:
            assert tuple(row) == feed.column_names
            assert all(row[column] for column in feed.required_names)
            for column in ID_COLUMNS:
                assert not row.get(column) or row[column].startswith("w0")
            if row.get("currency") == "JPY" and "list_amount" in row:
                assert "." not in row["list_amount"]
