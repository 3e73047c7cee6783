"""Restoring and pruning: which release is current, and which are retained, as a person decides."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dagster_project.home import fsync_folder
from dagster_project.releases import files, questions
from dagster_project.releases.closing import certified_releases, name_of
from dagster_project.releases.errors import NoRelease, ReleaseError
from dagster_project.releases.lock import one_writer
from dagster_project.releases.machine import is_full
from dagster_project.releases.read import verify
from dagster_project.releases.restatements import unlisted


@dataclass(frozen=True)
class Pruned:
    """What pruning did: ids removed, and ids retained although old, each with the reason."""

    removed: tuple[str, ...]
    spared: dict[str, str]


def restore(
    home: Path, release_id: str, now: datetime, by: str = "", *, is_forced: bool = False
) -> str:
    """Make an earlier release current again, and record that in the history.

    Args:
        home: The data home.
        release_id: The release, or enough of its id.
        now: When this happens.
        by: Who asked.
        is_forced: Whether to do so even if it has unlisted differences in closed months.

    Returns:
        The full id of the release now current.

    Raises:
        NoRelease: There is no such release.
        ReleaseError: The release is damaged, or closed months differ in it and it does not list how.
        Busy: A refresh is running.
    """
    wanted = files.resolve(home, release_id, is_recorded=True)
    with one_writer(home, f"coupon-ledger restore {wanted}"):
        files.remove_leftovers(home)
        verify(home, wanted).raise_unless_sound()
        previous = files.served_release(home)
        if previous != wanted:
            silent = unlisted(home, wanted)
            if silent and not is_forced:
                months = ", ".join(f"{name_of(month)} ({silent[month]:,})" for month in silent)
                raise ReleaseError(
                    f"Release {wanted} has other amounts for months that were closed since, without"
                    f" listing them as restated: {months}.",
                    "`coupon-ledger diff` shows the differences; --anyway restores it all the same.",
                )
            files.flip(home, wanted)
            files.remember(home, "restored", wanted, now, previous=previous, by=by)
    return wanted


def prune(home: Path, keep: int, now: datetime) -> Pruned:
    """Remove all but the newest releases; never one that is current, being read, or closed a month.

    Args:
        home: The data home.
        keep: How many of the newest to retain, at least 1.
        now: When this happens.

    Raises:
        ValueError: `keep` is less than 1.
        Busy: A refresh is running.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, not {keep}")
    with one_writer(home, f"coupon-ledger prune --keep {keep}"):
        files.remove_leftovers(home)
        current = files.current_release(home)
        certified = certified_releases(home)
        removed: list[str] = []
        spared: dict[str, str] = {}
        for release_id in files.release_ids(home)[:-keep]:
            if release_id == current:
                spared[release_id] = "it is current"
            elif release_id in certified:
                spared[release_id] = f"it closed {', '.join(certified[release_id])}"
            elif readers := _readers(home, release_id):
                spared[release_id] = f"process {', '.join(map(str, readers))} is reading it"
            else:
                _remove(home, release_id, now)
                removed.append(release_id)
        fsync_folder(files.releases_dir(home))
    return Pruned(tuple(removed), spared)


def remove_what_if(home: Path, name: str) -> str:
    """Remove a question and its answer, or what a killed what-if left.

    Args:
        home: The data home.
        name: The name of the question, with or without `what-if/` before it.

    Returns:
        Its release, `what-if/NAME`.

    Raises:
        NoRelease: There is no such question.
        ReleaseError: Someone reads its answer.
        Busy: It is being calculated.
    """
    wanted = name if name.startswith(f"{files.WHAT_IF}/") else f"{files.WHAT_IF}/{name}"
    known = [release_id for release_id, _, _ in questions.all_asked(home)]
    if wanted not in known:
        raise NoRelease(
            f"There is no {wanted!r} in {home}{files.one_of(wanted, known)}",
            "`coupon-ledger releases` lists them.",
        )
    side = home / wanted
    with one_writer(side, f"coupon-ledger what-if --remove {name}", is_asking=True):
        readers = _readers(home, wanted) if wanted in files.what_ifs(home) else []
        if readers:
            raise ReleaseError(
                f"{wanted} stays: process {', '.join(map(str, readers))} reads it.",
                "Remove it when that has ended.",
            )
        # The link goes first: without it, there is no answer.
        files.current_link(side).unlink(missing_ok=True)
        shutil.rmtree(side)
    return wanted


def _remove(home: Path, release_id: str, now: datetime) -> None:
    """Remove a release; record that first, unless the disk has no room for the record."""
    has_room = True
    try:
        files.remember(home, "pruned", release_id, now)
    except OSError as error:
        if not is_full(str(error)):
            raise
        has_room = False
    files.release_path(home, release_id).unlink()  # from here on it is no longer a release
    shutil.rmtree(files.parquet_dir(home, release_id), ignore_errors=True)
    if not has_room:
        files.remember(home, "pruned", release_id, now)


def _readers(home: Path, release_id: str) -> list[int]:
    """Return processes that have the file or its Parquet copy open, as far as this user can see."""
    file = os.path.realpath(files.release_path(home, release_id))
    copies = os.path.realpath(files.parquet_dir(home, release_id)) + os.sep
    readers = []
    for process in Path("/proc").glob("[0-9]*"):
        if any(path == file or path.startswith(copies) for path in _opened(process)):
            readers.append(int(process.name))
    return sorted(readers)


def _opened(process: Path) -> Iterator[str]:
    with suppress(OSError):  # it ended meanwhile, or is another user's
        for entry in (process / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                yield os.readlink(entry)
