"""An alert as text: for a terminal and a log, for a web hook that takes Slack's JSON, and as a mail.

Only the layout belongs here. Inserted texts come from elsewhere, file names for instance, and are escaped
where they could be read as markup.
"""

from __future__ import annotations

import shlex
import socket
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from dagster_project.alerts.fold import Message
from dagster_project.failures import plain

_LEAD = {"resolved": "Resolved: ", "test": "Test: "}
_MOST_BLOCK = 2_900  # Slack takes 3,000 characters
_MARKS = {"error": "🔴", "warn": "🟠", "info": "🟢"}


def title(message: Message) -> str:
    """Return what happened, in one line, and how often since when."""
    said = _LEAD.get(message.status, "") + message.alert.happened
    if message.status in ("again", "folded") and message.times > 1:
        said += f" ({message.times:,} times since {moment(message.since)})"
    return plain(said)


def moment(at: datetime) -> str:
    """Return an instant as people write it: 21 November 2026, 05:00 UTC."""
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def line(message: Message, home: Path) -> str:
    """Return the alert on one line, for a log.

    Args:
        message: The alert.
        home: The data home.
    """
    alert = message.alert
    return f"{title(message)} | {plain(alert.meaning)} | {command(message, home)}"


def command(message: Message, home: Path) -> str:
    """Return the command that shows more."""
    said = message.alert.command
    return f"{said} --home {shlex.quote(str(home))}" if said == "coupon-ledger alerts" else said


def text(message: Message, home: Path) -> str:
    """Return the alert as plain text of several lines.

    Args:
        message: The alert.
        home: The data home.
    """
    alert = message.alert
    parts = [
        title(message),
        *(f"- {plain(detail)}" for detail in alert.details),
        "",
        f"What it means: {plain(alert.meaning)}",
        f"Look further:  {command(message, home)}",
        "",
        _origin(message, home),
    ]
    return "\n".join(parts) + "\n"


def slack(message: Message, home: Path) -> dict[str, Any]:
    """Return the alert in the format of Slack's incoming web hooks and compatible services.

    Args:
        message: The alert.
        home: The data home.
    """
    alert = message.alert
    heading = f"{_MARKS[alert.severity]} *{_escaped(title(message))}*"
    details = "".join(f"\n• {_escaped(plain(detail))}" for detail in alert.details)
    meaning = f"*What it means:* {_escaped(plain(alert.meaning))}"
    look = f"*Look further:* `{_escaped(command(message, home))}`"
    sections = [heading + details, f"{meaning}\n{look}"]
    return {
        "text": "\n".join(
            (
                _escaped(title(message)),
                f"What it means: {_escaped(plain(alert.meaning))}",
                f"Look further: {_escaped(command(message, home))}",
            )
        ),
        "blocks": [
            *(
                {"type": "section", "text": {"type": "mrkdwn", "text": section[:_MOST_BLOCK]}}
                for section in sections
            ),
            {
                "type": "context",
                "elements": [{"type": "mrkdwn", "text": _escaped(_origin(message, home))}],
            },
        ],
    }


def mail(message: Message, home: Path, sender: str, recipients: list[str]) -> EmailMessage:
    """Return the alert as a plain-text mail.

    Args:
        message: The alert.
        home: The data home.
        sender: Address of the sender.
        recipients: Addresses of the recipients.
    """
    made = EmailMessage()
    made["Subject"] = f"[Coupon Ledger] {plain(title(message), 150)}"
    made["From"] = sender
    made["To"] = ", ".join(recipients)
    made["Date"] = format_datetime(message.alert.at)
    made["Message-ID"] = f"<{message.id}@coupon-ledger>"
    made["Auto-Submitted"] = "auto-generated"
    made["X-Coupon-Ledger-Alert"] = message.id
    made["X-Coupon-Ledger-Kind"] = message.alert.kind
    made.set_content(text(message, home))
    return made


def _origin(message: Message, home: Path) -> str:
    run = f", run {message.alert.run_id}" if message.alert.run_id else ""
    return (
        f"{message.alert.kind}, {moment(message.alert.at)}, {socket.gethostname()}:{home}{run},"
        f" alert {message.id}"
    )


def _escaped(text: str) -> str:
    """Return text that Slack shows as it is, without mentions and links."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
