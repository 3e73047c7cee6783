"""What the mapping of a Stripe account gives: rows of the five feeds, and what it says of other objects.

The columns of the rows and the words for amounts and instants belong here; what becomes a row does not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from dagster_project.sources.stripe_money import NotAnAmount, amount_text
from dagster_project.sources.stripe_shapes import Json

Row = dict[str, str | None]

SHAPELESS = (KeyError, TypeError, ValueError, AttributeError)
"""What reading an object raises that is not of a shape that is understood."""

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


class Refusal(Exception):
    """Why an object becomes no row."""


class Outcome:
    """What is said of the objects besides their rows.

    Attributes:
        refused: The objects that become no row.
        notes: What rows cannot say.
        counts: Objects counted for the summary, by name.
    """

    def __init__(self) -> None:
        """Begin with nothing said."""
        self.refused: list[Refused] = []
        self.notes: list[Note] = []
        self.counts: dict[str, int] = defaultdict(int)

    def refuse(self, feed: str, object_id: str, why: str) -> None:
        """Say why an object becomes no row of a feed."""
        self.refused.append(Refused(feed, object_id, why))

    def note(self, kind: str, object_id: str, text: str) -> None:
        """Say what a row cannot."""
        self.notes.append(Note(kind, object_id, text))

    def safely(self, feed: str, found: Json, made: Callable[[Json], Row | None]) -> Row | None:
        """Return the row of an object, None where it is refused."""
        try:
            return made(found)
        except (Refusal, NotAnAmount) as error:
            why = str(error)
        except SHAPELESS as error:
            why = not_understood(error)
        self.refuse(feed, str(found.get("id")), why)
        return None


def not_understood(error: Exception) -> str:
    """Say that an object has another shape than those that are understood."""
    return f"it is not of a shape that is understood ({type(error).__name__}: {error})"


def instant(seconds: int) -> str:
    """Return an instant of Stripe, in seconds since 1970, as the feeds write it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shown(amount: int, currency: str) -> str:
    """Return an amount in the smallest unit as people read it."""
    try:
        return f"{amount_text(amount, currency)} {currency}"
    except NotAnAmount:
        return f"{amount} of {currency}'s smallest unit"
