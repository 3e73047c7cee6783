"""`coupon-ledger pull stripe`: read an account, map it, deliver what changed.

The order of a pull belongs here: what is requested, what is requested again, and when everything is. A
killed pull continues where it was, unless it is more than a day old.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from dagster_project.settings import Settings
from dagster_project.sources import deliveries
from dagster_project.sources.deliveries import Part
from dagster_project.sources.errors import PullError
from dagster_project.sources.stripe_api import API_VERSION, PAGE, Api, NotExpanded, NotFound
from dagster_project.sources.stripe_books import Books
from dagster_project.sources.stripe_mapping import AccountMapping
from dagster_project.sources.stripe_objects import Choices
from dagster_project.sources.stripe_outcome import COLUMNS, Note, Refused, Row, instant
from dagster_project.sources.stripe_shapes import (
    Json,
    data_of,
    has_contents,
    id_of,
)

SOURCE = "stripe"
DAY = 86_400
EVERYTHING_AFTER_DAYS = 25
"""Stripe keeps events for 30 days; after a longer pause everything is read again."""
OVERLAP_SECONDS = DAY
"""How far before the last pull to look for new invoices."""
GOES_ON_FOR_SECONDS = DAY
"""How old a killed pull may be to continue; an older one starts again."""
NOT_FINAL = ("draft", "open", "uncollectible")
FEW = 50
"""Up to how many invoices are requested one by one, rather than listed by status."""

Told = Callable[[str, int, bool], None]
"""Called for each kind of object: how many were read, and whether these are all."""


@dataclass(frozen=True)
class Kind:
    """A kind of object that is listed whole.

    Attributes:
        name: The name under which it is stored.
        path: Where it is listed.
        params: The query.
        expand: What to expand, the least important last: it is left out where Stripe refuses it.
        is_optional: Whether an account may not have this kind at all.
    """

    name: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    expand: tuple[str, ...] = ()
    is_optional: bool = False


OF_INVOICE = ("discounts", "lines.data.discounts", "discounts.source.coupon")
"""What to expand of an invoice; the coupon of a line's discount is too deep for Stripe."""
INVOICES = Kind("invoices", "/v1/invoices", expand=tuple(f"data.{one}" for one in OF_INVOICE))
ASKED = f"{API_VERSION} {' '.join(OF_INVOICE)}"
"""How invoices are requested: those that were requested otherwise may lack what the mapping reads."""
EVENTS = Kind("events", "/v1/events", is_optional=True)
WHOLE = (
    Kind(
        "subscriptions",
        "/v1/subscriptions",
        (("status", "all"),),
        ("data.discounts", "data.items.data.discounts", "data.discounts.source.coupon"),
        is_optional=True,
    ),
    Kind("customers", "/v1/customers", expand=("data.discount.source.coupon",)),
    Kind("credit_notes", "/v1/credit_notes", is_optional=True),
    Kind("prices", "/v1/prices", is_optional=True),
    Kind("promotion_codes", "/v1/promotion_codes", is_optional=True),
    Kind("coupons", "/v1/coupons", expand=("data.applies_to", "data.currency_options")),
    Kind("credit_grants", "/v1/billing/credit_grants", is_optional=True),
)


