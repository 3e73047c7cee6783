"""The dashboard behind the guard, as a process: `python -m dagster_project.dashboard.serve PORT`.

Streamlit's application is served by uvicorn on 127.0.0.1 and nowhere else: there is no log-in.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.dashboard.charts import ACCENT, INK
from dagster_project.settings import Settings
from dagster_project.web.guard import Guard, served_origins

if TYPE_CHECKING:
    from starlette.types import ASGIApp

HOST = "127.0.0.1"
"""The dashboard has no log-in, so it is not offered to other machines."""
_LAST_WORDS_SECONDS = 3
_STREAMLIT = {
    "browser_gatherUsageStats": False,
    "client_disableDataExport": True,  # tables are saved with every place of their amounts
    "client_showErrorDetails": "none",  # a trace has values of rows
    "client_showErrorLinks": False,
    "client_toolbarMode": "minimal",
    "global_developmentMode": False,
    "logger_level": "warning",
    "server_address": HOST,
    "server_enableAgentApi": False,
    "server_fileWatcherType": "none",
    "server_headless": True,
    "server_showEmailPrompt": False,
    "theme_base": "light",
    "theme_primaryColor": ACCENT,
    "theme_textColor": INK,
}
"""Settings of Streamlit, as its command line names them; it takes none of them from the environment."""


def guarded(app: ASGIApp, port: int, settings: Settings) -> Guard:
    """Return the dashboard as it is served: to its own pages only.

    Args:
        app: Streamlit's application.
        port: The port the server listens on.
        settings: They name further addresses under which the pages are opened.
    """
    return Guard(app, served_origins(port, settings.web_addresses))


def serve(port: int, settings: Settings) -> None:
    """Serve the pages until a signal ends the process.

    Args:
        port: The port to listen on.
        settings: The data home, and further addresses under which the pages are opened.
    """
    import uvicorn
    from streamlit.starlette import App
    from streamlit.web.bootstrap import load_config_options

    from dagster_project.dashboard import pages

    load_config_options({**_STREAMLIT, "server_port": port})
    assert pages.PAGES  # imported here, so that the first page does not wait for it
    app = App(Path(__file__).with_name("app.py"))
    uvicorn.run(
        guarded(app, port, settings),
        host=HOST,
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=_LAST_WORDS_SECONDS,
    )


if __name__ == "__main__":
    serve(int(sys.argv[1]), Settings())
