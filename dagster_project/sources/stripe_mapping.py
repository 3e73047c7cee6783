"""The one mapping of Stripe's objects to the rows of the five feeds; `docs/stripe.md` has its table.

The content of a row, and why an object becomes no row, belong here. Fetching objects, storing them and
writing files do not. Everything is a function of the objects and of what earlier pulls saw, so the same
account gives the same rows however it was read. An invoice is mapped again only when its content or its
surroundings changed; the other objects are few and are mapped each time.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol

from dagster_project.sources.stripe_money import (
    NotAnAmount,
    amount_text,
    currency_code,
    percent_text,
)
from dagster_project.sources.stripe_shapes import (
    Discount,
    Json,
    Line,
    Recurrence,
    amounts_by_discount,
    at,
    coupon_in,
    credit_in,
    data_of,
    discount_of,
    discounts_hanging_on,
    discounts_on,
    has_contents,
    id_of,
    issued_at,
    line_of,
    price_in,
    recurrence_of,
    subscription_of,
    taxes_of,
    whole,
)
from dagster_project.sources.stripe_windows import Mark, Window, windows

Row = dict[str, str | None]

STATUSES = ("draft", "open", "paid", "void", "uncollectible")
INTERVALS = ("day", "week", "month", "year")
DEFAULT_PRIORITY = 50
"""Stripe's, for credit grants that have none."""
ONE_OFF = "one_off"
"""The plan of bills without a recurring line."""
DRAFT = "it is a draft"
UNKNOWN_DISCOUNT = "unknown_discount"
UNLIMITED = "~unlimited"
"""Ends the id of a coupon that is delivered once more, without its plan and its limit."""
_SHAPELESS = (KeyError, TypeError, ValueError, AttributeError)

COLUMNS: dict[str, tuple[str, ...]] = {
    "workspaces": ("workspace_id", "workspace_name", "created_at", "updated_at"),
    "coupons": (
        *("coupon_id", "coupon_name", "program", "discount_type", "percent_off", "amount_off"),
        *("amount_off_per", "credit_amount", "credit_priority", "currency", "applies_to_plan"),
        *("duration", "duration_months", "redeem_by", "max_redemptions", "once_per", "updated_at"),
    ),
    "redemptions": (
        *("redemption_id", "coupon_id", "workspace_id", "subscription_id", "redeemed_at"),
        *("starts_at", "ends_at", "revoked_at", "channel", "application_order", "updated_at"),
    ),
    "invoices": (
        *("invoice_id", "workspace_id", "status", "plan", "billing_interval", "interval_count"),
        *("subscription_id", "currency", "period_start", "period_end", "issued_at"),
        *("list_amount", "discountable_amount", "creditable_amount", "discount_amount"),
        *("credit_amount", "tax_amount", "total_amount", "mtus", "updated_at"),
    ),
    "credit_notes": (
        *("credit_note_id", "invoice_id", "status", "issued_at", "currency", "amount"),
        *("tax_amount", "reason", "updated_at"),
    ),
}
"""What is delivered, by feed; each feed's first column is its key."""


@dataclass(frozen=True)
class Choices:
    """What the user decides about the mapping.

    Attributes:
        workspace: What a workspace is: a `customer` or a `subscription`.
        program_key: The metadata key that names a coupon's program.
        programs: The existing programs.
        has_names: Whether names of customers are delivered.
        mtu_price: The metered price whose quantity is the monthly tracked users, if any.
    """

    workspace: str = "customer"
    program_key: str = "program"
    programs: tuple[str, ...] = ("startup", "accelerator", "non_profit", "special")
    has_names: bool = True
    mtu_price: str = ""


@dataclass(frozen=True)
class MappedBill:
    """What an invoice was mapped to, apart from its row.

    Attributes:
        id: The invoice.
        customer: Its customer.
        workspace: Its workspace.
        created: When its draft was made, in seconds since 1970.
        issued: When it was issued.
        refused: Why it is not delivered, if it is not.
        notes: Kind, id and text of each note.
        prices: The prices of its lines.
        content: What redemptions need to know of it, as text.
    """

    id: str
    customer: str | None
    workspace: str | None
    created: int | None
    issued: int | None
    refused: str | None
    notes: list[tuple[str, str, str]]
    prices: tuple[str, ...]
    content: str


class Objects(Protocol):
    """Stripe's objects as the last pull left them, and what invoices were mapped to."""

    def each(self, kind: str) -> Iterator[Json]:
        """Yield all objects of a kind, ordered by id."""

    def is_listed(self, kind: str, object_id: str) -> bool:
        """Return whether the newest pull saw the object in Stripe."""

    def note_surroundings(self, digests: Mapping[str, bytes]) -> None:
        """Mark for mapping the bills whose surroundings have changed."""

    def to_map(self) -> Iterator[Json]:
        """Yield the invoices that must be mapped, ordered by id."""

    def put_bill(self, bill: MappedBill) -> None:
        """Store what an invoice was mapped to."""

    def mapped(self) -> None:
        """Record that every invoice is mapped."""

    def bills_of(self, customer: str) -> Iterator[str]:
        """Yield what a customer's bills were mapped to, as stored, by the instant of issue."""

    def bill(self, invoice_id: str) -> tuple[str | None, str] | None:
        """Return why an invoice is not delivered, and what it was mapped to; None if unmapped."""

    def bills_that_tell(self) -> Iterator[tuple[str, str | None, list[tuple[str, str, str]]]]:
        """Yield the invoices that are refused or have notes: id, why it is refused, notes."""

    def workspaces_of_bills(self) -> Iterator[tuple[str, str, int]]:
        """Yield the workspaces that bills name: id, customer, when the oldest bill was created."""


@dataclass
class Remembered:
    """What earlier pulls saw of discounts, which Stripe neither lists nor stores.

    Attributes:
        canonical: By what a discount and its copies share, the id it was delivered under.
        gone_by: By discount, the instant of the first pull that no longer found it.
        hung_at: By discount, the instant of the last pull that found it hanging on something.
        parts: In how many parts a discount was delivered at most, where there were several.
        plans: By coupon for one product, the plan it was delivered with, which stays.
    """

    canonical: dict[tuple[str, ...], str] = field(default_factory=dict)
    gone_by: dict[str, int] = field(default_factory=dict)
    hung_at: dict[str, int] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    plans: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """An object that becomes no row.

    Attributes:
        feed: The feed it would have been in.
        id: Its id.
        why: What is wrong, with the difference where amounts do not add up.
    """

    feed: str
    id: str
    why: str


@dataclass(frozen=True)
class Note:
    """A fact that a row cannot hold, or holds only as a bound.

    Attributes:
        kind: Notes of one kind are shown together.
        id: The object it is about.
        text: The fact.
    """

    kind: str
    id: str
    text: str


@dataclass(frozen=True)
class _Bill:
    """What redemptions need to know of an invoice that is delivered."""

    id: str
    created: int
    at: int
    is_counted: bool
    subscription: str | None
    currency: str
    plan: str
    credit: int
    orders: Mapping[str, int]
    products: tuple[str | None, ...]
    """Of the lines on which a coupon could act."""

    @property
    def text(self) -> str:
        return json.dumps(list(vars(self).values()))

    @classmethod
    def of(cls, text: str) -> _Bill:
        values = json.loads(text)
        values[-1] = tuple(values[-1])
        return cls(*values)


