"""Stripe's objects for tests, in the shape of the version that is asked for; amounts always add up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]


def at(text: str) -> int:
    """An instant, in seconds since 1970."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def customer(customer_id: str = "cus_1", created: str = "2024-12-01", **more: Any) -> Json:
    found: Json = {
        "id": customer_id,
        "object": "customer",
        "created": at(created),
        "currency": "usd",
        "discount": None,
        "livemode": False,
        "metadata": {},
        "name": f"Name of {customer_id}",
    }
    return {**found, **more}


def coupon(coupon_id: str = "TEN", percent: float | None = None, **more: Any) -> Json:
    found: Json = {
        "id": coupon_id,
        "object": "coupon",
        "amount_off": None,
        "created": at("2024-12-01"),
        "currency": None,
        "duration": "forever",
        "duration_in_months": None,
        "livemode": False,
        "max_redemptions": None,
        "metadata": {},
        "name": None,
        "percent_off": percent,
        "redeem_by": None,
        "times_redeemed": 0,
        "valid": True,
    }
    return {**found, **more}


def price(price_id: str = "price_team", product: str = "prod_team", **recurring: Any) -> Json:
    repeats = {"interval": "month", "interval_count": 1, "usage_type": "licensed", **recurring}
    return {
        "id": price_id,
        "object": "price",
        "created": at("2024-11-01"),
        "currency": "usd",
        "livemode": False,
        "product": product,
        "recurring": repeats if repeats["interval"] else None,
        "type": "recurring" if repeats["interval"] else "one_time",
    }


def discount(
    discount_id: str = "di_1",
    coupon_id: str | Json = "TEN",
    start: str = "2025-01-01",
    end: str | None = None,
    **more: Any,
) -> Json:
    found: Json = {
        "id": discount_id,
        "object": "discount",
        "checkout_session": None,
        "customer": "cus_1",
        "end": at(end) if end else None,
        "invoice": None,
        "invoice_item": None,
        "promotion_code": None,
        "source": {"type": "coupon", "coupon": coupon_id},
        "start": at(start),
        "subscription": "sub_1",
        "subscription_item": None,
    }
    return {**found, **more}


def subscription(
    subscription_id: str = "sub_1", discounts: Sequence[Any] = (), **more: Any
) -> Json:
    found: Json = {
        "id": subscription_id,
        "object": "subscription",
        "canceled_at": None,
        "created": at("2024-12-15"),
        "currency": "usd",
        "customer": "cus_1",
        "discounts": list(discounts),
        "ended_at": None,
        "items": {"object": "list", "data": [], "has_more": False},
        "livemode": False,
        "metadata": {},
        "status": "active",
    }
    return {**found, **more}


def line(
    line_id: str = "il_1",
    amount: int = 12_000,
    discounts: dict[str, int] | None = None,
    *,
    start: str = "2025-02-01",
    end: str = "2025-03-01",
    price_id: str | None = "price_team",
    product: str | None = "prod_team",
    proration: bool = False,
    of_subscription: bool = True,
    subscription_id: str | None = "sub_1",
    item: str = "si_1",
    credit: int = 0,
    **more: Any,
) -> Json:
    details = {"proration": proration, "subscription": subscription_id}
    is_item = of_subscription and not proration
    found: Json = {
        "id": line_id,
        "object": "line_item",
        "amount": amount,
        "discount_amounts": [
            {"amount": taken, "discount": one} for one, taken in (discounts or {}).items()
        ],
        "discountable": not proration,
        "discounts": [],
        "livemode": False,
        "parent": {
            "type": "subscription_item_details" if is_item else "invoice_item_details",
            "subscription_item_details": {**details, "subscription_item": item}
            if is_item
            else None,
            "invoice_item_details": None if is_item else {**details, "invoice_item": "ii_1"},
        },
        "period": {"start": at(start), "end": at(end)},
        "pretax_credit_amounts": [
            {"amount": credit, "type": "credit_balance_transaction", "discount": None}
        ]
        if credit
        else [],
        "pricing": {"price_details": {"price": price_id, "product": product}} if price_id else None,
        "quantity": 1,
        "subtotal": amount,
    }
    return {**found, **more}


