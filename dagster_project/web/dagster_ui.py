"""Dagster's web server behind the guard, as a process: `python -m dagster_project.web.dagster_ui PORT`.

This does what dagster-webserver's own command does, but guards the application before serving it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dagster_project.settings import Settings
from dagster_project.web.guard import Guard, served_origins

if TYPE_CHECKING:
    from starlette.types import ASGIApp

HOST = "127.0.0.1"
"""Dagster's web server has no log-in, so it is not offered to other machines."""
DEFINITIONS = "dagster_project.definitions"
_GRAPHQL = "/graphql"
_LAST_WORDS_SECONDS = 3  # for answers under way when the server is asked to stop
_STATEMENT_MILLISECONDS, _POOL_RECYCLE_SECONDS, _POOL_OVERFLOW = 15_000, 3_600, 20  # Dagster's


def guarded(app: ASGIApp, port: int, settings: Settings) -> Guard:
    """Return Dagster's application, answering its own pages only.

    Args:
        app: The application of dagster-webserver.
        port: The port the server listens on.
        settings: Their `web_addresses` are further addresses under which the pages are opened.
    """
    return Guard(app, served_origins(port, settings.web_addresses), posted_only=(_GRAPHQL,))


def serve(port: int, settings: Settings) -> None:
    """Serve Dagster's pages until a signal ends the process.

    Args:
        port: The port to listen on.
        settings: Their `web_addresses` are further addresses under which the pages are opened.
    """
    import uvicorn
    from dagster import DagsterInstance
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import ModuleTarget
    from dagster._utils.interrupts import setup_interrupt_handlers
    from dagster._utils.log import configure_loggers
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.version import __version__

    configure_loggers()
    setup_interrupt_handlers()  # so SIGTERM, too, ends the code server
    target = ModuleTarget(
        module_name=DEFINITIONS, attribute=None, working_directory=None, location_name=None
    )
    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(
            _STATEMENT_MILLISECONDS, _POOL_RECYCLE_SECONDS, _POOL_OVERFLOW
        )
        with WorkspaceProcessContext(
            instance, workspace_load_target=target, version=__version__
        ) as context:
            app = create_app_from_workspace_process_context(context, live_data_poll_rate=2000)
            uvicorn.run(
                guarded(app, port, settings),
                host=HOST,
                port=port,
                log_level="warning",
                timeout_graceful_shutdown=_LAST_WORDS_SECONDS,
            )


if __name__ == "__main__":
    serve(int(sys.argv[1]), Settings())