class _Refusal(Exception):
    """Why an object becomes no row."""


class AccountMapping:
    """One run of the mapping over all objects."""

    def __init__(
        self,
        objects: Objects,
        remembered: Remembered,
        choices: Choices,
        now: int,
        began: int | None = None,
    ) -> None:
        """Load what is small: coupons, prices, subscriptions, grants, discounts.

        Args:
            objects: What the pull left.
            remembered: What earlier pulls saw; `gone_by` and `canonical` are brought up to
                date.
            choices: The user's decisions.
            now: The instant of the pull, in seconds since 1970.
            began: When the pull began to read; `now` unless given.
        """
        self.refused: list[Refused] = []
        self.notes: list[Note] = []
        self.counts: dict[str, int] = defaultdict(int)
        self._objects = objects
        self._remembered = remembered
        self._choices = choices
        self._now = now
        self._began = now if began is None else began
        self._prices: dict[str, Json] = {}
        self._item_prices: dict[str, Json] = {}
        self._item_subscriptions: dict[str, str] = {}
        self._subscriptions: dict[str, Json] = {}
        self._subscriptions_of: dict[str, list[str]] = defaultdict(list)
        self._coupons: dict[str, Json] = {}
        self._embedded: dict[tuple[str, Any], Json] = {}
        self._generations: dict[str, list[Json]] = defaultdict(list)
        self._made_again: set[str] = set()
        self._discounts: dict[str, Discount] = {}
        self._hanging: dict[str, int] = {}
        self._orders_hanging: dict[str, int] = {}
        self._alias: dict[str, str] = {}
        self._removed_at: dict[str, int] = {}
        self._grants: dict[tuple[str, str], list[Json]] = defaultdict(list)
        self._variants: dict[str, Row] = {}
        self._earliest: dict[str, int] = {}
        self._customer_of_workspace: dict[str, str] = {}
        self._customer_currency: dict[str, str] = {}
        self._notes_of_bill: list[tuple[str, str, str]] = []
        self._take_in()
        self._objects.note_surroundings(self._surroundings())

    # -- What is taken in before the rows --------------------------------------------------------

    def _take_in(self) -> None:
        for price in self._objects.each("prices"):
            self._prices[price["id"]] = price
        for subscription in self._objects.each("subscriptions"):
            self._take_subscription(subscription)
        for customer in self._objects.each("customers"):
            if customer.get("currency"):
                self._customer_currency[customer["id"]] = customer["currency"]
            self._take_hanging(customer, self._objects.is_listed("customers", customer["id"]))
        for event in self._objects.each("events"):
            self._take_event(event)
        for kind in ("discounts", "discounts_of_bills"):
            for known in self._objects.each(kind):
                self._take_discount(known)
        for coupon in self._objects.each("coupons"):
            if has_contents(coupon):
                self._coupons[coupon["id"]] = coupon
                self._generations[coupon.get("made_again") or coupon["id"]].append(coupon)
        for grant in self._objects.each("credit_grants"):
            code = str(at(grant, "amount", "monetary", "currency") or "").upper()
            self._grants[(id_of(grant.get("customer")) or "", code)].append(grant)
        self._settle_coupons()
        self._settle_copies()

    def _settle_coupons(self) -> None:
        """Tell coupons apart that were made again under the id of a deleted one."""
        for (coupon_id, created), contents in self._embedded.items():
            known = self._generations[coupon_id]
            if not known:
                self._coupons[coupon_id] = contents
                known.append(contents)
            elif created is not None and all(one.get("created") != created for one in known):
                apart = made_again(contents)
                self._coupons[apart] = {**contents, "id": apart, "made_again": coupon_id}
                known.append(self._coupons[apart])
        for coupon_id, known in self._generations.items():
            if len(known) > 1:
                known.sort(key=lambda one: one.get("created") or 0)
                self._made_again.add(coupon_id)

    def _coupon_named(self, discount: Discount) -> str:
        """The coupon of a discount; of several with one id the last that was made before it began."""
        if discount.coupon_id not in self._made_again:
            return discount.coupon_id
        known = self._generations[discount.coupon_id]
        before = [one for one in known if (one.get("created") or 0) <= discount.start]
        return str((before or known[:1])[-1]["id"])

    def _take_subscription(self, subscription: Json) -> None:
        self._subscriptions[subscription["id"]] = {
            "customer": id_of(subscription.get("customer")),
            "currency": subscription.get("currency"),
            "ended_at": subscription.get("ended_at"),
            "created": subscription.get("created"),
        }
        if customer := id_of(subscription.get("customer")):
            self._subscriptions_of[customer].append(subscription["id"])
        for item in data_of(subscription.get("items")):
            price = item.get("price") or item.get("plan")
            self._item_subscriptions[item["id"]] = subscription["id"]
            if isinstance(price, Mapping):
                self._item_prices[item["id"]] = dict(price)
                self._prices.setdefault(str(price["id"]), dict(price))
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
                self._hanging.setdefault(discount_id, _order(place, is_of_item))

    def _take_event(self, event: Json) -> None:
        found = at(event, "data", "object")
        if not str(event.get("type", "")).startswith("customer.discount.") or not found:
            return
        self._take_discount(dict(found))
        if event["type"] == "customer.discount.deleted" and found.get("id"):
            self._removed_at[found["id"]] = int(event["created"])

    def _take_discount(self, found: Json) -> None:
        coupon_id, contents = coupon_in(found)
        if coupon_id is not None and contents is not None:
            self._embedded[coupon_id, contents.get("created")] = contents
        discount = discount_of(found)
        if discount is not None:
            self._discounts.setdefault(discount.id, discount)

    def _settle_copies(self) -> None:
        """Give a discount and its copies under other ids the id that was first delivered."""
        by_key: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for discount in self._discounts.values():
            by_key[discount.key].append(discount.id)
        for key, ids in by_key.items():
            hanging = sorted(one for one in ids if one in self._hanging)
            chosen = self._remembered.canonical.get(key) or (hanging or sorted(ids))[0]
            if chosen not in ids:
                chosen = (hanging or sorted(ids))[0]
            self._remembered.canonical[key] = chosen
            for one in ids:
                self._alias[one] = chosen
        for discount_id, discount in self._discounts.items():
            named = self._coupon_named(discount)
            if named != discount.coupon_id:
                self._discounts[discount_id] = replace(discount, coupon_id=named)
        self._orders_hanging = {
            self._alias.get(one, one): order for one, order in self._hanging.items()
        }

    def _surroundings(self) -> dict[str, bytes]:
        """Return digests of what the mapping of bills uses besides their own content."""
        around: dict[str, list[Any]] = defaultdict(list)
        for item, price in self._item_prices.items():
            customer = self._subscriptions[self._item_subscriptions[item]]["customer"]
            around[f"customer {customer}"].append([item, repr(recurrence_of(price))])
        for one in self._discounts.values():
            products = at(self._coupons.get(one.coupon_id), "applies_to", "products")
            of_discount = [one.id, one.coupon_id, self._alias[one.id], products]
            around[f"customer {one.customer}"].append(of_discount)
        for (customer, currency), grants in self._grants.items():
            scopes = [at(grant, "applicability_config", "scope") for grant in grants]
            around[f"customer {customer}"].append([currency, scopes])
        for price_id, price in self._prices.items():
            around[f"price {price_id}"].append(repr(recurrence_of(price)))
        around["mapping"] = [_version(), repr(self._choices)]
        return {name: _digest(sorted(map(_as_text, found))) for name, found in around.items()}

    # -- Rows ------------------------------------------------------------------------------------

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Yield all rows but those of unchanged bills, without `updated_at`.

        Notes and refusals, of all objects, are complete at the end.
        """
        for invoice in self._objects.to_map():
            row = self._bill_row(invoice)
            if row is not None:
                yield "invoices", row
        self._objects.mapped()
        for invoice_id, refused, notes in self._objects.bills_that_tell():
            if refused == DRAFT:
                self.counts["drafts"] += 1
            elif refused is not None:
                self._refuse("invoices", invoice_id, refused)
            for kind, object_id, text in notes:
                if kind == UNKNOWN_DISCOUNT:
                    self._refuse("redemptions", object_id, text)
                else:
                    self._note(kind, object_id, text)
        for workspace, customer, created in self._objects.workspaces_of_bills():
            self._seen(workspace, customer, created)
        for note in self._objects.each("credit_notes"):
            row = self._safely("credit_notes", note, self._credit_note)
            if row is not None:
                yield "credit_notes", row
        self._compare_credit()
        coupons = dict(self._coupon_rows())
        yield from (("redemptions", row) for row in self._redemption_rows(coupons))
        yield from (("coupons", row) for _, row in sorted({**coupons, **self._variants}.items()))
        yield from (("workspaces", row) for row in self._workspace_rows())

    def _bill_row(self, invoice: Json) -> Row | None:
        """Return the row of an invoice, None where it is refused; store what it was mapped to."""
        self._notes_of_bill = []
        refused, made = None, None
        try:
            made = self._invoice(invoice)
        except (_Refusal, NotAnAmount) as error:
            refused = str(error)
        except _SHAPELESS as error:
            refused = _not_understood(error)
        row, bill = made or (None, None)
        created = invoice.get("created")
        self._objects.put_bill(
            MappedBill(
                id=str(invoice["id"]),
                customer=id_of(invoice.get("customer")),
                workspace=row["workspace_id"] if row else None,
                created=created if isinstance(created, int) else None,
                issued=bill.at if bill else None,
                refused=refused,
                notes=self._notes_of_bill if row else [],
                prices=tuple(
                    {one for one, _ in map(price_in, data_of(invoice.get("lines"))) if one}
                ),
                content=bill.text if bill else "",
            )
        )
        return row

    def _safely(self, feed: str, found: Json, made: Callable[[Json], Row | None]) -> Row | None:
        try:
            return made(found)
        except (_Refusal, NotAnAmount) as error:
            why = str(error)
        except _SHAPELESS as error:
            why = _not_understood(error)
        self._refuse(feed, str(found.get("id")), why)
        return None

    def _refuse(self, feed: str, object_id: str, why: str) -> None:
        self.refused.append(Refused(feed, object_id, why))

    def _note(self, kind: str, object_id: str, text: str) -> None:
        self.notes.append(Note(kind, object_id, text))

    def _bill_note(self, kind: str, object_id: str, text: str) -> None:
        self._notes_of_bill.append((kind, object_id, text))

    # -- Invoices --------------------------------------------------------------------------------

    def _invoice(self, invoice: Json) -> tuple[Row, _Bill]:
        invoice_id = invoice["id"]
        if invoice.get("deleted") or invoice.get("status") == "draft":
            raise _Refusal(DRAFT)
        status = invoice.get("status")
        if status not in STATUSES:
            raise _Refusal(f"its status {status!r} is unknown")
        customer = id_of(invoice.get("customer"))
        if customer is None:
            account = id_of(invoice.get("customer_account"))
            named = f" (only the account {account})" if account else ""
            raise _Refusal(f"it names no customer{named}, so it belongs to no workspace")
        currency = currency_code(invoice.get("currency"))
        if at(invoice, "lines", "has_more"):
            raise _Refusal("its lines are incomplete; pull again")
        lines = [line_of(line) for line in data_of(invoice.get("lines"))]
        subscription = subscription_of(invoice)
        amounts = BillAmounts.of(invoice, lines)
        self._must_add_up(invoice, amounts, currency)
        plan_line, group = self._plan_line(lines)
        recurrence = self._recurrence(plan_line) if plan_line else None
        if plan_line is not None and recurrence is not None:
            plan = plan_line.product or plan_line.price_id or ONE_OFF
        else:
            plan = ONE_OFF
        interval, count = (
            ("once", 1)
            if recurrence is None
            else (
                recurrence.interval,
                recurrence.count,
            )
        )
        if interval not in (*INTERVALS, "once"):
            raise _Refusal(f"its price is billed every {interval!r}, which is unknown")
        issued = issued_at(invoice)
        start, end = _period(group or lines, issued)
        carried = _carried(invoice, lines)
        base = self._discountable(invoice, lines, amounts)
        bill = _Bill(
            id=invoice_id,
            created=int(invoice["created"]),
            at=issued,
            is_counted=status != "void",
            subscription=subscription,
            currency=currency,
            plan=plan,
            credit=amounts.credit,
            orders=self._orders(invoice, carried),
            products=tuple(
                line.product for line in lines if line.is_discountable and line.subtotal > 0
            )
            if amounts.list > 0
            else (),
        )
        self._notes_about(invoice, amounts, currency)
        for discount in bill.orders.keys() - self._discounts.keys():
            self._bill_note(
                UNKNOWN_DISCOUNT,
                discount,
                f"only its id is known, as from {invoice_id}: which coupon it is cannot be found any"
                " more",
            )
        return {
            "invoice_id": invoice_id,
            "workspace_id": self._workspace_of(customer, subscription),
            "status": status,
            "plan": plan,
            "billing_interval": interval,
            "interval_count": str(count),
            "subscription_id": subscription,
            "currency": currency,
            "period_start": start,
            "period_end": end,
            "issued_at": instant(issued),
            "list_amount": amount_text(amounts.list, currency),
            "discountable_amount": None if base is None else amount_text(base, currency),
            "creditable_amount": self._creditable(customer, currency, lines, amounts),
            "discount_amount": amount_text(amounts.discount, currency),
            "credit_amount": amount_text(amounts.credit, currency),
            "tax_amount": amount_text(amounts.tax, currency),
            "total_amount": amount_text(amounts.total, currency),
            "mtus": self._mtus(invoice_id, lines),
        }, bill

    def _orders(self, invoice: Json, carried: Iterable[str]) -> dict[str, int]:
        """Return the place of each discount a bill carries: those of its lines come first."""
        own = [id_of(one) for one in discounts_on(invoice)]
        found: dict[str, int] = {}
        of_lines = 0
        for discount in carried:
            if discount in own:
                order = _order(own.index(discount), False)
            else:
                order, of_lines = _order(of_lines, True), of_lines + 1
            found.setdefault(self._alias.get(discount, discount), order)
        return found

    def _must_add_up(self, invoice: Json, amounts: BillAmounts, currency: str) -> None:
        """Refuse a bill whose parts do not give its total; shipping becomes part of the list."""
        difference = amounts.total - amounts.sum
        if not difference:
            return
        shipping = invoice.get("shipping_cost") or {}
        if difference in (shipping.get("amount_subtotal"), shipping.get("amount_total")):
            amounts.list += difference
            self._bill_note("shipping", invoice["id"], "shipping is part of the list amount")
            return
        hint = ""
        if amounts.credit and difference == amounts.credit:
            hint = "; the difference is the credit, so the total seems not to be less the credit"
        raise _Refusal(
            f"it does not add up: list {_shown(amounts.list, currency)}"
            f" - discount {_shown(amounts.discount, currency)}"
            f" - credit {_shown(amounts.credit, currency)}"
            f" + exclusive tax {_shown(amounts.tax, currency)}"
            f" is {_shown(amounts.sum, currency)}, the total is {_shown(amounts.total, currency)}:"
            f" a difference of {_shown(difference, currency)}{hint}"
        )

    def _recurrence(self, line: Line) -> Recurrence | None:
        for price in (
            line.price,
            self._prices.get(line.price_id or ""),
            self._item_prices.get(line.subscription_item or ""),
        ):
            if price is not None and ("recurring" in price or price.get("interval")):
                found = recurrence_of(price)
                metered = line.price_id and self._prices.get(line.price_id)
                if found is not None and metered and recurrence_of(metered):
                    return recurrence_of(metered)
                return found
        if line.price_id is not None and (line.is_of_subscription or line.is_proration):
            raise _Refusal(
                f"the price {line.price_id} of its line {line.id} is unknown, and with it how often"
                " it is billed"
            )
        return None

    def _plan_line(self, lines: list[Line]) -> tuple[Line | None, list[Line]]:
        """Return the line that says what is bought, and the lines that say for which period.

        Metered lines look back and prorations correct, so they decide only where there is no other.
        """
        groups: dict[int, list[Line]] = defaultdict(list)
        for line in lines:
            recurrence = self._recurrence(line)
            if recurrence is None:
                continue
            rank = 2 if line.is_proration else 1 if recurrence.is_metered else 0
            groups[rank].append(line)
        if not groups:
            return None, []
        group = groups[min(groups)]
        return max(group, key=lambda line: (line.subtotal, line.id)), group

    def _discountable(self, invoice: Json, lines: list[Line], amounts: BillAmounts) -> int | None:
        """Return what the discounts of a bill act on; None where they act on different lines."""
        if amounts.list <= 0:
            return 0
        bases = self._bases(invoice, lines, amounts)
        if len(set(bases.values())) > 1:
            told = "; ".join(
                f"{discount} on {', '.join(sorted(base)) or 'no line that is known'}"
                for discount, base in sorted(bases.items())
            )
            self._bill_note(
                "different_lines",
                invoice["id"],
                f"its discounts act on different lines ({told}), which one amount cannot say:"
                " discountable_amount is left empty",
            )
            return None
        acting = next(iter(bases.values()), None)
        if acting is None:
            acting = self._base_without_discount(invoice, lines)
        base = sum(line.subtotal for line in lines if line.id in acting)
        if base > amounts.list:
            if amounts.discount:
                self._bill_note(
                    "base_above_list",
                    invoice["id"],
                    f"its discounts act on {base} of the smallest unit, more than the"
                    f" {amounts.list} of the list amount, since money back is on the bill too:"
                    " the list amount is delivered",
                )
            base = amounts.list
        self._note_rounding(invoice, lines, amounts, base)
        return max(base, 0)

    def _note_rounding(
        self, invoice: Json, lines: list[Line], amounts: BillAmounts, base: int
    ) -> None:
        """Note a bill on which rounding line by line is not what rounding once gives (R6, R9)."""
        left = base
        for discount_id in _carried(invoice, lines):
            discount = self._discounts.get(discount_id)
            percent = at(self._coupons.get(discount.coupon_id), "percent_off") if discount else None
            if percent is None:
                left -= amounts.by_discount.get(discount_id, 0)
            else:
                left -= int((left * Decimal(percent) / 100).quantize(Decimal(1), ROUND_HALF_UP))
        difference = amounts.discount - (base - left)
        most = sum(map(len, (line.discounts for line in lines)))
        if 1 < abs(difference) <= most:
            self._bill_note(
                "rounded_by_line",
                invoice["id"],
                f"its discounts are rounded on each line, {abs(difference)} of the smallest unit"
                f" {'more' if difference > 0 else 'less'} than when rounded once",
            )

    def _bases(
        self, invoice: Json, lines: list[Line], amounts: BillAmounts
    ) -> dict[str, frozenset[str]]:
        """Return, by discount that took money off, the lines it acts on."""
        bases = {}
        for discount, amount in amounts.by_discount.items():
            if not amount:
                continue
            entered = [line for line in lines if discount in line.discounts]
            base = frozenset(
                line.id
                for line in entered
                if line.discounts[discount]
                or line.subtotal == 0
                or line.subtotal == sum(line.discounts.values())
            )
            bases[discount] = base if entered else self._could_act(discount, invoice, lines)
        return bases

    def _could_act(self, discount_id: str, invoice: Json, lines: list[Line]) -> frozenset[str]:
        """Return the lines a discount may act on by its coupon and place."""
        discount = self._discounts.get(discount_id)
        coupon = self._coupons.get(discount.coupon_id) if discount else None
        products = data_of(at(coupon, "applies_to", "products")) if coupon else []
        is_of_line = any(discount_id in line.discount_ids for line in lines)
        return frozenset(
            line.id
            for line in lines
            if line.is_discountable
            and (not products or line.product in products)
            and (not is_of_line or discount_id in line.discount_ids)
        )

    def _base_without_discount(self, invoice: Json, lines: list[Line]) -> frozenset[str]:
        carried = [one for one in _carried(invoice, lines) if one in self._discounts]
        if not carried:
            return frozenset(line.id for line in lines if line.is_discountable)
        return frozenset().union(*(self._could_act(one, invoice, lines) for one in carried))

    def _creditable(
        self, customer: str, currency: str, lines: list[Line], amounts: BillAmounts
    ) -> str | None:
        """Return the most that credit may pay: the limit of the customer's grants, after discounts."""
        grants = self._grants.get((customer, currency), [])
        if not grants and not amounts.credit:
            return None
        scopes = [at(grant, "applicability_config", "scope") or {} for grant in grants] or [{}]
        total = 0
        for line in lines:
            if any(self._is_in_scope(line, scope) for scope in scopes):
                total += line.net
        return amount_text(max(total, 0), currency)

    def _is_in_scope(self, line: Line, scope: Json) -> bool:
        prices = [id_of(one) for one in data_of(scope.get("prices"))]
        if prices:
            return line.price_id in prices
        recurrence = self._recurrence(line)
        return recurrence is not None and recurrence.is_metered

    def _mtus(self, invoice_id: str, lines: list[Line]) -> str | None:
        quantities = [
            line.quantity
            for line in lines
            if self._choices.mtu_price and line.price_id == self._choices.mtu_price
        ]
        if not quantities:
            return None
        try:
            return str(sum(int(str(one)) for one in quantities))
        except ValueError:
            self._bill_note("mtus", invoice_id, f"its quantity {quantities[0]} is no whole number")
            return None

    def _notes_about(self, invoice: Json, amounts: BillAmounts, currency: str) -> None:
        if amounts.inclusive:
            self._bill_note(
                "tax_in_the_price",
                invoice["id"],
                f"{_shown(amounts.inclusive, currency)} of tax is inside the prices: the list"
                " amount holds it, tax_amount does not",
            )
        before, after = invoice.get("starting_balance"), invoice.get("ending_balance")
        if isinstance(before, int) and isinstance(after, int) and before != after:
            self._bill_note(
                "customer_balance",
                invoice["id"],
                f"the customer balance moved from {_shown(before, currency)} to"
                f" {_shown(after, currency)}: that is payment, the total stays"
                f" {_shown(amounts.total, currency)}",
            )
        if amounts.returned:
            self._bill_note(
                "discount_given_back",
                invoice["id"],
                f"it gives money back with a discount of {_shown(amounts.returned, currency)} in it:"
                " the list amount is given after that discount, and no discount",
            )

    def _compare_credit(self) -> None:
        """Compare what bills say credit paid with what the grants' transactions say."""
        applied: dict[str, int] = defaultdict(int)
        for one in self._objects.each("credit_balance_transactions"):
            debit = one.get("debit") or {}
            if debit.get("type") == "credits_applied":
                invoice = id_of(at(debit, "credits_applied", "invoice"))
                applied[invoice or ""] += whole(at(debit, "amount", "monetary", "value"))
        for invoice_id, amount in sorted(applied.items()):
            found = self._objects.bill(invoice_id)
            billed = _Bill.of(found[1]).credit if found and found[1] else None
            if billed is not None and billed != amount:
                self._note(
                    "credit_differs",
                    invoice_id,
                    f"the bill says that credit paid {billed} of the smallest unit, the grants'"
                    f" transactions say {amount}",
                )

    # -- Credit notes ----------------------------------------------------------------------------

    def _credit_note(self, note: Json) -> Row | None:
        invoice = id_of(note.get("invoice"))
        if invoice is None:
            raise _Refusal("it names no invoice")
        refused, _ = self._objects.bill(invoice) or (None, "")
        if refused is not None:
            raise _Refusal(f"its invoice {invoice} is not delivered: {refused}")
        status = note.get("status")
        if status not in ("issued", "void"):
            raise _Refusal(f"its status {status!r} is unknown")
        currency = currency_code(note.get("currency"))
        tax, _ = taxes_of(note)
        total = note.get("total")
        amount = whole(note.get("amount") if total is None else total) - tax
        if amount <= 0:
            raise _Refusal(f"it takes {_shown(amount, currency)} off, which is no amount above 0")
        self.counts["credit_notes"] += 1
        return {
            "credit_note_id": note["id"],
            "invoice_id": invoice,
            "status": status,
            "issued_at": instant(note["created"]),
            "currency": currency,
            "amount": amount_text(amount, currency),
            "tax_amount": amount_text(tax, currency),
            "reason": note.get("reason"),
        }

    # -- Coupons ---------------------------------------------------------------------------------

    def _coupon_rows(self) -> Iterator[tuple[str, Row]]:
        for coupon_id in sorted(self._coupons):
            coupon = self._coupons[coupon_id]
            try:
                yield from self._rows_of_coupon(coupon)
            except (_Refusal, NotAnAmount) as error:
                self._refuse("coupons", coupon_id, str(error))
        for grants in self._grants.values():
            for grant in grants:
                try:
                    yield grant["id"], self._coupon_of_grant(grant)
                except (_Refusal, NotAnAmount) as error:
                    self._refuse("coupons", str(grant.get("id")), str(error))

    def _rows_of_coupon(self, coupon: Json) -> Iterator[tuple[str, Row]]:
        coupon_id = coupon["id"]
        duration, months = coupon.get("duration"), coupon.get("duration_in_months")
        if duration not in ("once", "repeating", "forever"):
            raise _Refusal(f"its duration {duration!r} is unknown")
        if duration == "repeating" and not months:
            raise _Refusal("it is repeating, but does not say for how many months")
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
            raise _Refusal("it says neither a percentage nor an amount")
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
                self._refuse("coupons", one, str(error))
        if most and len(amounts) > 1:
            self._note(
                "limit_per_currency",
                coupon_id,
                f"at most {most} redemptions are counted for each currency, in Stripe for all",
            )

    def _coupon_of_grant(self, grant: Json) -> Row:
        currency = currency_code(at(grant, "amount", "monetary", "currency"))
        value = whole(at(grant, "amount", "monetary", "value"))
        if value <= 0:
            raise _Refusal(f"it grants {_shown(value, currency)}, which is no amount above 0")
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
        if named in self._choices.programs:
            return str(named)
        self._note(
            "unknown_program",
            object_id,
            f"its metadata {self._choices.program_key} is {named!r}, which is none of"
            f" {', '.join(self._choices.programs)}: it counts as special",
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
            for one in self._discounts.values()
            if one.coupon_id not in self._remembered.plans
            and len(data_of(at(self._coupons.get(one.coupon_id), "applies_to", "products"))) == 1
        }
        for customer in sorted({one.customer for one in wanted.values() if one.customer}):
            for bill in map(_Bill.of, self._objects.bills_of(customer)):
                for discount in bill.orders.keys() & wanted.keys():
                    found[wanted[discount].coupon_id].add(bill.plan)
        return found

    # -- Redemptions -----------------------------------------------------------------------------

    def _redemption_rows(self, coupons: Mapping[str, Row]) -> Iterator[Row]:
        by_customer: dict[str, list[Discount]] = defaultdict(list)
        for discount_id in sorted({*self._alias.values()}):
            discount = self._discounts[discount_id]
            by_customer[discount.customer or ""].append(discount)
        for customer in sorted(by_customer):
            bills = list(map(_Bill.of, self._objects.bills_of(customer)))
            yield from self._redemptions_of(by_customer[customer], bills, coupons)
        for (customer, _), grants in sorted(self._grants.items()):
            for grant in grants:
                if grant["id"] not in coupons:
                    continue
                try:
                    yield self._redemption_of_grant(grant, customer)
                except _Refusal as error:
                    self._refuse("redemptions", grant["id"], str(error))

    def _redemptions_of(
        self, discounts: list[Discount], bills: list[_Bill], coupons: Mapping[str, Row]
    ) -> Iterator[Row]:
        """Yield the redemptions of one customer: its own after those of its subscriptions."""
        standing: dict[str, list[Window]] = defaultdict(list)
        for discount in sorted(discounts, key=lambda one: one.place == "customer"):
            try:
                if discount.customer is None:
                    raise _Refusal("it names no customer, so it belongs to no workspace")
                if discount.place in ("invoice", "invoice_item"):
                    yield from self._redemption_of_bill(discount, bills, coupons)
                else:
                    yield from self._lasting(discount, bills, coupons, standing)
            except _Refusal as error:
                self._refuse("redemptions", discount.id, str(error))

    def _redemption_of_bill(
        self, discount: Discount, bills: list[_Bill], coupons: Mapping[str, Row]
    ) -> Iterator[Row]:
        """Yield a discount of one bill: in force at its issue alone."""
        carrying = [one for one in bills if discount.id in one.orders]
        carrying = [one for one in carrying if one.id == discount.place_id] or carrying
        if not carrying:
            return  # the bill is a draft still, or is not delivered
        bill = carrying[0]
        coupon_id = self._coupon_of(discount, bill.subscription, carrying, coupons)
        coupon_id = self._variant(coupon_id, coupons, carrying, 1)
        order = bill.orders[discount.id]
        window = (bill.at, bill.at + 1)
        yield self._redemption(discount, coupon_id, bill.subscription, window, order, 1)

    def _lasting(
        self,
        discount: Discount,
        bills: list[_Bill],
        coupons: Mapping[str, Row],
        standing: dict[str, list[Window]],
    ) -> Iterator[Row]:
        """Yield a discount of a customer, subscription or item, one part for each window."""
        is_of_customer = discount.place == "customer"
        subscription = discount.subscription or self._item_subscriptions.get(
            (discount.place_id or "") if discount.place == "subscription_item" else ""
        )
        is_once = at(self._coupons.get(discount.coupon_id), "duration") == "once"
        carrying = [one for one in bills if discount.id in one.orders]
        try:
            coupon_id = self._coupon_of(discount, subscription, carrying, coupons)
        except _Refusal:
            if discount.place == "subscription" and subscription and not is_once:
                standing[subscription].append((discount.start, discount.end))
            raise
        coupon_id = self._variant(coupon_id, coupons, carrying, 1)
        of_scope = [one for one in bills if subscription in (None, one.subscription)]
        plan = self._coupon_row(coupon_id, coupons)["applies_to_plan"]
        marks = self._marks(discount, of_scope, plan)
        revoked = self._revoked_at(discount, subscription, carrying, marks)
        end = min((one for one in (discount.end, revoked) if one is not None), default=None)
        if discount.place == "subscription" and subscription and not is_once:
            standing[subscription].append((discount.start, end))
        parts: list[tuple[Window, str | None]]
        if is_once:
            parts = [self._window_of_one_use(discount, subscription, end, carrying, marks)]
        else:
            found = windows(discount.start, end, [(bill.at, mark) for bill, mark in marks])
            parts = [(window, subscription) for window in found]
            takes_both = any(
                self._comes_before(other, discount) for one in carrying for other in one.orders
            )
            replaced_by: Mapping[str, list[Window]] = {} if takes_both else standing
            if is_of_customer and self._is_in_parts(discount, end, marks, found, replaced_by):
                parts = self._parts(discount, end, marks, replaced_by)
        order = (
            carrying[0].orders[discount.id] if carrying else self._orders_hanging.get(discount.id)
        )
        for number, (window, of_subscription) in enumerate(parts, 1):
            one = self._variant(coupon_id, coupons, carrying, number)
            yield self._redemption(discount, one, of_subscription, window, order, number)
        known = self._remembered.parts.get(discount.id, 1)
        for number in range(len(parts) + 1, known + 1):
            one = self._variant(coupon_id, coupons, carrying, number)
            never = (discount.start, discount.start)
            yield self._redemption(discount, one, parts[0][1], never, order, number)
        if len(parts) > 1:
            self._remembered.parts[discount.id] = max(known, len(parts))
            self._note(
                "in_parts",
                discount.id,
                f"bills show that other discounts took its place: {len(parts)} redemptions say when"
                " and on what it was in force",
            )

    def _redemption(
        self,
        discount: Discount,
        coupon_id: str,
        subscription: str | None,
        window: Window,
        order: int | None,
        number: int,
    ) -> Row:
        """Return a row of a discount, in force in a window."""
        starts, until = window
        if number == 1:
            self.counts["redemptions"] += 1
        ends, revoked = discount.end, None
        if until is not None and until != discount.end:
            if discount.place in ("invoice", "invoice_item") or (
                discount.end is not None and until > discount.end
            ):
                ends = until
            else:
                revoked = until
        workspace = self._workspace_of(discount.customer or "", subscription, "a discount")
        self._seen(workspace, discount.customer or "", discount.start)
        is_later = starts != discount.start or discount.place in ("invoice", "invoice_item")
        return {
            "redemption_id": discount.id if number == 1 else f"{discount.id}~{number}",
            "coupon_id": coupon_id,
            "workspace_id": workspace,
            "subscription_id": subscription,
            "redeemed_at": instant(discount.start),
            "starts_at": instant(starts) if is_later else None,
            "ends_at": instant(ends) if ends is not None else None,
            "revoked_at": instant(revoked) if revoked is not None else None,
            "channel": "self_serve" if discount.promotion_code else None,
            "application_order": str(order) if order is not None else None,
        }

    # -- When a discount was in force ------------------------------------------------------------

    def _marks(
        self, discount: Discount, bills: Iterable[_Bill], plan: str | None
    ) -> list[tuple[_Bill, Mark]]:
        """Return what the counted bills reveal about a discount, by the instant of their issue."""
        coupon = self._coupons.get(discount.coupon_id)
        found = []
        for bill in bills:
            if not bill.is_counted:
                continue
            if discount.id in bill.orders:
                if discount.end is None or bill.created < discount.end:
                    found.append((bill, Mark.CARRIES))
                continue
            if not bill.products or (plan is not None and bill.plan != plan):
                continue  # the ledger expects nothing of it here
            is_set_aside = (
                bill.created < discount.start
                or not _could_act_on(coupon, bill)
                or any(self._comes_before(one, discount) for one in bill.orders)
            )
            found.append((bill, Mark.SET_ASIDE if is_set_aside else Mark.SILENT))
        return found

    def _comes_before(self, other_id: str, discount: Discount) -> bool:
        """Return whether a bill with another discount applies that one in place of this one."""
        other = self._discounts.get(other_id)
        stronger = {"customer": ("subscription", "invoice"), "subscription": ("invoice",)}
        return other is not None and other.place in stronger.get(discount.place, ())

    def _window_of_one_use(
        self,
        discount: Discount,
        subscription: str | None,
        end: int | None,
        carrying: list[_Bill],
        marks: list[tuple[_Bill, Mark]],
    ) -> tuple[Window, str | None]:
        """Return when a coupon for one bill waited for the bill, and its subscription, if limited."""
        used = self._used_by(discount, carrying)
        until = [(bill.at, mark) for bill, mark in marks if used is None or bill.at <= used.at]
        found = windows(discount.start, end, until)
        if used is None:
            return found[-1], subscription
        window = next((one for one in found if one[1] is None or used.at < one[1]), found[-1])
        if window[0] != discount.start or self._choices.workspace == "subscription":
            subscription = used.subscription or subscription
        return (window[0], end), subscription

    def _used_by(self, discount: Discount, carrying: list[_Bill]) -> _Bill | None:
        """Return the bill that used up a coupon for one bill, if there is one."""
        coupon = self._coupons.get(discount.coupon_id)
        return next(
            (one for one in carrying if one.is_counted and _could_act_on(coupon, one)), None
        )

    def _is_in_parts(
        self,
        discount: Discount,
        end: int | None,
        marks: list[tuple[_Bill, Mark]],
        found: list[Window],
        standing: Mapping[str, list[Window]],
    ) -> bool:
        """Return whether a customer's discount must be stated for each subscription separately."""
        if self._choices.workspace == "subscription":
            several = self._subscriptions_of.get(discount.customer or "", ())
            if len(several) > 1:
                return True
        is_replaced = any(
            (end is None or first < end) and (after is None or after > discount.start)
            for of_subscription in standing.values()
            for first, after in of_subscription
        )
        said: dict[int, set[bool]] = defaultdict(set)
        for bill, mark in marks:
            said[bill.at].add(mark is Mark.SET_ASIDE)
        return is_replaced or len(found) > 1 or any(len(one) > 1 for one in said.values())

    def _parts(
        self,
        discount: Discount,
        end: int | None,
        marks: list[tuple[_Bill, Mark]],
        standing: Mapping[str, list[Window]],
    ) -> list[tuple[Window, str | None]]:
        """Return the windows of a customer's discount, by subscription and for bills without one."""
        found: list[tuple[int, int, str, Window, str | None]] = []
        customer = discount.customer or ""
        of_bills = {bill.subscription for bill, _ in marks if bill.subscription is not None}
        for one in sorted(of_bills.union(self._subscriptions_of.get(customer, ()))):
            known = self._subscriptions.get(one, {})
            ended, created = known.get("ended_at"), known.get("created") or 0
            if ended is not None and ended <= discount.start and one not in of_bills:
                continue
            said = [(bill.at, mark) for bill, mark in marks if bill.subscription == one]
            for window in windows(discount.start, end, said, standing.get(one, ())):
                if window[0] != window[1]:
                    found.append((window[0], created, one, window, one))
        for bill, mark in marks:
            is_inside = bill.at >= discount.start and (end is None or bill.at < end)
            if bill.subscription is None and (
                mark is Mark.CARRIES or (mark is Mark.SILENT and is_inside)
            ):
                found.append((bill.at, 0, "", (bill.at, bill.at + 1), None))
        found.sort(key=lambda one: one[:3])
        never = (discount.start, discount.start)
        return [(window, one) for *_, window, one in found] or [(never, None)]

    def _variant(
        self, coupon_id: str, coupons: Mapping[str, Row], carrying: list[_Bill], number: int
    ) -> str:
        """Return the coupon of a part, without limits that Stripe did not apply to it.

        A limit to a plan that bills contradict by now, and a limit of redemptions that further parts
        of one redemption must not use up.
        """
        row = self._coupon_row(coupon_id, coupons)
        plan = row["applies_to_plan"]
        is_beyond_plan = plan is not None and any(one.plan != plan for one in carrying)
        if not is_beyond_plan and not (number > 1 and row["max_redemptions"]):
            return coupon_id
        unlimited = coupon_id + UNLIMITED
        more = {"coupon_id": unlimited, "applies_to_plan": None, "max_redemptions": None}
        self._variants[unlimited] = {**row, **more}
        return unlimited

    def _coupon_row(self, coupon_id: str, coupons: Mapping[str, Row]) -> Row:
        return coupons.get(coupon_id) or self._variants[coupon_id]

    def _coupon_of(
        self,
        discount: Discount,
        subscription: str | None,
        bills: list[_Bill],
        coupons: Mapping[str, Row],
    ) -> str:
        coupon_id = discount.coupon_id
        coupon = self._coupons.get(coupon_id)
        if coupon is None:
            raise _Refusal(
                f"what its coupon {coupon_id} gives is not known, as when it was deleted before the"
                " first pull: the redemption cannot be judged, and bills that carry it will show"
                " a discount without a coupon"
            )
        amounts = amounts_by_currency(coupon)
        if coupon.get("percent_off") is None and len(amounts) > 1:
            currencies = [
                at(self._subscriptions.get(subscription or ""), "currency"),
                *(bill.currency for bill in bills),
                self._customer_currency.get(discount.customer or ""),
                coupon.get("currency"),
            ]
            codes = [str(one).upper() for one in currencies if one]
            code = next((one for one in codes if one in amounts), sorted(amounts)[0])
            coupon_id = f"{coupon_id}~{code}"
        if coupon_id not in coupons:
            raise _Refusal(f"its coupon {coupon_id} is not delivered")
        return coupon_id

    def _revoked_at(
        self,
        discount: Discount,
        subscription: str | None,
        bills: list[_Bill],
        marks: list[tuple[_Bill, Mark]],
    ) -> int | None:
        """Return when a discount was taken off before its end: known, or the later bound of it."""
        remembered = self._remembered
        if discount.id in self._orders_hanging:
            remembered.gone_by.pop(discount.id, None)
            remembered.hung_at[discount.id] = self._began
            ended = at(self._subscriptions.get(subscription or ""), "ended_at")
            return self._not_before_bills(ended, discount, bills) if ended else None
        coupon = self._coupons.get(discount.coupon_id) or {}
        if coupon.get("duration") == "once" and self._used_by(discount, bills):
            return None  # a coupon that is used up leaves by itself
        exact = self._removed_at.get(discount.id)
        ended = at(self._subscriptions.get(subscription or ""), "ended_at")
        known = [one for one in (exact, ended) if one]
        if known:
            return self._not_before_bills(min(known), discount, bills)
        without = self._first_bill_without(discount, bills, marks)
        bounds = [one for one in (without, self._gone_by(discount, subscription)) if one]
        if not bounds:
            return None
        bound = self._not_before_bills(min(bounds), discount, bills)
        if bound is not None:
            hung = self._remembered.hung_at.get(discount.id, 0)
            since = max([discount.start, hung, *(bill.at for bill in bills)])
            self._note(
                "end_is_a_bound",
                discount.id,
                f"it was taken off between {instant(since)} and {instant(bound)}; revoked_at is"
                " the later of the two",
            )
        return bound

    def _not_before_bills(self, revoked: int, discount: Discount, bills: list[_Bill]) -> int | None:
        """Return an end that covers what bills show was in force; None from the natural end on."""
        last = max((bill.at for bill in bills if bill.is_counted), default=None)
        if last is not None and revoked <= last:
            revoked = last + 1
        return None if discount.end is not None and revoked >= discount.end else revoked

    def _first_bill_without(
        self, discount: Discount, bills: list[_Bill], marks: list[tuple[_Bill, Mark]]
    ) -> int | None:
        """Return the first bill after a discount's last that could have carried it but did not."""
        if discount.place == "subscription_item":
            return None  # which lines it could have acted on is not known for sure
        last = max((bill.at for bill in bills), default=discount.start)
        last = max(last, self._remembered.hung_at.get(discount.id, 0))
        return next(
            (
                bill.at
                for bill, mark in marks
                if mark is Mark.SILENT
                and bill.at > last
                and (discount.end is None or bill.at < discount.end)
            ),
            None,
        )

    def _gone_by(self, discount: Discount, subscription: str | None) -> int | None:
        """Return the first pull, this one included, that no longer found a discount."""
        known = self._remembered.gone_by.get(discount.id)
        if known is not None:
            return known
        if discount.end is not None and discount.end <= self._now:
            return None
        place = (
            ("subscriptions", subscription) if subscription else ("customers", discount.customer)
        )
        was_seen = discount.id in self._remembered.hung_at
        if not was_seen and not self._objects.is_listed(place[0], place[1] or ""):
            return None  # nothing says that it is gone
        self._remembered.gone_by[discount.id] = self._now
        return self._now

    def _redemption_of_grant(self, grant: Json, customer: str) -> Row:
        if not customer:
            raise _Refusal("it names no customer, so it belongs to no workspace")
        workspace = self._workspace_of(customer, None, "a credit grant")
        created = int(grant["created"])
        self._seen(workspace, customer, created)
        self.counts["redemptions"] += 1
        return {
            "redemption_id": grant["id"],
            "coupon_id": grant["id"],
            "workspace_id": workspace,
            "subscription_id": None,
            "redeemed_at": instant(created),
            "starts_at": instant(grant.get("effective_at") or created),
            "ends_at": instant(grant["expires_at"]) if grant.get("expires_at") else None,
            "revoked_at": instant(grant["voided_at"]) if grant.get("voided_at") else None,
            "channel": None,
            "application_order": None,
        }

    # -- Workspaces ------------------------------------------------------------------------------

    def _workspace_of(self, customer: str, subscription: str | None, what: str = "") -> str:
        """Return the workspace: the customer, or the subscription where that was chosen."""
        if self._choices.workspace == "customer":
            return customer
        if subscription is not None:
            return subscription
        if not what:
            return customer  # a bill without a subscription
        of_customer = self._subscriptions_of.get(customer, [])
        if len(of_customer) == 1:
            return of_customer[0]
        if not of_customer:
            return customer
        raise _Refusal(
            f"{what} of the customer {customer} acts on {len(of_customer)} subscriptions, and a"
            " workspace is one subscription: set COUPON_LEDGER_STRIPE_WORKSPACE=customer"
        )

    def _seen(self, workspace: str, customer: str, when: int) -> None:
        self._earliest[workspace] = min(when, self._earliest.get(workspace, when))
        self._customer_of_workspace.setdefault(workspace, customer)

    def _workspace_rows(self) -> Iterator[Row]:
        done: set[str] = set()
        by_customer = self._choices.workspace == "customer"
        names: dict[str, str | None] = {}
        for customer in self._objects.each("customers"):
            name = customer.get("name") or customer.get("business_name")
            names[customer["id"]] = name if self._choices.has_names else None
            if by_customer and isinstance(customer.get("created"), int):
                done.add(customer["id"])
                yield self._workspace(customer["id"], names[customer["id"]], customer["created"])
        if not by_customer:
            for subscription_id, one in sorted(self._subscriptions.items()):
                done.add(subscription_id)
                name = names.get(one["customer"] or "")
                yield self._workspace(subscription_id, name, one["created"])
        for workspace in sorted(self._earliest.keys() - done):
            name = names.get(self._customer_of_workspace[workspace])
            yield self._workspace(workspace, name, self._earliest[workspace])
            self._note(
                "workspace_from_bills",
                workspace,
                "Stripe no longer lists it, so created_at is that of its oldest bill or coupon",
            )

    def _workspace(self, workspace_id: str, name: str | None, created: int) -> Row:
        self.counts["workspaces"] += 1
        return {
            "workspace_id": workspace_id,
            "workspace_name": name,
            "created_at": instant(created),
        }


