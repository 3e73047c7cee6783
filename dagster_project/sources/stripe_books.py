"""What pulls of a Stripe account leave for the next pull: objects as received, and what was delivered.

Everything is in one SQLite file in the data home, `pulls/stripe/account.sqlite`. A page of objects and
the place to read on from are written in one transaction, so a killed pull continues where it was; so are
what is delivered and the files that hold it. What bills were mapped to is stored too, so that a pull maps
only bills whose content or surroundings have changed.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from dagster_project.sources.stripe_account import made_again
from dagster_project.sources.stripe_objects import MappedBill, Remembered
from dagster_project.sources.stripe_shapes import (
    Json,
    at,
    coupon_in,
    data_of,
    discounts_on,
    id_of,
    price_in,
)

_LAYOUT = """
create table if not exists objects (
    kind text not null, id text not null, customer text, status text, created integer,
    content blob not null, seen integer not null, page text not null, primary key (kind, id)
) without rowid;
drop index if exists objects_of_customer; -- of earlier versions; no query reads by it
create table if not exists named (kind text not null, id text not null, primary key (kind, id))
without rowid;
create table if not exists pages (
    name text primary key, pull integer not null, kind text, id text
) without rowid;
create table if not exists to_map (id text primary key) without rowid;
create table if not exists bills (
    id text primary key, customer text, workspace text, created integer, issued integer,
    refused text, told text, content text not null
) without rowid;
create index if not exists bills_of_customer on bills (customer, issued, id);
create index if not exists bills_that_tell on bills (id) where told is not null or refused is not null;
create table if not exists bill_prices (
    price text not null, bill text not null, primary key (price, bill)
) without rowid;
create index if not exists prices_of_bill on bill_prices (bill);
create table if not exists surroundings (name text primary key, digest blob not null) without rowid;
create table if not exists progress (
    resource text primary key, cursor text, is_done integer not null, objects integer not null
) without rowid;
create table if not exists delivered (
    feed text not null, key text not null, content blob not null, updated_at text not null,
    primary key (feed, key)
) without rowid;
create table if not exists discounts (
    id text primary key, gone_by integer, hung_at integer, parts integer not null
) without rowid;
create table if not exists canonical (shared text primary key, id text not null) without rowid;
create table if not exists plans (coupon text primary key, plan text) without rowid;
create table if not exists facts (name text primary key, value text) without rowid;
"""


def parsed(text: str | bytes) -> Any:
    """Parse JSON; a number with a point stays the decimal it is written as."""
    return json.loads(text, parse_float=Decimal)


def _packed(found: Json) -> bytes:
    return zlib.compress(json.dumps(found, default=_as_written, sort_keys=True).encode(), 1)


def _as_written(value: Any) -> Any:
    if isinstance(value, Decimal):
        return {"~decimal": str(value)}
    raise TypeError(f"{type(value).__name__} is not of JSON")


def _unpacked(content: bytes) -> Any:
    return json.loads(zlib.decompress(content), object_hook=_decimals)


def _decimals(found: Json) -> Any:
    return Decimal(found["~decimal"]) if found.keys() == {"~decimal"} else found


class Books:
    """The objects of one account and what was delivered of them.

    It returns objects to the mapping as `stripe_objects.Objects` defines.
    """

    def __init__(self, path: Path | str) -> None:
        """Open the file, and create its tables if it is new."""
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = normal")
        self._connection.executescript(_LAYOUT)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write everything in this block, or nothing."""
        self._connection.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._connection.execute("rollback")
            raise
        self._connection.execute("commit")

    # -- Objects -----------------------------------------------------------------------------------

    @property
    def pull(self) -> int:
        """The number of the pull that is running or ran last."""
        return int(self.fact("pull") or 0)

    def take(self, kind: str, objects: Iterable[Json], page: str = "") -> None:
        """Store objects as received, and separately what is looked up later.

        Of events only those about discounts matter, and the invoices that events name. Discounts are
        stored separately, since Stripe neither lists them nor returns them by id.

        Args:
            kind: Their kind.
            objects: The objects, whole: no line or item is missing.
            page: The raw page they came from.
        """
        objects = list(objects)
        if kind == "coupons":
            objects = [self._told_apart(one) for one in objects]
        if kind == "events":
            self._take_events(objects, page)
            return
        self._put(kind, objects, page)
        discounts = {"subscriptions": "discounts", "customers": "discounts"}
        holders = {"invoices": "lines", "subscriptions": "items", "customers": "items"}
        if kind in holders:
            found = [
                one
                for whole in objects
                for holder in (whole, *data_of(whole.get(holders[kind])))
                if isinstance(holder, dict)
                for one in discounts_on(holder)
                if isinstance(one, dict) and one.get("id")
            ]
            self._put(discounts.get(kind, "discounts_of_bills"), found, page)
            self._name_coupons(found)
        if kind == "invoices":
            prices = (price_in(line) for one in objects for line in data_of(one.get("lines")))
            self._name("prices", (price for price, contents in prices if contents is None))
        if kind == "credit_notes":
            self._name("invoices", (id_of(one.get("invoice")) for one in objects))

    def _told_apart(self, coupon: Json) -> Json:
        """A coupon made again under the id of a deleted one: it must not change that one's terms."""
        known = self.get("coupons", coupon["id"])
        if known is None or known.get("created") in (None, coupon.get("created")):
            return coupon
        return {**coupon, "id": made_again(coupon), "made_again": coupon["id"]}

    def _take_events(self, events: list[Json], page: str) -> None:
        of_discounts = [
            one for one in events if str(one.get("type")).startswith("customer.discount.")
        ]
        self._put("events", of_discounts, page)
        self._name_coupons(at(one, "data", "object") or {} for one in of_discounts)
        self._put(
            "invoice_events",
            [
                {"id": one["id"], "invoice": invoice, "created": one.get("created")}
                for one in events
                if str(one.get("type")).startswith("invoice.")
                and (invoice := id_of(at(one, "data", "object")))
            ],
            page,
        )

    def _name_coupons(self, discounts: Iterable[Json]) -> None:
        """Note the coupons that discounts name without what they give."""
        found = (coupon_in(one) for one in discounts)
        self._name("coupons", (coupon for coupon, contents in found if contents is None))

    def _name(self, kind: str, ids: Iterable[str | None]) -> None:
        self._connection.executemany(
            "insert or ignore into named values (?, ?)", ((kind, one) for one in ids if one)
        )

    def missing(self, kind: str) -> list[str]:
        """Return the ids of a kind that other objects name and that no pull has seen."""
        rows = self._connection.execute(
            "select id from named where kind = ? except select id from objects where kind = ?"
            " order by id",
            (kind, kind),
        )
        return [row[0] for row in rows]

    def _put(self, kind: str, objects: Iterable[Json], page: str) -> None:
        pull = self.pull
        for one in objects:
            content = _packed(one)
            known = self._connection.execute(
                "select content from objects where kind = ? and id = ?", (kind, one["id"])
            ).fetchone()
            if known is not None and known[0] == content:
                self._connection.execute(
                    "update objects set seen = ?, page = ? where kind = ? and id = ?",
                    (pull, page, kind, one["id"]),
                )
                continue
            status = one.get("status")
            self._connection.execute(
                "insert or replace into objects values (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(kind, one["id"], id_of(one.get("customer"))),
                    *(status if isinstance(status, str) else None, one.get("created")),
                    *(content, pull, page),
                ),
            )
            if kind == "invoices":
                self._connection.execute("insert or ignore into to_map values (?)", (one["id"],))

    def remove(self, kind: str, object_id: str) -> None:
        """Forget an object that Stripe deleted."""
        with self.together():
            self._connection.execute(
                "delete from objects where kind = ? and id = ?", (kind, object_id)
            )
            if kind == "invoices":
                for table in ("bills", "to_map"):
                    self._connection.execute(f"delete from {table} where id = ?", (object_id,))
                self._connection.execute("delete from bill_prices where bill = ?", (object_id,))

    def each(self, kind: str) -> Iterator[Json]:
        """Yield all objects of a kind, ordered by id."""
        yield from self._selected("kind = ?", kind)

    def _selected(self, condition: str, *values: str) -> Iterator[Json]:
        cursor = self._connection.execute(
            f"select content from objects where {condition} order by id", values
        )
        for (content,) in cursor:
            yield _unpacked(content)

    def get(self, kind: str, object_id: str) -> Json | None:
        """Return one object, None where no pull has seen it."""
        return next(self._selected("kind = ? and id = ?", kind, object_id), None)

    def is_listed(self, kind: str, object_id: str) -> bool:
        """Return whether the newest pull saw the object in Stripe."""
        row = self._connection.execute(
            "select seen from objects where kind = ? and id = ?", (kind, object_id)
        ).fetchone()
        return row is not None and row[0] == self.pull

    def ids(self, kind: str, statuses: Iterable[str] = (), not_seen: bool = False) -> list[str]:
        """Return ids of a kind: those of some statuses, or those this pull has not seen."""
        wanted = list(statuses)
        condition = "kind = ?"
        values: list[Any] = [kind]
        if wanted:
            condition += f" and status in ({', '.join('?' * len(wanted))})"
            values += wanted
        if not_seen:
            condition += " and seen <> ?"
            values.append(self.pull)
        rows = self._connection.execute(
            f"select id from objects where {condition} order by id", values
        )
        return [row[0] for row in rows]

    def newest(self, *kinds: str) -> int | None:
        """Return when the newest object of some kinds was created, None where there is none."""
        row = self._connection.execute(
            f"select max(created) from objects where kind in ({', '.join('?' * len(kinds))})", kinds
        ).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def count(self, kind: str) -> int:
        """Return how many objects of a kind there are."""
        found: int = self._connection.execute(
            "select count(*) from objects where kind = ?", (kind,)
        ).fetchone()[0]
        return found

    # -- Bills and what they were mapped to --------------------------------------------------------

    def note_surroundings(self, digests: Mapping[str, bytes]) -> None:
        """Mark for mapping the bills whose surroundings have changed.

        Args:
            digests: By `price <id>`, `customer <id>` or `mapping`, what bills use of it.
        """
        known = dict(self._connection.execute("select name, digest from surroundings"))
        for name in digests.keys() | known.keys():
            digest = digests.get(name)
            if digest == known.get(name):
                continue
            what, _, which = name.partition(" ")
            condition = {
                "price": "id in (select bill from bill_prices where price = ?)",
                "customer": "customer = ?",
                "mapping": "? = ''",
            }[what]
            self._connection.execute(
                f"insert or ignore into to_map select id from bills where {condition}", (which,)
            )
            if digest is None:
                self._connection.execute("delete from surroundings where name = ?", (name,))
            else:
                self._connection.execute(
                    "insert or replace into surroundings values (?, ?)", (name, digest)
                )

    def to_map(self) -> Iterator[Json]:
        """Yield the invoices that must be mapped, ordered by id."""
        ids = [row[0] for row in self._connection.execute("select id from to_map order by id")]
        for one in ids:
            yield from self._selected("kind = 'invoices' and id = ?", one)

    def mapped(self) -> None:
        """Record that every invoice is mapped."""
        self._connection.execute("delete from to_map")

    def put_bill(self, bill: MappedBill) -> None:
        """Store what an invoice was mapped to."""
        notes = json.dumps(bill.notes) if bill.notes else None
        self._connection.execute(
            "insert or replace into bills values (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(bill.id, bill.customer, bill.workspace, bill.created, bill.issued),
                *(bill.refused, notes, bill.content),
            ),
        )
        self._connection.execute("delete from bill_prices where bill = ?", (bill.id,))
        self._connection.executemany(
            "insert or ignore into bill_prices values (?, ?)",
            ((price, bill.id) for price in bill.prices),
        )

    def bills_of(self, customer: str) -> Iterator[str]:
        """Yield what a customer's bills were mapped to, as stored, by the instant of issue."""
        rows = self._connection.execute(
            "select content from bills where customer = ? and refused is null order by issued, id",
            (customer,),
        )
        yield from (row[0] for row in rows)

    def bill(self, invoice_id: str) -> tuple[str | None, str] | None:
        """Return why an invoice is not delivered, and what it was mapped to; None if unmapped."""
        found: tuple[str | None, str] | None = self._connection.execute(
            "select refused, content from bills where id = ?", (invoice_id,)
        ).fetchone()
        return found

    def bills_that_tell(self) -> Iterator[tuple[str, str | None, list[tuple[str, str, str]]]]:
        """Yield the invoices that are refused or have notes: id, why it is refused, notes."""
        rows = self._connection.execute(
            "select id, refused, told from bills where told is not null or refused is not null"
            " order by id"
        )
        for invoice_id, refused, notes in rows:
            yield invoice_id, refused, [tuple(one) for one in json.loads(notes or "[]")]

    def workspaces_of_bills(self) -> Iterator[tuple[str, str, int]]:
        """Yield the workspaces that bills name: id, customer, when the oldest bill was created."""
        yield from self._connection.execute(
            "select workspace, min(customer), min(created) from bills"
            " where workspace is not null and refused is null group by workspace order by workspace"
        )

    # -- Raw pages ---------------------------------------------------------------------------------

    def put_page(self, name: str, kind: str | None, object_id: str | None) -> None:
        """Record a raw page that was stored, and the object it is a part of, if any."""
        self._connection.execute(
            "insert or replace into pages values (?, ?, ?, ?)", (name, self.pull, kind, object_id)
        )

    def needed_pages(self) -> set[str]:
        """Return the pages on which some object was last seen, the origin of its rows."""
        rows = self._connection.execute(
            "select page from objects where kind <> 'invoice_events'"
            " union select pages.name from pages inner join objects on objects.kind = pages.kind"
            " and objects.id = pages.id and objects.seen = pages.pull"
        )
        return {row[0] for row in rows}

    def forget_pages(self, names: Iterable[str]) -> None:
        """Record that pages are gone."""
        self._connection.executemany("delete from pages where name = ?", ((one,) for one in names))

    # -- Progress ----------------------------------------------------------------------------------

    def progress(self, resource: str) -> tuple[str | None, bool, int]:
        """Return where to read on, whether the end is reached, and how many objects were read."""
        row = self._connection.execute(
            "select cursor, is_done, objects from progress where resource = ?", (resource,)
        ).fetchone()
        return (row[0], bool(row[1]), row[2]) if row else (None, False, 0)

    def advance(self, resource: str, cursor: str | None, is_done: bool, objects: int) -> None:
        """Record how far a resource is read."""
        self._connection.execute(
            "insert or replace into progress values (?, ?, ?, ?)",
            (resource, cursor, int(is_done), objects),
        )

    def begin(self, facts: dict[str, str]) -> None:
        """Begin a new pull: nothing is read yet."""
        with self.together():
            self._connection.execute("delete from progress")
            self._connection.execute(
                "delete from objects where kind = 'invoice_events' and created <"
                " (select max(created) from objects where kind = 'invoice_events')"
            )
            self.set_fact("pull", str(self.pull + 1))
            for name, value in facts.items():
                self.set_fact(name, value)

    def fact(self, name: str) -> str | None:
        """Return something recorded by name."""
        row = self._connection.execute("select value from facts where name = ?", (name,)).fetchone()
        return row[0] if row else None

    def set_fact(self, name: str, value: str | None) -> None:
        """Record something by name."""
        self._connection.execute("insert or replace into facts values (?, ?)", (name, value))

    # -- What was delivered -------------------------------------------------------------------------

    def delivered(self, feed: str, key: str) -> bytes | None:
        """Return the digest of a row as last delivered, None where it never was."""
        row = self._connection.execute(
            "select content from delivered where feed = ? and key = ?", (feed, key)
        ).fetchone()
        return row[0] if row else None

    def set_delivered(self, feed: str, key: str, content: bytes, updated_at: str) -> None:
        """Record the present content of a row."""
        self._connection.execute(
            "insert or replace into delivered values (?, ?, ?, ?)", (feed, key, content, updated_at)
        )

    def forget_delivered(self, feed: str, updated_at: str) -> None:
        """Deliver again what one pull delivered: its file was lost before it arrived."""
        if feed == "invoices":
            self._connection.execute(
                "insert or ignore into to_map select key from delivered"
                " where feed = ? and updated_at = ?",
                (feed, updated_at),
            )
        self._connection.execute(
            "delete from delivered where feed = ? and updated_at = ?", (feed, updated_at)
        )

    # -- What is remembered of discounts -----------------------------------------------------------

    def remembered(self) -> Remembered:
        """Return what earlier pulls saw of discounts."""
        found = Remembered()
        for discount, gone_by, hung_at, parts in self._connection.execute(
            "select id, gone_by, hung_at, parts from discounts"
        ):
            if gone_by is not None:
                found.gone_by[discount] = gone_by
            if hung_at is not None:
                found.hung_at[discount] = hung_at
            if parts > 1:
                found.parts[discount] = parts
        for shared, discount in self._connection.execute("select shared, id from canonical"):
            found.canonical[tuple(json.loads(shared))] = discount
        found.plans.update(self._connection.execute("select coupon, plan from plans"))
        return found

    def remember(self, found: Remembered) -> None:
        """Store what this pull saw of discounts."""
        self._connection.execute("delete from discounts")
        ids = found.gone_by.keys() | found.hung_at.keys() | found.parts.keys()
        self._connection.executemany(
            "insert into discounts values (?, ?, ?, ?)",
            (
                (
                    one,
                    found.gone_by.get(one),
                    found.hung_at.get(one),
                    found.parts.get(one, 1),
                )
                for one in sorted(ids)
            ),
        )
        self._connection.executemany(
            "insert or replace into canonical values (?, ?)",
            ((json.dumps(shared), one) for shared, one in found.canonical.items()),
        )
        self._connection.executemany(
            "insert or replace into plans values (?, ?)", found.plans.items()
        )
