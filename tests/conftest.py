"""Fixtures for every folder of tests."""

import functools
import gc
import os
import re
import shutil
import tempfile
from pathlib import Path

import hypothesis
import pytest
import typer.testing

from tests.browser import browser_arguments, browser_context, page
from tests.shared import compiled_folder, shared

__all__ = ["browser_arguments", "browser_context", "compiled_folder", "page", "shared"]

MEMORY = Path("/dev/shm")
"""A folder in memory, on Linux."""
WRITTEN = 3 * 1024**3
"""Bytes that suffice for all temporary files of the tests at one time."""


def pytest_configure() -> None:
    """Remove this machine's settings, so that no test depends on them, and save time on its disk and processors."""
    for name in [name for name in os.environ if name.upper().startswith("COUPON_LEDGER_")]:
        del os.environ[name]
    if "TMPDIR" not in os.environ and has_room():
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # so that it is looked up again
    # The time of an example says nothing while other tests use the same cores.
    hypothesis.settings.register_profile(
        "tests", deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    hypothesis.settings.load_profile("tests")
    # Libraries leave millions of objects that are never garbage, and each collection would scan them.
    gc.set_threshold(100_000, 20, 20)
    # A runner builds all commands again whenever it invokes one.
    typer.testing._get_command = functools.cache(typer.testing._get_command)  # type: ignore[attr-defined]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that mostly wait for a service, so that others run meanwhile."""
    items.sort(key=lambda item: item.path.name != "test_live.py")


def pytest_collection_finish() -> None:
    """Exclude what has been imported from garbage collection."""
    gc.freeze()


def has_room() -> bool:
    """Whether temporary files fit into memory, with as much again left to the processes.

    On a disk, tests spend a third of their time waiting for it, which is not what they test.
    """
    if not os.access(MEMORY, os.W_OK) or os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:
        return False
    available = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text("utf-8"))
    return (
        available is not None
        and shutil.disk_usage(MEMORY).free >= WRITTEN
        and int(available[1]) * 1024 >= 2 * WRITTEN
    )