@dataclass
class BillAmounts:
    """The amounts of a bill in the smallest unit: its list amount, what comes off it, its total."""

    list: int
    discount: int
    credit: int
    tax: int
    inclusive: int
    total: int
    by_discount: dict[str, int]
    returned: int = 0

    @classmethod
    def of(cls, invoice: Json, lines: Iterable[Line]) -> BillAmounts:
        """Return the amounts of an invoice in any shape."""
        lines = list(lines)
        by_discount = amounts_by_discount(invoice.get("total_discount_amounts"))
        if invoice.get("total_discount_amounts") is None:
            for line in lines:
                for discount, amount in line.discounts.items():
                    by_discount[discount] = by_discount.get(discount, 0) + amount
        credit = credit_in(invoice.get("total_pretax_credit_amounts"))
        if invoice.get("total_pretax_credit_amounts") is None:
            credit = sum(line.credit for line in lines)
        exclusive, inclusive = taxes_of(invoice)
        found = cls(
            list=sum(line.subtotal for line in lines),
            discount=sum(by_discount.values()),
            credit=credit,
            tax=exclusive,
            inclusive=inclusive,
            total=whole(invoice.get("total")),
            by_discount=by_discount,
        )
        if found.discount < 0 or (found.discount and found.list < 0):
            # A bill that gives money back takes no discount; its net is its list amount.
            found.returned = found.discount
            found.list, found.discount, found.by_discount = found.list - found.discount, 0, {}
        return found

    @property
    def sum(self) -> int:
        """What the parts give."""
        return self.list - self.discount - self.credit + self.tax


