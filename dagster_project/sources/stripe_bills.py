"""A Stripe invoice as a row of the invoices: its amounts, plan and period, and what its discounts act on."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

from dagster_project.sources.stripe_account import Account, place_order
from dagster_project.sources.stripe_money import (
    NotAnAmount,
    amount_text,
    currency_code,
    smallest_unit,
)
from dagster_project.sources.stripe_objects import Choices, MappedBill, Objects
from dagster_project.sources.stripe_outcome import (
    SHAPELESS,
    Refusal,
    Row,
    instant,
    not_understood,
    shown,
)
from dagster_project.sources.stripe_shapes import (
    Json,
    Line,
    amounts_by_discount,
    at,
    credit_in,
    data_of,
    discounts_on,
    id_of,
    issued_at,
    line_of,
    price_in,
    subscription_of,
    taxes_of,
    whole,
)
from dagster_project.sources.stripe_workspaces import Workspaces

STATUSES = ("draft", "open", "paid", "void", "uncollectible")
INTERVALS = ("day", "week", "month", "year")
ONE_OFF = "one_off"
"""The plan of bills without a recurring line."""
DRAFT = "it is a draft"
UNKNOWN_DISCOUNT = "unknown_discount"


@dataclass(frozen=True)
class Bill:
    """What redemptions need to know of an invoice that is delivered."""

    id: str
    created: int
    at: int
    is_counted: bool
    subscription: str | None
    currency: str
    plan: str
    is_discountable: bool
    credit: int
    orders: Mapping[str, int]
    voided: int | None
    lines: tuple[tuple[str | None, str | None], ...]
    """Product and subscription item of the lines on which a coupon could act."""
    idle: tuple[str, ...]
    """The discounts it carries that no line of it qualifies for."""

    @property
    def text(self) -> str:
        """The bill as text, as it is stored."""
        return json.dumps(list(vars(self).values()))

    @classmethod
    def of(cls, text: str) -> Bill:
        """Return a bill from its text."""
        values = json.loads(text)
        values[-2:] = tuple(map(tuple, values[-2])), tuple(values[-1])
        return cls(*values)


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
    returned: int

    @classmethod
    def of(
        cls, invoice: Json, lines: Iterable[Line], returned: Mapping[str, int] | None = None
    ) -> BillAmounts:
        """Return the amounts of an invoice in any shape.

        Args:
            invoice: The invoice.
            lines: Its lines.
            returned: What lines no longer say of discounts, since it is in their subtotals.
        """
        lines = list(lines)
        by_discount = amounts_by_discount(invoice.get("total_discount_amounts"))
        if invoice.get("total_discount_amounts") is None:
            for line in lines:
                for discount, amount in line.discounts.items():
                    by_discount[discount] = by_discount.get(discount, 0) + amount
        elif returned:
            by_discount = {
                one: amount - returned.get(one, 0)
                for one, amount in by_discount.items()
                if amount != returned.get(one)
            }
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
            returned=sum((returned or {}).values()),
        )
        if found.discount < 0 or (found.discount and found.total < found.tax):
            # A bill that gives money back takes no discount; its net is its list amount.
            found.returned += found.discount
            found.list, found.discount, found.by_discount = found.list - found.discount, 0, {}
        return found

    @property
    def sum(self) -> int:
        """What the parts give."""
        return self.list - self.discount - self.credit + self.tax


class Bills:
    """The mapping of invoices."""

    def __init__(
        self, objects: Objects, account: Account, workspaces: Workspaces, choices: Choices
    ) -> None:
        """Map invoices of an account.

        Args:
            objects: Where to store what an invoice was mapped to.
            account: The account.
            workspaces: Which workspace is billed.
            choices: The user's decisions.
        """
        self._objects = objects
        self._account = account
        self._workspaces = workspaces
        self._choices = choices
        self._notes: list[tuple[str, str, str]] = []

    def row(self, invoice: Json) -> Row | None:
        """Return the row of an invoice, None where it is refused; store what it was mapped to."""
        self._notes = []
        refused, made = None, None
        try:
            made = self._invoice(invoice)
        except (Refusal, NotAnAmount) as error:
            refused = str(error)
        except SHAPELESS as error:
            refused = not_understood(error)
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
                notes=self._notes if row else [],
                prices=tuple(
                    {one for one, _ in map(price_in, data_of(invoice.get("lines"))) if one}
                ),
                content=bill.text if bill else "",
            )
        )
        return row

    def _invoice(self, invoice: Json) -> tuple[Row, Bill]:
        invoice_id = invoice["id"]
        if invoice.get("deleted") or invoice.get("status") == "draft":
            raise Refusal(DRAFT)
        status = invoice.get("status")
        if status not in STATUSES:
            raise Refusal(f"its status {status!r} is unknown")
        customer = id_of(invoice.get("customer"))
        if customer is None:
            account = id_of(invoice.get("customer_account"))
            named = f" (only the account {account})" if account else ""
            raise Refusal(f"it names no customer{named}, so it belongs to no workspace")
        currency = currency_code(invoice.get("currency"))
        if at(invoice, "lines", "has_more"):
            raise Refusal("its lines are incomplete; pull again")
        lines = [line_of(line) for line in data_of(invoice.get("lines"))]
        subscription = subscription_of(invoice)
        lines, returned = self._after_returns(lines)
        amounts = BillAmounts.of(invoice, lines, returned)
        self._must_add_up(invoice, amounts, currency)
        if amounts.tax < 0 <= amounts.list:
            raise Refusal(
                f"it gives {shown(-amounts.tax, currency)} of tax back but no money before tax,"
                " which the feed does not allow"
            )
        plan_line, group = self._plan_line(lines)
        recurrence = self._account.recurrence(plan_line) if plan_line else None
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
            raise Refusal(f"its price is billed every {interval!r}, which is unknown")
        issued = issued_at(invoice)
        start, end = _period_of(group or lines, issued)
        carried = carried_by(invoice, lines)
        base = self._discountable(invoice, lines, amounts, currency)
        bill = Bill(
            id=invoice_id,
            created=self._made_at(invoice),
            at=issued,
            is_counted=status != "void",
            subscription=subscription,
            currency=currency,
            plan=plan,
            is_discountable=base != 0,
            credit=amounts.credit,
            orders=self._orders(invoice, carried),
            voided=at(invoice, "status_transitions", "voided_at") if status == "void" else None,
            lines=tuple(
                (line.product, line.subscription_item)
                for line in lines
                if line.is_discountable and line.subtotal > 0
            )
            if amounts.list > 0
            else (),
            idle=tuple(
                self._account.alias.get(one, one)
                for one in carried
                if not amounts.by_discount.get(one) and not self._base_of(one, lines)
            ),
        )
        self._notes_about(invoice, amounts, currency)
        for discount in bill.orders.keys() - self._account.discounts.keys():
            self._note_on_bill(
                UNKNOWN_DISCOUNT,
                discount,
                f"only its id is known, as from {invoice_id}: which coupon it is cannot be found any"
                " more",
            )
        return {
            "invoice_id": invoice_id,
            "workspace_id": self._workspaces.workspace_of(customer, subscription),
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

    def _made_at(self, invoice: Json) -> int:
        """Return when the discounts of a bill were taken over: a revision has those of its original."""
        original = id_of(at(invoice, "from_invoice", "invoice"))
        found = self._objects.get("invoices", original) if original else None
        return self._made_at(found) if found else int(invoice["created"])

    def _after_returns(self, lines: list[Line]) -> tuple[list[Line], dict[str, int]]:
        """Return the lines after the discounts that they give back, and how much that is, by discount.

        Money back for a line that was billed with a discount gives that discount back. A percentage
        that acts on the whole bill acts on money back too; any other discount is not of this bill.
        """
        taken: dict[str, int] = defaultdict(int)
        for line in lines:
            for discount, amount in line.discounts.items():
                taken[discount] += amount
        returned: dict[str, int] = defaultdict(int)
        found = []
        for line in lines:
            back = {
                one: amount
                for one, amount in line.discounts.items()
                if amount < 0 and (taken[one] < 0 or self._percent_of(one) is None)
            }
            for one, amount in back.items():
                returned[one] += amount
            left = {one: amount for one, amount in line.discounts.items() if one not in back}
            subtotal = line.subtotal - sum(back.values())
            found.append(replace(line, subtotal=subtotal, discounts=left))
        return found, returned

    def _percent_of(self, discount_id: str) -> Decimal | int | None:
        percent: Decimal | int | None = at(self._coupon_of(discount_id), "percent_off")
        return percent

    def _coupon_of(self, discount_id: str) -> Json | None:
        discount = self._account.discounts.get(discount_id)
        return self._account.coupons.get(discount.coupon_id) if discount else None

    def _orders(self, invoice: Json, carried: Iterable[str]) -> dict[str, int]:
        """Return the place of each discount a bill carries: those of its lines come first."""
        own = [id_of(one) for one in discounts_on(invoice)]
        found: dict[str, int] = {}
        of_lines = 0
        for discount in carried:
            if discount in own:
                order = place_order(own.index(discount), False)
            else:
                order, of_lines = place_order(of_lines, True), of_lines + 1
            found.setdefault(self._account.alias.get(discount, discount), order)
        return found

    def _must_add_up(self, invoice: Json, amounts: BillAmounts, currency: str) -> None:
        """Refuse a bill whose parts do not give its total; shipping becomes part of the list."""
        difference = amounts.total - amounts.sum
        if not difference:
            return
        shipping = invoice.get("shipping_cost") or {}
        if difference in (shipping.get("amount_subtotal"), shipping.get("amount_total")):
            amounts.list += difference
            self._note_on_bill("shipping", invoice["id"], "shipping is part of the list amount")
            return
        hint = ""
        if amounts.credit and difference == amounts.credit:
            hint = "; the difference is the credit, so the total seems not to be less the credit"
        raise Refusal(
            f"it does not add up: list {shown(amounts.list, currency)}"
            f" - discount {shown(amounts.discount, currency)}"
            f" - credit {shown(amounts.credit, currency)}"
            f" + exclusive tax {shown(amounts.tax, currency)}"
            f" is {shown(amounts.sum, currency)}, the total is {shown(amounts.total, currency)}:"
            f" a difference of {shown(difference, currency)}{hint}"
        )

    def _plan_line(self, lines: list[Line]) -> tuple[Line | None, list[Line]]:
        """Return the line that says what is bought, and the lines that say for which period.

        Metered lines look back and prorations correct, so they decide only where there is no other.
        """
        groups: dict[int, list[Line]] = defaultdict(list)
        for line in lines:
            recurrence = self._account.recurrence(line)
            if recurrence is None:
                continue
            rank = 2 if line.is_proration else 1 if recurrence.is_metered else 0
            groups[rank].append(line)
        if not groups:
            return None, []
        group = groups[min(groups)]
        return max(group, key=lambda line: (line.subtotal, line.id)), group

    def _discountable(
        self, invoice: Json, lines: list[Line], amounts: BillAmounts, currency: str
    ) -> int | None:
        """Return what the discounts of a bill act on; None where they act on different lines."""
        if amounts.list <= 0:
            return 0
        bases = self._bases(invoice, lines, amounts, currency)
        if len(set(bases.values())) > 1:
            told = "; ".join(
                f"{discount} on {', '.join(sorted(base)) or 'no line that is known'}"
                for discount, base in sorted(bases.items())
            )
            self._note_on_bill(
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
                self._note_on_bill(
                    "base_above_list",
                    invoice["id"],
                    f"its discounts act on {base} of the smallest unit, more than the"
                    f" {amounts.list} of the list amount, since money back is on the bill too:"
                    " the list amount is delivered",
                )
            base = amounts.list
        self._note_rounding(invoice, lines, amounts, base, currency)
        return max(base, 0)

    def _note_rounding(
        self, invoice: Json, lines: list[Line], amounts: BillAmounts, base: int, currency: str
    ) -> None:
        """Note a bill on which rounding line by line is not what rounding once gives (R6, R9)."""
        unit = smallest_unit(currency)
        left = base
        for discount_id in carried_by(invoice, lines):
            taken = amounts.by_discount.get(discount_id, 0)
            if not taken and not self._base_of(discount_id, lines):
                continue
            percent = self._percent_of(discount_id)
            if percent is None:
                left -= taken
            else:
                units = left * Decimal(percent) / 100 / unit
                left -= int(units.quantize(Decimal(1), ROUND_HALF_UP)) * unit
        difference = amounts.discount - (base - left)
        most = sum(map(len, (line.discounts for line in lines)))
        if 1 < abs(difference) // unit <= most:
            self._note_on_bill(
                "rounded_by_line",
                invoice["id"],
                f"its discounts are rounded on each line, {abs(difference)} of the smallest unit"
                f" {'more' if difference > 0 else 'less'} than when rounded once",
            )

    def _bases(
        self, invoice: Json, lines: list[Line], amounts: BillAmounts, currency: str
    ) -> dict[str, frozenset[str]]:
        """Return, by discount, the lines it acts on, if any discount took money off.

        A line with an entry of zero is one of them if nothing was left of it, or if it is so small
        that its part of the discount is less than the smallest unit. A discount that took nothing acts
        on the lines it may act on.
        """
        if not amounts.discount:
            return {}
        unit = smallest_unit(currency)
        bases = {}
        for discount in carried_by(invoice, lines):
            amount = amounts.by_discount.get(discount, 0)
            entered = [line for line in lines if discount in line.discounts]
            taken_from = sum(line.subtotal for line in entered if line.discounts[discount])
            acting = (
                frozenset(
                    line.id
                    for line in entered
                    if line.discounts[discount]
                    or line.subtotal == sum(line.discounts.values())
                    or abs(line.subtotal * amount) < unit * abs(taken_from)
                )
                if amount and entered
                else self._could_act(discount, lines)
            )
            base = frozenset(line.id for line in lines if line.id in acting and line.subtotal)
            if amount or (base and discount in self._account.discounts):
                bases[discount] = base
        return bases

    def _base_of(self, discount_id: str, lines: list[Line]) -> int:
        """Return the amount of the lines a discount may act on."""
        acting = self._could_act(discount_id, lines)
        return sum(line.subtotal for line in lines if line.id in acting)

    def _could_act(self, discount_id: str, lines: list[Line]) -> frozenset[str]:
        """Return the lines a discount may act on by its coupon and place.

        Where the products of its coupon are not known, it acts on what it took something off.
        """
        coupon = self._coupon_of(discount_id)
        if at(coupon, "is_held") and not any(line.discounts.get(discount_id) for line in lines):
            return frozenset()
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
        carried = [one for one in carried_by(invoice, lines) if one in self._account.discounts]
        if not carried:
            return frozenset(line.id for line in lines if line.is_discountable)
        return frozenset().union(*(self._could_act(one, lines) for one in carried))

    def _creditable(
        self, customer: str, currency: str, lines: list[Line], amounts: BillAmounts
    ) -> str | None:
        """Return the most that credit may pay: the limit of the customer's grants, after discounts."""
        grants = self._account.grants.get((customer, currency), [])
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
        recurrence = self._account.recurrence(line)
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
            self._note_on_bill(
                "mtus", invoice_id, f"its quantity {quantities[0]} is no whole number"
            )
            return None

    def _notes_about(self, invoice: Json, amounts: BillAmounts, currency: str) -> None:
        if amounts.inclusive:
            self._note_on_bill(
                "tax_in_the_price",
                invoice["id"],
                f"{shown(amounts.inclusive, currency)} of tax is inside the prices: the list"
                " amount holds it, tax_amount does not",
            )
        before, after = invoice.get("starting_balance"), invoice.get("ending_balance")
        if isinstance(before, int) and isinstance(after, int) and before != after:
            self._note_on_bill(
                "customer_balance",
                invoice["id"],
                f"the customer balance moved from {shown(before, currency)} to"
                f" {shown(after, currency)}: that is payment, the total stays"
                f" {shown(amounts.total, currency)}",
            )
        if amounts.returned:
            self._note_on_bill(
                "discount_given_back",
                invoice["id"],
                f"it gives money back with a discount of {shown(abs(amounts.returned), currency)} in"
                " it: the list amount is given after that discount",
            )

    def _note_on_bill(self, kind: str, object_id: str, text: str) -> None:
        self._notes.append((kind, object_id, text))


