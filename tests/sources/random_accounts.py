"""Accounts that live: customers come, coupons are given and taken, bills are made, corrected and voided.

A month of an account, a few days at a time. It lasts no longer than Stripe keeps events, so that what
can be known of it is the same however often it is pulled.
"""

from __future__ import annotations

import copy
import random
from typing import Any

from tests.sources.stripe_objects import (
    at,
    coupon,
    credit_note,
    customer,
    grant,
    invoice,
    line,
    price,
    removed,
)
from tests.sources.stripe_server import Account

Json = dict[str, Any]
BEGIN = at("2025-03-01")
STEP = 4 * 86_400
STEPS = 7
PRICES = {"small": 1_999, "team": 12_000, "large": 49_901}


class Living:
    """An account with a clock and a will of its own."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.now = BEGIN
        self.numbers = 0
        weekly = {"interval": "week"}
        self.account = Account(
            {
                "prices": [
                    *(price(f"price_{one}", f"prod_{one}", **weekly) for one in PRICES),
                    price("price_use", "prod_use", usage_type="metered", **weekly),
                ],
                "coupons": [
                    coupon("TEN", percent=10),
                    coupon("THIRD", percent=33.33, duration="repeating", duration_in_months=1),
                    coupon("FIVE", amount_off=500, currency="usd", duration="once"),
                    coupon(
                        "EACH",
                        amount_off=700,
                        currency="usd",
                        currency_options={"eur": {"amount_off": 650}},
                    ),
                ],
                **{
                    kind: []
                    for kind in (
                        *("customers", "subscriptions", "invoices", "credit_notes", "events"),
                        *("credit_grants", "credit_balance_transactions"),
                    )
                },
            }
        )
        for _ in range(3):
            self.new_customer()

    def of(self, kind: str) -> list[Json]:
        return self.account.objects[kind]

    def number(self) -> str:
        self.numbers += 1
        return f"{self.seed}{self.numbers:05}"

    def step(self) -> None:
        """Let some days pass: what must happen, and some of what may."""
        self.finalize()
        may = [
            *(self.new_customer, self.give, self.give, self.give_item, self.take, self.take),
            *(self.give_customer, self.give_customer, self.take_from_customer, self.rename),
            *(self.change_plan, self.void, self.pay, self.pay, self.note),
            *(self.void_note, self.give_credit, self.delete_coupon, self.cancel),
        ]
        for happen in self.random.sample(may, 11):
            self.now += self.random.randint(1, STEP // 20)
            happen()
        self.now += 60
        self.expire()
        for one in self.of("subscriptions"):
            if one["status"] == "active" and self.random.random() < 0.8:
                self.bill(one)
        self.now = BEGIN + (1 + (self.now - BEGIN) // STEP) * STEP

    # -- Customers and subscriptions -----------------------------------------------------------------

    def new_customer(self) -> None:
        number = self.number()
        currency = self.random.choice(["usd", "usd", "eur"])
        made = {"created": self.now, "currency": currency}
        self.of("customers").append({**customer(f"cus_{number}"), **made})
        for place in range(self.random.choice([1, 1, 2])):
            self.of("subscriptions").append(
                {
                    "id": f"sub_{number}_{place}",
                    "object": "subscription",
                    "created": self.now,
                    "currency": currency,
                    "customer": f"cus_{number}",
                    "discounts": [],
                    "ended_at": None,
                    "items": {
                        "has_more": False,
                        "data": [
                            {
                                "id": f"si_{number}_{place}",
                                "price": copy.deepcopy(self.of("prices")[1]),
                                "discounts": [],
                            }
                        ],
                    },
                    "livemode": False,
                    "status": "active",
                    "plan_of_test": self.random.choice(list(PRICES)),
                    "taxed_of_test": self.random.random() < 0.5,
                }
            )

    def active(self) -> list[Json]:
        return [one for one in self.of("subscriptions") if one["status"] == "active"]

    def rename(self) -> None:
        self.random.choice(self.of("customers"))["name"] = f"Name {self.number()}"

    def cancel(self) -> None:
        if len(self.active()) > 2:
            self.random.choice(self.active()).update(status="canceled", ended_at=self.now)

    # -- Discounts -----------------------------------------------------------------------------------

    def discount_of(self, holder: Json, **places: Any) -> Json:
        given = copy.deepcopy(self.random.choice(self.of("coupons")))
        ends = self.now + 20 * 86_400 if given["duration"] == "repeating" else None
        return {
            "id": f"di_{self.number()}",
            "object": "discount",
            "customer": holder.get("customer", holder["id"]),
            "end": ends,
            "promotion_code": self.random.choice([None, "promo_1"]),
            "source": {"type": "coupon", "coupon": given},
            "start": self.now,
            "subscription": None,
            "subscription_item": None,
            "invoice": None,
            "invoice_item": None,
            **places,
        }

    def give(self) -> None:
        one = self.random.choice(self.active())
        if len(one["discounts"]) < 2:
            one["discounts"].append(self.discount_of(one, subscription=one["id"]))

    def give_item(self) -> None:
        one = self.random.choice(self.active())
        item = one["items"]["data"][0]
        if not item["discounts"] and not one["discounts"]:
            item["discounts"].append(self.discount_of(one, subscription_item=item["id"]))

    def expire(self) -> None:
        """Discounts that have an end leave by themselves then."""
        for one in self.of("subscriptions"):
            for holder in (one, one["items"]["data"][0]):
                holder["discounts"] = [found for found in holder["discounts"] if self.lasts(found)]
        for one in self.of("customers"):
            if one["discount"] and not self.lasts(one["discount"]):
                one["discount"] = None

    def lasts(self, found: Json) -> bool:
        return found["end"] is None or found["end"] > self.now

    def give_customer(self) -> None:
        """Give a customer a discount, which its subscriptions' own stand in place of."""
        one = self.random.choice(self.of("customers"))
        if one["discount"] is None:
            one["discount"] = self.discount_of(one)

    def take_from_customer(self) -> None:
        holders = [one for one in self.of("customers") if one["discount"]]
        if holders:
            self.gone(self.random.choice(holders))

    def taken_by(self, one: Json) -> list[Json]:
        """The discounts a bill of a subscription takes: its own, else its customer's."""
        (holder,) = (found for found in self.of("customers") if found["id"] == one["customer"])
        return one["discounts"] or ([holder["discount"]] if holder["discount"] else [])

    def take(self) -> None:
        holders = [one for one in self.active() if one["discounts"]]
        if holders:
            one = self.random.choice(holders)
            self.gone(one, self.random.choice(one["discounts"]))

    def gone(self, holder: Json, found: Json | None = None) -> None:
        if found is None:
            found, holder["discount"] = holder["discount"], None
        else:
            holder["discounts"].remove(found)
        event = removed(copy.deepcopy(found), self.now, f"evt_{self.number()}")
        self.of("events").append(event)

    def delete_coupon(self) -> None:
        held = {
            found["source"]["coupon"]["id"] for one in self.active() for found in one["discounts"]
        }
        for one in self.of("coupons"):
            if one["id"] in held and len(self.of("coupons")) > 2:
                self.of("coupons").remove(one)
                return

    # -- Bills ---------------------------------------------------------------------------------------

    def bill(self, one: Json) -> None:
        """A draft of what a subscription owes, with what its discounts and credit take off."""
        week = {
            "start": self.now // 86_400 * 86_400,
            "end": self.now // 86_400 * 86_400 + 7 * 86_400,
        }
        plan = one["plan_of_test"]
        common: Json = {"subscription_id": one["id"], "item": one["items"]["data"][0]["id"]}
        lines = [
            line(
                f"il_{self.number()}",
                PRICES[plan] * self.random.choice([0, 1, 1, 1, 2]),
                price_id=f"price_{plan}",
                product=f"prod_{plan}",
                **common,
            )
        ]
        if self.random.random() < 0.4:
            used = self.random.randint(0, 9_000)
            more: Json = {"price_id": "price_use", "product": "prod_use"}
            lines.append(line(f"il_{self.number()}", used, **more, **common))
        if self.random.random() < 0.15:
            many: Json = {"price_id": "price_small", "product": "prod_small"}
            lines += [line(f"il_{self.number()}", 101, **many, **common) for _ in range(12)]
        for found in lines:
            found["period"] = dict(week)
        self.make(one, lines)

    def change_plan(self) -> None:
        """A bill of prorations: money back for one plan, money for another."""
        one = self.random.choice(self.active())
        before, after = one["plan_of_test"], self.random.choice(list(PRICES))
        one["plan_of_test"] = after
        week = {
            "start": self.now // 86_400 * 86_400,
            "end": self.now // 86_400 * 86_400 + 5 * 86_400,
        }
        lines = [
            line(
                f"il_{self.number()}",
                sign * PRICES[plan] * 5 // 7,
                price_id=f"price_{plan}",
                product=f"prod_{plan}",
                subscription_id=one["id"],
                proration=True,
            )
            for sign, plan in ((-1, before), (1, after))
        ]
        for found in lines:
            found["period"] = dict(week)
        self.make(one, lines, takes_discounts=False)

    def make(self, one: Json, lines: list[Json], takes_discounts: bool = True) -> None:
        item = one["items"]["data"][0]
        own = self.taken_by(one) if takes_discounts else []
        carried = [*item["discounts"], *own] if takes_discounts else []
        left = {found["id"]: found["subtotal"] for found in lines}
        for discount in carried:
            self.take_off(discount, lines, left, one["currency"])
        if item["discounts"] and takes_discounts:
            for found in lines:
                found["discounts"] = copy.deepcopy(item["discounts"])
        self.take_credit(one, lines, left)
        listed = sum(left.values())
        made = invoice(
            f"in_{self.number()}",
            lines,
            created="2025-01-01",
            finalized=None,
            status="draft",
            currency=one["currency"],
            subscription_id=one["id"],
            discounts=copy.deepcopy(own),
            tax=listed * 19 // 100 if one["taxed_of_test"] else 0,
            customer=one["customer"],
        )
        made["created"] = self.now
        self.of("invoices").append(made)
        is_used = sum(found["subtotal"] for found in lines) > 0
        (holder,) = (found for found in self.of("customers") if found["id"] == one["customer"])
        for discount in carried:
            if discount["source"]["coupon"]["duration"] == "once" and is_used:
                if discount["subscription_item"]:
                    self.gone(item, discount)
                elif discount["subscription"]:
                    self.gone(one, discount)
                else:
                    self.gone(holder)

    def take_off(
        self, discount: Json, lines: list[Json], left: dict[str, int], currency: str
    ) -> None:
        given = discount["source"]["coupon"]
        options = given.get("currency_options") or {}
        rest = options.get(currency, {}).get("amount_off", given["amount_off"])
        if (
            given["percent_off"] is None
            and currency != given["currency"]
            and currency not in options
        ):
            return
        for found in lines:
            base = left[found["id"]]
            if given["percent_off"] is not None:
                taken = round(base * round(given["percent_off"] * 100) / 10_000)
            else:
                taken = min(rest, base)
                rest -= taken
            found["discount_amounts"].append({"amount": taken, "discount": discount["id"]})
            left[found["id"]] -= taken

    def take_credit(self, one: Json, lines: list[Json], left: dict[str, int]) -> None:
        """Have what the customer's grants have left pay metered lines."""
        if one["currency"] != "usd":
            return
        grants = [
            found for found in self.of("credit_grants") if found["customer"] == one["customer"]
        ]
        for found in lines:
            is_metered = found["pricing"]["price_details"]["price"] == "price_use"
            for granted in grants if is_metered else []:
                paid = min(left[found["id"]], granted["left_of_test"])
                if paid > 0:
                    left[found["id"]] -= paid
                    granted["left_of_test"] -= paid
                    found["pretax_credit_amounts"].append(
                        {
                            "amount": paid,
                            "type": "credit_balance_transaction",
                            "discount": None,
                            "grant_of_test": granted["id"],
                        }
                    )

    def give_back(self, bill: Json) -> None:
        """Give the credit that a voided bill took back to its grants."""
        grants = {found["id"]: found for found in self.of("credit_grants")}
        for found in bill["lines"]["data"]:
            for taken in found["pretax_credit_amounts"]:
                grants[taken["grant_of_test"]]["left_of_test"] += taken["amount"]

    def finalize(self) -> None:
        for one in self.of("invoices"):
            if one["status"] == "draft" and one["created"] + 3_600 <= self.now:
                one["status"] = "open"
                one["status_transitions"]["finalized_at"] = one["created"] + 3_600

    def some(self, kind: str, status: str) -> Json | None:
        found = [one for one in self.of(kind) if one["status"] == status]
        return self.random.choice(found) if found else None

    def pay(self) -> None:
        if one := self.some("invoices", "open"):
            one["status"] = self.random.choice(["paid", "paid", "uncollectible"])

    def void(self) -> None:
        """Void a bill; one that took credit only while it is its customer's last.

        The ledger counts it as if it had never been, so that a later bill could have had that credit.
        """
        one = self.some("invoices", "open")
        if one is None:
            return
        took_credit = any(found["pretax_credit_amounts"] for found in one["lines"]["data"])
        of_customer = [
            found for found in self.of("invoices") if found["customer"] == one["customer"]
        ]
        if not took_credit or one is of_customer[-1]:
            one["status"] = "void"
            self.give_back(one)

    def note(self) -> None:
        one = self.some("invoices", "paid")
        if one is not None and one["total"] > 200:
            more = {"invoice": one["id"], "currency": one["currency"], "customer": one["customer"]}
            made = credit_note(f"cn_{self.number()}", one["total"] // 4, 0, **more)
            self.of("credit_notes").append({**made, "created": self.now})

    def void_note(self) -> None:
        if one := self.some("credit_notes", "issued"):
            one["status"] = "void"

    def give_credit(self) -> None:
        one = self.random.choice(self.of("customers"))
        made = grant(f"credgr_{self.number()}", 9_000, customer=one["id"], left_of_test=9_000)
        self.of("credit_grants").append({**made, "created": self.now, "effective_at": self.now})
