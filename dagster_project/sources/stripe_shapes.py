"""Stripe's objects read the same way in every shape they have had since 2024.

Stripe moves fields from version to version: the coupon of a discount, the taxes of an invoice, the
price of a line. Where a fact is found belongs here; its use does not. The field names of the version
before basil (2025-03-31) and of clover, dahlia and endive are all understood.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from dagster_project.settings import add_months
from dagster_project.sources.stripe_money import NotAnAmount

Json = dict[str, Any]

Place = Literal["subscription", "subscription_item", "customer", "invoice", "invoice_item"]


def id_of(value: Any) -> str | None:
    """Return the id of an object that is given as its id or as a whole."""
    if isinstance(value, Mapping):
        value = value.get("id")
    return str(value) if value else None


def at(value: Any, *path: str) -> Any:
    """Return a nested value, None where the path ends early."""
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def months_after(start: int, months: int) -> int:
    """Return an instant some months later, clamped to the end of its month, in seconds since 1970."""
    return int(add_months(datetime.fromtimestamp(start, UTC), months).timestamp())


def whole(value: Any) -> int:
    """Return an amount as Stripe gives it; a missing one is zero.

    Raises:
        NotAnAmount: The amount is not a whole number; nothing is ever rounded.
    """
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise NotAnAmount(f"{value!r} is not a whole number of the smallest unit")
    return int(value)


def data_of(value: Any) -> list[Any]:
    """Return the entries of a list object or of a plain array."""
    if isinstance(value, Mapping):
        value = value.get("data")
    return list(value) if isinstance(value, list) else []


@dataclass(frozen=True)
class Discount:
    """A coupon that somebody has.

    Attributes:
        id: Stripe's id, `di_…`.
        customer: Who has it.
        place: The kind of object it is attached to.
        place_id: The id of that object.
        subscription: The subscription it is limited to, if any.
        coupon_id: The coupon.
        promotion_code: The code that was typed in, if one was.
        start: Since when, in seconds since 1970.
        end: Until when, for repeating coupons.
    """

    id: str
    customer: str | None
    place: Place
    place_id: str | None
    subscription: str | None
    coupon_id: str
    promotion_code: str | None
    start: int
    end: int | None

    @property
    def key(self) -> tuple[str, ...]:
        """The facts that a discount shares with a copy of it under another id."""
        return (
            self.customer or "",
            self.place,
            self.place_id or "",
            self.coupon_id,
            str(self.start),
        )


def coupon_in(discount: Json) -> tuple[str | None, Json | None]:
    """Return the coupon of a discount: its id, and its contents where they are given."""
    coupon = at(discount, "source", "coupon") or discount.get("coupon")
    contents = coupon if isinstance(coupon, Mapping) and has_contents(coupon) else None
    return id_of(coupon), dict(contents) if contents else None


def has_contents(coupon: Mapping[str, Any]) -> bool:
    """Return whether a coupon has its contents; a deleted one that is requested does not."""
    return bool(coupon.get("duration")) and not coupon.get("deleted")


def discount_of(found: Json) -> Discount | None:
    """Return a discount object in any shape, None where it does not say its coupon."""
    coupon_id, _ = coupon_in(found)
    if not found.get("id") or coupon_id is None or not isinstance(found.get("start"), int):
        return None
    customer = id_of(found.get("customer"))
    subscription = id_of(found.get("subscription"))
    places: list[tuple[Place, str | None]] = [
        ("invoice_item", id_of(found.get("invoice_item"))),
        ("subscription_item", id_of(found.get("subscription_item"))),
        ("subscription", subscription),
        ("invoice", id_of(found.get("invoice"))),
        ("customer", customer),
    ]
    place, place_id = next((one for one in places if one[1]), ("customer", None))
    return Discount(
        id=str(found["id"]),
        customer=customer,
        place=place,
        place_id=place_id,
        subscription=subscription,
        coupon_id=coupon_id,
        promotion_code=id_of(found.get("promotion_code")),
        start=found["start"],
        end=found.get("end"),
    )


def discounts_on(holder: Json) -> list[Any]:
    """Return the discounts of a customer, subscription, item, invoice or line, whole where given.

    An older shape has one whole object beside an array of ids.
    """
    one = holder.get("discount")
    found = [entry for entry in data_of(holder.get("discounts")) if entry]
    if isinstance(one, Mapping):
        found = [one if id_of(entry) == one.get("id") else entry for entry in found]
        if all(id_of(entry) != one.get("id") for entry in found):
            found.append(one)
    return found


def discounts_hanging_on(holder: Json) -> Iterator[tuple[Any, int, bool]]:
    """Yield the discounts of a customer or subscription, and those of its items.

    Yields:
        Discount object or id, its place in its array, and whether it hangs on an item.
    """
    for place, found in enumerate(discounts_on(holder)):
        yield found, place, False
    for item in data_of(holder.get("items")):
        for place, found in enumerate(discounts_on(item)):
            yield found, place, True


@dataclass(frozen=True)
class Line:
    """One line of an invoice.

    Attributes:
        id: Stripe's id.
        subtotal: Before discounts and exclusive tax.
        is_discountable: Whether coupons may act on it.
        is_proration: Whether it corrects a period that was billed before.
        is_of_subscription: Whether it comes from an item of a subscription.
        price_id: Its price, if it has one.
        price: The price as given in the line, in shapes that have it there.
        product: Its product, if it has one.
        subscription: Its subscription, if any.
        subscription_item: Its item, if any.
        start: First second of its period.
        end: First second after its period.
        quantity: Units, as Stripe says it.
        discounts: What was taken off, by discount.
        discount_ids: The discounts that are attached to this line alone.
        credit: What credit paid of it.
    """

    id: str
    subtotal: int
    is_discountable: bool
    is_proration: bool
    is_of_subscription: bool
    price_id: str | None
    price: Json | None
    product: str | None
    subscription: str | None
    subscription_item: str | None
    start: int
    end: int
    quantity: Any
    discounts: Mapping[str, int] = field(default_factory=dict)
    discount_ids: tuple[str, ...] = ()
    credit: int = 0

    @property
    def net(self) -> int:
        """What is left after discounts."""
        return self.subtotal - sum(self.discounts.values())


def price_in(line: Any) -> tuple[str | None, Json | None]:
    """Return the price of a line: its id, and its contents where they are given."""
    price = at(line, "pricing", "price_details", "price") or at(line, "price")
    contents = price if isinstance(price, Mapping) else None
    if contents is None and isinstance(at(line, "plan"), Mapping):
        contents = at(line, "plan")
    return id_of(price) or id_of(at(line, "plan")), dict(contents) if contents is not None else None


def line_of(found: Json) -> Line:
    """Return a line of an invoice in any shape."""
    of_item = at(found, "parent", "subscription_item_details")
    of_invoice_item = at(found, "parent", "invoice_item_details")
    details = of_item or of_invoice_item or {}
    price_id, contents = price_in(found)
    product = at(found, "pricing", "price_details", "product") or at(contents, "product")
    is_proration = bool(details.get("proration") or found.get("proration"))
    flag = found.get("discountable")
    period = found.get("period") or {}
    subtotal = found.get("subtotal")
    return Line(
        id=str(found.get("id")),
        subtotal=whole(found.get("amount") if subtotal is None else subtotal),
        is_discountable=not is_proration if flag is None else bool(flag),
        is_proration=is_proration,
        is_of_subscription=of_item is not None or found.get("type") == "subscription",
        price_id=price_id,
        price=contents,
        product=id_of(product),
        subscription=id_of(details.get("subscription")) or id_of(found.get("subscription")),
        subscription_item=id_of(details.get("subscription_item"))
        or id_of(found.get("subscription_item")),
        start=period.get("start") or 0,
        end=period.get("end") or 0,
        quantity=found.get("quantity_decimal") or found.get("quantity"),
        discounts=amounts_by_discount(found.get("discount_amounts")),
        discount_ids=tuple(filter(None, map(id_of, discounts_on(found)))),
        credit=credit_in(found.get("pretax_credit_amounts")),
    )


def amounts_by_discount(found: Any) -> dict[str, int]:
    """Return what each discount took off, from `discount_amounts` or `total_discount_amounts`."""
    amounts: dict[str, int] = {}
    for one in data_of(found):
        discount = id_of(one.get("discount"))
        if discount is not None:
            amounts[discount] = amounts.get(discount, 0) + whole(one.get("amount"))
    return amounts


def credit_in(found: Any) -> int:
    """Return the part of pretax credit amounts that is credit: the others are discounts."""
    return sum(
        whole(one.get("amount"))
        for one in data_of(found)
        if one.get("type") == "credit_balance_transaction"
    )


def taxes_of(found: Json) -> tuple[int, int]:
    """Return tax on top of the prices, and tax inside them, of an invoice or a credit note."""
    exclusive = inclusive = 0
    if current := data_of(found.get("total_taxes")):
        for one in current:
            if one.get("tax_behavior") == "inclusive":
                inclusive += whole(one.get("amount"))
            else:
                exclusive += whole(one.get("amount"))
        return exclusive, inclusive
    older = data_of(found.get("total_tax_amounts")) or data_of(found.get("tax_amounts"))
    if older:
        for one in older:
            if one.get("inclusive"):
                inclusive += whole(one.get("amount"))
            else:
                exclusive += whole(one.get("amount"))
        return exclusive, inclusive
    return whole(found.get("tax")), 0


def subscription_of(invoice: Json) -> str | None:
    """Return the subscription an invoice bills."""
    named = id_of(at(invoice, "parent", "subscription_details", "subscription")) or id_of(
        invoice.get("subscription")
    )
    if named is not None:
        return named
    of_lines = {line_of(line).subscription for line in data_of(invoice.get("lines"))}
    of_lines.discard(None)
    return of_lines.pop() if len(of_lines) == 1 else None


@dataclass(frozen=True)
class Recurrence:
    """How often a price is billed.

    Attributes:
        interval: `day`, `week`, `month` or `year`.
        count: The number of intervals.
        is_metered: Whether it is billed by use, after its period.
    """

    interval: str
    count: int
    is_metered: bool


def recurrence_of(price: Mapping[str, Any]) -> Recurrence | None:
    """Return how often a price or plan is billed, None for a price that is billed once."""
    recurring = price.get("recurring")
    if recurring is None and price.get("interval"):
        recurring = price  # a plan has the fields itself
    if not isinstance(recurring, Mapping) or not recurring.get("interval"):
        return None
    return Recurrence(
        str(recurring["interval"]),
        int(recurring.get("interval_count") or 1),
        recurring.get("usage_type") == "metered",
    )


def issued_at(invoice: Json) -> int:
    """Return when an invoice was issued: finalized, or for a draft created."""
    return int(at(invoice, "status_transitions", "finalized_at") or invoice["created"])