def invoice_amounts(invoice: Json) -> BillAmounts:
    """Return the amounts of an invoice whose lines are all there.

    Raises:
        NotAnAmount: One of them is no whole number.
    """
    return BillAmounts.of(invoice, [line_of(line) for line in data_of(invoice.get("lines"))])


def carried_by(invoice: Json, lines: Iterable[Line]) -> list[str]:
    """Return the discounts a bill carries, even if they took nothing off: line discounts first."""
    found: dict[str, None] = {}
    for line in lines:
        found.update(dict.fromkeys(line.discount_ids))
    found.update(dict.fromkeys(filter(None, map(id_of, discounts_on(invoice)))))
    in_all = amounts_by_discount(invoice.get("total_discount_amounts"))
    found.update(dict.fromkeys(one for one, amount in in_all.items() if amount >= 0))
    for line in lines:
        found.update(dict.fromkeys(line.discounts))
    return list(found)


def _period_of(lines: Iterable[Line], issued: int) -> tuple[str, str]:
    """Return first day and first day after the lines' periods, on the UTC calendar."""
    lines = [line for line in lines if line.start]
    start = min((line.start for line in lines), default=issued)
    end = max((line.end for line in lines), default=issued)
    first = datetime.fromtimestamp(start, UTC).date()
    after = datetime.fromtimestamp(end, UTC).date()
    if after <= first:
        after = datetime.fromtimestamp(start + 86_400, UTC).date()
    return first.isoformat(), after.isoformat()
