"""Requests to Stripe's API, read-only: one version, own back-off, every page stored as received.

Making, retrying and explaining a request belongs here. Choosing the objects to request does not.
The key is taken from `STRIPE_API_KEY` and is never written anywhere.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dagster_project.settings import is_this_machine
from dagster_project.sources.errors import PullError, SetUpWrong
from dagster_project.sources.stripe_books import parsed
from dagster_project.sources.stripe_shapes import Json

API_VERSION = "2026-10-28.endive"
"""The API version with whose shapes the mapping is tested; sent with every request."""
KEY_VARIABLE = "STRIPE_API_KEY"
BASE_VARIABLE = "COUPON_LEDGER_STRIPE_API_BASE"
PAGE = 100
MOST_TRIES = 8
LONGEST_WAIT = 32.0
TIMEOUT_SECONDS = 80

_KEY = re.compile(r"\b(?:sk|rk|pk)_[A-Za-z0-9_*]+")


class NotFound(PullError):
    """Stripe has no such object, or no such kind of object."""


class NotExpanded(PullError):
    """Stripe does not expand the requested field."""


class Api:
    """Stripe's API for one pull."""

    def __init__(self, pages: Path | None, wait: Callable[[float], None] = time.sleep) -> None:
        """Take the key and the address from the environment.

        Args:
            pages: The folder in which pages are stored as received, if any.
            wait: Waits some seconds.

        Raises:
            SetUpWrong: There is no key, the address is not safe, or the library is missing.
        """
        try:
            import stripe
        except ImportError as error:
            raise SetUpWrong(
                "The library for Stripe is not installed.",
                "Install the extra: pip install 'coupon-ledger[sources]'.",
            ) from error
        # It writes whole answers, with personal data, where somebody collects debug messages.
        logging.getLogger("stripe").setLevel(logging.CRITICAL)
        self._errors = stripe
        self._pages = pages
        self._wait = wait
        self._client = stripe.StripeClient(
            _key(),
            stripe_version=API_VERSION,
            base_addresses=_addresses(),
            max_network_retries=0,  # tried again here, 429 included
            http_client=stripe.RequestsClient(timeout=TIMEOUT_SECONDS),
        )

    def get(self, path: str, params: Mapping[str, Any], kept_as: str = "") -> Json:
        """Send a request, and repeat it after a while where that may help.

        Args:
            path: Such as `/v1/coupons`.
            params: The query.
            kept_as: The name under which the answer is stored, if it is.

        Returns:
            The answer; a number with a point in it is a decimal.

        Raises:
            NotFound: There is no such object.
            NotExpanded: Something in `expand` is not understood.
            PullError: The key is not accepted, a permission is missing, or Stripe cannot be reached.
        """
        for tried in range(1, MOST_TRIES + 1):
            try:
                answer = self._client.raw_request("get", path, **dict(params))
                found = parsed(answer.body)
            except self._errors.StripeError as error:
                self._explain(error, path)
                if tried == MOST_TRIES:
                    raise self._gave_up(error, path) from None
                self._wait(_seconds(error, tried))
                continue
            except ValueError:
                if tried == MOST_TRIES:
                    raise PullError(
                        f"Stripe's answer to {path} is no JSON.", "Pull again in a while."
                    ) from None
                self._wait(_seconds(None, tried))
                continue
            if kept_as and self._pages is not None:
                self._keep(kept_as, path, params, answer)
            assert isinstance(found, dict)
            return found
        raise AssertionError("unreachable")

    def _explain(self, error: Any, path: str) -> None:
        """Raise errors that a retry would not solve."""
        stripe = self._errors
        said = without_key(str(getattr(error, "user_message", None) or error))
        if isinstance(error, stripe.AuthenticationError):
            raise PullError(
                f"Stripe does not accept the key in {KEY_VARIABLE} (401): it is wrong, expired or"
                " was revoked.",
                f"Set {KEY_VARIABLE} to a restricted key that may read, then pull again; the pull"
                " goes on where it was.",
            ) from None
        if isinstance(error, stripe.PermissionError):
            raise PullError(
                f"The key in {KEY_VARIABLE} may not read {path} (403): {said}",
                "Give the key the read permissions listed in docs/stripe.md, then pull again; the"
                " pull goes on where it was.",
            ) from None
        status = getattr(error, "http_status", None)
        if status == 404 or getattr(error, "code", None) == "resource_missing":
            raise NotFound(f"Stripe has no {path} (404): {said}") from None
        if isinstance(error, stripe.InvalidRequestError):
            if "expand" in said.lower() or "expand" in str(getattr(error, "param", "") or ""):
                raise NotExpanded(f"Stripe does not expand as asked at {path}: {said}") from None
            raise PullError(
                f"Stripe refuses the request {path} ({status}): {said}",
                "This is an error of Coupon Ledger or a change in Stripe's API; report it.",
            ) from None
        cause = error.__cause__
        if cause is not None and type(cause).__name__ == "SSLError":
            raise PullError(
                f"The connection to Stripe is not secure: {without_key(str(cause))}",
                "Check the certificates of this machine and of any proxy.",
            ) from None

    def _gave_up(self, error: Any, path: str) -> PullError:
        status = getattr(error, "http_status", None)
        if status == 429:
            said = f"Stripe allows no more requests for now (429), at {path}."
        elif status:
            said = f"Stripe answered {path} with an error ({status})."
        elif type(error.__cause__).__name__ == "ProxyError":
            said = f"Stripe cannot be reached, at {path}: the proxy that HTTPS_PROXY names refused."
        else:
            said = f"Stripe cannot be reached, at {path}: the connection broke or was refused."
        return PullError(
            f"{said} {MOST_TRIES} tries were made.",
            "Pull again in a while; the pull goes on where it was.",
        )

    def _keep(self, name: str, path: str, params: Mapping[str, Any], answer: Any) -> None:
        assert self._pages is not None
        place = self._pages / f"{name}.json.gz"
        content = {
            "api_version": API_VERSION,
            "answered_with": str(answer.headers.get("stripe-version") or ""),
            "request_id": str(answer.headers.get("request-id") or ""),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "path": path,
            "query": dict(params),
            "body": answer.body,
        }
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            written = place.with_suffix(".part")
            written.write_bytes(gzip.compress(json.dumps(content).encode(), 6))
            written.replace(place)
        except OSError as error:
            raise PullError(
                f"{place} cannot be written ({error.strerror}).",
                "Make room in the data home, then pull again; the pull goes on where it was.",
            ) from error


