"""The one mapping of Stripe's objects to the rows of the five feeds; `docs/stripe.md` has its table.

Fetching objects, storing them and writing files do not belong here. Everything is a function of the
objects and of what earlier pulls saw, so the same account gives the same rows however it was read. An
invoice is mapped again only when its content or its surroundings changed; the other objects are few and
are mapped each time. Each feed has a module of its own; credit notes, which are simple, are here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from dagster_project.sources.stripe_account import Account
from dagster_project.sources.stripe_bills import DRAFT, UNKNOWN_DISCOUNT, Bill, Bills
from dagster_project.sources.stripe_coupons import Coupons
from dagster_project.sources.stripe_money import amount_text, currency_code
from dagster_project.sources.stripe_objects import Choices, Objects, Remembered
from dagster_project.sources.stripe_outcome import Outcome, Refusal, Row, instant, shown
from dagster_project.sources.stripe_redemptions import Redemptions
from dagster_project.sources.stripe_shapes import Json, at, id_of, taxes_of, whole
from dagster_project.sources.stripe_workspaces import Workspaces


class AccountMapping:
    """One run of the mapping over all objects.

    Attributes:
        refused: The objects that become no row; complete once every row has been read.
        notes: What rows cannot say; complete at the same time.
        counts: Objects counted for the summary, by name.
        held_coupons: The coupons that only discounts show: they keep their ids from now on.
    """

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
            remembered: What earlier pulls saw; it is brought up to date.
            choices: The user's decisions.
            now: The instant of the pull, in seconds since 1970.
            began: When the pull began to read; `now` unless given.
        """
        self._objects = objects
        self._outcome = outcome = Outcome()
        self.refused, self.notes, self.counts = outcome.refused, outcome.notes, outcome.counts
        account = Account(objects, remembered, choices)
        self.held_coupons = account.held_coupons
        self._workspaces = Workspaces(objects, account, choices, outcome)
        self._bills = Bills(objects, account, self._workspaces, choices)
        self._coupons = Coupons(objects, account, remembered, choices, outcome)
        self._redemptions = Redemptions(
            objects,
            account,
            self._coupons,
            self._workspaces,
            remembered,
            choices,
            outcome,
            now=now,
            began=now if began is None else began,
        )
        objects.note_surroundings(account.surroundings())

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Yield all rows but those of unchanged bills, without `updated_at`.

        Notes and refusals, of all objects, are complete at the end.
        """
        for invoice in self._objects.to_map():
            row = self._bills.row(invoice)
            if row is not None:
                yield "invoices", row
        self._objects.mapped()
        self._tell_of_bills()
        for workspace, customer, created in self._objects.workspaces_of_bills():
            self._workspaces.seen(workspace, customer, created)
        for note in self._objects.each("credit_notes"):
            row = self._outcome.safely("credit_notes", note, self._credit_note)
            if row is not None:
                yield "credit_notes", row
        self._compare_credit()
        yield from (("redemptions", row) for row in self._redemptions.rows())
        yield from (("coupons", row) for _, row in sorted(self._coupons.rows.items()))
        yield from (("workspaces", row) for row in self._workspaces.rows())

    def _tell_of_bills(self) -> None:
        """Say what was refused or noted of bills when they were mapped, by this pull or an earlier one."""
        for invoice_id, refused, notes in self._objects.bills_that_tell():
            if refused == DRAFT:
                self._outcome.counts["drafts"] += 1
            elif refused is not None:
                self._outcome.refuse("invoices", invoice_id, refused)
            for kind, object_id, text in notes:
                if kind == UNKNOWN_DISCOUNT:
                    self._outcome.refuse("redemptions", object_id, text)
                else:
                    self._outcome.note(kind, object_id, text)

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
            billed = Bill.of(found[1]).credit if found and found[1] else None
            if billed is not None and billed != amount:
                self._outcome.note(
                    "credit_differs",
                    invoice_id,
                    f"the bill says that credit paid {billed} of the smallest unit, the grants'"
                    f" transactions say {amount}",
                )

    def _credit_note(self, note: Json) -> Row | None:
        invoice = id_of(note.get("invoice"))
        if invoice is None:
            raise Refusal("it names no invoice")
        refused, _ = self._objects.bill(invoice) or ("Stripe does not show it", "")
        if refused is not None:
            raise Refusal(f"its invoice {invoice} is not delivered: {refused}")
        status = note.get("status")
        if status not in ("issued", "void"):
            raise Refusal(f"its status {status!r} is unknown")
        currency = currency_code(note.get("currency"))
        tax, _ = taxes_of(note)
        total = note.get("total")
        amount = whole(note.get("amount") if total is None else total) - tax
        if amount <= 0:
            raise Refusal(f"it takes {shown(amount, currency)} off, which is no amount above 0")
        self._outcome.counts["credit_notes"] += 1
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
