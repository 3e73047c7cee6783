"""The dashboard behind the guard, as a process: `python -m dagster_project.dashboard.serve PORT [HOST]`.

Streamlit's application is served by uvicorn, on 127.0.0.1 and nowhere else unless there is a log-in.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.dashboard.charts import ACCENT, INK
from dagster_project.dashboard.login import LeadsBack, Login, must_be_configured, read
from dagster_project.settings import Settings
from dagster_project.web.guard import Guard, served_origins

if TYPE_CHECKING:
    from starlette.types import ASGIApp

HOST = "127.0.0.1"
"""The address to listen on by default; an address that other machines reach needs a log-in."""
_LAST_WORDS_SECONDS = 3
_STREAMLIT = {
    "browser_gatherUsageStats": False,
    "client_disableDataExport": True,  # our own buttons save amounts with all decimals
    "client_showErrorDetails": "none",  # a traceback has values of rows
    "client_showErrorLinks": False,
    "client_toolbarMode": "minimal",
    "global_developmentMode": False,
    "logger_level": "warning",
    "server_enableAgentApi": False,
    "server_fileWatcherType": "none",
    "server_headless": True,
    "server_showEmailPrompt": False,
    "theme_base": "light",
    "theme_primaryColor": ACCENT,
    "theme_textColor": INK,
}
"""Settings of Streamlit, as its command line names them; these override the environment."""


def guarded(app: ASGIApp, port: int, settings: Settings, login: Login | None = None) -> Guard:
    """Return the dashboard behind the guard, which serves only the dashboard's own pages.

    Args:
        app: Streamlit's application.
        port: The port the server listens on.
        settings: Have further addresses under which the pages are opened.
        login: The log-in, if there is one; its address is one more.
    """
    addresses = [*settings.web_addresses, *([login.origin] if login else [])]
    return Guard(LeadsBack(app) if login else app, served_origins(port, addresses))


def serve(port: int, settings: Settings, host: str = HOST) -> None:
    """Serve the pages until a signal ends the process.

    Args:
        port: The port to listen on.
        settings: The data home, the log-in, and further addresses under which the pages are opened.
        host: The address to listen on.

    Raises:
        WrongLogin: The log-in is not configured correctly, or other machines would be served without
            one.
    """
    import uvicorn
    from streamlit.starlette import App
    from streamlit.web.bootstrap import load_config_options

    from dagster_project.dashboard import pages

    login = read(settings.login_file) if settings.login_file else None
    must_be_configured(host, login)
    # Streamlit would read this user's secrets of other applications.
    options = {**_STREAMLIT, "server_port": port, "server_address": host, "secrets_files": []}
    load_config_options(options)
    assert pages.PAGES  # imported here, so the first page does not wait for it
    # Altair uses pandas as soon as its import has begun, and Streamlit imports it while it draws: two pages at
    # once could meet a half-imported pandas.
    import_module("pandas")
    if login:
        with warnings.catch_warnings(record=True):  # authlib's are for its programmers
            import_module("authlib.integrations.starlette_client")  # so no log-in waits for it
    app = App(
        Path(__file__).with_name("app.py"), secrets={"auth": dict(login.auth)} if login else None
    )
    uvicorn.run(
        guarded(app, port, settings, login),
        host=host,
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=_LAST_WORDS_SECONDS,
    )


if __name__ == "__main__":
    serve(int(sys.argv[1]), Settings(), *sys.argv[2:3])
