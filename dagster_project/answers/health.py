"""Whether a data home is in good order, for monitors: its release, last run, disk and daemon.

Reading state and comparing it with limits belongs here; nothing is changed. Alerts share the definition
of a disk that is nearly full.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dagster_project.releases import data_home, files
from dagster_project.releases.errors import ReleaseError
from dagster_project.settings import Settings

DAEMON_SECONDS = 300
"""How old the last heartbeat of Dagster's daemon may be; the daemon sends one every thirty seconds."""


def health(
    settings: Settings,
    now: datetime,
    *,
    max_age_hours: float | None = None,
    is_daemon_expected: bool | None = None,
) -> dict[str, Any]:
    """Check a data home and report what needs attention.

    Args:
        settings: The data home and the limits of age and disk.
        now: The current time in UTC.
        max_age_hours: How long ago the newest good refresh may be; `fresh_within_hours` unless given.
        is_daemon_expected: Whether Dagster's daemon must be alive; unless given, it must if the
            data home has Dagster's storage.

    Returns:
        `is_healthy`, `home`, `checked_at`; `release`, `last_run`, `disk` and `daemon`, each with what
        was found and `is_ok`; `problems`, each with `about`, `problem` and `remedy`.
    """
    limit = settings.fresh_within_hours if max_age_hours is None else max_age_hours
    run = _last_run(settings.home, now)
    found = {
        "release": _release(settings.home, run, now, limit),
        "last_run": run,
        "disk": disk(settings),
        "daemon": _daemon(settings, now, is_daemon_expected),
    }
    problems = [
        {"about": about, "problem": one.pop("problem"), "remedy": one.pop("remedy")}
        for about, one in found.items()
        if "problem" in one
    ]
    return {
        "is_healthy": not problems,
        "home": str(settings.home),
        "checked_at": now.astimezone(UTC).isoformat(timespec="seconds"),
        **found,
        "problems": problems,
    }


def _release(home: Path, run: dict[str, Any], now: datetime, limit: float) -> dict[str, Any]:
    """Check the current release: the newest good refresh made it, or confirmed its content."""
    from dagster_project.releases.read import read_pedigree

    found: dict[str, Any] = {
        "is_ok": False,
        **dict.fromkeys(("release_id", "as_of_date", "created_at", "confirmed_at", "age_hours")),
        "max_age_hours": limit,
    }
    try:
        data_home.check_layout(home)
        current = files.current_release(home)
        if current is None:
            remedy = "`coupon-ledger run` publishes one."
            return {**found, "problem": "No release has been published.", "remedy": remedy}
        pedigree = read_pedigree(home, current)
    except ReleaseError as error:
        return {**found, "problem": error.message, "remedy": error.remedy}
    created = pedigree["created_at"].replace(tzinfo=UTC)
    good = [created, *([datetime.fromisoformat(run["at"])] if run["is_success"] else [])]
    hours = round((now - max(good)) / timedelta(hours=1), 2)
    found |= {
        "is_ok": hours <= limit,
        "release_id": current,
        "as_of_date": pedigree["as_of_date"].isoformat(),
        "created_at": created.isoformat(timespec="seconds"),
        "confirmed_at": max(good).isoformat(timespec="seconds"),
        "age_hours": hours,
    }
    if found["is_ok"]:
        return found
    return {
        **found,
        "problem": f"The newest good refresh was {hours:,.1f} hours ago; {limit:g} are allowed.",
        "remedy": "Find out why no refresh has succeeded since (`coupon-ledger alerts`), or refresh"
        " now: `coupon-ledger run`.",
    }


