"""Looks into the landing folder: which files are deliveries, of which feed, in which order.

Here belongs what can be told from names and `lstat` alone. Nothing here opens a file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dagster_project.arrival.report import ArrivalError, Refusal

Format = Literal["csv", "jsonl", "parquet"]

MANIFEST_SUFFIX = ".manifest.json"
EXTENSIONS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")


@dataclass(frozen=True)
class LandedFile:
    """One file that lies in the landing folder and is meant as a delivery.

    Attributes:
        path: Where it lies.
        feed: Name of the folder it lies in, directly below the landing folder; empty if in none.
        file_name: Path relative to the landing folder, as text that any database can hold.
        modified_ns: Modification time in nanoseconds since 1970, UTC.
        size_bytes: Size when it was found.
        refusal: Why it is refused by its place or kind alone, if so.
        is_readable: Whether its bytes may be read, and so kept in the archive.
    """

    path: Path
    feed: str
    file_name: str
    modified_ns: int
    size_bytes: int
    refusal: Refusal | None = None
    is_readable: bool = True


def printable(name: str) -> str:
    """A file name as valid Unicode: a byte that is not UTF-8 becomes its code in hexadecimal."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def is_delivery_name(name: str) -> bool:
    """Whether a file of this name is meant as a delivery: no `.part`, dotfile or manifest."""
    lowered = name.lower()
    return not (name.startswith(".") or lowered.endswith((".part", MANIFEST_SUFFIX)))


def format_of(file_name: str) -> tuple[Format, bool]:
    """The format of a file by its name, and whether it is gzipped.

    Raises:
        Refusal: If the extension is none of the five that are understood.
    """
    lowered = file_name.lower()
    packed = lowered.endswith(".gz")
    stem = lowered.removesuffix(".gz")
    if stem.endswith(".csv"):
        return "csv", packed
    if stem.endswith(".jsonl"):
        return "jsonl", packed
    if stem.endswith(".parquet") and not packed:
        return "parquet", False
    raise Refusal(
        f"{file_name}: unknown extension",
        f"deliver it as one of {', '.join(EXTENSIONS)}",
    )


def find_landed(
    landing: Path, known_feeds: Sequence[str], feed_names: Sequence[str] | None
) -> list[LandedFile]:
    """The deliveries that lie in the landing folder, in the order in which they count.

    Args:
        landing: The landing folder; it is only read.
        known_feeds: Names of all feeds, in the order in which they are to be loaded.
        feed_names: Feeds asked for, or None for all, which includes files that are in no feed's
            folder (they are refused, so that nothing is lost unseen).

    Returns:
        The files feed by feed, within a feed by modification time, then by name.
    """
    if feed_names is None:
        others = sorted(
            entry.name
            for entry in _entries(landing)
            if entry.name not in known_feeds and _is_folder(entry) and entry.name[:1] != "."
        )
        folders = [*known_feeds, *others]
    else:
        folders = [name for name in known_feeds if name in feed_names]
        others = []
    found: list[LandedFile] = []
    for folder in folders:
        refusal = None
        if folder in others:
            refusal = Refusal(
                f"folder {printable(folder)!r} is none of the feeds",
                f"move the file to one of {', '.join(f'{name}/' for name in known_feeds)}",
            )
        found += _in_order(_landed_below(landing, landing / folder, folder, refusal))
    if feed_names is None:
        refusal = Refusal(
            "it lies in no feed's folder",
            f"move it to one of {', '.join(f'{name}/' for name in known_feeds)}",
        )
        found += _in_order(
            _landed(landing, entry, "", refusal)
            for entry in _entries(landing)
            if not _is_folder(entry) and is_delivery_name(entry.name)
        )
    return found


def _in_order(files: Iterator[LandedFile]) -> list[LandedFile]:
    return sorted(files, key=lambda file: (file.modified_ns, file.file_name))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ArrivalError(
            f"{folder}: cannot be listed ({error.strerror}); check its permissions and run again"
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _landed_below(
    landing: Path, folder: Path, feed: str, refusal: Refusal | None
) -> Iterator[LandedFile]:
    if folder.is_symlink() and not _stays_inside(folder, landing):
        yield LandedFile(folder, feed, printable(feed), 0, 0, _leaves(folder), False)
        return
    for entry in _entries(folder):
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            below = refusal or Refusal(
                f"it lies in a folder inside {printable(feed)}/",
                f"move it to {printable(feed)}/ itself",
            )
            yield from _landed_below(landing, Path(entry.path), feed, below)
        elif is_delivery_name(entry.name):
            yield _landed(landing, entry, feed, refusal)


def _landed(
    landing: Path, entry: os.DirEntry[str], feed: str, refusal: Refusal | None
) -> LandedFile:
    path = Path(entry.path)
    file_name = printable(str(path.relative_to(landing)))
    is_readable = True
    try:
        if entry.is_symlink() and not _stays_inside(path, landing):
            status = entry.stat(follow_symlinks=False)
            refusal, is_readable = _leaves(path), False
        else:
            status = entry.stat()
            if not stat.S_ISREG(status.st_mode):
                refusal = Refusal("it is not a regular file", "deliver a regular file")
                is_readable = False
    except OSError as error:
        return LandedFile(path, feed, file_name, 0, 0, unreadable(error), False)
    return LandedFile(
        path, feed, file_name, status.st_mtime_ns, status.st_size, refusal, is_readable
    )


def unreadable(error: OSError) -> Refusal:
    """The refusal of a file that the operating system does not let us read."""
    return Refusal(
        f"it cannot be read ({error.strerror})",
        "check the file and its permissions, then run again",
    )


def _stays_inside(path: Path, landing: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(landing.resolve())
    except (OSError, RuntimeError):
        return False


def _leaves(path: Path) -> Refusal:
    target = printable(os.readlink(path))
    return Refusal(
        f"it is a symlink that leaves the landing folder or leads nowhere ({target})",
        "deliver the file itself",
    )
