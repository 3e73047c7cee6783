"""A real browser for tests: Debian's Chromium, driven by Playwright, with a profile of its own.

The fixture `page`, a page of the one browser of a module, and what tests need of a browser in general belong
here. Install Chromium with `apt-get install chromium`; without it, the tests are skipped with that message,
and in CI they fail.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

PROGRAM = "chromium"
_ARGUMENTS = [
    "--no-sandbox",  # tests may run as root in a container
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def chromium() -> str:
    """The path of Chromium; without it, the test is skipped, and in CI it fails."""
    path = shutil.which(PROGRAM)
    if path is None:
        told = "There is no Chromium: apt-get install chromium."
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)
    return path


@contextlib.contextmanager
def opened(profile: Path, *arguments: str, width: int = 1280, height: int = 800) -> Iterator[Page]:
    """A page of a browser that nobody has used before.

    Args:
        profile: An empty folder for the browser's profile.
        arguments: Further arguments of Chromium.
        width: Width of the window, in pixels.
        height: Height of the window, in pixels.
    """
    program = chromium()
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=program,
            headless=True,
            args=[*_ARGUMENTS, *arguments],
            viewport={"width": width, "height": height},
        )
        try:
            yield context.pages[0]
        finally:
            context.close()


@pytest.fixture(scope="module")
def browser_arguments() -> Sequence[str]:
    """Further arguments of a module's Chromium."""
    return ()


@pytest.fixture(scope="module")
def browser_context(
    tmp_path_factory: pytest.TempPathFactory, browser_arguments: Sequence[str]
) -> Iterator[BrowserContext]:
    """One Chromium for all tests of a module."""
    with opened(tmp_path_factory.mktemp("chromium"), *browser_arguments) as first_page:
        yield first_page.context


@pytest.fixture
def page(browser_context: BrowserContext) -> Iterator[Page]:
    """A page without cookies, as for a first visit."""
    browser_context.clear_cookies()
    opened_page = browser_context.new_page()
    yield opened_page
    opened_page.close()
