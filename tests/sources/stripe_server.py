"""A stand-in for Stripe on this machine: it answers as Stripe does, with objects that a test gives it.

Lists begin with the newest object and hold at most 100 (10 unless asked for more); what can be
expanded is an id or absent until asked for; an invoice embeds ten lines. It can refuse a key, ask for
patience (429), fail (5xx), or cut a connection.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Json = dict[str, Any]

KEY = "rk_test_0123456789"
LISTS = {
    "/v1/subscriptions": "subscriptions",
    "/v1/customers": "customers",
    "/v1/invoices": "invoices",
    "/v1/credit_notes": "credit_notes",
    "/v1/prices": "prices",
    "/v1/promotion_codes": "promotion_codes",
    "/v1/coupons": "coupons",
    "/v1/events": "events",
    "/v1/subscription_items": "subscription_items",
    "/v1/billing/credit_grants": "credit_grants",
    "/v1/billing/credit_balance_transactions": "credit_balance_transactions",
}


@dataclass
class Account:
    """What the stand-in has and how it behaves.

    Attributes:
        objects: By kind.
        key: The key it accepts.
        trouble: Is asked before each answer: a status to answer with, `cut` to break off, or None.
        retry_after: When it asks to be asked again after a 429 or 5xx, in seconds.
        requests: What it was asked, as path and query.
        versions: The versions of the API that were asked for.
        missing: Paths it does not know.
        forbidden: Paths the key may not read.
        unexpanded: How a path ends that it does not expand.
    """

    objects: dict[str, list[Json]] = field(default_factory=dict)
    key: str = KEY
    trouble: Callable[[int, str], int | str | None] = lambda number, path: None
    retry_after: str = "0"
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)
    missing: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()
    unexpanded: str = ""

    def of(self, kind: str) -> list[Json]:
        """The objects of a kind, newest first."""
        return sorted(
            self.objects.get(kind, []), key=lambda one: (one.get("created", 0), one["id"])
        )[::-1]


def _expansions(query: list[tuple[str, str]]) -> set[str]:
    return {value for name, value in query if name.startswith("expand")}


def shown(kind: str, found: Json, expand: set[str]) -> Json:
    """An object as Stripe shows it, with what was asked to be expanded."""
    found = copy.deepcopy(found)
    if kind == "coupons":
        for name in ("applies_to", "currency_options"):
            if name not in expand:
                found.pop(name, None)
    if kind in ("subscriptions", "invoices"):
        found["discounts"] = _discounts(found.get("discounts"), "discounts", expand)
    if kind == "subscriptions":
        for item in (found.get("items") or {}).get("data", []):
            item["discounts"] = _discounts(item.get("discounts"), "items.data.discounts", expand)
    if kind == "customers" and isinstance(found.get("discount"), dict):
        found["discount"] = _discounts([found["discount"]], "discount", expand | {"discount"})[0]
    if kind == "invoices" and found.get("lines"):
        lines = found["lines"]
        for line in lines["data"]:
            line["discounts"] = _discounts(line.get("discounts"), "lines.data.discounts", expand)
        lines["has_more"] = len(lines["data"]) > 10
        lines["data"] = lines["data"][:10]
    return found


def _discounts(found: Any, path: str, expand: set[str]) -> list[Any]:
    shown_ = []
    for one in found or []:
        if not isinstance(one, dict):
            shown_.append(one)
        elif path not in expand and f"{path}.source.coupon" not in expand:
            shown_.append(one["id"])
        else:
            coupon = (one.get("source") or {}).get("coupon")
            if isinstance(coupon, dict) and f"{path}.source.coupon" not in expand:
                one["source"]["coupon"] = coupon["id"]
            shown_.append(one)
    return shown_


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: else the body waits for the head's acknowledgement
    account: Account

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        account = self.account
        parts = urlsplit(self.path)
        pairs = parse_qsl(parts.query)
        query = dict(pairs)
        account.requests.append((parts.path, query))
        account.versions.add(self.headers.get("Stripe-Version", ""))
        if self.headers.get("Authorization") != f"Bearer {account.key}":
            return self._error(401, "Invalid API Key provided: rk_test_****6789")
        trouble = account.trouble(len(account.requests), parts.path)
        if trouble == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"object": "li')
            self.close_connection = True
            return None
        if isinstance(trouble, int):
            return self._error(trouble, "Something is wrong for now")
        if parts.path in account.forbidden:
            return self._error(
                403, f"The provided key '{account.key}' does not have the required permissions"
            )
        if parts.path in account.missing:
            return self._error(404, f"Unrecognized request URL (GET: {parts.path})")
        refused = [one for one in _expansions(pairs) if one.endswith(account.unexpanded or " ")]
        if refused:
            return self._error(400, f"This property cannot be expanded ({refused[0]}).")
        expand = {
            one.removeprefix("data.")
            if parts.path in LISTS or parts.path.endswith("/lines")
            else one
            for one in _expansions(pairs)
        }
        if parts.path in LISTS:
            kind = LISTS[parts.path]
            found = [one for one in account.of(kind) if _is_asked_for(kind, one, query)]
            return self._page([shown(kind, one, expand) for one in found], query, parts.path)
        return self._single(parts.path, expand, query)

    def _single(self, path: str, expand: set[str], query: dict[str, str]) -> None:
        *_, before, last = path.split("/")
        if last == "lines":
            of_invoice = next(one for one in self.account.of("invoices") if one["id"] == before)
            lines = [copy.deepcopy(line) for line in of_invoice["lines"]["data"]]
            for line in lines:
                line["discounts"] = _discounts(line.get("discounts"), "discounts", expand)
            return self._page(lines, query, path)
        kind = LISTS.get(path.rsplit("/", 1)[0], "")
        for one in self.account.of(kind):
            if one["id"] == last:
                return self._answer(200, shown(kind, one, expand))
        return self._error(404, f"No such {kind.rstrip('s')}: '{last}'", "resource_missing")

    def _page(self, found: list[Json], query: dict[str, str], path: str) -> None:
        limit = int(query.get("limit", 10))
        if not 1 <= limit <= 100:
            return self._error(400, "Invalid limit")
        begin = 0
        if after := query.get("starting_after"):
            ids = [one["id"] for one in found]
            if after not in ids:
                return self._error(404, f"No such object: '{after}'", "resource_missing")
            begin = ids.index(after) + 1
        data = found[begin : begin + limit]
        return self._answer(
            200,
            {
                "object": "list",
                "url": path,
                "has_more": begin + limit < len(found),
                "data": data,
            },
        )

    def _error(self, status: int, message: str, code: str | None = None) -> None:
        error = {"type": "invalid_request_error", "message": message, "code": code}
        self._answer(status, {"error": error})

    def _answer(self, status: int, content: Json) -> None:
        body = json.dumps(content, indent=2).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Stripe-Version", self.headers.get("Stripe-Version", ""))
        self.send_header("Request-Id", f"req_{len(self.account.requests)}")
        if status == 429 or status >= 500:
            self.send_header("Retry-After", self.account.retry_after)
        self.end_headers()
        self.wfile.write(body)


def _is_asked_for(kind: str, one: Json, query: dict[str, str]) -> bool:
    if "created[gte]" in query and one.get("created", 0) < int(query["created[gte]"]):
        return False
    if "customer" in query and one.get("customer", query["customer"]) != query["customer"]:
        return False
    if kind == "subscriptions" and query.get("status") != "all":
        return one.get("status") != "canceled"
    if kind == "invoices" and "status" in query:
        return bool(one.get("status") == query["status"])
    if kind == "events" and "type" in query:
        return bool(one["type"].startswith(query["type"].rstrip("*")))
    if kind == "subscription_items":
        return bool(one.get("subscription") == query.get("subscription"))
    return True


@contextmanager
def serving(account: Account) -> Iterator[str]:
    """Serve an account on a free port of this machine.

    Yields:
        The address.
    """
    handler = type("Handler", (_Handler,), {"account": account})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
