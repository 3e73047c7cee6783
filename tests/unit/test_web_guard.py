"""What the guard before a web server lets through, by requests that no browser would write."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from dagster_project.settings import Settings
from dagster_project.web.guard import Guard, served_origins
from tests.receivers import free_port

PROXY = "https://ledger.example.com"
ODD_PORT = "https://ledger.example.com:8443"


async def answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse("answered")


async def greet(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("greeted")
    await socket.close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server behind the guard."""
    number = free_port()
    routes = [
        Route("/{path:path}", answer, methods=["GET", "POST", "PUT", "OPTIONS"]),
        WebSocketRoute("/socket", greet),
    ]
    app = Guard(
        Starlette(routes=routes), served_origins(number, [PROXY, ODD_PORT]), posted_only=["/act"]
    )
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=number, log_level="critical", lifespan="off")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield number
    server.should_exit = True
    thread.join()


def said(port: int, first_line: str, *headers: str, body: str = "") -> str:
    """The whole answer to a request written by hand; `PORT` stands for the server's."""
    lines = [f"{first_line} HTTP/1.1", *headers]
    if "Connection: Upgrade" not in headers:
        lines += ["Connection: close", f"Content-Length: {len(body)}"]
    request = "\r\n".join([*lines, "", body]).replace("PORT", str(port))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request.encode())
        parts: list[bytes] = []
        # A WebSocket ends with a handshake, which is not awaited: what matters has arrived by then.
        while b"greeted" not in b"".join(parts) and (part := connection.recv(65536)):
            parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")  # frames of a WebSocket are not text


def status(port: int, first_line: str, *headers: str, body: str = "") -> int:
    return int(said(port, first_line, *headers, body=body).split()[1])


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:PORT",
        "localhost:PORT",
        "LocalHost:PORT",
        "[::1]:PORT",
        "ledger.example.com",
        "LEDGER.example.com",
        "ledger.example.com:443",
        "ledger.example.com:8443",
    ],
)
def test_a_request_to_an_address_that_is_served_is_answered(port: int, host: str) -> None:
    assert "answered" in said(port, "GET /", f"Host: {host}")


@pytest.mark.parametrize(
    "host",
    [
        "",
        "127.0.0.1",
        "localhost",
        "127.0.0.1:1",
        "localhost:PORT0",
        "localhost.:PORT",
        "evil.localhost:PORT",
        "localhost.evil.example:PORT",
        "evil.example:PORT",
        "user@localhost:PORT",
        "localhost:PORT@evil.example",
        "localhost:PORT, evil.example",
        "0.0.0.0:PORT",
        "127.1:PORT",
        "127.0.0.2:PORT",
        "2130706433:PORT",
        "[::ffff:127.0.0.1]:PORT",
        "::1:PORT",
        "[::1%lo]:PORT",
        "http://localhost:PORT",
        "ledger.example.com:80",
        "ledger.example.com:9443",
        "www.ledger.example.com",
        "example.com",
        "*",
    ],
)
def test_a_request_to_any_other_address_is_refused(port: int, host: str) -> None:
    assert status(port, "GET /", f"Host: {host}") == 400


def test_a_request_must_say_exactly_one_host(port: int) -> None:
    ours, theirs = "Host: localhost:PORT", "Host: evil.example"
    assert status(port, "GET /") == 400
    assert status(port, "GET /", ours, theirs) == 400
    assert status(port, "GET /", theirs, ours) == 400
    assert status(port, "GET /", ours, ours) == 400
    assert status(port, "GET /", ours) == 200


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://127.0.0.1:PORT", 200),
        ("http://localhost:PORT", 200),
        ("http://[::1]:PORT", 200),
        (PROXY, 200),
        (ODD_PORT, 200),
        ("http://ledger.example.com", 403),
        ("https://localhost:PORT", 403),
        ("http://localhost", 403),
        ("http://localhost:1", 403),
        ("http://localhost:PORT0", 403),
        ("http://localhost:PORT.evil.example", 403),
        ("http://evil.example", 403),
        ("http://user@localhost:PORT", 403),
        ("http://localhost:PORT http://evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_a_request_of_a_page_is_answered_only_to_our_own_pages(
    port: int, origin: str, expected: int
) -> None:
    ours = "Host: localhost:PORT"
    assert status(port, "GET /", ours, f"Origin: {origin}") == expected
    posted = [ours, "Content-Type: application/json", f"Origin: {origin}"]
    assert status(port, "POST /act", *posted, body="{}") == expected
    # A browser's preflight request for another site's JSON gets no permission either.
    asked = [ours, f"Origin: {origin}", "Access-Control-Request-Method: POST"]
    answered = said(port, "OPTIONS /act", *asked)
    assert int(answered.split()[1]) == expected
    assert "access-control" not in answered.lower()


