"""The channels: a log file always, a web hook and a mail server if they are set.

Code that opens a connection belongs here. A message that a channel did not take waits for the next
occasion; sending it again is safe, since it has an id. Neither the web hook's address nor a password is
ever part of a text.
"""

from __future__ import annotations

import http.client
import json
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from dagster_project.alerts import wording
from dagster_project.alerts.fold import Message
from dagster_project.failures import plain
from dagster_project.settings import Settings, is_this_machine

Sender = Callable[[Message], None]
_TRY_LATER = (408, 429)
_LOG_MODE = 0o600


class NotTaken(Exception):
    """A channel did not take a message.

    Attributes:
        is_down: Whether the channel would not take another message now either.
    """

    def __init__(self, reason: str, is_down: bool) -> None:
        super().__init__(reason)
        self.is_down = is_down


def senders(settings: Settings) -> dict[str, Sender]:
    """Return how to send through each channel that is set: `webhook`, `email`.

    Args:
        settings: The channels; a sender raises NotTaken.
    """
    found: dict[str, Sender] = {}
    if settings.alert_webhook_url is not None:
        found["webhook"] = lambda message: _checked(_post, settings, message)
    if settings.alert_smtp_host:
        found["email"] = lambda message: _checked(_mail, settings, message)
    return found


def recipients(settings: Settings) -> list[str]:
    """Return the addresses that alerts are mailed to.

    Args:
        settings: Their `alert_email_to` has them, separated by commas.
    """
    return [one.strip() for one in str(settings.alert_email_to).split(",") if one.strip()]


def _checked(
    send: Callable[[Settings, Message], None], settings: Settings, message: Message
) -> None:
    """Send, and remove secrets from whatever the channel answers."""
    try:
        send(settings, message)
    except NotTaken as problem:
        raise NotTaken(without_secrets(str(problem), settings), problem.is_down) from None
    except (OSError, http.client.HTTPException, smtplib.SMTPException, ValueError) as error:
        said = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise NotTaken(without_secrets(said, settings), is_down=True) from None


def without_secrets(text: str, settings: Settings) -> str:
    """Return a text on one line without the secrets of the settings.

    Args:
        text: For instance the answer of a server.
        settings: The secrets.
    """
    for secret in (settings.alert_webhook_url, settings.alert_smtp_password):
        if secret is not None and secret.get_secret_value():
            text = text.replace(secret.get_secret_value(), "***")
    return plain(text, 200)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuse redirects: a web hook that redirects has moved, and the new place is unknown."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _post(settings: Settings, message: Message) -> None:
    assert settings.alert_webhook_url is not None
    request = urllib.request.Request(  # noqa: S310 (the settings allow http and https only)
        settings.alert_webhook_url.get_secret_value(),
        data=json.dumps(wording.slack(message, settings.home)).encode(),
        headers={
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "coupon-ledger",
            "Idempotency-Key": message.id,
        },
        method="POST",
    )
    try:
        with urllib.request.build_opener(_NoRedirect).open(
            request, timeout=settings.alert_timeout_seconds
        ) as answer:
            answer.read(1_000)
    except urllib.error.HTTPError as error:
        error.close()
        is_down = error.code >= 500 or error.code in _TRY_LATER
        raise NotTaken(f"it answered {error.code} {error.reason}", is_down) from None
    except urllib.error.URLError as error:
        raise NotTaken(f"it cannot be reached ({error.reason})", is_down=True) from None


def _mail(settings: Settings, message: Message) -> None:
    host, port = str(settings.alert_smtp_host), settings.alert_smtp_port
    sender = str(settings.alert_email_from)
    context = ssl.create_default_context()
    timeout = settings.alert_timeout_seconds
    connected = (
        smtplib.SMTP_SSL(host, port, timeout=timeout, context=context)
        if port == smtplib.SMTP_SSL_PORT
        else smtplib.SMTP(host, port, timeout=timeout)
    )
    with connected as server:
        server.ehlo()
        is_encrypted = port == smtplib.SMTP_SSL_PORT
        if not is_encrypted and server.has_extn("starttls"):
            server.starttls(context=context)
            server.ehlo()
            is_encrypted = True
        password = settings.alert_smtp_password
        if password is not None:
            if not is_encrypted and not is_this_machine(host):
                raise NotTaken("it offers no encryption, so the password is not sent", is_down=True)
            server.login(settings.alert_smtp_user or sender, password.get_secret_value())
        mail = wording.mail(message, settings.home, sender, recipients(settings))
        try:
            refused = server.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            _refused(error.recipients)
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            raise NotTaken(
                f"it answered {_answer(error.smtp_code, error.smtp_error)}", False
            ) from None
    if refused:
        # The other recipients have it: sending it again would reach them twice.
        _log_partly(settings, message, refused)


def _refused(recipients: Mapping[str, tuple[int, bytes]]) -> NoReturn:
    code, said = next(iter(recipients.values()))
    raise NotTaken(f"it takes no recipient: {_answer(code, said)}", is_down=False)


def _answer(code: int, said: bytes | str) -> str:
    return f"{code} {said.decode('utf-8', 'replace') if isinstance(said, bytes) else said}"


def _log_partly(
    settings: Settings, message: Message, refused: Mapping[str, tuple[int, bytes]]
) -> None:
    code, said = next(iter(refused.values()))
    why = f"{len(refused)} recipients were refused: {_answer(code, said)}"
    log(settings, {"id": message.id, "status": "partly", "channel": "email",
                   "why": without_secrets(why, settings)}, message.alert.at)  # fmt: skip


def log_path(home: Path) -> Path:
    """Return the log of alerts, one JSON object a line."""
    return home / "logs" / "alerts.jsonl"


def log_message(settings: Settings, message: Message) -> None:
    """Write an alert to the log file.

    Raises:
        OSError: The log cannot be written.
    """
    alert = message.alert
    entry = {
        "id": message.id,
        "status": message.status,
        "kind": alert.kind,
        "severity": alert.severity,
        "happened": plain(wording.title(message)),
        "meaning": plain(alert.meaning),
        "details": [plain(detail) for detail in alert.details],
        "command": wording.command(message, settings.home),
        "run_id": alert.run_id,
        "times": message.times,
        "since": message.since.isoformat(timespec="seconds"),
        "channels": list(message.channels),
    }
    log(settings, entry, alert.at)


def log(settings: Settings, entry: Mapping[str, object], at: datetime) -> None:
    """Append one line to the log of alerts.

    Args:
        settings: The data home.
        entry: What to write.
        at: When, in UTC.

    Raises:
        OSError: The log cannot be written.
    """
    from dagster_project.home import make_private, writing
    from dagster_project.releases.files import append_line

    path = log_path(settings.home)
    with writing(settings.home):
        make_private(path.parent)
        append_line(path, {"at": at.isoformat(timespec="seconds"), **entry}, mode=_LOG_MODE)
