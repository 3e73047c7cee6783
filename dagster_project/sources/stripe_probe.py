"""`pull stripe --probe`: the mapping's assumptions about an account, checked by reading only.

Checks that no document settles, but a first account in test mode can, belong here. Each is one or two
requests, delivers nothing and stores nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dagster_project.sources.stripe_api import PAGE, Api, NotExpanded, NotFound
from dagster_project.sources.stripe_bills import invoice_amounts
from dagster_project.sources.stripe_money import NotAnAmount
from dagster_project.sources.stripe_shapes import (
    Json,
    coupon_in,
    data_of,
    discount_of,
    discounts_on,
    has_contents,
    id_of,
    line_of,
)

Outcome = Literal["as assumed", "differs", "nothing to check"]


@dataclass(frozen=True)
class Check:
    """One question to an account.

    Attributes:
        question: What was asked.
        outcome: Whether the account does as the mapping assumes.
        found: What was seen, with ids.
    """

    question: str
    outcome: Outcome
    found: str

    def as_json(self) -> dict[str, Any]:
        """Return the check for machines."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the check as a line for people."""
        return f"{self.outcome:<17} {self.question}\n{'':<17} {self.found}"


def probe() -> list[Check]:
    """Check what is assumed about an account, with the key and address in the environment.

    Raises:
        PullError: The account cannot be read.
    """
    asked = _Account(Api(None))
    questions: list[Callable[[_Account], Check]] = [
        _bills_add_up,
        _total_is_after_credit,
        _lists_are_newest_first,
        _discount_ids,
        _subscriptions_come_first,
        _deleted_coupons,
        _canceled_keep_discounts,
        _voided_once,
        _item_events,
        _decimals,
    ]
    return [question(asked) for question in questions]


