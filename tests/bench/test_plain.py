"""What is left of a history for the other programs, and that it is still worth comparing."""

from __future__ import annotations

from decimal import Decimal

from tests.bench.plain import in_one_step, plain
from tests.reference import histories, model

WORLDS = histories.combine(histories.sample_worlds(300, seed=5))


def links(**follow_ups: str | None) -> dict[object, object]:
    coupons: list[histories.Record] = [
        {"coupon_id": coupon_id, "follow_up_coupon_id": follow_up}
        for coupon_id, follow_up in follow_ups.items()
    ]
    return {coupon["coupon_id"]: coupon["follow_up_coupon_id"] for coupon in in_one_step(coupons)}


def test_the_first_of_a_chain_of_coupons_keeps_its_follow_up() -> None:
    assert links(a="b", b="c", c=None) == {"a": "b", "b": None, "c": None}
    assert links(b="c", a="b", c=None) == {"a": None, "b": "c", "c": None}
    assert links(a="b", b="a") == {"a": "b", "b": None}


def test_follow_ups_of_one_step_stay() -> None:
    kept = {"a": "c", "b": "c", "c": None, "d": "d", "e": "missing"}
    assert links(**kept) == kept


def test_nothing_is_left_that_the_programs_do_not_know() -> None:
    left = plain(WORLDS)
    assert not left["credit_notes"] and not left["budgets"]
    for feed, column in (
        ("coupons", "once_per"), ("redemptions", "subscription_id"),
        ("invoices", "subscription_id"), ("invoices", "discountable_amount"),
        ("invoices", "creditable_amount"),
    ):  # fmt: skip
        assert any(record[column] is not None for record in WORLDS[feed])
        assert all(record[column] is None for record in left[feed])
    amounts = [Decimal(str(invoice["list_amount"])) for invoice in WORLDS["invoices"]]
    assert min(amounts) < 0
    assert len(left["invoices"]) == sum(amount >= 0 for amount in amounts)
    ids = [coupon["coupon_id"] for coupon in left["coupons"]]
    assert len(ids) == len(set(ids)) < len(WORLDS["coupons"])
    assert set(ids) == {coupon["coupon_id"] for coupon in WORLDS["coupons"]}


def test_the_version_of_a_coupon_that_holds_is_the_one_that_stays() -> None:
    updated = {
        (str(coupon["coupon_id"]), coupon["updated_at"]) for coupon in plain(WORLDS)["coupons"]
    }
    newest: dict[str, object] = {}
    for coupon in sorted(WORLDS["coupons"], key=lambda coupon: str(coupon["updated_at"])):
        newest[str(coupon["coupon_id"])] = coupon["updated_at"]
    assert updated == set(newest.items())


def test_what_is_left_has_every_effect_and_both_kinds_of_follow_up() -> None:
    marts = model.publish(plain(WORLDS), histories.AS_OF)
    months = marts["fct_percent_off_variance_monthly"]
    for name in ("bill", "rate", "start", "end"):
        assert any(month[f"{name}_effect_amount"] for month in months)
    followers = [
        redemption
        for redemption in marts["dim_coupon_redemptions"]
        if redemption["promotion_id"] != redemption["redemption_id"]
        and redemption["refusal_reason"] is None
    ]
    assert {redemption["is_derived"] for redemption in followers} == {True, False}