def invoice_amounts(invoice: Json) -> BillAmounts:
    """Return the amounts of an invoice whose lines are all there.

    Raises:
        NotAnAmount: One of them is no whole number.
    """
    return BillAmounts.of(invoice, [line_of(line) for line in data_of(invoice.get("lines"))])


def instant(seconds: int) -> str:
    """Return an instant of Stripe, in seconds since 1970, as the feeds write it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def amounts_by_currency(coupon: Json) -> dict[str, int]:
    """Return what a coupon takes off, by currency."""
    found: dict[str, int] = {}
    for currency, option in (coupon.get("currency_options") or {}).items():
        if isinstance(at(option, "amount_off"), int):
            found[str(currency).upper()] = option["amount_off"]
    if isinstance(coupon.get("amount_off"), int):
        found[str(coupon.get("currency") or "").upper()] = coupon["amount_off"]
    return found


def _shown(amount: int, currency: str) -> str:
    try:
        return f"{amount_text(amount, currency)} {currency}"
    except NotAnAmount:
        return f"{amount} of {currency}'s smallest unit"


def _order(place: int, is_of_item: bool) -> int:
    """Return a discount's place: those of items first, then in the order of their array."""
    return place + 1 - (1000 if is_of_item else 0)


def _could_act_on(coupon: Json | None, bill: _Bill) -> bool:
    """Return whether a bill has a line on which a coupon may act."""
    wanted = {id_of(one) for one in data_of(at(coupon, "applies_to", "products"))}
    return any(not wanted or product in wanted for product in bill.products)