class _Account:
    """The newest objects of an account, requested once."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.invoices = self._newest("/v1/invoices", ["data.discounts"])
        self.subscriptions = self._newest(
            "/v1/subscriptions",
            ["data.discounts", "data.discounts.source.coupon"],
            {"status": "all"},
        )

    def _newest(
        self, path: str, expand: list[str], more: dict[str, Any] | None = None
    ) -> list[Json]:
        while True:
            try:
                params = {"limit": PAGE, **({"expand": expand} if expand else {}), **(more or {})}
                return data_of(self.api.get(path, params))
            except NotExpanded:
                if not expand:
                    raise
                expand = expand[:-1]
            except NotFound:
                return []

    def newest(self, path: str, **more: Any) -> list[Json]:
        return self._newest(path, [], more)

    def discounts(self) -> Iterator[tuple[Json, Json]]:
        for invoice in self.invoices:
            for found in discounts_on(invoice):
                if isinstance(found, dict):
                    yield invoice, found


def _judged(question: str, as_assumed: list[str], differing: list[str]) -> Check:
    if differing:
        return Check(question, "differs", f"{', '.join(differing[:5])} ({len(differing)} in all)")
    if as_assumed:
        return Check(question, "as assumed", f"seen on {len(as_assumed)}, such as {as_assumed[0]}")
    return Check(
        question, "nothing to check", "the newest objects of this account have no such case"
    )


def _bills_add_up(account: _Account) -> Check:
    good: list[str] = []
    bad: list[str] = []
    for invoice in account.invoices:
        if (invoice.get("lines") or {}).get("has_more"):
            continue
        try:
            amounts = invoice_amounts(invoice)
        except NotAnAmount as error:
            bad.append(f"{invoice['id']}: {error}")
            continue
        (good if amounts.sum == amounts.total else bad).append(invoice["id"])
    return _judged("list - discount - credit + exclusive tax is the total", good, bad)


def _total_is_after_credit(account: _Account) -> Check:
    good: list[str] = []
    bad: list[str] = []
    for invoice in account.invoices:
        if (invoice.get("lines") or {}).get("has_more"):
            continue
        try:
            amounts = invoice_amounts(invoice)
        except NotAnAmount:
            continue
        if amounts.credit:
            (good if amounts.sum == amounts.total else bad).append(invoice["id"])
    return _judged("the total of a bill is what is left after billing credits", good, bad)


def _lists_are_newest_first(account: _Account) -> Check:
    created = [invoice.get("created") or 0 for invoice in account.invoices]
    is_sorted = created == sorted(created, reverse=True)
    ids = [invoice["id"] for invoice in account.invoices]
    return _judged(
        "lists begin with the newest object", ids if is_sorted else [], [] if is_sorted else ids[:2]
    )


def _discount_ids(account: _Account) -> Check:
    hanging = {}
    for subscription in account.subscriptions:
        for found in discounts_on(subscription):
            if isinstance(found, dict) and (discount := discount_of(found)) is not None:
                hanging[discount.key] = discount.id
    good: list[str] = []
    bad: list[str] = []
    for invoice, found in account.discounts():
        discount = discount_of(found)
        if discount is None or discount.key not in hanging:
            continue
        same = hanging[discount.key] == discount.id
        (good if same else bad).append(f"{invoice['id']} {discount.id}")
    return _judged("a bill names a subscription's discount by the same id", good, bad)


def _subscriptions_come_first(account: _Account) -> Check:
    holders = {one["id"] for one in account.newest("/v1/customers") if one.get("discount")}
    good: list[str] = []
    bad: list[str] = []
    for invoice in account.invoices:
        found = [one for one in discounts_on(invoice) if isinstance(one, dict)]
        places = {discount.place for discount in map(discount_of, found) if discount is not None}
        if "subscription" in places and id_of(invoice.get("customer")) in holders:
            (bad if "customer" in places else good).append(invoice["id"])
    return _judged("a subscription's discount takes the place of its customer's", good, bad)


def _deleted_coupons(account: _Account) -> Check:
    listed = {coupon["id"] for coupon in account.newest("/v1/coupons")}
    good: list[str] = []
    bad: list[str] = []
    for holder in (*account.subscriptions, *account.invoices):
        for found in discounts_on(holder):
            if not isinstance(found, dict):
                continue
            coupon_id, contents = coupon_in(found)
            if coupon_id is None or coupon_id in listed or len(listed) >= PAGE:
                continue
            if contents is None:
                try:
                    asked = account.api.get(f"/v1/coupons/{coupon_id}", {})
                    contents = asked if has_contents(asked) else None
                except NotFound:
                    contents = None
            (good if contents else bad).append(coupon_id)
    return _judged(
        "a deleted coupon that somebody holds still says what it gives",
        list(dict.fromkeys(good)),
        list(dict.fromkeys(bad)),
    )


def _canceled_keep_discounts(account: _Account) -> Check:
    billed = {
        discount.subscription
        for _, found in account.discounts()
        if (discount := discount_of(found)) is not None
    }
    good: list[str] = []
    bad: list[str] = []
    for one in account.subscriptions:
        if one.get("status") == "canceled" and one["id"] in billed:
            (good if discounts_on(one) else bad).append(one["id"])
    return _judged("a canceled subscription keeps its discounts", good, bad)


def _voided_once(account: _Account) -> Check:
    holding = {id_of(found) for one in account.subscriptions for found in discounts_on(one)}
    good: list[str] = []
    bad: list[str] = []
    for invoice, found in account.discounts():
        _, contents = coupon_in(found)
        if invoice.get("status") == "void" and (contents or {}).get("duration") == "once":
            (good if found.get("id") in holding else bad).append(invoice["id"])
    return _judged("a voided bill gives a coupon for one bill back", good, bad)


def _item_events(account: _Account) -> Check:
    of_items = []
    for event in account.newest("/v1/events", type="customer.discount.*"):
        found = (event.get("data") or {}).get("object") or {}
        if found.get("subscription_item"):
            of_items.append(str(event["id"]))
    return _judged("discounts of subscription items send events", of_items, [])


def _decimals(account: _Account) -> Check:
    good: list[str] = []
    bad: list[str] = []
    for invoice in account.invoices:
        if str(invoice.get("currency")).upper() in ("ISK", "UGX"):
            amounts = [line_of(line).subtotal for line in data_of(invoice.get("lines"))]
            is_whole = all(amount % 100 == 0 for amount in amounts)
            (good if is_whole else bad).append(invoice["id"])
    return _judged("amounts in ISK and UGX are hundredths that are zeros", good, bad)
