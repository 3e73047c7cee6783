"""The billing errors planted in the sample: which, how often, and how large.

Each is one of the invoice findings of the rules, on an otherwise correct invoice, larger than one minor
unit; no invoice has two. An audit must find exactly the planted errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from dagster_project.sample.billing import Account, Bill

SHARE: Final = 0.015

# Rare opportunities are taken more readily than those that any invoice offers.
_RARE: Final = (
    "discount_on_refused_redemption",
    "discount_after_expiry",
    "credit_under_drawn",
    "credit_over_drawn",
    "under_discounted",
    "over_discounted",
)
_COMMON: Final = ("discount_without_coupon", "invoice_does_not_add_up")
TYPES: Final = _RARE + _COMMON

# Least error worth planting, in minor units.
_LEAST: Final = 2


@dataclass(frozen=True, slots=True)
class Mistake:
    """One planted error: its type, the record it is on, and billed minus correct in minor units."""

    type: str
    record_id: str
    workspace_id: str
    currency: str
    amount: int


@dataclass(slots=True)
class Charge:
    """The amounts billed on an invoice, in minor units; `slip` is the error of the total."""

    discount: int
    credit: int
    slip: int = 0


@dataclass(slots=True)
class Mischief:
    """The biller that decides, invoice by invoice, whether to err, keeping the types in balance.

    Attributes:
        rng: Chance.
        counted: Counted invoices seen so far.
        planted: Errors planted so far.
    """

    rng: Random
    counted: int = 0
    planted: list[Mistake] = field(default_factory=list)
    _by_type: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TYPES, 0))

    def charge(
        self, workspace_id: str, account: Account, bill: Bill, discount: int, *, may_err: bool
    ) -> Charge:
        """Bill a counted invoice, correctly or not.

        Args:
            workspace_id: The workspace billed.
            account: Its promotions and what its credits have left as billed so far.
            bill: The invoice.
            discount: Its correct discount (R6).
            may_err: Whether an error may be planted on it.

        Returns:
            The amounts to bill; credit is right for the discount billed (R9) unless the error is
            one of credit.
        """
        self.counted += 1
        available = account.credit_available(bill)
        right = Charge(discount, min(bill.list_amount - discount, available))
        chance = self.rng.random()
        if not may_err or chance >= 0.10:
            return right
        due = [
            kind
            for kind in (_RARE if chance >= 0.03 else TYPES)
            if self._by_type[kind] < SHARE / len(TYPES) * self.counted + 0.5
        ]
        if not due:
            return right
        possible = self._possible(account, bill, right, available)
        due = [kind for kind in due if kind in possible]
        if not due:
            return right
        kind = min(due, key=self._by_type.__getitem__)
        wrong, amount = possible[kind]()
        if kind not in ("credit_over_drawn", "credit_under_drawn"):
            wrong.credit = min(bill.list_amount - wrong.discount, available)
        self._by_type[kind] += 1
        self.planted.append(Mistake(kind, bill.invoice_id, workspace_id, bill.currency, amount))
        return wrong

    def _possible(
        self, account: Account, bill: Bill, right: Charge, available: int
    ) -> dict[str, Callable[[], tuple[Charge, int]]]:
        """Return the errors that can be made on this invoice, each with how to make it."""
        list_amount, state = bill.list_amount, account.discount_state(bill.issued_at)
        undiscounted = list_amount - right.discount
        unpaid = undiscounted - right.credit
        possible: dict[str, Callable[[], tuple[Charge, int]]] = {}
        if list_amount < 10 * _LEAST:
            return possible

        def more_discount() -> tuple[Charge, int]:
            extra = self._some(undiscounted, list_amount // 4)
            return Charge(right.discount + extra, 0), extra

        def less_discount() -> tuple[Charge, int]:
            missing = right.discount
            if self.rng.random() < 0.5:
                missing = self._some(right.discount, right.discount)
            return Charge(right.discount - missing, 0), -missing

        def more_credit() -> tuple[Charge, int]:
            extra = self._some(unpaid, unpaid)
            return Charge(right.discount, right.credit + extra), extra

        def less_credit() -> tuple[Charge, int]:
            missing = self._some(right.credit, right.credit)
            return Charge(right.discount, right.credit - missing), -missing

        def wrong_total() -> tuple[Charge, int]:
            slip = self._some(list_amount, list_amount // 10)
            return Charge(right.discount, 0, slip), slip

        possible["invoice_does_not_add_up"] = wrong_total
        unexpected = {
            "none": "discount_without_coupon",
            "ended": "discount_after_expiry",
            "refused": "discount_on_refused_redemption",
            "in_force": "over_discounted",
        }
        if state in unexpected and undiscounted >= _LEAST:
            possible[unexpected[state]] = more_discount
        if right.discount >= _LEAST:
            possible["under_discounted"] = less_discount
        if account.has_credit and available == right.credit and unpaid >= _LEAST:
            possible["credit_over_drawn"] = more_credit
        if right.credit >= _LEAST:
            possible["credit_under_drawn"] = less_credit
        return possible

    def _some(self, most: int, usual: int) -> int:
        """Return an amount of at least two minor units, at most `most`, usually below `usual`."""
        return min(most, _LEAST + int(self.rng.random() * max(usual - _LEAST, 0)))
