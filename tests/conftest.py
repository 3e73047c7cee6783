"""Fixtures for every folder of tests."""

import os

from tests.browser import page

__all__ = ["page"]


def pytest_configure() -> None:
    """Take away the settings of this machine: no test depends on them."""
    for name in [name for name in os.environ if name.upper().startswith("COUPON_LEDGER_")]:
        del os.environ[name]
