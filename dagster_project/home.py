"""The folders of a data home, who may read them, whatever the umask, and how files become durable.

Readers of releases, a group, reach `releases/` and `current` through the data home. Everything else in
the data home, such as raw deliveries and logs, is for its owner only. A folder that a person made or
opened to others by hand is never opened further, and private folders of earlier versions are closed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

READERS_MODE = 0o750
OWNER_MODE = 0o700
PRIVATE = ("archive", "build", "logs", "alerts", "dagster", "pulls", "what-if")
"""The folders of a data home that only its owner reads; each is made when it is first needed."""
_NOT_THE_OWNERS = 0o077


@contextmanager
def writing(home: Path) -> Iterator[list[str]]:
    """Prepare a data home; until the block ends, files are written for their owner only.

    Code that makes files for readers of releases opens them to their group. The umask is that of the whole
    process, so it applies to its threads and child processes too.

    Args:
        home: The data home; created if absent, with the folders above it.

    Yields:
        The names of private folders that others could read until now.

    Raises:
        OSError: The data home cannot be made.
    """
    before = os.umask(_NOT_THE_OWNERS)
    try:
        _make(home, READERS_MODE)
        _make(home / "releases", READERS_MODE)
        yield [name for name in PRIVATE if _is_closed_now(home / name)]
    finally:
        os.umask(before)


def make_private(folder: Path) -> None:
    """Make a folder that only its owner reads, and the folders above it, unless it exists.

    Args:
        folder: The folder.

    Raises:
        OSError: The folder cannot be made.
    """
    _make(folder, OWNER_MODE)


def write_whole(path: Path, text: str, mode: int | None = None) -> None:
    """Write a small file atomically: a reader finds either the old or the new content, whole.

    The text is on the disk before the file gets its name.

    Args:
        path: The file.
        text: Its content.
        mode: Who may read it, whatever the umask; without it, the umask decides.

    Raises:
        OSError: The file cannot be written; an earlier file is unchanged.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if mode is not None:
        temporary.chmod(mode)
    temporary.replace(path)


def fsync_file(path: Path) -> None:
    """Make a file's content durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    fsync_file(path)


def _make(folder: Path, mode: int) -> None:
    if folder.is_dir():
        return
    if not folder.parent.is_dir():
        _make(folder.parent, READERS_MODE)
    folder.mkdir(exist_ok=True)  # another process may make it too
    folder.chmod(mode)


def _is_closed_now(folder: Path) -> bool:
    """Close a folder to all but its owner, and return whether it was open."""
    with suppress(FileNotFoundError, PermissionError):  # another user's folder stays as it is
        if folder.stat().st_mode & _NOT_THE_OWNERS:
            folder.chmod(OWNER_MODE)
            return True
    return False
