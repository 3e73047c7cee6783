"""The reference model against the specification's own examples, its edges and its invariants.

Here belong the tests of the model and of the histories it is tried on, not the comparison of the
model with what the pipeline publishes.
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
from hypothesis import HealthCheck, given, settings

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
from tests.reference.outlook import run_rate
from tests.reference.rules import (
    ReportingCalendar,
    Row,
    add_months,
    effective_percent,
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
    """A coupon; by default 10 % off for ever."""
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


# ------------------------------------------------------------------------------------------- R4


def follow_up_world(*more: Record, **columns: object) -> Marts:
    """20 % for a month that gives way to 10 %, with more redemptions on record."""
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


# ------------------------------------------------------------------------------------------- R9


def billed(amount: str, credit: str = "0") -> Marts:
    """A 10 % coupon and credit of 50.00; an invoice of 100.00 billed so."""
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


def test_an_expiring_promotion_is_shown_up_to_twelve_months_ahead_with_its_follow_up() -> None:
    horizon = datetime(2026, 7, 1)

    def rows(ends_at: datetime, *more: Record) -> list[tuple[object, object]]:
        marts = marts_of(
            [coupon("first", follow_up_coupon_id="ten"), coupon()],
            [redemption("a", "first", ends_at=ends_at, user_id="u"), *more],
            [invoice("i", datetime(2025, 6, 3))],
        )
        return [
            (row["run_rate_amount"], row["is_followed_up"])
            for row in marts["fct_upcoming_expirations"]
        ]

    last = horizon - MICROSECOND
    assert rows(horizon) == []
    assert rows(last) == [(Decimal("3.33"), True)]
    assert rows(last, redemption("b", workspace_id="v", user_id="u")) == [(Decimal("3.33"), False)]
    earlier = redemption("b", redeemed_at=START - timedelta(1), ends_at=START)
    assert rows(last, earlier) == [(Decimal("3.33"), False)]


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
    """No discount or credit outside the window of its redemption, or on a bill that is not its."""
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
    for row in marts["fct_discount_applications"]:
        assert amount(row, "discount_amount") > 0
        base = amount(row, "base_amount")
        assert base == amount(row, "discount_amount") + amount(row, "remaining_amount")
        applied[row["invoice_id"]] += amount(row, "discount_amount")
    for row in marts["fct_discounted_charges"]:
        parts = [amount(row, f"{part}_amount") for part in ("discount", "credit", "net")]
        assert min(parts) >= 0
        assert sum(parts) == amount(row, "list_amount")
        assert parts[0] == applied[row["invoice_id"]]
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


INVARIANTS = (
    check_invariant_1,
    check_invariant_2,
    check_invariant_3,
    check_invariant_4,
    check_invariant_5,
)


@pytest.mark.parametrize("check", INVARIANTS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
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


# These marts add workspaces up, so that worlds meet in a row of theirs.
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
            " invoice_does_not_add_up",
        ),
        ("fct_credit_ledger", "entry_type", "grant draw expire forfeit"),
        ("fct_discounted_charges", "audit_status", "matched over_discounted under_discounted"),
        ("fct_discounted_charges", "currency", "USD EUR JPY"),
        ("dim_coupon_redemptions", "next_event", "start grant expiry revocation eligibility None"),
        ("fct_upcoming_expirations", "is_followed_up", "True False"),
        ("fct_promotion_retention", "is_retained_3m", "True False None"),
        ("fct_discount_applications", "application_rank", "1 2 3"),
    ],
)
def test_the_histories_reach_every_outcome(mart: str, column: str, values: str) -> None:
    _, marts = large_build()
    assert set(values.split()) <= {str(row[column]) for row in marts[mart]}


def test_the_histories_reach_every_kind_of_follow_up_and_every_effect() -> None:
    _, marts = large_build()
    derived = {r["refusal_reason"] for r in marts["dim_coupon_redemptions"] if r["is_derived"]}
    assert derived == {None, "duplicate_for_workspace", "duplicate_for_user"}
    for effect in ("start", "end", "bill", "rate"):
        column = f"{effect}_effect_amount"
        assert any(row[column] for row in marts["fct_percent_off_variance_monthly"]), effect


def test_a_delivery_has_every_column_of_the_feed_as_text() -> None:
    records = combine(sample_worlds(30, seed=5))
    deliveries = as_deliveries(records)
    assert set(deliveries) == set(FEEDS) == set(feeds())
    for name, feed in feeds().items():
        assert len(deliveries[name]) == len(records[name])
        keys = [row[feed.key.name] for row in deliveries[name]]
        assert len(keys) == len(set(keys))
        for row in deliveries[name]:
            assert tuple(row) == feed.column_names
            assert all(row[column] for column in feed.required_names)
            for column in ID_COLUMNS:
                assert not row.get(column) or row[column].startswith("w0")
            if row.get("currency") == "JPY" and "list_amount" in row:
                assert "." not in row["list_amount"]
