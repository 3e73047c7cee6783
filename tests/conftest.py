"""Fixtures for every folder of tests."""

import os

from tests.browser import page
from tests.shared import compiled_folder, shared

__all__ = ["compiled_folder", "page", "shared"]


def pytest_configure() -> None:
    """Take away the settings of this machine: no test depends on them."""
    for name in [name for name in os.environ if name.upper().startswith("COUPON_LEDGER_")]:
        del os.environ[name]
