"""Histories reduced to the kinds of data that the other programs know.

These programs are written for the benchmark's sample, data of the first edition of the rules; this
product's own models are tested on every kind elsewhere.
"""

from __future__ import annotations

from decimal import Decimal

from tests.reference.histories import Record, Records
from tests.reference.rules import read_coupon_versions

_ONLY_LATER = {
    "coupons": {"once_per": None},
    "redemptions": {"subscription_id": None},
    "invoices": {"subscription_id": None, "discountable_amount": None, "creditable_amount": None},
}


def plain(records: Records) -> Records:
    """Remove from a history what the other programs do not know.

    These are subscriptions, coupons that are not once per user, older versions of coupons, parts of a
    bill on which coupons or credit may not act, negative bills, credit notes, budgets, and follow-ups of
    follow-ups. Any interval of bills may stay.

    Args:
        records: The history; it is not changed.

    Returns:
        A copy without them.
    """
    kept = {
        feed: [{**record, **_ONLY_LATER.get(feed, {})} for record in rows]
        for feed, rows in records.items()
    }
    kept["coupons"] = in_one_step(_newest(kept["coupons"]))
    kept["invoices"] = [
        invoice for invoice in kept["invoices"] if Decimal(str(invoice["list_amount"])) >= 0
    ]
    return {**kept, "credit_notes": [], "budgets": []}


def in_one_step(coupons: list[Record]) -> list[Record]:
    """The coupons without follow-ups that would make a chain; the first of a chain keeps its own."""
    followed: set[object] = set()
    following: set[object] = set()
    result = []
    for coupon in coupons:
        coupon_id, follow_up = coupon["coupon_id"], coupon["follow_up_coupon_id"]
        if follow_up is not None and follow_up != coupon_id:
            if coupon_id in following or follow_up in followed:
                coupon = {**coupon, "follow_up_coupon_id": None}
            else:
                followed.add(coupon_id)
                following.add(follow_up)
        result.append(coupon)
    return result


def _newest(coupons: list[Record]) -> list[Record]:
    """The current version of each coupon."""
    result = []
    for coupon_id, versions in read_coupon_versions(coupons).items():
        copies = [coupon for coupon in coupons if coupon["coupon_id"] == coupon_id]
        result.append(
            next(
                coupon
                for coupon in reversed(copies)
                if read_coupon_versions([coupon])[coupon_id] == versions[-1:]
            )
        )
    return result
