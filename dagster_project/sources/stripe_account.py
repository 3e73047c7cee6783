"""What is small in a Stripe account, taken in before any row: coupons, prices, subscriptions, grants, discounts.

Which coupon and which discount an id means belongs here, where ids were used twice or copied.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from dagster_project.sources.stripe_objects import Choices, Objects, Remembered
from dagster_project.sources.stripe_outcome import Refusal
from dagster_project.sources.stripe_shapes import (
    Discount,
    Json,
    Line,
    Recurrence,
    at,
    coupon_in,
    data_of,
    discount_of,
    discounts_hanging_on,
    has_contents,
    id_of,
    months_after,
    recurrence_of,
)

DELETED = "~deleted"
"""Ends the id of a coupon that was deleted, where another one was made under its id."""


class Account:
    """The small objects of an account.

    Attributes:
        prices: Prices by id.
        item_prices: Prices by subscription item.
        item_subscriptions: Subscriptions by item.
        subscriptions: Customer, currency, end and beginning of each subscription.
        subscriptions_of: Subscriptions by customer.
        coupons: Coupons by the id they are delivered under.
        held_coupons: Those of them that only discounts show, without their products and currencies.
        discounts: Discounts by id.
        alias: By discount, the id that it and its copies are delivered under.
        orders_hanging: By delivered discount that hangs on something, its place.
        removed_at: By discount, when an event says that it was removed.
        grants: Credit grants by customer and currency.
        customer_currency: Currencies by customer.
    """

    def __init__(self, objects: Objects, remembered: Remembered, choices: Choices) -> None:
        """Take the objects in.

        Args:
            objects: What the pull left.
            remembered: What earlier pulls saw; `canonical` is brought up to date.
            choices: The user's decisions.
        """
        self._objects = objects
        self._remembered = remembered
        self._choices = choices
        self.prices: dict[str, Json] = {}
        self.item_prices: dict[str, Json] = {}
        self.item_subscriptions: dict[str, str] = {}
        self.subscriptions: dict[str, Json] = {}
        self.subscriptions_of: dict[str, list[str]] = defaultdict(list)
        self.coupons: dict[str, Json] = {}
        self.held_coupons: list[Json] = []
        self.discounts: dict[str, Discount] = {}
        self.alias: dict[str, str] = {}
        self.orders_hanging: dict[str, int] = {}
        self.removed_at: dict[str, int] = {}
        self.grants: dict[tuple[str, str], list[Json]] = defaultdict(list)
        self.customer_currency: dict[str, str] = {}
        self._embedded: dict[tuple[str, Any], Json] = {}
        self._generations: dict[str, list[Json]] = defaultdict(list)
        self._coupon_made_at: dict[str, int] = {}
        self._hanging: dict[str, int] = {}
        self._take_in()

    def recurrence(self, line: Line) -> Recurrence | None:
        """Return how often the price of a line is billed; None where it is billed once.

        Raises:
            Refusal: The price is unknown, and the line is of a subscription.
        """
        for price in (
            line.price,
            self.prices.get(line.price_id or ""),
            self.item_prices.get(line.subscription_item or ""),
        ):
            if price is not None and ("recurring" in price or price.get("interval")):
                found = recurrence_of(price)
                metered = line.price_id and self.prices.get(line.price_id)
                if found is not None and metered and recurrence_of(metered):
                    return recurrence_of(metered)
                return found
        if line.price_id is not None and (line.is_of_subscription or line.is_proration):
            raise Refusal(
                f"the price {line.price_id} of its line {line.id} is unknown, and with it how often"
                " it is billed"
            )
        return None

    def surroundings(self) -> dict[str, bytes]:
        """Return digests of what the mapping of bills uses besides their own content."""
        around: dict[str, list[Any]] = defaultdict(list)
        for item, price in self.item_prices.items():
            customer = self.subscriptions[self.item_subscriptions[item]]["customer"]
            around[f"customer {customer}"].append([item, repr(recurrence_of(price))])
        for one in self.discounts.values():
            coupon = self.coupons.get(one.coupon_id)
            terms = [at(coupon, "applies_to", "products"), at(coupon, "percent_off")]
            of_discount = [one.id, one.coupon_id, self.alias[one.id], *terms, at(coupon, "is_held")]
            around[f"customer {one.customer}"].append(of_discount)
        for (customer, currency), grants in self.grants.items():
            scopes = [at(grant, "applicability_config", "scope") for grant in grants]
            around[f"customer {customer}"].append([currency, scopes])
        for price_id, price in self.prices.items():
            around[f"price {price_id}"].append(repr(recurrence_of(price)))
        around["mapping"] = [_version(), repr(self._choices)]
        return {name: _digest(sorted(map(_as_text, found))) for name, found in around.items()}

    def _take_in(self) -> None:
        for price in self._objects.each("prices"):
            self.prices[price["id"]] = price
        for subscription in self._objects.each("subscriptions"):
            self._take_subscription(subscription)
        for customer in self._objects.each("customers"):
            if customer.get("currency"):
                self.customer_currency[customer["id"]] = customer["currency"]
            self._take_hanging(customer, self._objects.is_listed("customers", customer["id"]))
        for event in self._objects.each("events"):
            self._take_event(event)
        for kind in ("discounts", "discounts_of_bills"):
            for known in self._objects.each(kind):
                self._take_discount(known)
        for coupon in self._objects.each("coupons"):
            if has_contents(coupon):
                self.coupons[coupon["id"]] = coupon
                self._generations[coupon.get("made_again") or coupon["id"]].append(coupon)
        for grant in self._objects.each("credit_grants"):
            code = str(at(grant, "amount", "monetary", "currency") or "").upper()
            self.grants[(id_of(grant.get("customer")) or "", code)].append(grant)
        self._settle_coupons()
        self._settle_copies()

    def _settle_coupons(self) -> None:
        """Tell coupons apart that were made again under the id of a deleted one."""
        for (coupon_id, created), contents in sorted(
            self._embedded.items(), key=lambda one: (one[0][0], one[0][1] or 0)
        ):
            known = self._generations[coupon_id]
            contents = {**contents, "is_held": True}
            if not known:
                self.coupons[coupon_id] = contents
                self.held_coupons.append(contents)
                known.append(contents)
            elif created is not None and all(one.get("created") != created for one in known):
                apart = made_again(contents)
                self.coupons[apart] = {**contents, "id": apart, "made_again": coupon_id}
                known.append(self.coupons[apart])
        for known in self._generations.values():
            known.sort(key=lambda one: one.get("created") or 0)

    def _coupon_named(self, discount: Discount) -> str:
        """The coupon of a discount: of several with one id, the one that the discount shows.

        Where it shows none, the last one that was made before the discount began; where all were made
        later, it was a deleted one.
        """
        known = self._generations[discount.coupon_id]
        made_at = {one.get("created") or 0: str(one["id"]) for one in known}
        shown = self._coupon_made_at.get(discount.id)
        if shown in made_at:
            return made_at[shown]
        if not known:
            return discount.coupon_id
        if before := [made for made in made_at if made <= discount.start]:
            return made_at[max(before)]
        return f"{discount.coupon_id}{DELETED}"

    def _take_subscription(self, subscription: Json) -> None:
        self.subscriptions[subscription["id"]] = {
            "customer": id_of(subscription.get("customer")),
            "currency": subscription.get("currency"),
            "ended_at": subscription.get("ended_at"),
            "created": subscription.get("created"),
        }
        if customer := id_of(subscription.get("customer")):
            self.subscriptions_of[customer].append(subscription["id"])
        for item in data_of(subscription.get("items")):
            price = item.get("price") or item.get("plan")
            self.item_subscriptions[item["id"]] = subscription["id"]
            if isinstance(price, Mapping):
                self.item_prices[item["id"]] = dict(price)
                self.prices.setdefault(str(price["id"]), dict(price))
        is_listed = self._objects.is_listed("subscriptions", subscription["id"])
        self._take_hanging(subscription, is_listed)

    def _take_hanging(self, holder: Json, is_listed: bool) -> None:
        for found, place, is_of_item in discounts_hanging_on(holder):
            discount_id = id_of(found)
            if discount_id is None:
                continue
            if isinstance(found, Mapping):
                self._take_discount(dict(found))
            if is_listed:
                self._hanging.setdefault(discount_id, place_order(place, is_of_item))

    def _take_event(self, event: Json) -> None:
        found = at(event, "data", "object")
        if not str(event.get("type", "")).startswith("customer.discount.") or not found:
            return
        self._take_discount(dict(found))
        if event["type"] == "customer.discount.deleted" and found.get("id"):
            self.removed_at[found["id"]] = int(event["created"])

    def _take_discount(self, found: Json) -> None:
        coupon_id, contents = coupon_in(found)
        if coupon_id is not None and contents is not None:
            self._embedded[coupon_id, contents.get("created")] = contents
            if found.get("id") and contents.get("created"):
                self._coupon_made_at[found["id"]] = contents["created"]
        discount = discount_of(found)
        if discount is not None:
            self.discounts.setdefault(discount.id, discount)

    def _natural_end(self, discount: Discount, coupon: Json | None) -> int | None:
        """When a repeating coupon runs out, which Stripe does not say of a discount that is gone."""
        months = at(coupon, "duration_in_months")
        if at(coupon, "duration") != "repeating" or not months:
            return None
        return months_after(discount.start, months)

    def _settle_copies(self) -> None:
        """Give a discount and its copies under other ids the id that was first delivered."""
        by_key: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for discount in self.discounts.values():
            by_key[discount.key].append(discount.id)
        for key, ids in by_key.items():
            hanging = sorted(one for one in ids if one in self._hanging)
            chosen = self._remembered.canonical.get(key) or (hanging or sorted(ids))[0]
            if chosen not in ids:
                chosen = (hanging or sorted(ids))[0]
            self._remembered.canonical[key] = chosen
            for one in ids:
                self.alias[one] = chosen
        for discount_id, discount in self.discounts.items():
            named = self._coupon_named(discount)
            end = discount.end or self._natural_end(discount, self.coupons.get(named))
            self.discounts[discount_id] = replace(discount, coupon_id=named, end=end)
        self.orders_hanging = {
            self.alias.get(one, one): order for one, order in self._hanging.items()
        }
        shared = Counter(self.alias.values())
        self.removed_at = {
            chosen: when
            for when, one in sorted((when, one) for one, when in self.removed_at.items())
            if shared[chosen := self.alias.get(one, one)] < 2 or when > self.discounts[one].start
        }


def place_order(place: int, is_of_item: bool) -> int:
    """Return a discount's place: those of items first, then in the order of their array."""
    return place + 1 - (1000 if is_of_item else 0)


def made_again(coupon: Json) -> str:
    """The id of a coupon that was made under the id of another one, by the instant of its making."""
    return f"{coupon['id']}~{coupon.get('created')}"


@cache
def _version() -> str:
    """Return a digest of the modules about Stripe, whose change has every bill mapped again."""
    made = hashlib.sha256()
    for module in sorted(Path(__file__).parent.glob("stripe_*.py")):
        made.update(module.read_bytes())
    return made.hexdigest()


def _as_text(found: Any) -> str:
    return json.dumps(found, sort_keys=True, default=str)


def _digest(found: list[str]) -> bytes:
    return hashlib.sha256("\n".join(found).encode()).digest()[:16]
