"""What a workspace is in a Stripe account, the customer or the subscription, and its rows."""

from __future__ import annotations

from collections.abc import Iterator

from dagster_project.sources.stripe_account import Account
from dagster_project.sources.stripe_objects import Choices, Objects
from dagster_project.sources.stripe_outcome import Outcome, Refusal, Row, instant


class Workspaces:
    """The workspaces that are delivered."""

    def __init__(
        self, objects: Objects, account: Account, choices: Choices, outcome: Outcome
    ) -> None:
        """Begin with the workspaces that Stripe lists.

        Args:
            objects: What the pull left.
            account: The account.
            choices: The user's decisions.
            outcome: Where to say what rows cannot.
        """
        self._objects = objects
        self._account = account
        self._choices = choices
        self._outcome = outcome
        self._earliest: dict[str, int] = {}
        self._customers: dict[str, str] = {}

    def workspace_of(
        self, customer: str, subscription: str | None, what: str = "", start: int = 0
    ) -> str:
        """Return the workspace: the customer, or the subscription where that was chosen.

        Args:
            customer: The customer.
            subscription: The subscription, if what belongs to the workspace is limited to one.
            what: What acts on all subscriptions of the customer; empty for a bill without one.
            start: Since when it does: those that had ended by then do not count.
        """
        if self._choices.workspace == "customer":
            return customer
        if subscription is not None:
            return subscription
        if not what:
            return customer  # a bill without a subscription
        of_customer = [
            one
            for one in self._account.subscriptions_of.get(customer, [])
            if (self._account.subscriptions[one]["ended_at"] or start + 1) > start
        ]
        if len(of_customer) == 1:
            return of_customer[0]
        if not of_customer:
            return customer
        raise Refusal(
            f"{what} of the customer {customer} acts on {len(of_customer)} subscriptions, and a"
            " workspace is one subscription: set COUPON_LEDGER_STRIPE_WORKSPACE=customer"
        )

    def seen(self, workspace: str, customer: str, when: int) -> None:
        """Note a workspace that something names.

        Args:
            workspace: The workspace.
            customer: Its customer.
            when: When what names it was made, in seconds since 1970.
        """
        self._earliest[workspace] = min(when, self._earliest.get(workspace, when))
        self._customers.setdefault(workspace, customer)

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the workspaces that Stripe lists, then of those that were only seen."""
        done: set[str] = set()
        by_customer = self._choices.workspace == "customer"
        names: dict[str, str | None] = {}
        for customer in self._objects.each("customers"):
            name = customer.get("name") or customer.get("business_name")
            names[customer["id"]] = name if self._choices.has_names else None
            if by_customer and isinstance(customer.get("created"), int):
                done.add(customer["id"])
                yield self._row(customer["id"], names[customer["id"]], customer["created"])
        if not by_customer:
            for subscription_id, one in sorted(self._account.subscriptions.items()):
                done.add(subscription_id)
                name = names.get(one["customer"] or "")
                yield self._row(subscription_id, name, one["created"])
        for workspace in sorted(self._earliest.keys() - done):
            name = names.get(self._customers[workspace])
            yield self._row(workspace, name, self._earliest[workspace])
            self._outcome.note(
                "workspace_from_bills",
                workspace,
                "Stripe no longer lists it, so created_at is that of its oldest bill or coupon",
            )

    def _row(self, workspace_id: str, name: str | None, created: int) -> Row:
        self._outcome.counts["workspaces"] += 1
        return {
            "workspace_id": workspace_id,
            "workspace_name": name,
            "created_at": instant(created),
        }