@dataclass
class Report:
    """What a pull did.

    Attributes:
        pull: Its name, an instant.
        api_version: The version of Stripe's API it requested.
        is_everything: Whether every invoice was read, or only what is new or may have changed.
        objects: How many objects were read, by kind.
        delivered: How many rows were delivered to each feed.
        files: The files delivered.
        refused: The objects that became no row, and why.
        notes: Facts that rows cannot hold, or hold only as a bound.
        drafts: How many drafts wait to be finalized.
    """

    pull: str
    api_version: str = API_VERSION
    is_everything: bool = True
    objects: dict[str, int] = field(default_factory=dict)
    delivered: dict[str, int] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    drafts: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the report for machines."""
        return asdict(self)


def pull(
    settings: Settings,
    *,
    everything: bool = False,
    told: Told = lambda *_: None,
    exclusively: Callable[[], AbstractContextManager[None]] = nullcontext,
    now: Callable[[], float] = time.time,
    wait: Callable[[float], None] = time.sleep,
) -> Report:
    """Read a Stripe account and deliver what changed since the last pull.

    Args:
        settings: The data home, the landing folder and the choices of the mapping.
        everything: Whether to read every invoice again.
        told: Called with the progress.
        exclusively: Keeps refreshes out while files are delivered.
        now: The clock, in seconds since 1970.
        wait: Waits some seconds.

    Raises:
        PullError: The pull cannot continue; nothing of it is delivered.
    """
    with deliveries.one_pull(settings.home, SOURCE), ExitStack() as held:
        try:
            books = Books(deliveries.folder_of(settings.home, SOURCE) / "account.sqlite")
            held.callback(books.close)
            return _Pull(settings, books, told, exclusively, now, wait).run(everything)
        except sqlite3.Error as error:
            raise PullError(
                f"What earlier pulls left in {settings.home / deliveries.PULLS / SOURCE} cannot be"
                f" read or written ({error}).",
                "Make room if the disk is full. If the file account.sqlite is damaged, remove it:"
                " the next pull reads and delivers everything again.",
            ) from error
        except OSError as error:
            raise PullError(
                f"{error.filename or settings.home}: {error.strerror}.",
                "Make room or check the permissions, then pull again.",
            ) from error


class _Pull:
    def __init__(
        self,
        settings: Settings,
        books: Books,
        told: Told,
        exclusively: Callable[[], AbstractContextManager[None]],
        now: Callable[[], float],
        wait: Callable[[float], None],
    ) -> None:
        self._settings = settings
        self._books = books
        self._told = told
        self._exclusively = exclusively
        self._now = now
        self._wait = wait
        self._notes: list[Note] = []

    def run(self, everything: bool) -> Report:
        self._finish_before()
        self._begin(everything)
        name = self._books.fact("name") or ""
        pages = deliveries.folder_of(self._settings.home, SOURCE) / name
        self._api = Api(pages, self._wait)
        self._read()
        report = self._deliver(name)
        (pages / "report.json").parent.mkdir(parents=True, exist_ok=True)
        (pages / "report.json").write_text(json.dumps(report.as_json(), indent=1), "utf-8")
        done = datetime.fromtimestamp(self._now(), UTC)
        deliveries.note_completed(self._settings.home, SOURCE, done)
        self._prune(name)
        return report

    def _prune(self, name: str) -> None:
        """Remove old raw pages whose objects were all read again on newer pages."""
        keep = self._settings.pull_keep_days
        before = datetime.fromtimestamp(self._now(), UTC) - timedelta(days=keep)
        needed: set[str] | None = None
        for folder in sorted(deliveries.folder_of(self._settings.home, SOURCE).glob("*T*Z*")):
            if folder.name == name or _made(folder.name) >= before:
                continue
            if needed is None:
                needed = self._books.needed_pages()
            gone = []
            for page in folder.glob("*/*"):
                known_as = f"{folder.name}/{page.relative_to(folder)}".removesuffix(".json.gz")
                if known_as not in needed:
                    page.unlink()
                    gone.append(known_as)
            self._books.forget_pages(gone)
            if not any(folder.glob("*/*")):
                shutil.rmtree(folder)

    # -- Before --------------------------------------------------------------------------------------

    def _finish_before(self) -> None:
        """Deliver what a killed pull had ready, and remove the rest."""
        waiting = json.loads(self._books.fact("to_deliver") or "[]")
        parts = [Part.of_json(one) for one in waiting]
        if parts:
            with self._exclusively():
                lost = deliveries.deliver(self._settings.home, SOURCE, parts)
            self._delivered(lost)
        deliveries.remove_leftovers(self._settings.landing, SOURCE)

    def _begin(self, everything: bool) -> None:
        """Continue a killed pull, or begin a new one."""
        books, now = self._books, int(self._now())
        started, completed = books.fact("started"), books.fact("completed")
        is_running = books.fact("is_running") == "yes"
        if is_running and started and now - int(started) < GOES_ON_FOR_SECONDS and not everything:
            return
        is_late = completed is None or now - int(completed) > EVERYTHING_AFTER_DAYS * DAY
        is_asked_otherwise = books.fact("completed_asked") != ASKED
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        name = stamp if books.fact("name") != stamp else f"{stamp}-{books.pull + 1}"
        books.begin(
            {
                "started": str(now),
                "is_running": "yes",
                "asked": ASKED,
                "is_everything": "yes" if everything or is_late or is_asked_otherwise else "no",
                "name": name,
            }
        )

    # -- Reading -------------------------------------------------------------------------------------

    def _read(self) -> None:
        books = self._books
        is_everything = books.fact("is_everything") == "yes"
        by_name = {kind.name: kind for kind in WHOLE}
        for name in ("subscriptions", "customers"):
            self._list(by_name[name])
        self._list(INVOICES, () if is_everything else self._since("invoices"))
        if not is_everything:
            self._ask_again()
        since = () if is_everything else self._since("events", "invoice_events")
        for group in ("customer.discount.*", "invoice.*"):
            if group == "invoice.*" and is_everything:
                continue
            self._list(EVENTS, (("type", group), *since), told_as=f"events {group[:-2]}")
        self._ask_for_named()
        for name in ("credit_notes", "prices", "promotion_codes", "coupons", "credit_grants"):
            self._list(by_name[name])
        self._list_transactions()
        self._ask_for_missing()

    def _list_transactions(self) -> None:
        """Read the transactions of all credit grants, which are listed for one customer at a time."""
        name = "credit_balance_transactions"
        customers = {id_of(grant.get("customer")) for grant in self._books.each("credit_grants")}
        count = 0
        for customer in sorted(filter(None, customers)):
            of_customer = Kind(name, f"/v1/billing/{name}", (("customer", customer),), (), True)
            resource = f"{name} of {customer}"
            self._list(of_customer, resource=resource, told_as="")
            count += self._books.progress(resource)[2]
            self._told(name, count, False)
        self._told(name, count, True)

    def _since(self, *kinds: str) -> tuple[tuple[str, str], ...]:
        """Return the query for objects that the last pull cannot have seen, with an overlap.

        The query is made once for each pull, so that a killed pull continues with the same list. Where
        the newest known object is older than the last pull, its time counts: this machine's clock need
        not be Stripe's.
        """
        name = f"since {kinds[0]}"
        since = self._books.fact(name)
        if since is None or not since.startswith(f"{self._books.pull}:"):
            completed = int(self._books.fact("completed") or 0)
            newest = self._books.newest(*kinds)
            first = completed if newest is None else min(completed, newest)
            since = f"{self._books.pull}:{first - OVERLAP_SECONDS}"
            self._books.set_fact(name, since)
        return (("created[gte]", since.partition(":")[2]),)

    def _list(
        self,
        kind: Kind,
        more: tuple[tuple[str, str], ...] = (),
        resource: str = "",
        told_as: str | None = None,
    ) -> None:
        """Read all pages of a kind that are not read yet."""
        books = self._books
        resource = resource or " ".join([kind.name, *(f"{name}={value}" for name, value in more)])
        cursor, is_done, count = books.progress(resource)
        expand = list(kind.expand)
        while not is_done:
            params: dict[str, Any] = {"limit": PAGE, **dict(kind.params), **_nested(more)}
            if expand:
                params["expand"] = expand
            if cursor is not None:
                params["starting_after"] = cursor
            name = f"{_file_name(resource)}/{count // PAGE + 1:06d}-{count:08d}"
            try:
                page = self._api.get(kind.path, params, name)
            except NotExpanded:
                if not expand:
                    raise
                left_out = expand.pop()
                self._note("not_expanded", kind.name, f"Stripe does not expand {left_out}")
                continue
            except NotFound as error:
                if cursor is not None:  # what was read last is gone: begin the list again
                    cursor, count = None, 0
                    continue
                if not kind.is_optional:
                    raise PullError(
                        error.message, "Check the address of the API, then pull again."
                    ) from None
                self._note("not_there", kind.name, error.message)
                page = {"data": [], "has_more": False}
            found = [one for one in data_of(page) if isinstance(one, dict) and one.get("id")]
            self._must_be_of_this_account(found)
            kept = [self._whole(kind.name, one) for one in found]
            cursor = found[-1]["id"] if found else None
            is_done, count = not page.get("has_more") or not found, count + len(found)
            with books.together():
                books.take(kind.name, kept, self._page(name))
                books.advance(resource, cursor, is_done, count)
            if told_as != "":
                self._told(told_as or kind.name, count, is_done)

    def _page(self, name: str, kind: str | None = None, object_id: str | None = None) -> str:
        """Record a raw page that was stored, and return its name among those of all pulls."""
        page = f"{self._books.fact('name')}/{name}"
        self._books.put_page(page, kind, object_id)
        return page

    def _whole(self, kind: str, found: Json) -> Json:
        """Return an object with all its lines or items: Stripe embeds ten of them at most."""
        if kind == "invoices" and (found.get("lines") or {}).get("has_more"):
            path = f"/v1/invoices/{found['id']}/lines"
            lines = list(self._all(path, "lines", kind, found["id"]))
            return {**found, "lines": {"object": "list", "data": lines, "has_more": False}}
        if kind == "subscriptions" and (found.get("items") or {}).get("has_more"):
            params = {"subscription": found["id"]}
            items = list(self._all("/v1/subscription_items", "items", kind, found["id"], params))
            return {**found, "items": {"object": "list", "data": items, "has_more": False}}
        return found

    def _all(
        self,
        path: str,
        what: str,
        kind: str,
        object_id: str,
        more: Mapping[str, str] | None = None,
    ) -> Iterator[Json]:
        """Yield all lines or items of an object."""
        cursor, number = None, 0
        expand = ["data.discounts"]
        while True:
            params: dict[str, Any] = {"limit": PAGE, **(more or {})}
            if expand:
                params["expand"] = expand
            if cursor is not None:
                params["starting_after"] = cursor
            number += 1
            name = f"{what}/{object_id}-{number:04d}"
            try:
                page = self._api.get(path, params, name)
            except NotExpanded:
                if not expand:
                    raise
                expand = []
                continue
            self._page(name, kind, object_id)
            data = data_of(page)
            yield from data
            if not page.get("has_more") or not data:
                return
            cursor = data[-1]["id"]

    def _must_be_of_this_account(self, found: Iterable[Json]) -> None:
        """Prevent mixing a test account and a live one in one data home."""
        for one in found:
            if not isinstance(one.get("livemode"), bool):
                continue
            mode = "live" if one["livemode"] else "test"
            known = self._books.fact("mode")
            if known is None:
                self._books.set_fact("mode", mode)
            elif known != mode:
                raise PullError(
                    f"The key is for {mode} mode, and this data home holds what was pulled in"
                    f" {known} mode.",
                    "Use a data home of its own for each: name one with --home.",
                )
            return

    def _ask_again(self) -> None:
        """Request known invoices that were not final and were not in the list of new ones."""
        if len(self._books.ids("invoices", NOT_FINAL, not_seen=True)) > FEW:
            for status in NOT_FINAL:
                self._list(INVOICES, (("status", status),))
        for invoice_id in self._books.ids("invoices", NOT_FINAL, not_seen=True):
            self._ask_for_invoice(invoice_id)

    def _ask_for_named(self) -> None:
        """Request invoices that events name and that this pull has not seen."""
        names = {
            str(one["invoice"])
            for one in self._books.each("invoice_events")
            if self._books.is_listed("invoice_events", one["id"])
        }
        for invoice_id in sorted(names):
            if not self._books.is_listed("invoices", invoice_id):
                self._ask_for_invoice(invoice_id)

    def _ask_for_invoice(self, invoice_id: str) -> None:
        try:
            found, page = self._one(f"/v1/invoices/{invoice_id}", OF_INVOICE)
        except NotFound:
            known = self._books.get("invoices", invoice_id)
            if known is not None and known.get("status") == "draft":
                self._books.remove("invoices", invoice_id)  # a draft may be deleted
            elif known is not None:
                self._note("gone", invoice_id, "Stripe no longer has it; its last state stays")
            return
        whole = self._whole("invoices", found)
        with self._books.together():
            self._books.take("invoices", [whole], page)

    def _one(self, path: str, expand: Sequence[str]) -> tuple[Json, str]:
        """Return one object, and the page it came on; what Stripe does not expand is left out."""
        name = f"single/{_file_name(path)}"
        while True:
            try:
                found = self._api.get(path, {"expand": list(expand)} if expand else {}, name)
            except NotExpanded:
                if not expand:
                    raise
                expand = expand[:-1]
                continue
            return found, self._page(name)

    def _ask_for_missing(self) -> None:
        """Request what is named but not listed: deleted coupons, and objects newer than the lists."""
        for coupon_id in self._books.missing("coupons"):
            self._ask_for("coupons", f"/v1/coupons/{coupon_id}", ["applies_to", "currency_options"])
        for price_id in self._books.missing("prices"):
            self._ask_for("prices", f"/v1/prices/{price_id}", [])
        for invoice_id in self._books.missing("invoices"):
            self._ask_for_invoice(invoice_id)

    def _ask_for(self, kind: str, path: str, expand: Sequence[str]) -> None:
        try:
            found, page = self._one(path, expand)
        except NotFound:
            return
        if kind != "coupons" or has_contents(found):
            with self._books.together():
                self._books.take(kind, [found], page)

    # -- Delivering ----------------------------------------------------------------------------------

    def _deliver(self, name: str) -> Report:
        """Map what changed, write changed rows aside, record them, and rename the files.

        What bills were mapped to and what is delivered are recorded together or not at all.
        """
        books, settings = self._books, self._settings
        stamp = self._stamp()
        writer = _Writer(settings.landing, f"{SOURCE}-{name}.csv", stamp)
        try:
            with books.together():
                remembered = books.remembered()
                now = int(self._now())
                began = int(books.fact("started") or now)
                mapping = AccountMapping(books, remembered, choices_of(settings), now, began)
                for feed, row in mapping.rows():
                    key = row[COLUMNS[feed][0]] or ""
                    digest = _digest(feed, row)
                    if books.delivered(feed, key) != digest:
                        writer.write(feed, row)
                        books.set_delivered(feed, key, digest, stamp)
                parts = writer.finished()
                books.remember(remembered)
                books.take("coupons", mapping.held_coupons)
                books.set_fact("last_stamp", stamp)
                books.set_fact("to_deliver", json.dumps([part.as_json() for part in parts]))
                books.set_fact("completed", books.fact("started"))
                books.set_fact("completed_asked", books.fact("asked"))
                books.set_fact("is_running", "no")
        except BaseException:
            writer.discard()
            raise
        refused = {(one.feed, one.id): one for one in mapping.refused}
        report = Report(
            pull=name,
            is_everything=books.fact("is_everything") == "yes",
            objects={
                kind: books.count(kind)
                for kind in (*(one.name for one in WHOLE), "invoices", "events")
            },
            delivered={part.feed: part.rows for part in parts},
            files=[str(part.final) for part in parts],
            refused=[refused[one] for one in sorted(refused)],
            notes=sorted(self._notes + mapping.notes, key=lambda one: (one.kind, one.id)),
            drafts=mapping.counts["drafts"],
        )
        if parts:
            with self._exclusively():
                lost = deliveries.deliver(settings.home, SOURCE, parts)
            self._delivered(lost)
        else:
            books.set_fact("to_deliver", None)
        return report

    def _delivered(self, lost: Iterable[Part]) -> None:
        """Record that all files are in their places; rows of a lost file are delivered again."""
        with self._books.together():
            for part in lost:
                self._books.forget_delivered(part.feed, self._books.fact("last_stamp") or "")
            self._books.set_fact("to_deliver", None)

    def _stamp(self) -> str:
        """Return the instant written as `updated_at`, later than that of every pull before."""
        stamp = instant(int(self._now()))
        last = self._books.fact("last_stamp")
        if last is not None and stamp <= last:
            after = datetime.fromisoformat(last.replace("Z", "+00:00")).timestamp() + 1
            stamp = instant(int(after))
        return stamp

    def _note(self, kind: str, object_id: str, text: str) -> None:
        self._notes.append(Note(kind, object_id, text))


class _Writer:
    """A writer of rows aside, one file per feed."""

    def __init__(self, landing: Path, name: str, stamp: str) -> None:
        self._landing = landing
        self._name = name
        self._stamp = stamp
        self._files: dict[str, IO[str]] = {}
        self._parts: dict[str, tuple[Path, Path]] = {}
        self._rows: dict[str, int] = {}

    def write(self, feed: str, row: Row) -> None:
        file = self._files.get(feed) or self._opened(feed)
        values = {**row, "updated_at": self._stamp}
        file.write(deliveries.csv_line(values[column] for column in COLUMNS[feed]))
        self._rows[feed] += 1

    def _opened(self, feed: str) -> IO[str]:
        self._parts[feed] = deliveries.part_of(self._landing, feed, self._name)
        file = self._parts[feed][0].open("w", encoding="utf-8", newline="")
        file.write(deliveries.csv_line(COLUMNS[feed]))
        self._files[feed] = file
        self._rows[feed] = 0
        return file

    def finished(self) -> list[Part]:
        """Return the files, whole and on the disk, those that others refer to first."""
        for file in self._files.values():
            deliveries.made_durable(file)
            file.close()
        return [
            Part(feed, *self._parts[feed], self._rows[feed])
            for feed in COLUMNS
            if feed in self._parts
        ]

    def discard(self) -> None:
        for feed, file in self._files.items():
            file.close()
            self._parts[feed][0].unlink(missing_ok=True)


def choices_of(settings: Settings) -> Choices:
    """Return the user's decisions about the mapping."""
    return Choices(
        workspace=settings.stripe_workspace,
        program_key=settings.stripe_program_key,
        has_names=settings.stripe_names,
        mtu_price=settings.stripe_mtu_price,
    )


def _made(pull_name: str) -> datetime:
    """Return when a pull of a name began."""
    return datetime.strptime(pull_name[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _digest(feed: str, row: Row) -> bytes:
    values = [row[column] for column in COLUMNS[feed] if column != "updated_at"]
    return hashlib.sha256(json.dumps(values).encode()).digest()[:16]


def _nested(params: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return a query in which `created[gte]` is an entry of `created`."""
    found: dict[str, Any] = {}
    for name, value in params:
        if name.endswith("]"):
            outer, inner = name[:-1].split("[")
            found.setdefault(outer, {})[inner] = value
        else:
            found[name] = value
    return found


def _file_name(text: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in text.strip("/"))
