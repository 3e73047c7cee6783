"""What the mapping of a Stripe account reads: objects as pulled, what earlier pulls saw, the user's choices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dagster_project.sources.stripe_shapes import Json


@dataclass(frozen=True)
class Choices:
    """What the user decides about the mapping.

    Attributes:
        workspace: What a workspace is: a `customer` or a `subscription`.
        program_key: The metadata key that names a coupon's program.
        has_names: Whether names of customers are delivered.
        mtu_price: The metered price whose quantity is the monthly tracked users, if any.
    """

    workspace: str = "customer"
    program_key: str = "program"
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

    def get(self, kind: str, object_id: str) -> Json | None:
        """Return one object, None where no pull has seen it."""

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

    def delivered(self, feed: str, key: str) -> bytes | None:
        """Return the digest of a row as last delivered, None where it never was."""

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
