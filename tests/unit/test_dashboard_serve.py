"""The dashboard's server, up to the moment at which it listens."""

from __future__ import annotations

import subprocess
import sys

_SERVED = """
import sys
import uvicorn
from dagster_project.dashboard.serve import serve
from dagster_project.settings import Settings
uvicorn.run = lambda *_, **__: print("pandas" in sys.modules)
serve(1, Settings())
"""


def test_pandas_is_whole_before_two_pages_can_be_drawn_at_once() -> None:
    told = subprocess.run(
        [sys.executable, "-c", _SERVED], check=True, capture_output=True, text=True
    )
    assert told.stdout == "True\n"
