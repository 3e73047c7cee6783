"""Whether a refresh would find everything as the last one left it and have nothing to do.

What a release rests on belongs here, found from names and file status alone, without reading a delivery:
the landing folder, the archive, the code, the day, the settings that matter, the reviewed findings, the
register of closes, and the current release itself. Nothing heavy is imported: the answer takes a moment.

A file that changes twice within one tick of its disk's clock keeps its status (size, times, inode), so
a state is remembered only if nothing in it is that young.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path

from dagster_project.arrival.archive import Archive
from dagster_project.arrival.landing import left_alone
from dagster_project.digests import sha256_of
from dagster_project.feeds import feeds
from dagster_project.home import write_whole
from dagster_project.product import CODE, DBT_PROJECT
from dagster_project.refresh.dbt_build import project_fingerprint
from dagster_project.releases import files
from dagster_project.releases.errors import ReleaseError
from dagster_project.settings import Settings

_PACKAGES = ("duckdb", "great-expectations", "pandas", "pyarrow")  # beside dbt's
_TICK_SECONDS = 2.0


def inputs(settings: Settings, as_of: date) -> str:
    """Return an identifier of everything that a refresh would depend on.

    Args:
        settings: Landing folder, data home, engine, strictness.
        as_of: Last day whose events count.

    Raises:
        OSError: The landing folder or the data home cannot be read.
    """
    rests_on = {
        "as_of": as_of.isoformat(),
        "engine": settings.engine,
        "strict": settings.strict,
        "reporting_time_zone": settings.reporting_time_zone,
        "feed_time_zones": settings.feed_time_zones,
        "landing": [str(settings.landing), *_statuses(settings.landing)],
        "archive": sorted(path.name for path in _files(settings.archive)),
        "accepted": _content(settings.accepted_findings_file),
        "closes": _content(files.closes_path(settings.home)),
        "code": _code(settings.engine),
        "served": _current_state(settings.home),
    }
    return hashlib.sha256(json.dumps(rests_on).encode()).hexdigest()


def is_unchanged(settings: Settings, as_of: date) -> bool:
    """Return whether the current release is known to be what a refresh would give.

    Args:
        settings: Landing folder, data home, engine, strictness.
        as_of: Last day whose events count.
    """
    try:
        return inputs(settings, as_of).encode() == _path(settings).read_bytes()
    except (OSError, ReleaseError):
        return False  # the refresh reports the error


def remember(settings: Settings, as_of: date, landing_before: list[str], run_id: str) -> None:
    """Remember what the release just published depends on, unless that may have changed meanwhile.

    Args:
        settings: Those of the refresh.
        as_of: Last day whose events counted.
        landing_before: `landing_state` before it began.
        run_id: The run.

    Raises:
        ArrivalError: The archive is damaged.
    """
    path = _path(settings)
    path.unlink(missing_ok=True)
    if landing_state(settings) != landing_before or _is_young(settings.landing):
        return
    if _has_waiting(settings) or _is_to_be_tried_again(settings, run_id):
        return
    write_whole(path, inputs(settings, as_of))


def landing_state(settings: Settings) -> list[str]:
    """List the name and status of everything in the landing folder."""
    return _statuses(settings.landing)


def _has_waiting(settings: Settings) -> bool:
    """Return whether a folder of parts waits to settle, which will change no file."""
    settled = time.time() - settings.settle_seconds
    return bool(left_alone(settings.landing, list(feeds()), settled)["waiting"])


def _is_to_be_tried_again(settings: Settings, run_id: str) -> bool:
    """Return whether a run refused a file for lack of space or memory; no file shows when there is more."""
    archive = Archive(settings.archive, settings.build / "tmp")
    return any(
        record.run_id == run_id and record.is_to_be_tried_again
        for record in archive.records(archive.delivery_ids())
    )


def _path(settings: Settings) -> Path:
    return settings.build / "unchanged"


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, sorted by folder; a folder that cannot be listed has none.

    `os.walk` would not do, because it recurses into every folder within a folder.
    """
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as opened:
                entries = sorted(opened, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)
        waiting += [
            Path(entry.path) for entry in reversed(entries) if entry.is_dir(follow_symlinks=False)
        ]


def _statuses(folder: Path, *, are_shared: bool = False) -> list[str]:
    """Return the name and status of everything in a folder.

    Args:
        folder: The folder.
        are_shared: Whether another release may share the files. Removing that release changes their time of change,
            which is then left out.
    """
    found = []
    for path in _files(folder):
        try:
            one = [path.lstat()]
            if path.is_symlink() and path.exists():
                one.append(path.stat())
        except OSError as error:  # its name is too long, or it has just gone
            found.append(f"{os.fsencode(path.relative_to(folder)).hex()} {error.errno}")
            continue
        changed = [0 if are_shared else s.st_ctime_ns for s in one]
        state = [
            [s.st_mode, s.st_size, s.st_mtime_ns, at, s.st_ino]
            for s, at in zip(one, changed, strict=True)
        ]
        found.append(f"{os.fsencode(path.relative_to(folder)).hex()} {state}")
    return found


def _is_young(folder: Path) -> bool:
    limit = time.time() - _TICK_SECONDS
    return any(_changed(path) > limit for path in _files(folder))


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_ctime
    except OSError:
        return 0.0


def _content(path: Path) -> str:
    try:
        return sha256_of(path)
    except FileNotFoundError:
        return ""


def _code(engine: str) -> str:
    digest = hashlib.sha256()
    digest.update(project_fingerprint(DBT_PROJECT, engine).encode())
    digest.update(" ".join(f"{name} {version(name)}" for name in _PACKAGES).encode())
    for folder in (CODE / "dagster_project", CODE / "expectations"):
        for below, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            for name in sorted(names):
                path = Path(below) / name
                digest.update(f"{path.relative_to(CODE)}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _current_state(home: Path) -> list[str]:
    """Return the state of the current release's files."""
    current = files.current_release(home)
    if current is None:
        return []
    path = files.release_path(home, current)
    file = path.stat()
    logs = [files.log_of(one).exists() for one in (path, home / "current")]
    status = [current, file.st_size, file.st_mtime_ns, file.st_ctime_ns, logs]
    return [json.dumps(status), *_statuses(files.parquet_dir(home, current), are_shared=True)]
