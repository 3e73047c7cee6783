"""Local receivers of alerts: a web server and a mail server that store what they receive.

Both ask for the secret, so that tests can look for it where it must not be.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from email.message import Message
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler
from aiosmtpd.smtp import AuthResult, LoginPassword

SECRET = "s3cr3t-0123456789"
USER = "ledger"


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody is listening."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Webhook:
    """A web server that stores the JSON bodies posted to it.

    Attributes:
        bodies: The bodies, oldest first.
        keys: The idempotency key of each.
        status: The status code that it answers.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.status = 200
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                hook.bodies.append(json.loads(self.rfile.read(length)))
                hook.keys.append(self.headers["Idempotency-Key"])
                self.send_response(hook.status, f"for {self.path}")
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Log nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/{SECRET}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Mailbox(MessageHandler):
    """A mail server that stores the messages of clients that log in."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Message] = []
        self.port = free_port()
        self._controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            authenticator=_authenticate,
            auth_required=True,
            auth_require_tls=False,
        )

    def handle_message(self, message: Message) -> None:
        """Keep a message."""
        self.messages.append(message)

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()


def _authenticate(*call: Any) -> AuthResult:
    """Accept a client that has the secret."""
    data = call[-1]
    known = isinstance(data, LoginPassword) and data.password == SECRET.encode()
    return AuthResult(success=known, handled=False)


def kind_of(mail: Message) -> str:
    """The kind of alert a mail is about."""
    return str(mail["X-Coupon-Ledger-Kind"])


def text_of(mail: Message) -> str:
    """The text of a mail."""
    payload = mail.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode("utf-8").replace("\r\n", "\n")


def settings_of(webhook: Webhook, mailbox: Mailbox) -> dict[str, str]:
    """The settings that send alerts to the receivers, by name."""
    return {
        "alert_webhook_url": webhook.url,
        "alert_smtp_host": "127.0.0.1",
        "alert_smtp_port": str(mailbox.port),
        "alert_smtp_user": USER,
        "alert_smtp_password": SECRET,
        "alert_email_from": "ledger@example.com",
        "alert_email_to": "finance@example.com, data@example.com",
    }


@contextlib.contextmanager
def receivers() -> Iterator[tuple[Webhook, Mailbox]]:
    """A web hook and a mail server, for as long as the block lasts."""
    with Webhook() as webhook, Mailbox() as mailbox:
        yield webhook, mailbox
