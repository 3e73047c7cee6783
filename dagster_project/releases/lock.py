"""One writer per data home, held by an operating-system lock that ends with its process.

The lock file is empty; a side file names the holder, for the message to any later process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from dagster_project.home import write_whole, writing
from dagster_project.releases.data_home import check_layout, stamp_layout
from dagster_project.releases.errors import Busy, ReleaseError
from dagster_project.releases.machine import explained
from dagster_project.releases.questions import is_of_question


def lock_path(home: Path) -> Path:
    """Return the lock file of a data home."""
    return home / "refresh.lock"


def holder_path(home: Path) -> Path:
    """Return the side file that names who holds the lock."""
    return home / "refresh.holder.json"


@contextmanager
def one_writer(
    home: Path, command: str, wait_seconds: float = 0, *, is_asking: bool = False
) -> Iterator[None]:
    """Hold the data home for writing; taking it again in the same process is allowed.

    Args:
        home: The data home.
        command: What is being done, for the message to others.
        wait_seconds: How long to wait for another holder to finish.
        is_asking: Whether the data home is that of a question, in which nothing else is written.

    Raises:
        Busy: Another process holds the lock; the message names that process.
        ReleaseError: The disk is full or read-only, a newer version of the product wrote the data
            home, or the data home is that of a question, in which nothing is recorded.
    """
    if not is_asking and is_of_question(home):
        raise ReleaseError(
            f"{home} holds the answer of a what-if, which is an assumption: nothing is recorded there.",
            f"Name the data home it was asked of with --home: {home.resolve().parents[1]}.",
        )
    with explained(home), writing(home):
        path = lock_path(home)
        lock = FileLock(path, thread_local=False, is_singleton=True)
        try:
            lock.acquire(timeout=wait_seconds)
        except Timeout:
            raise Busy(
                f"Another refresh of {home} is running{_holder(home)}.",
                "Wait for it to end, or stop it; its lock ends with it, and the next run recovers.",
            ) from None
        try:
            if lock.lock_counter == 1:
                check_layout(home)
                stamp_layout(home)
                _name_holder(home, command)
            yield
        finally:
            if lock.lock_counter == 1:
                holder_path(home).unlink(missing_ok=True)
            lock.release()


def _name_holder(home: Path, command: str) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    holder = {"pid": os.getpid(), "since": since, "command": command}
    with suppress(OSError):  # the name is only for messages; on a full disk `prune` must run
        write_whole(holder_path(home), json.dumps(holder))


def _holder(home: Path) -> str:
    try:
        holder = json.loads(holder_path(home).read_text("utf-8"))
        return f": process {holder['pid']} since {holder['since']}, {holder['command']}"
    except (OSError, ValueError, KeyError):
        return ""
