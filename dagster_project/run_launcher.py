"""A launcher for Dagster's runs that also notices which of them have died silently.

Dagster's own launcher leaves it to its code server to notice that a run's process is gone. After a
power failure there is no such server: the run would count as running, and with one run at a time no
other run would ever start. So each run holds an operating-system lock until its process ends, and
Dagster's run monitoring asks this launcher whether it still does.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from dagster import DagsterRun
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from filelock import FileLock, Timeout

from dagster_project.home import writing
from dagster_project.settings import Settings

GRACE_SECONDS = 60
"""How long a run may take from its first event until it holds its lock."""
PROCESS_GONE = "its process is gone"
_KEPT_SECONDS = 24 * 3600  # a lock just created and not held yet must not be removed

_held: dict[Path, FileLock] = {}


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher, with an answer to whether a run's process is alive."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes: checking workers is what this launcher is for."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Check whether the process of a run that counts as running still exists."""
        home = _home_of(run)
        # Checked first: a run that takes its lock during this check is not dead.
        has_begun = _lock_path(home, run.run_id).exists()
        if is_alive(home, run.run_id):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        began = self._instance.get_run_stats(run.run_id).start_time
        if not has_begun and (began is None or time.time() - began < GRACE_SECONDS):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, PROCESS_GONE)


def _home_of(run: DagsterRun) -> Path:
    resources: Any = run.run_config.get("resources", {})
    config = resources.get("refresh", {}).get("config", {})
    return Path(config["home"]) if "home" in config else Settings().home


def show_alive(home: Path, run_id: str) -> None:
    """Hold the lock of a run until this process ends, and remove the locks of dead runs.

    Args:
        home: The data home.
        run_id: The run.
    """
    path = _lock_path(home, run_id)
    with writing(home):
        path.parent.mkdir(parents=True, exist_ok=True)
    for other in path.parent.glob("*.lock"):
        is_old = time.time() - other.stat().st_mtime > _KEPT_SECONDS
        if is_old and not is_alive(home, other.stem):
            other.unlink(missing_ok=True)
    # Held before it gets its name: a lock that exists under its name and is not held is a dead run's.
    unnamed = path.with_suffix(".new")
    lock = FileLock(unnamed)
    lock.acquire(timeout=0)
    unnamed.replace(path)
    _held[path] = lock


def is_alive(home: Path, run_id: str) -> bool:
    """Return whether the process of a run exists.

    Args:
        home: The data home.
        run_id: The run.
    """
    path = _lock_path(home, run_id)
    if path in _held:
        return True
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _lock_path(home: Path, run_id: str) -> Path:
    return home / "build" / "runs" / f"{run_id}.lock"
