"""The file that configures the log-in: what it must have, who may look, and where a log-in leads back to."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagster_project.dashboard import login
from dagster_project.dashboard.login import Login, WrongLogin

WHOLE = {
    "redirect_uri": "https://ledger.example.com/oauth2callback",
    "cookie_secret": "x" * 32,
    "client_id": "ledger",
    "client_secret": "secret",
    "server_metadata_url": "https://id.example.com/.well-known/openid-configuration",
}


def written(folder: Path, access: str = "", **others: str) -> Path:
    auth = {name: text for name, text in {**WHOLE, **others}.items() if text}
    lines = "\n".join(f'{name} = "{text}"' for name, text in auth.items())
    file = folder / "login.toml"
    file.write_text(f"[auth]\n{lines}\n{access}\n", "utf-8")
    return file


def test_a_whole_file_is_taken(tmp_path: Path) -> None:
    found = login.read(written(tmp_path, '[access]\nemails = ["Ada@Example.com", "@example.org"]'))
    assert found.origin == "https://ledger.example.com"
    assert found.emails == ("ada@example.com", "@example.org")
    assert found.auth == WHOLE


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_lacks_something_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(WrongLogin, match=f"needs {name}"):
        login.read(written(tmp_path, **{name: ""}))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("cookie_secret", "x" * 31, "less than 32"),
        ("redirect_uri", "http://ledger.example.com/oauth2callback", "must begin with https"),
        ("redirect_uri", "https://ledger.example.com/", "must be the address of the dashboard"),
        ("redirect_uri", "ledger", "is not a web address"),
        ("server_metadata_url", "http://id.example.com/x", "must begin with https"),
        ("cookie_secrets", "x", "cookie_secrets, which is not known"),
    ],
)
def test_what_is_not_safe_or_not_known_is_refused(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    with pytest.raises(WrongLogin, match=told):
        login.read(written(tmp_path, **{name: text}))


@pytest.mark.parametrize("address", ["http://localhost:8501", "http://127.0.0.1:8501"])
def test_this_machine_needs_no_https(tmp_path: Path, address: str) -> None:
    file = written(tmp_path, redirect_uri=f"{address}/oauth2callback")
    assert login.read(file).origin == address


@pytest.mark.parametrize("access", ["[access]", "[access]\nemails = []"])
def test_a_table_of_access_that_names_nobody_is_refused(tmp_path: Path, access: str) -> None:
    with pytest.raises(WrongLogin, match="lets nobody in"):
        login.read(written(tmp_path, access))


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(WrongLogin, match="cannot be read: No such file"):
        login.read(tmp_path / "login.toml")


@pytest.mark.parametrize(
    ("user", "is_allowed"),
    [
        ({"email": "ADA@example.com"}, True),
        ({"email": "eve@example.com"}, False),
        ({"email": "anybody@example.org"}, True),
        ({"email": "anybody@sub.example.org"}, False),
        ({"email": "anybody@example.org.example.net"}, False),
        ({"email": "ada@example.com", "email_verified": False}, False),
        ({"email": "ada@example.com", "email_verified": "false"}, False),
        ({"email": "ada@example.com", "email_verified": "true"}, True),
        ({"email": "ada@example.com", "email_verified": True}, True),
        ({"email": None}, False),
        ({}, False),
    ],
)
def test_only_addresses_that_are_named_may_look(user: dict[str, object], is_allowed: bool) -> None:
    assert Login(WHOLE, ("ada@example.com", "@example.org")).allows(user) is is_allowed


def test_everybody_whom_the_provider_lets_in_may_look_if_nobody_is_named() -> None:
    assert Login(WHOLE).allows({"sub": "1"})


@pytest.mark.parametrize(
    ("host", "is_offered"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("10.0.0.1", False),
     ("::", False), ("ledger.example.com", False), ("127.0.0.1.example.com", False)],
)  # fmt: skip
def test_without_a_log_in_only_this_machine_is_served(host: str, is_offered: bool) -> None:
    login.must_be_configured(host, Login(WHOLE))
    if is_offered:
        login.must_be_configured(host, None)
    else:
        with pytest.raises(WrongLogin, match="without a log-in"):
            login.must_be_configured(host, None)


@pytest.mark.parametrize(
    ("address", "is_page"),
    [
        ("/credit?currency=EUR", True),
        ("/?month=2025-03", True),
        ("//other.test/credit", False),
        ("/\\other.test", False),
        ("https://other.test/", False),
        ("/a/b?x=1", False),
        ("/credit?\nx", False),
        ("", False),
    ],
)
def test_one_is_led_back_to_pages_of_the_dashboard_only(address: str, is_page: bool) -> None:
    assert login.is_page(address) is is_page
