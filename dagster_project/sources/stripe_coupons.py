"""Coupons and credit grants of Stripe as rows of the coupons, with the limits that bills agree with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

from dagster_project.feeds import feeds
from dagster_project.sources.stripe_account import Account
from dagster_project.sources.stripe_bills import Bill
from dagster_project.sources.stripe_money import (
    NotAnAmount,
    amount_text,
    currency_code,
    percent_text,
)
from dagster_project.sources.stripe_objects import Choices, Objects, Remembered
from dagster_project.sources.stripe_outcome import Outcome, Refusal, Row, instant, shown
from dagster_project.sources.stripe_shapes import Json, at, data_of, id_of, whole

DEFAULT_PRIORITY = 50
"""Stripe's, for credit grants that have none."""
UNLIMITED = "~unlimited"
"""Ends the id of a coupon that is delivered once more, without its plan and its limit."""


class Coupons:
    """The coupons that are delivered."""

    def __init__(
        self,
        objects: Objects,
        account: Account,
        remembered: Remembered,
        choices: Choices,
        outcome: Outcome,
    ) -> None:
        """Make no rows yet: what they say of plans depends on all bills.

        Args:
            objects: What the pull left.
            account: The account.
            remembered: What earlier pulls saw; `plans` is brought up to date.
            choices: The user's decisions.
            outcome: Where to say what rows cannot.
        """
        self._objects = objects
        self._account = account
        self._remembered = remembered
        self._choices = choices
        self._outcome = outcome

    @cached_property
    def rows(self) -> dict[str, Row]:
        """Rows by id of all coupons and credit grants, with those that redemptions need besides.

        All bills must be mapped before they are first asked for.
        """
        return dict(self._each())

    def _each(self) -> Iterator[tuple[str, Row]]:
        for coupon_id in sorted(self._account.coupons):
            coupon = self._account.coupons[coupon_id]
            try:
                yield from self._rows_of_coupon(coupon)
            except (Refusal, NotAnAmount) as error:
                self._outcome.refuse("coupons", coupon_id, str(error))
        for grants in self._account.grants.values():
            for grant in grants:
                try:
                    yield grant["id"], self._coupon_of_grant(grant)
                except (Refusal, NotAnAmount) as error:
                    self._outcome.refuse("coupons", str(grant.get("id")), str(error))

    def _rows_of_coupon(self, coupon: Json) -> Iterator[tuple[str, Row]]:
        coupon_id = coupon["id"]
        duration, months = coupon.get("duration"), coupon.get("duration_in_months")
        if duration not in ("once", "repeating", "forever"):
            raise Refusal(f"its duration {duration!r} is unknown")
        if duration == "repeating" and not months:
            raise Refusal("it is repeating, but does not say for how many months")
        if coupon.get("is_held"):
            self._outcome.note(
                "deleted_coupon",
                coupon_id,
                "only discounts show what it gives, which do not say to which products it is limited"
                " and what it takes off in further currencies",
            )
        redeem_by, most = coupon.get("redeem_by"), coupon.get("max_redemptions")
        row: Row = {
            "coupon_id": coupon_id,
            "coupon_name": coupon.get("name") or coupon.get("made_again") or coupon_id,
            "program": self._program(coupon, coupon_id),
            "discount_type": "percent_off",
            "percent_off": None,
            "amount_off": None,
            "amount_off_per": None,
            "credit_amount": None,
            "credit_priority": None,
            "currency": None,
            "applies_to_plan": self._only_plan(coupon),
            "duration": duration,
            "duration_months": str(months) if duration == "repeating" else None,
            "redeem_by": instant(redeem_by) if redeem_by else None,
            "max_redemptions": str(most) if most else None,
            "once_per": "unlimited",
        }
        if coupon.get("percent_off") is not None:
            yield coupon_id, {**row, "percent_off": percent_text(coupon["percent_off"])}
            return
        amounts = amounts_by_currency(coupon)
        if not amounts:
            raise Refusal("it says neither a percentage nor an amount")
        for currency, amount in sorted(amounts.items()):
            one = coupon_id if len(amounts) == 1 else f"{coupon_id}~{currency}"
            try:
                yield (
                    one,
                    {
                        **row,
                        "coupon_id": one,
                        "discount_type": "amount_off",
                        "amount_off": amount_text(amount, currency),
                        "amount_off_per": "invoice",
                        "currency": currency,
                    },
                )
            except NotAnAmount as error:
                self._outcome.refuse("coupons", one, str(error))
        if most and len(amounts) > 1:
            self._outcome.note(
                "limit_per_currency",
                coupon_id,
                f"at most {most} redemptions are counted for each currency, in Stripe for all",
            )

    def _coupon_of_grant(self, grant: Json) -> Row:
        currency = currency_code(at(grant, "amount", "monetary", "currency"))
        value = whole(at(grant, "amount", "monetary", "value"))
        if value <= 0:
            raise Refusal(f"it grants {shown(value, currency)}, which is no amount above 0")
        priority = grant.get("priority")
        return {
            "coupon_id": grant["id"],
            "coupon_name": grant.get("name") or grant["id"],
            "program": self._program(grant, grant["id"]),
            "discount_type": "credit",
            "percent_off": None,
            "amount_off": None,
            "amount_off_per": None,
            "credit_amount": amount_text(value, currency),
            "credit_priority": str(DEFAULT_PRIORITY if priority is None else priority),
            "currency": currency,
            "applies_to_plan": None,
            "duration": "forever",
            "duration_months": None,
            "redeem_by": None,
            "max_redemptions": None,
            "once_per": "unlimited",
        }

    def _program(self, found: Json, object_id: str) -> str:
        named = at(found, "metadata", self._choices.program_key)
        if named is None:
            return "special"
        programs = feeds()["coupons"].column("program").values
        if named in programs:
            return str(named)
        self._outcome.note(
            "unknown_program",
            object_id,
            f"its metadata {self._choices.program_key} is {named!r}, which is none of"
            f" {', '.join(programs)}: it counts as special",
        )
        return "special"

    def _only_plan(self, coupon: Json) -> str | None:
        """Return the plan a coupon is limited to, if it has one product and no bill says otherwise.

        What was delivered once stays, since other terms would hold for the whole past.
        """
        coupon_id = coupon["id"]
        products = data_of(at(coupon, "applies_to", "products"))
        if len(products) != 1:
            return None
        plans = self._remembered.plans
        if coupon_id not in plans:
            product = id_of(products[0])
            agrees = self._plans_of_coupons.get(coupon_id, set()) <= {product}
            plans[coupon_id] = product if agrees else None
        return plans[coupon_id]

    @cached_property
    def _plans_of_coupons(self) -> dict[str, set[str]]:
        """By coupon for one product that is not delivered yet, the plans of the bills that carry it."""
        found: dict[str, set[str]] = defaultdict(set)
        wanted = {
            one.id: one
            for one in self._account.discounts.values()
            if one.coupon_id not in self._remembered.plans
            and len(data_of(at(self._account.coupons.get(one.coupon_id), "applies_to", "products")))
            == 1
        }
        for customer in sorted({one.customer for one in wanted.values() if one.customer}):
            for bill in map(Bill.of, self._objects.bills_of(customer)):
                for discount in bill.orders.keys() & wanted.keys():
                    found[wanted[discount].coupon_id].add(bill.plan)
        return found

    def variant(self, coupon_id: str, carrying: list[Bill], number: int) -> str:
        """Return the coupon of a part, without limits that Stripe did not apply to it.

        A limit to a plan that bills contradict by now, and a limit of redemptions that further parts
        of one redemption must not use up.

        Args:
            coupon_id: The coupon of the first part.
            carrying: The bills that carry the discount.
            number: The number of the part, from 1 on.
        """
        row = self.rows[coupon_id]
        plan = row["applies_to_plan"]
        is_beyond_plan = plan is not None and any(one.plan != plan for one in carrying)
        if not is_beyond_plan and not (number > 1 and row["max_redemptions"]):
            return coupon_id
        unlimited = coupon_id + UNLIMITED
        more = {"coupon_id": unlimited, "applies_to_plan": None, "max_redemptions": None}
        self.rows[unlimited] = {**row, **more}
        return unlimited


def amounts_by_currency(coupon: Json) -> dict[str, int]:
    """Return what a coupon takes off, by currency."""
    found: dict[str, int] = {}
    for currency, option in (coupon.get("currency_options") or {}).items():
        if isinstance(at(option, "amount_off"), int):
            found[str(currency).upper()] = option["amount_off"]
    if isinstance(coupon.get("amount_off"), int):
        found[str(coupon.get("currency") or "").upper()] = coupon["amount_off"]
    return found
