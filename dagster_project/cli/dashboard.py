"""`dashboard` and `report`: the release as pages in a browser, and as one file that stays with its month."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from dagster_project.cli.options import HomeOption, complain, explained, settings_of_home


def dashboard(
    home: HomeOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port of the web server.")] = 8501,
) -> None:
    """Serve the release as pages on 127.0.0.1."""
    from importlib.util import find_spec

    from dagster_project.cli.service import must_be_free
    from dagster_project.releases.data_home import check_layout

    settings = settings_of_home(home)
    if find_spec("streamlit") is None:
        complain(
            "The dashboard needs Streamlit: `pip install 'coupon-ledger[dashboard]'`, or in a"
            " checkout `make install-dashboard`."
        )
        raise typer.Exit(1)
    with explained():
        check_layout(settings.home)
    must_be_free(port)
    print(f"Dashboard: http://127.0.0.1:{port} (Ctrl-C ends it)")
    sys.stdout.flush()
    environment = {
        **os.environ,
        "COUPON_LEDGER_HOME": str(settings.home),
        "PYTHONWARNINGS": "ignore",
    }
    arguments = [sys.executable, "-m", "dagster_project.dashboard.serve", str(port)]
    os.execve(arguments[0], arguments, environment)  # noqa: S606 (what we start is ourselves)
