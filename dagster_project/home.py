"""The folders of a data home and who may read them, whatever the umask: made in one place.

Readers of releases, a group, come through the data home to `releases/` and `current`. What else is in
the data home, raw deliveries and logs among it, is for its owner. A folder that a person made or opened
to others by hand is never opened further, and private folders of earlier versions are closed.
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
    """Prepare a data home, and write files that only their owner reads until the end.

    What readers of releases need is opened to their group by whoever makes it. The umask is the
    whole process's: what its threads and what it starts write follows too.

    Args:
        home: The data home; made where absent, with the folders above it.

    Yields:
        Names of private folders that others could read until now.

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
    """Make a folder that only its owner reads, with the folders above it; one that is there stays.

    Args:
        folder: The folder.

    Raises:
        OSError: The folder cannot be made.
    """
    _make(folder, OWNER_MODE)


def _make(folder: Path, mode: int) -> None:
    if folder.is_dir():
        return
    if not folder.parent.is_dir():
        _make(folder.parent, READERS_MODE)
    folder.mkdir(exist_ok=True)  # another process may make it too
    folder.chmod(mode)


def _is_closed_now(folder: Path) -> bool:
    """Close a folder to all but its owner; whether it was open."""
    with suppress(FileNotFoundError, PermissionError):  # another's folder stays as that one made it
        if folder.stat().st_mode & _NOT_THE_OWNERS:
            folder.chmod(OWNER_MODE)
            return True
    return False
