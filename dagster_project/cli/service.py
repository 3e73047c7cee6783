"""`dev` and `alerts`: start Dagster; show what needs attention.

Exit codes: 0 success, 1 failure, 2 the request names something that does not exist or makes no sense.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dagster_project.cli.options import (
    HomeOption,
    JsonOption,
    complain,
    explained,
    settings_from,
    settings_of_home,
    wrong,
)
from dagster_project.cli.reading import answer
from dagster_project.home import write_whole

if TYPE_CHECKING:
    from dagster_project.settings import Settings

_KINDS = {
    "run_failed": "the refresh fails",
    "release_refused": "the release is refused",
    "pull_failed": "pulls fail",
    "pull_late": "a pull is late",
    "file_refused": "files are refused",
    "new_findings": "findings of severity error are open",
    "data_late": "data is late",
    "disk_nearly_full": "the disk is nearly full",
    "terms_changed": "terms of coupons have changed",
    "running_out": "promotions run out",
    "month_open": "months are not closed yet",
}


def dev(
    landing: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder with the deliveries. [default: the sample]"),
    ] = None,
    home: HomeOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port of the web server.")] = 3000,
    only: Annotated[
        Literal["web", "daemon"] | None,
        typer.Option(help="Start one of the two, as a service of its own. [default: both]"),
    ] = None,
) -> None:
    """Start Dagster's web server and daemon on 127.0.0.1.

    Dagster's storage is in the data home.
    """
    from dagster_project.home import OWNER_MODE
    from dagster_project.web.dagster_ui import HOST

    settings = settings_from(home, landing)
    if only != "daemon":
        must_be_free(port)
    environment = _prepared(settings)
    print(f"Dagster's storage: {environment['DAGSTER_HOME']}")
    if only != "daemon":
        print(f"Web server: http://{HOST}:{port}")
    sys.stdout.flush()
    os.umask(0o777 & ~OWNER_MODE)  # for Dagster's storage and the logs of its runs
    # This process becomes the one that watches both, so that a signal to it ends them.
    names = only or "web,daemon"
    arguments = [sys.executable, "-m", "dagster_project.cli.processes", names, str(port)]
    os.execve(arguments[0], arguments, environment)  # noqa: S606 (what we start is ourselves)


def must_be_free(port: int, host: str = "127.0.0.1") -> None:
    """Check that a server can listen on a port of this machine.

    Args:
        port: The port.
        host: The address of this machine.

    Raises:
        Exit: It cannot be (2).
    """
    import socket

    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        why = error.strerror or str(error)
        at = "" if host == "127.0.0.1" else f" of {host}"
        wrong(f"Port {port}{at} cannot be used ({why}): name another one with --port.")


def _prepared(settings: Settings) -> dict[str, str]:
    """Set up Dagster's storage and parse the models once for both processes.

    Returns:
        The environment for both.

    Raises:
        Exit: The storage cannot be set up, or the models cannot be parsed (1).
    """
    import warnings

    # Warnings of libraries are for programmers, not for the user who starts a service; parsing starts a process
    # that would print one when `execve` replaces this process.
    warnings.simplefilter("ignore")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    from dagster_project.refresh import dbt_build
    from dagster_project.releases.data_home import check_layout
    from dagster_project.releases.errors import ReleaseError

    with explained():
        if not settings.landing.is_dir():
            wrong(f"There is no landing folder {settings.landing}: name one with --landing.")
    storage = Path(os.environ.get("DAGSTER_HOME") or settings.dagster_home).absolute()
    from dagster_project.home import make_private, writing

    try:
        check_layout(settings.home)
        with writing(settings.home):
            make_private(storage)
            _lay_out(storage)
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}; name another --home.")
        raise typer.Exit(1) from None
    except ReleaseError as error:
        complain(str(error))
        raise typer.Exit(1) from None
    try:
        dbt_build.prepare(settings)
    except (dbt_build.DbtFailed, ReleaseError) as error:
        complain(str(error))
        raise typer.Exit(1) from None
    return {
        **os.environ,
        "DAGSTER_HOME": str(storage),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "COUPON_LEDGER_HOME": str(settings.home),
        "COUPON_LEDGER_LANDING": str(settings.landing),
    }


def _lay_out(storage: Path) -> None:
    """Write the configuration of Dagster's storage if it is missing, and create its databases.

    Web server and daemon would both do so, and both at once would damage the databases.
    """
    import dagster as dg
    from filelock import FileLock

    with FileLock(storage / ".layout.lock"):
        path = storage / "dagster.yaml"
        if not path.exists():
            write_whole(path, Path(__file__).with_name("dagster.yaml").read_text("utf-8"))
        with dg.DagsterInstance.from_config(str(storage)):
            pass


def alerts(
    home: HomeOption = None,
    test: Annotated[
        bool, typer.Option("--test", help="Send a test through every channel that is set.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many of the last alerts to list.")] = 20,
    json: JsonOption = False,
) -> None:
    """Show what needs attention now, and the last alerts sent."""
    from dagster_project.alerts.overview import overview

    settings = settings_of_home(home)
    if test:
        raise typer.Exit(0 if _test(settings) else 1)
    with explained():
        data = overview(settings, limit)
    answer(data, tell_alerts, json)


def tell_alerts(data: dict[str, Any]) -> str:
    """Lay out what is going on and the last alerts as text."""
    from dagster_project.alerts.wording import moment
    from dagster_project.failures import plain

    lines = ["Alerts go to"]
    lines += [f"  {channel:<8} {where}" for channel, where in data["channels"].items()]
    lines += [f"  {number:,} wait for {channel}" for channel, number in data["waiting"].items()]
    lines += ["", "Ongoing" if data["going_on"] else "Ongoing: nothing"]
    for one in data["going_on"]:
        since = moment(datetime.fromisoformat(one["since"]))
        times = f", seen {one['times']:,} times" if one["times"] > 1 else ""
        lines.append(f"  {_KINDS.get(one['kind'], one['kind'])}, since {since}{times}")
    lines += ["", "Last alerts" if data["last"] else "Last alerts: none"]
    for one in data["last"]:
        at = moment(datetime.fromisoformat(one["at"]))
        outcomes = ", ".join(f"{name} {status}" for name, status in one["outcomes"].items())
        lines.append(f"  {at}  {one['status']:<8}  {plain(one['happened'])}")
        lines += [f"      {plain(detail)}" for detail in one["details"]]
        if one["status"] not in ("resolved", "test", "folded"):
            lines += [f"      {plain(one['meaning'])}", f"      {one['command']}"]
        if outcomes:
            lines.append(f"      {outcomes}")
    return "\n".join(lines)


def _test(settings: Settings) -> bool:
    """Send a test alert and print the outcome of each channel."""
    from dagster_project.alerts import occasions
    from dagster_project.alerts.send import log_path

    try:
        sent = occasions.test(settings, datetime.now(UTC))
    except OSError as error:
        complain(f"{log_path(settings.home)} cannot be written: {error.strerror}")
        return False
    print(f"log      ok       {log_path(settings.home)}")
    for channel, outcome in sent.outcome.items():
        print(f"{channel:<8} {'ok' if outcome == 'ok' else 'FAILED'}")
        if outcome != "ok":
            complain(f"  {outcome}")
    if not sent.outcome:
        print("No other channel is set: COUPON_LEDGER_ALERT_WEBHOOK_URL, or")
        print("COUPON_LEDGER_ALERT_SMTP_HOST with COUPON_LEDGER_ALERT_EMAIL_FROM and …_EMAIL_TO")
    return all(outcome == "ok" for outcome in sent.outcome.values())