def _last_run(home: Path, now: datetime) -> dict[str, Any]:
    run = data_home.last_run(home)
    if run is None:
        names = ("run_id", "at", "hours_ago", "as_of_date", "is_success", "failure")
        path = data_home.last_run_path(home)
        if path.exists():
            return {
                "is_ok": False,
                **dict.fromkeys(names),
                "problem": f"{path} does not say how the last run ended.",
                "remedy": "Remove it; the next run writes it.",
            }
        return {"is_ok": True, **dict.fromkeys(names)}
    found = {
        "is_ok": bool(run["is_success"]),
        "run_id": run["run_id"],
        "at": run["at"].isoformat(timespec="seconds"),
        "hours_ago": round((now - run["at"]) / timedelta(hours=1), 2),
        "as_of_date": run["as_of_date"],
        "is_success": bool(run["is_success"]),
        "failure": run["failure"],
    }
    if found["is_ok"]:
        return found
    return {
        **found,
        "problem": f"The last run failed: {run['failure']}",
        "remedy": f"Its log is {home / 'logs' / str(run['run_id'])}.log; correct what it names and"
        " run again.",
    }


def disk(settings: Settings) -> dict[str, Any]:
    """Compare the free space of the data home's disk with the least required.

    Args:
        settings: The data home, which need not exist yet, and the limits.

    Returns:
        `is_ok`, `free_bytes`, `free_percent`, the limits `min_free_gb` and `min_free_percent`; and
        `problem` and `remedy` if there is too little.
    """
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    percent = 100 * usage.free / usage.total
    is_ok = usage.free >= settings.disk_free_gb * 10**9 and percent >= settings.disk_free_percent
    found = {
        "is_ok": is_ok,
        "free_bytes": usage.free,
        "free_percent": round(percent, 1),
        "min_free_gb": settings.disk_free_gb,
        "min_free_percent": settings.disk_free_percent,
    }
    if is_ok:
        return found
    return {
        **found,
        "problem": f"The disk is nearly full: {usage.free / 10**9:,.1f} GB, {percent:.1f} percent, are"
        f" free; the least required is {settings.disk_free_gb:g} GB and"
        f" {settings.disk_free_percent:g} percent.",
        "remedy": "`coupon-ledger prune --keep 10` removes old releases.",
    }


def _daemon(settings: Settings, now: datetime, is_expected: bool | None) -> dict[str, Any]:
    """Check the heartbeats of Dagster's daemon in its storage."""
    storage = Path(os.environ.get("DAGSTER_HOME") or settings.dagster_home)
    is_set_up = (storage / "dagster.yaml").is_file()
    found: dict[str, Any] = {
        "is_ok": True,
        "is_expected": is_set_up if is_expected is None else is_expected,
        "is_set_up": is_set_up,
        "last_seen_at": None,
        "silent": [],
        "max_silence_seconds": DAEMON_SECONDS,
    }
    if not found["is_expected"]:
        return found
    remedy = "Start it: `coupon-ledger dev`, or `systemctl restart coupon-ledger@daemon`."
    if not is_set_up:
        problem = f"Dagster has no storage in {storage}, so no daemon has ever run."
        return {**found, "is_ok": False, "problem": problem, "remedy": remedy}
    try:
        seen = _signs_of_life(storage)
    except Exception as error:  # noqa: BLE001 (whatever a database raises must reach the monitor)
        problem = f"Dagster's storage {storage} cannot be read ({type(error).__name__})."
        remedy = f"Correct {storage / 'dagster.yaml'}, and set the variables that it names."
        return {**found, "is_ok": False, "problem": problem, "remedy": remedy}
    earliest = now.timestamp() - DAEMON_SECONDS
    found["silent"] = sorted(name for name, at in seen.items() if at is None or at < earliest)
    newest = max((at for at in seen.values() if at is not None), default=None)
    if newest is not None:
        found["last_seen_at"] = datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds")
    if not found["silent"]:
        return found
    ever = f"last seen {found['last_seen_at']}" if newest is not None else "never seen"
    problem = f"Dagster's daemon is not running ({ever})."
    return {**found, "is_ok": False, "problem": problem, "remedy": remedy}


def _signs_of_life(storage: Path) -> dict[str, float | None]:
    """Return the time of the last heartbeat of each part of the daemon, None if it never sent one."""
    import warnings

    import dagster as dg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings for programmers mean nothing to a monitor
        with dg.DagsterInstance.from_config(str(storage)) as instance:
            seen = instance.get_daemon_heartbeats()
            return {
                name: seen[name].timestamp if name in seen else None
                for name in instance.get_required_daemon_types()
            }
