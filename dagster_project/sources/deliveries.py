"""Deliveries of one pull in several feeds: all of them arrive, or none.

Each file is first written beside its place as `.<name>.part`, which is never taken for a delivery. Once
all files are whole, a list of them is written, and then they are renamed. A pull that is killed before
the list leaves nothing; a pull that is killed after it is finished by the next pull or refresh.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from dagster_project.home import fsync_folder, write_whole
from dagster_project.sources.errors import PullError

PULLS = "pulls"
"""The folder of the data home in which pulls store what they need."""
PENDING = "pending.json"
COMPLETED = "completed.txt"
_QUOTED_SIGNS = frozenset(',"\r\n')


@dataclass(frozen=True)
class Part:
    """A file of a delivery, whole but not delivered.

    Attributes:
        feed: Its feed.
        part: Its present path.
        final: Its final path.
        rows: How many rows it has.
    """

    feed: str
    part: Path
    final: Path
    rows: int

    def as_json(self) -> dict[str, str | int]:
        """Return the part for a list on disk."""
        return {
            "feed": self.feed,
            "part": str(self.part),
            "final": str(self.final),
            "rows": self.rows,
        }

    @classmethod
    def of_json(cls, found: Mapping[str, object]) -> Part:
        """Return the part from such a list."""
        return cls(
            str(found["feed"]),
            Path(str(found["part"])),
            Path(str(found["final"])),
            int(str(found["rows"])),
        )


def folder_of(home: Path, source: str) -> Path:
    """Return the private folder in which the pulls of a source store what they need.

    Raises:
        PullError: The folder cannot be made.
    """
    folder = home / PULLS / source
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (home / PULLS).chmod(0o700)  # raw pages hold personal data
    except OSError as error:
        raise PullError(
            f"{folder} cannot be made ({error.strerror}).", "Check the data home, then pull again."
        ) from error
    return folder


@contextmanager
def one_pull(home: Path, source: str) -> Iterator[None]:
    """Keep other pulls of the same source out; the lock ends with its process.

    Raises:
        PullError: Another pull is running.
    """
    try:
        lock = FileLock(folder_of(home, source) / "lock", is_singleton=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise PullError(
            f"Another pull from {source} into {home} is running.", "Wait for it to end."
        ) from None
    try:
        yield
    finally:
        lock.release()


def part_of(landing: Path, feed: str, name: str) -> tuple[Path, Path]:
    """Return where a file of a delivery is written, and its final place; make its folder.

    Raises:
        PullError: The folder cannot be made.
    """
    folder = landing / feed
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PullError(
            f"{folder} cannot be made ({error.strerror}).",
            "Name another landing folder with --landing.",
        ) from error
    return folder / f".{name}.part", folder / name


def remove_leftovers(landing: Path, source: str) -> None:
    """Remove what killed pulls of a source wrote and never delivered."""
    for part in landing.glob(f"*/.{source}-*.part"):
        part.unlink(missing_ok=True)


def csv_line(values: Iterable[str | None]) -> str:
    """Return one row of CSV: null is empty, a value that could be misread is quoted."""
    return ",".join(map(_csv_value, values)) + "\n"


def _csv_value(value: str | None) -> str:
    if value is None:
        return ""
    if value in ("", "\\N") or not _QUOTED_SIGNS.isdisjoint(value) or value != value.strip():
        return '"' + value.replace('"', '""') + '"'
    return value


def made_durable(file: IO[bytes] | IO[str]) -> None:
    """Flush everything written to a file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def deliver(home: Path, source: str, parts: Iterable[Part]) -> list[Part]:
    """Deliver the files of a pull by renaming all of them.

    Args:
        home: The data home.
        source: The source of the pull.
        parts: Whole files; files that were already renamed are skipped.

    Returns:
        The parts whose file is in neither place because somebody removed it.
    """
    parts = list(parts)
    listed = folder_of(home, source) / PENDING
    write_whole(listed, json.dumps([part.as_json() for part in parts]))
    fsync_folder(listed.parent)
    return _finish(listed)


def note_completed(home: Path, source: str, when: datetime) -> None:
    """Record that a pull from a source succeeded.

    Args:
        home: The data home.
        source: The source.
        when: When, in UTC.
    """
    write_whole(folder_of(home, source) / COMPLETED, when.isoformat(timespec="seconds"))


def last_pull(home: Path, source: str) -> datetime | None:
    """Return when a pull from a source last succeeded, None if never.

    Args:
        home: The data home.
        source: The source.
    """
    try:
        return datetime.fromisoformat((home / PULLS / source / COMPLETED).read_text("utf-8"))
    except FileNotFoundError:
        return None


def is_unfinished(home: Path) -> bool:
    """Return whether a killed pull had deliveries ready."""
    return any((home / PULLS).glob(f"*/{PENDING}"))


def finish(home: Path) -> int:
    """Deliver what killed pulls had ready, so no refresh sees only part of a pull.

    Args:
        home: The data home.

    Returns:
        How many files were delivered.
    """
    count = 0
    for listed in sorted((home / PULLS).glob(f"*/{PENDING}")):
        files = len(json.loads(listed.read_text("utf-8")))
        count += files - len(_finish(listed))
    return count


def _finish(listed: Path) -> list[Part]:
    lost = []
    folders = set()
    for found in json.loads(listed.read_text("utf-8")):
        part = Part.of_json(found)
        try:
            part.part.replace(part.final)
        except FileNotFoundError:
            if not part.final.exists():
                lost.append(part)
            continue
        folders.add(part.final.parent)
    for folder in folders:
        fsync_folder(folder)
    listed.unlink()
    return lost