def invoice(
    invoice_id: str = "in_1",
    lines: Sequence[Json] | None = None,
    *,
    created: str = "2025-02-01T00:00",
    finalized: str | None = "2025-02-01T01:00",
    discounts: Sequence[Any] = (),
    tax: int = 0,
    inclusive: int = 0,
    status: str = "paid",
    currency: str = "usd",
    subscription_id: str | None = "sub_1",
    **more: Any,
) -> Json:
    lines = [line()] if lines is None else list(lines)
    taken: dict[str, int] = {}
    for one in lines:
        for part in one["discount_amounts"]:
            taken[part["discount"]] = taken.get(part["discount"], 0) + part["amount"]
    credit = sum(part["amount"] for one in lines for part in one["pretax_credit_amounts"])
    listed = sum(one["subtotal"] for one in lines)
    taxes = [(tax, "exclusive"), (inclusive, "inclusive")]
    details = {"subscription": subscription_id} if subscription_id else None
    found: Json = {
        "id": invoice_id,
        "object": "invoice",
        "created": at(created),
        "currency": currency,
        "customer": "cus_1",
        "discounts": list(discounts),
        "ending_balance": 0,
        "lines": {"object": "list", "data": lines, "has_more": False},
        "livemode": False,
        "parent": {"type": "subscription_details", "subscription_details": details}
        if details
        else None,
        "period_start": at("2024-01-01"),
        "period_end": at("2024-02-01"),
        "starting_balance": 0,
        "status": status,
        "status_transitions": {"finalized_at": at(finalized) if finalized else None},
        "subtotal": 1,  # after the discounts of items; nobody may take it for the list amount
        "amount_due": 2,
        "total": listed - sum(taken.values()) - credit + tax,
        "total_discount_amounts": [
            {"amount": amount, "discount": one} for one, amount in taken.items()
        ],
        "total_pretax_credit_amounts": [
            *(
                {"amount": amount, "discount": one, "type": "discount"}
                for one, amount in taken.items()
            ),
            *(part for one in lines for part in one["pretax_credit_amounts"]),
        ],
        "total_taxes": [
            {"amount": amount, "tax_behavior": behavior, "taxable_amount": 1}
            for amount, behavior in taxes
            if amount
        ],
    }
    return {**found, **more}


def credit_note(note_id: str = "cn_1", total: int = 1_190, tax: int = 190, **more: Any) -> Json:
    found: Json = {
        "id": note_id,
        "object": "credit_note",
        "amount": total,
        "created": at("2025-02-10T12:00"),
        "currency": "usd",
        "customer": "cus_1",
        "invoice": "in_1",
        "livemode": False,
        "reason": "order_change",
        "status": "issued",
        "total": total,
        "total_taxes": [{"amount": tax, "tax_behavior": "exclusive"}] if tax else [],
    }
    return {**found, **more}


def grant(grant_id: str = "credgr_1", value: int = 50_000, **more: Any) -> Json:
    found: Json = {
        "id": grant_id,
        "object": "billing.credit_grant",
        "amount": {"type": "monetary", "monetary": {"currency": "usd", "value": value}},
        "applicability_config": {"scope": {"price_type": "metered"}},
        "category": "promotional",
        "created": at("2025-01-01"),
        "customer": "cus_1",
        "effective_at": at("2025-01-01"),
        "expires_at": None,
        "livemode": False,
        "metadata": {},
        "name": None,
        "priority": None,
        "voided_at": None,
    }
    return {**found, **more}


def removed(found: Json, when: int, event_id: str = "evt_1") -> Json:
    """The event that a discount was taken off."""
    return {
        "id": event_id,
        "object": "event",
        "created": when,
        "livemode": False,
        "type": "customer.discount.deleted",
        "data": {"object": found},
    }
