"""`health` says whether a data home is in good order, for people and for monitors.

Exit codes: 0 in good order, 1 something needs attention, 2 there is no data home.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from dagster_project.cli.options import HomeOption, JsonOption, print_styled, settings_of_home


def health(
    home: HomeOption = None,
    max_age_hours: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="N",
            help="How long ago the newest good refresh may be."
            " [default: COUPON_LEDGER_FRESH_WITHIN_HOURS, 36]",
        ),
    ] = None,
    min_free_gb: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Least free space of the disk. [default: COUPON_LEDGER_DISK_FREE_GB, 5]",
        ),
    ] = None,
    daemon: Annotated[
        bool | None,
        typer.Option(
            "--daemon/--no-daemon",
            help="Whether Dagster's daemon must be alive. [default: where `dev` was started once]",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check release, last run, disk and daemon, for monitors.

    The exit code is 1 if one of them needs attention.
    """
    from dagster_project.answers.health import health as look

    settings = settings_of_home(home)
    if min_free_gb is not None:
        settings = settings.model_copy(update={"disk_free_gb": min_free_gb})
    found = look(
        settings, datetime.now(UTC), max_age_hours=max_age_hours, is_daemon_expected=daemon
    )
    if json:
        from dagster_project.answers.as_json import as_json

        print(as_json(found))
    else:
        _print(found)
    raise typer.Exit(0 if found["is_healthy"] else 1)


def _print(found: dict[str, Any]) -> None:
    lines = {
        "release": _release(found["release"]),
        "last_run": _last_run(found["last_run"]),
        "disk": _disk(found["disk"]),
        "daemon": _daemon(found["daemon"]),
    }
    problems = {one["about"]: one for one in found["problems"]}
    for about, line in lines.items():
        problem = problems.get(about)
        name = about.replace("_", " ")
        if problem is None:
            print(f"{name:<9} ok      {line}")
        else:
            print_styled(f"{name:<9} FAILED  {problem['problem']}", "red", sys.stdout)
            print(f"{'':<17} {problem['remedy']}")


def _release(found: dict[str, Any]) -> str:
    return (
        f"{found['release_id']} as of {found['as_of_date']}, confirmed"
        f" {found['age_hours'] or 0:,.1f} hours ago; {found['max_age_hours']:g} are allowed"
    )


def _last_run(found: dict[str, Any]) -> str:
    if found["run_id"] is None:
        return "no run is recorded"
    return f"succeeded {found['hours_ago']:,.1f} hours ago, as of {found['as_of_date']}"


def _disk(found: dict[str, Any]) -> str:
    return f"{found['free_bytes'] / 10**9:,.1f} GB, {found['free_percent']:g} percent, are free"


def _daemon(found: dict[str, Any]) -> str:
    if not found["is_expected"]:
        return "not expected" if found["is_set_up"] else "not expected: `dev` was never started"
    return f"last seen {found['last_seen_at']}"
