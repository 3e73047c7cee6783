"""`dashboard` and `report`: the release as pages in a browser, and as one HTML file to keep."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dagster_project.answers.values import clean
from dagster_project.cli.options import (
    HomeOption,
    ReleaseOption,
    complain,
    explained,
    settings_of_home,
    wrong,
)
from dagster_project.home import write_whole


def dashboard(
    home: HomeOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port of the web server.")] = 8501,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="The address to listen on; any but this machine's needs a log-in.",
        ),
    ] = "127.0.0.1",
) -> None:
    """Serve the release as pages on 127.0.0.1."""
    from importlib.util import find_spec

    from dagster_project.cli.service import must_be_free
    from dagster_project.dashboard.login import WrongLogin, must_be_configured, read
    from dagster_project.releases.data_home import check_layout

    settings = settings_of_home(home)
    if find_spec("streamlit") is None:
        complain(
            "The dashboard needs Streamlit: `pip install 'coupon-ledger[dashboard]'`, or in a"
            " checkout `make install-dashboard`."
        )
        raise typer.Exit(1)
    try:
        login = read(settings.login_file) if settings.login_file else None
        must_be_configured(host, login)
    except WrongLogin as error:
        wrong(str(error))
    with explained():
        check_layout(settings.home)
    must_be_free(port, host)
    print(f"Dashboard: {login.origin if login else f'http://{host}:{port}'} (Ctrl-C ends it)")
    sys.stdout.flush()
    environment = {
        **os.environ,
        "COUPON_LEDGER_HOME": str(settings.home),
        "PYTHONWARNINGS": "ignore",
    }
    arguments = [sys.executable, "-m", "dagster_project.dashboard.serve", str(port), host]
    os.execve(arguments[0], arguments, environment)  # noqa: S606 (what we start is ourselves)


def report(
    month: Annotated[
        str | None,
        typer.Option(
            "--month", metavar="YYYY-MM", help="The month. [default: the last with bills]"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The file to write. [default: report-RELEASE.html]"),
    ] = None,
    home: HomeOption = None,
    release: ReleaseOption = None,
) -> None:
    """Write the release as one HTML file to read, send or print."""
    from dagster_project.answers.asking import facts
    from dagster_project.cli.reading import opened, question_asked
    from dagster_project.dashboard import report as of_release

    with opened(home, release) as connection:
        text = of_release.report(
            connection, month, home=settings_of_home(home).home, question=question_asked()
        )
        release_id = facts(connection)["release_id"]
    target = out or Path(f"report-{release_id}.html")
    try:
        write_whole(target, text)
    except OSError as error:
        wrong(f"{target} cannot be written: {error.strerror}; name another file with --out.")
    print(f"{clean(target)}: release {release_id}, {len(text.encode()) / 1e6:,.1f} MB")
