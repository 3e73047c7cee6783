"""A guard that keeps other sites' pages, open in the same browser, from using this machine's web server.

A server on 127.0.0.1 may have no log-in, and any page in the user's browser can send requests to it: a
form, a script, a WebSocket, or, once the name of the page's own host resolves to 127.0.0.1 (DNS
rebinding), a request whose answer the page may read. The browser names the requested server in `Host` and
the origin of the requesting page in `Origin`, and a page can change neither; the guard compares both with
the addresses that are served.

Starlette's `TrustedHostMiddleware` compares names without their port and checks neither a second
`Host` nor `Origin`, so the comparison is made here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dagster_project.settings import DEFAULT_PORTS, origin_of

LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_JSON = "application/json"


def served_origins(port: int, addresses: Iterable[str] = ()) -> frozenset[str]:
    """Return the origins of a server on this machine.

    Args:
        port: The port the server listens on.
        addresses: Further addresses under which it is opened, such as a proxy's.

    Raises:
        ValueError: A further address is not the address of a server.
    """
    local = [f"http://{name}:{port}" for name in LOCAL_NAMES]
    return frozenset(map(origin_of, [*local, *addresses]))


class Guard:
    """ASGI middleware that answers only requests to the served addresses from their own pages.

    A request is refused unless it has exactly one `Host`, which is one of ours (400), at most one
    `Origin`, which is one of ours (403), and either reads or is a POST of JSON (405, 415), which no
    form of a page can send. A WebSocket is refused at its handshake by the same two headers. Pages of
    other origins may not frame or embed the answers.
    """

    def __init__(
        self, app: ASGIApp, origins: Collection[str], posted_only: Collection[str] = ()
    ) -> None:
        """Guard an application.

        Args:
            app: The application behind the guard.
            origins: The origins served, from `served_origins`.
            posted_only: Paths that act on the query string; a GET with a query string is refused there.
        """
        self._app = app
        self._origins = frozenset(origins)
        self._hosts = frozenset(host for origin in origins for host in _hosts_of(origin))
        self._posted_only = frozenset(posted_only)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it to the application."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        async def send_unframed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Frame-Options"] = "SAMEORIGIN"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
            await send(message)

        await self._app(scope, receive, send_unframed)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return PlainTextResponse(
                "This server does not answer to this address. Open http://127.0.0.1 with the port"
                " of this server, or add the address to COUPON_LEDGER_WEB_ADDRESSES.\n",
                400,
            )
        if len(origins) > 1 or not self._origins.issuperset(map(str.lower, origins)):
            return PlainTextResponse(
                "A page of another address sent this request. If the address is your own, add it to"
                " COUPON_LEDGER_WEB_ADDRESSES.\n",
                403,
            )
        if scope["type"] == "websocket":
            return None
        if scope["method"] in _READING:
            if scope["path"] in self._posted_only and scope["query_string"]:
                return PlainTextResponse(
                    "Send a POST request with JSON instead.\n", 405, {"Allow": "POST"}
                )
            return None
        if scope["method"] != "POST":
            return PlainTextResponse("Use GET or POST.\n", 405, {"Allow": "GET, HEAD, POST"})
        kinds = headers.getlist("content-type")
        if len(kinds) != 1 or kinds[0].partition(";")[0].strip().lower() != _JSON:
            return PlainTextResponse(f"Send the body as {_JSON}.\n", 415)
        return None


def _hosts_of(origin: str) -> set[str]:
    """Return how `Host` may name an origin: with its port, or without if it is the default."""
    scheme, _, host = origin.partition("://")
    has_port = urlsplit(origin).port is not None
    return {host} if has_port else {host, f"{host}:{DEFAULT_PORTS[scheme]}"}
