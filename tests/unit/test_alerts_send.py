"""Messages reach a web hook and a mailbox; problems are reported without a secret."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dagster_project.alerts import Alert, send
from dagster_project.alerts.fold import Message
from dagster_project.releases.files import read_lines
from dagster_project.settings import Settings
from tests.receivers import SECRET, Mailbox, Webhook, free_port, receivers, settings_of, text_of

NOW = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)
ALERT = Alert("data_late", "warn", "Data is late: invoices", "Old.", "look", NOW, ("one",))
MESSAGE = Message("abc", "new", ALERT, 1, NOW, ("webhook", "email"))


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Webhook, Mailbox]]:
    with receivers() as (webhook, mailbox):
        yield webhook, mailbox


def settings_for(home: Path, both: tuple[Webhook, Mailbox], **changes: str | None) -> Settings:
    return Settings.model_validate({"home": home, **settings_of(*both), **changes})


def test_nothing_is_sent_if_no_channel_is_set(tmp_path: Path) -> None:
    assert send.senders(Settings(home=tmp_path)) == {}


def test_a_web_hook_gets_json_and_an_id_that_reveals_repetitions(
    tmp_path: Path, both: tuple[Webhook, Mailbox]
) -> None:
    send.senders(settings_for(tmp_path, both))["webhook"](MESSAGE)
    assert both[0].bodies[-1]["text"].startswith("Data is late: invoices\n")
    assert both[0].keys[-1] == "abc"


def test_a_mailbox_gets_plain_text_for_all_recipients(
    tmp_path: Path, both: tuple[Webhook, Mailbox]
) -> None:
    send.senders(settings_for(tmp_path, both))["email"](MESSAGE)
    mail = both[1].messages[-1]
    assert mail["Subject"] == "[Coupon Ledger] Data is late: invoices"
    assert mail["X-RcptTo"] == "finance@example.com, data@example.com"
    assert text_of(mail).startswith("Data is late: invoices\n- one\n")


@pytest.mark.parametrize(
    ("status", "is_down"), [(400, False), (404, False), (429, True), (503, True), (307, False)]
)
def test_a_web_hook_that_refuses_is_down_only_if_later_may_be_better(
    tmp_path: Path, both: tuple[Webhook, Mailbox], status: int, is_down: bool
) -> None:
    both[0].status = status
    try:
        with pytest.raises(send.NotTaken, match=f"it answered {status}") as caught:
            send.senders(settings_for(tmp_path, both))["webhook"](MESSAGE)
    finally:
        both[0].status = 200
    assert caught.value.is_down == is_down
    # The server's answer contained the address.
    assert SECRET not in str(caught.value)


def test_channels_that_cannot_be_reached_say_so_without_a_secret(tmp_path: Path) -> None:
    port = free_port()
    ways = send.senders(
        Settings(
            home=tmp_path,
            alert_webhook_url=f"http://127.0.0.1:{port}/{SECRET}",
            alert_smtp_host="127.0.0.1",
            alert_smtp_port=port,
            alert_smtp_password=SECRET,
            alert_email_from="a@example.com",
            alert_email_to="b@example.com",
        )
    )
    for channel in ("webhook", "email"):
        with pytest.raises(send.NotTaken) as caught:
            ways[channel](MESSAGE)
        assert caught.value.is_down
        assert "refused" in str(caught.value)
        assert SECRET not in str(caught.value)


def test_a_wrong_password_is_reported_without_it(
    tmp_path: Path, both: tuple[Webhook, Mailbox]
) -> None:
    settings = settings_for(tmp_path, both, alert_smtp_password="another-secret")
    with pytest.raises(send.NotTaken, match="535") as caught:
        send.senders(settings)["email"](MESSAGE)
    assert "another-secret" not in str(caught.value)


def test_the_log_has_a_line_for_each_alert(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    send.log_message(settings, MESSAGE)
    send.log_message(settings, MESSAGE)
    (first, second) = read_lines(send.log_path(tmp_path))
    assert first == second
    assert first["kind"] == "data_late"
    assert first["happened"] == "Data is late: invoices"
    assert first["command"] == "look"


def test_settings_say_what_is_missing_or_no_address() -> None:
    with pytest.raises(ValueError, match="alert_email_from"):
        Settings(alert_smtp_host="mail.example.com")
    with pytest.raises(ValueError, match="https://") as caught:
        Settings(alert_webhook_url=f"ftp://{SECRET}")
    assert SECRET not in str(caught.value)


def test_secrets_do_not_show_where_settings_are_printed() -> None:
    settings = Settings(
        alert_webhook_url=f"https://example.com/{SECRET}",
        alert_smtp_password=SECRET,
    )
    assert SECRET not in repr(settings) + str(settings.model_dump())
