"""The pictures of docs/dashboard.md: `python -m tests.documents.dashboard [HOME]`, or `make screenshots`.

Looks at a running dashboard of the data home in Chromium. The pictures have few colours, to be small.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from PIL import Image

from dagster_project.settings import CHECKOUT, default_home
from tests import browser
from tests.receivers import free_port

PICTURES = (
    ("month", "", 1280, 1160),
    ("trust", "trust", 1280, 1000),
    ("bill", "bill?id=in_00014_022", 1280, 900),
    ("narrow", "?month=2025-06", 400, 900),
)
"""Name of the picture, address of the page, width and height in pixels."""
_COLOURS = 200
_WAIT_SECONDS = 60


def main(home: Path) -> None:
    """Write every picture into docs/."""
    port = free_port()
    command = [sys.executable, "-m", "dagster_project.cli", "dashboard"]
    process = subprocess.Popen([*command, "--home", str(home), "--port", str(port)], cwd=CHECKOUT)
    try:
        _wait_for(port, process)
        for name, address, width, height in PICTURES:
            with (
                tempfile.TemporaryDirectory() as folder,
                browser.opened(Path(folder) / "chromium", width=width, height=height) as page,
            ):
                page.goto(f"http://127.0.0.1:{port}/{address}")
                page.wait_for_selector(".cl-heading")
                page.wait_for_selector("[data-test-script-state=notRunning]")
                page.wait_for_load_state("networkidle")
                raw = Path(folder) / "picture.png"
                page.screenshot(path=raw, animations="disabled")
                target = CHECKOUT / "docs" / f"dashboard_{name}.png"
                with Image.open(raw) as picture:
                    picture.convert("RGB").quantize(_COLOURS).save(target, optimize=True)
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                sys.exit("The dashboard did not start.")
        else:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else default_home())