def test_two_origins_are_refused_even_if_one_is_ours(port: int) -> None:
    ours, theirs = "Origin: http://localhost:PORT", "Origin: http://evil.example"
    for first, second in ((ours, theirs), (theirs, ours)):
        assert status(port, "GET /", "Host: localhost:PORT", first, second) == 403


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (["application/json"], 200),
        (["Application/JSON; charset=utf-8"], 200),
        ([], 415),
        (["text/plain"], 415),
        (["text/plain; application/json"], 415),
        (["text/plain, application/json"], 415),
        (["application/jsonp"], 415),
        (["application/graphql"], 415),
        (["application/x-www-form-urlencoded"], 415),
        (["multipart/form-data; boundary=x"], 415),
        (["application/json", "text/plain"], 415),
        (["text/plain", "application/json"], 415),
    ],
)
def test_only_json_can_be_posted(port: int, content_type: list[str], expected: int) -> None:
    headers = ["Host: localhost:PORT", *(f"Content-Type: {one}" for one in content_type)]
    assert status(port, "POST /act", *headers, body="{}") == expected


def test_nothing_acts_by_another_method_than_post(port: int) -> None:
    headers = ["Host: localhost:PORT", "Content-Type: application/json"]
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"):
        assert status(port, f"{method} /act", *headers, body="{}") == 405
    assert status(port, "GET /act?query=x", "Host: localhost:PORT") == 405
    assert status(port, "HEAD /act?query=x", "Host: localhost:PORT") == 405
    assert status(port, "GET /%61ct?query=x", "Host: localhost:PORT") == 405
    assert status(port, "GET /act", "Host: localhost:PORT") == 200
    assert status(port, "GET /other?query=x", "Host: localhost:PORT") == 200


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [
        ("localhost:PORT", "Origin: http://localhost:PORT", 101),
        ("localhost:PORT", "", 101),
        ("ledger.example.com", f"Origin: {PROXY}", 101),
        ("localhost:PORT", "Origin: http://localhost:1", 403),
        ("localhost:PORT", "Origin: null", 403),
        ("evil.example:PORT", "Origin: http://evil.example:PORT", 400),
    ],
)
def test_a_websocket_is_refused_at_its_handshake(
    port: int, host: str, origin: str, expected: int
) -> None:
    handshake = [
        f"Host: {host}",
        *([origin] if origin else []),
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ]
    answered = said(port, "GET /socket", *handshake)
    assert int(answered.split()[1]) == expected
    assert ("greeted" in answered) is (expected == 101)


def test_answers_may_not_be_framed_or_embedded_by_other_sites(port: int) -> None:
    answered = said(port, "GET /", "Host: localhost:PORT").lower()
    assert "x-frame-options: sameorigin" in answered
    assert "cross-origin-resource-policy: same-origin" in answered


def test_what_is_not_a_request_is_not_passed_on() -> None:
    """A kind of message that the guard does not know is treated like a request, not let through."""
    reached = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["type"])

    async def nothing(*_: object) -> None:
        return None

    guard = Guard(app, served_origins(3000))
    asyncio.run(guard({"type": "lifespan"}, nothing, nothing))  # type: ignore[arg-type]
    scope = {"type": "other", "headers": [], "method": "GET", "path": "/", "query_string": b""}
    asyncio.run(guard(scope, nothing, nothing))  # type: ignore[arg-type]
    assert reached == ["lifespan"]


def test_a_server_on_the_default_port_is_opened_without_a_port() -> None:
    assert "http://localhost" in served_origins(80)
    assert "http://localhost:443" in served_origins(443)


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://Ledger.Example.com/", "https://ledger.example.com"),
        ("https://ledger.example.com:443", "https://ledger.example.com"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[2001:DB8::1]:8080", "http://[2001:db8::1]:8080"),
    ],
)
def test_an_address_is_kept_as_a_browser_writes_it(address: str, kept: str) -> None:
    assert Settings(web_addresses=(address,)).web_addresses == (kept,)


@pytest.mark.parametrize(
    "address",
    [
        "ledger.example.com",
        "*",
        "https://*.example.com",
        "ftp://ledger.example.com",
        "https://",
        "https://me@ledger.example.com",
        "https://ledger.example.com/dagster",
        "https://ledger.example.com:port",
        "https://ledger.example.com?x",
    ],
)
def test_what_is_not_the_address_of_a_server_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="not of the form https://HOST"):
        Settings(web_addresses=(address,))