def without_key(text: str) -> str:
    """Return a text on one line, without the key and anything that looks like a key."""
    if key := os.environ.get(KEY_VARIABLE, "").strip():
        text = text.replace(key, "…")
    return _KEY.sub("…", " ".join(text.split()))


def _key() -> str:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise SetUpWrong(
            f"There is no key for Stripe: {KEY_VARIABLE} is not set.",
            "Make a restricted key with the read permissions listed in docs/stripe.md and set"
            f" {KEY_VARIABLE} to it.",
        )
    if key.startswith("pk_"):
        raise SetUpWrong(
            f"{KEY_VARIABLE} holds a publishable key, which may read nothing.",
            "Make a restricted key with the read permissions listed in docs/stripe.md.",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SetUpWrong(f"{KEY_VARIABLE} holds no key: it has characters that no key has.")
    return key


def _addresses() -> Any:
    base = os.environ.get(BASE_VARIABLE, "").strip().rstrip("/")
    if not base:
        return {}
    parts = urlsplit(base)
    is_local = parts.scheme == "http" and is_this_machine(parts.hostname or "")
    if parts.scheme != "https" and not is_local:
        raise SetUpWrong(
            f"{BASE_VARIABLE} is {base}: the key is sent there, so it must begin with https://, or"
            " name this machine."
        )
    return {"api": base}


def _seconds(error: Any, tried: int) -> float:
    """Return how long to wait: as Stripe asks, else longer each time, at random to spread requests."""
    headers = getattr(error, "headers", None) or {}
    said = {str(name).lower(): value for name, value in headers.items()}.get("retry-after")
    try:
        return min(max(float(str(said)), 0.0), LONGEST_WAIT)
    except ValueError:
        longest = min(0.5 * float(2**tried), LONGEST_WAIT)
        return longest * (0.5 + random.random() / 2)  # noqa: S311 (no secret)
