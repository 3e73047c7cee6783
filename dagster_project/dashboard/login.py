"""Log-in by OpenID Connect: the file that configures it, and who may see the ledger.

The file has two tables. `[auth]` has the arguments of Streamlit's `st.login`; `[access]` has the e-mail
addresses of the people who may see the ledger. Streamlit handles the provider, cookies and sessions.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from dagster_project.settings import is_this_machine, origin_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CALLBACK: Final = "/oauth2callback"
"""The path of the dashboard to which the provider returns; Streamlit defines it."""
_TEXTS: Final = (
    "redirect_uri",
    "cookie_secret",
    "client_id",
    "client_secret",
    "server_metadata_url",
)
_LEAST_SECRET: Final = 32
_LONGEST_ADDRESS: Final = 1500
_WANTED: Final = "coupon_ledger_wanted"
_LOGGED_IN: Final = "_streamlit_user"


class WrongLogin(ValueError):
    """The log-in is not configured correctly; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Login:
    """A log-in that is configured.

    Attributes:
        auth: The arguments of `st.login`: the provider, and the dashboard's identity there.
        emails: Who may see the ledger: addresses, or whole domains as `@example.com`; if empty, everybody
            whom the provider lets in.
    """

    auth: Mapping[str, Any]
    emails: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """The address under which the dashboard is opened, without a path."""
        address = urlsplit(self.auth["redirect_uri"])
        return origin_of(f"{address.scheme}://{address.netloc}")

    def allows(self, user: Mapping[str, Any]) -> bool:
        """Return whether a logged-in user may see the ledger.

        Args:
            user: The claims of the provider; an address that it calls unverified does not count.
        """
        if not self.emails:
            return True
        email = str(user.get("email") or "").strip().lower()
        # Some providers send text instead of a boolean.
        is_verified = str(user.get("email_verified", True)).lower() != "false"
        if not email or not is_verified:
            return False
        return email in self.emails or f"@{email.rpartition('@')[2]}" in self.emails


@cache
def read(path: Path) -> Login:
    """Read the file that configures the log-in, once per process.

    Args:
        path: A TOML file.

    Raises:
        WrongLogin: The file cannot be read, or its content is invalid or unsafe.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise WrongLogin(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise WrongLogin(f"{path} is not TOML: {error}.") from None
    _must_only_have(path, "tables", content, ("auth", "access"))
    auth, access = content.get("auth"), content.get("access", {})
    if not isinstance(auth, dict) or not isinstance(access, dict):
        raise WrongLogin(f"{path}: give a table [auth], and [access] as a table.")
    _must_only_have(path, "[auth]", auth, (*_TEXTS, "client_kwargs"))
    _must_only_have(path, "[access]", access, ("emails",))
    for name in _TEXTS:
        if not isinstance(auth.get(name), str) or not auth[name].strip():
            raise WrongLogin(f"{path}: [auth] needs {name}, a text.")
    if len(auth["cookie_secret"]) < _LEAST_SECRET:
        raise WrongLogin(
            f"{path}: cookie_secret signs log-ins and has less than {_LEAST_SECRET} characters:"
            " use the output of `openssl rand -hex 32`."
        )
    for name in ("redirect_uri", "server_metadata_url"):
        _must_be_safe(path, name, auth[name])
    if urlsplit(auth["redirect_uri"]).path != CALLBACK or urlsplit(auth["redirect_uri"]).query:
        raise WrongLogin(
            f"{path}: redirect_uri must be the address of the dashboard and {CALLBACK}."
        )
    emails = access.get("emails", [])
    if not isinstance(emails, list) or not all(
        isinstance(one, str) and "@" in one for one in emails
    ):
        raise WrongLogin(
            f"{path}: emails must be a list of addresses, or of domains such as @example.com."
        )
    if "access" in content and not emails:
        raise WrongLogin(
            f"{path}: [access] lets nobody in: name addresses in emails, or remove the table to let in"
            " everybody whom the provider does."
        )
    return Login(auth, tuple(one.strip().lower() for one in emails))


def _must_only_have(
    path: Path, place: str, found: Mapping[str, Any], known: tuple[str, ...]
) -> None:
    unknown = [name for name in found if name not in known]
    if unknown:
        raise WrongLogin(
            f"{path}: {place} has {', '.join(unknown)}, which is not known; there is"
            f" {', '.join(known)}."
        )


def _must_be_safe(path: Path, name: str, address: str) -> None:
    """Accept http only for this machine, because secrets and cookies are sent to the address."""
    try:
        parts = urlsplit(address)
        origin_of(f"{parts.scheme}://{parts.netloc}")
    except ValueError:
        raise WrongLogin(f"{path}: {name} {address!r} is not a web address.") from None
    if parts.scheme != "https" and not is_this_machine(parts.hostname or ""):
        raise WrongLogin(f"{path}: {name} must begin with https:// unless it names this machine.")


def must_be_configured(host: str, login: Login | None) -> None:
    """Check that people on other machines must log in.

    Args:
        host: What the server listens on.
        login: The log-in, if there is one.

    Raises:
        WrongLogin: Other machines could open the dashboard without a log-in.
    """
    if login is None and not is_this_machine(host):
        raise WrongLogin(
            f"The dashboard is not served on {host} without a log-in: anybody who reaches it would see all"
            " bills. Configure one in a file named by COUPON_LEDGER_LOGIN_FILE, or omit --host and tunnel:"
            " `ssh -L 8501:127.0.0.1:8501 HOST`."
        )


class LeadsBack:
    """ASGI middleware that returns to the requested address after a log-in.

    Streamlit shows the first page after a log-in, whichever link was followed. A cookie of the browser
    stores the requested page meanwhile.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application.

        Args:
            app: Streamlit's application.
        """
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Store the requested address, or redirect to it."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        from starlette.requests import Request
        from starlette.responses import Response

        request = Request(scope)
        path = scope["path"]
        wanted = request.cookies.get(_WANTED, "")

        async def send_leading(message: Message) -> None:
            if message["type"] == "http.response.start":
                noted = Response()
                headers = list(message.get("headers", []))
                has_logged_in = any(
                    name.lower() == b"set-cookie" and value.startswith(_LOGGED_IN.encode() + b"=")
                    for name, value in headers
                )
                if path == CALLBACK and has_logged_in and is_page(wanted):
                    headers = [one for one in headers if one[0].lower() != b"location"]
                    headers.append((b"location", wanted.encode("latin-1")))
                    noted.delete_cookie(_WANTED)
                elif _asks_for_page(request):
                    address = f"{path}?{request.url.query}"
                    noted.set_cookie(_WANTED, address, max_age=600, httponly=True, samesite="lax")
                headers += [one for one in noted.raw_headers if one[0] == b"set-cookie"]
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, send_leading)


def _asks_for_page(request: Any) -> bool:
    """Return whether a browser without a log-in opens a page with choices in its address."""
    return bool(
        request.headers.get("sec-fetch-mode", "navigate") == "navigate"
        and "text/html" in request.headers.get("accept", "")
        and request.url.query
        and request.url.path.count("/") == 1
        and request.url.path != CALLBACK
        and len(request.url.query) < _LONGEST_ADDRESS
        and _LOGGED_IN not in request.cookies
    )


def is_page(address: str) -> bool:
    """Return whether an address is a page of this server, because the cookie may be forged."""
    parts = urlsplit(address)
    return (
        address.startswith("/")
        and not address.startswith(("//", "/\\"))
        and not parts.netloc
        and parts.path.count("/") == 1
        and address.isascii()
        and address.isprintable()
    )