def made_again(coupon: Json) -> str:
    """The id of a coupon that was made under the id of another one, by the instant of its making."""
    return f"{coupon['id']}~{coupon.get('created')}"


def _not_understood(error: Exception) -> str:
    return f"it is not of a shape that is understood ({type(error).__name__}: {error})"


@cache
def _version() -> str:
    """Return a digest of this mapping, from the modules it consists of."""
    here = Path(__file__)
    made = hashlib.sha256()
    for name in ("stripe_mapping.py", "stripe_money.py", "stripe_shapes.py"):
        made.update((here.parent / name).read_bytes())
    return made.hexdigest()


def _as_text(found: Any) -> str:
    return json.dumps(found, sort_keys=True, default=str)


def _digest(found: list[str]) -> bytes:
    return hashlib.sha256("\n".join(found).encode()).digest()[:16]


def _carried(invoice: Json, lines: Iterable[Line]) -> list[str]:
    """Return the discounts a bill carries, even if they took nothing off: line discounts first."""
    found: dict[str, None] = {}
    for line in lines:
        found.update(dict.fromkeys(line.discount_ids))
    found.update(dict.fromkeys(filter(None, map(id_of, discounts_on(invoice)))))
    found.update(dict.fromkeys(amounts_by_discount(invoice.get("total_discount_amounts"))))
    for line in lines:
        found.update(dict.fromkeys(line.discounts))
    return list(found)


def _period(lines: Iterable[Line], issued: int) -> tuple[str, str]:
    """Return first day and first day after the lines' periods, on the UTC calendar."""
    lines = [line for line in lines if line.start]
    start = min((line.start for line in lines), default=issued)
    end = max((line.end for line in lines), default=issued)
    first = datetime.fromtimestamp(start, UTC).date()
    after = datetime.fromtimestamp(end, UTC).date()
    if after <= first:
        after = datetime.fromtimestamp(start + 86_400, UTC).date()
    return first.isoformat(), after.isoformat()
