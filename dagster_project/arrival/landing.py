"""The landing folder: which files are deliveries, of which feed, in which order.

What can be found from names and status alone belongs here. Nothing here opens a file.

A folder directly in a feed's folder is what a distributed engine writes. Its files are parts, each a
delivery of its own, which are taken together once the folder is whole. A folder named `column=value` gives
its parts that column.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from dagster_project.arrival.report import ArrivalError, Refusal, TransientRefusal

Format = Literal["csv", "jsonl", "parquet"]

MANIFEST_SUFFIX = ".manifest.json"
EXTENSIONS = (
    *(".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".ndjson", ".ndjson.gz"),
    ".parquet",
)
_JSON = (".jsonl", ".json", ".ndjson")
SPREADSHEET = ("a spreadsheet", "save its sheet as CSV in UTF-8, with commas, and deliver that")
OTHER_KINDS = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"), SPREADSHEET),
    **dict.fromkeys(
        (".tsv", ".tab", ".psv", ".ssv"),
        ("text with another separator than the comma", "export it with commas, as .csv"),
    ),
    ".txt": ("text of a kind that its name does not tell", "rename it to .csv, .jsonl or .json"),
    ".zip": ("a ZIP archive", "unpack it and deliver each file, as it is or packed with gzip"),
    ".tar": ("an archive", "unpack it and deliver each file, as it is or packed with gzip"),
    ".tgz": ("an archive", "unpack it and deliver each file, as it is or packed with gzip"),
    **{
        suffix: (f"compressed with {name}", "deliver it unpacked, or packed with gzip as .csv.gz")
        for suffix, name in {
            ".zst": "Zstandard", ".zstd": "Zstandard", ".bz2": "bzip2", ".xz": "xz", ".lz4": "LZ4",
            ".snappy": "Snappy", ".br": "Brotli", ".7z": "7-Zip", ".z": "compress", ".lzo": "LZO",
            ".deflate": "deflate",
        }.items()
    },
    **{
        suffix: (f"an {name} file", "export it as Parquet, CSV or JSON Lines")
        for suffix, name in {
            ".avro": "Avro", ".orc": "ORC", ".arrow": "Arrow", ".feather": "Arrow", ".xml": "XML",
        }.items()
    },
    ".gz": ("a gzip file of a kind that its name does not tell", "name it .csv.gz or .jsonl.gz"),
}  # fmt: skip
"""What a file is whose extension is not read, and what to do, by extension."""
DEEPEST = 8
"""How many levels of folders below a feed's folder are searched; a deeper folder is refused as a whole."""
WHOLE_MARK = "_SUCCESS"
UNFINISHED_MARK = "_temporary"
UNFINISHED_SUFFIX = ".part"
BESIDE_PARTS = ("_SUCCESS", "_committed_", "_started_", "_metadata", "_common_metadata")
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
OF_THE_FILE = frozenset(
    (
        *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ELOOP, errno.ENAMETOOLONG),
        *(errno.EISDIR, errno.ENOTDIR, errno.EINVAL, errno.EOVERFLOW, errno.EBADMSG),
    )
)
"""Errors caused by the file or its rights; any other is caused by the disk, the network or this machine."""


@dataclass(frozen=True)
class LandedFile:
    """One file in the landing folder that is meant as a delivery.

    Attributes:
        path: Its path.
        feed: Name of its folder, directly below the landing folder; empty if it is in none.
        file_name: Path relative to the landing folder, as text that any database can hold.
        modified_ns: Modification time in nanoseconds since 1970, UTC.
        size_bytes: Size when it was found.
        refusal: Why it is refused by its place or kind alone, if it is.
        is_readable: Whether its bytes may be read, and so stored in the archive.
        given: Columns that folders named `column=value` give it, sorted by name.
    """

    path: Path
    feed: str
    file_name: str
    modified_ns: int
    size_bytes: int
    refusal: Refusal | None = None
    is_readable: bool = True
    given: tuple[tuple[str, str | None], ...] = ()


def printable(name: str) -> str:
    """Return a file name as valid Unicode: a byte that is not UTF-8 becomes hexadecimal."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def is_delivery_name(name: str) -> bool:
    """Return whether a file of this name is a delivery: no `.part`, dotfile, manifest or mark."""
    lowered = name.lower()
    return not (
        name.startswith(".")
        or lowered.endswith((UNFINISHED_SUFFIX, ".crc", MANIFEST_SUFFIX))
        or name.startswith(BESIDE_PARTS)
    )


def format_of(file_name: str) -> tuple[Format, bool]:
    """Return the format of a file by its name, and whether it is gzipped.

    Raises:
        Refusal: If the extension is none of those that are understood.
    """
    lowered = file_name.lower()
    packed = lowered.endswith(".gz")
    stem = lowered.removesuffix(".gz")
    if stem.endswith(".csv"):
        return "csv", packed
    if stem.endswith(_JSON):
        return "jsonl", packed
    if stem.endswith(".parquet"):
        if not packed:
            return "parquet", False
        raise Refusal(
            "unknown extension .parquet.gz: Parquet is compressed inside, not around",
            "deliver it unpacked, with the extension .parquet",
        )
    suffix = Path(lowered).suffix
    if suffix in OTHER_KINDS:
        kind, remedy = OTHER_KINDS[suffix]
        raise Refusal(f"unknown extension {suffix}: {kind}", remedy)
    raise Refusal(
        f"unknown extension {suffix}" if suffix else "unknown extension: its name has none",
        f"deliver it as one of {', '.join(EXTENSIONS)}",
    )


def find_landed(
    landing: Path,
    known_feeds: Sequence[str],
    settled_before: float,
) -> list[LandedFile]:
    """Return the deliveries in the landing folder, in the order in which they count.

    Files that are in no feed's folder are among them: they are refused, so that nothing is lost unseen.

    Args:
        landing: The landing folder; it is only read.
        known_feeds: Names of all feeds, in the order in which they are loaded.
        settled_before: A folder of parts without `_SUCCESS` waits if anything in it changed after
            this, in seconds since 1970.

    Returns:
        The files feed by feed, within a feed by modification time, then by name.
    """
    top = _entries(landing)
    found: list[LandedFile] = []
    for feed in known_feeds:
        found += _in_order(_in_feed(landing, feed, settled_before))
    where = f"one of {', '.join(f'{name}/' for name in known_feeds)}"
    for entry in sorted(top, key=lambda entry: entry.name):
        if entry.name not in known_feeds and _is_folder(entry) and entry.name[:1] != ".":
            refusal = Refusal(
                f"folder {printable(entry.name)!r} is not that of a feed",
                f"move the file to {where}",
            )
            found += _in_order(_below(landing, Path(entry.path), entry.name, refusal))
    refusal = Refusal("it is in no feed's folder", f"move it to {where}")
    found += _in_order(
        _landed(landing, entry, "", refusal)
        for entry in top
        if not _is_folder(entry) and is_delivery_name(entry.name)
    )
    return found


def _in_order(files: Iterator[LandedFile]) -> list[LandedFile]:
    return sorted(files, key=lambda file: (file.modified_ns, file.file_name))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of the landing folder.

    Raises:
        ArrivalError: If it exists and cannot be listed.
    """
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
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _in_feed(landing: Path, feed: str, settled_before: float) -> Iterator[LandedFile]:
    """Yield the files and the folders of parts in a feed's folder."""
    folder = landing / feed
    if folder.is_symlink() and not _stays_inside(folder, landing):
        yield _refused_folder(landing, folder, feed, _leaves(folder))
        return
    try:
        with os.scandir(folder) as opened:
            entries = list(opened)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield _refused_folder(landing, folder, feed, unreadable(error))
        return
    for entry in entries:
        if _is_folder(entry):
            if not entry.name.startswith((".", "_")):
                yield from _parts(landing, Path(entry.path), feed, settled_before)
        elif is_delivery_name(entry.name):
            yield _landed(landing, entry, feed, None)


def _parts(landing: Path, folder: Path, feed: str, settled_before: float) -> Iterator[LandedFile]:
    """Yield the parts in a folder once it is whole; empty parts count only if all are empty."""
    found = list(_below(landing, folder, feed, None, _given(folder.name)))
    if _why_it_waits(folder, found, settled_before) is not None:
        found = [file for file in found if file.refusal is not None]
    empty = _empty_parts(found)
    yield from (file for file in found if file not in empty)


def _why_it_waits(folder: Path, found: Sequence[LandedFile], settled_before: float) -> str | None:
    """Return why a folder of parts is not taken yet, None if it is whole."""
    changed = max((file.modified_ns / 1e9 for file in found), default=0.0)
    is_marked = False
    looked_into = [(folder, 1)]
    while looked_into:
        here, depth = looked_into.pop()
        try:
            changed = max(changed, os.lstat(here).st_mtime)
            with os.scandir(here) as opened:
                entries = list(opened)
        except OSError:
            continue  # it is refused without waiting
        for entry in entries:
            if entry.name == UNFINISHED_MARK:
                return f"it is still being written: {UNFINISHED_MARK} is in it"
            if entry.name.lower().endswith(UNFINISHED_SUFFIX) and entry.name[:1] != ".":
                return f"it is still being written: {printable(entry.name)} is in it"
            if _is_folder(entry):
                if depth < DEEPEST and not entry.name.startswith((".", "_")):
                    looked_into.append((Path(entry.path), depth + 1))
            elif entry.name == WHOLE_MARK and depth == 1:
                is_marked = True
    if not is_marked and changed > settled_before:
        return f"it has no {WHOLE_MARK} and has changed a moment ago"
    return None


def _empty_parts(found: Sequence[LandedFile]) -> list[LandedFile]:
    """Return the parts without a byte, which engines write for partitions without a row.

    If all parts are empty, none is returned; nor is a part with a manifest, which says what it should contain.
    """
    if not any(file.size_bytes for file in found):
        return []
    return [
        file
        for file in found
        if file.is_readable
        and file.refusal is None
        and not file.size_bytes
        and not file.path.with_name(file.path.name + MANIFEST_SUFFIX).exists()
    ]


def left_alone(
    landing: Path, known_feeds: Sequence[str], settled_before: float
) -> dict[str, tuple[str, ...]]:
    """Return which folders and files of parts are not taken, and why.

    Args:
        landing: The landing folder; it is only read.
        known_feeds: Names of all feeds.
        settled_before: As in `find_landed`.

    Returns:
        `waiting`: the folders that are not whole yet, each with the reason; `empty`: the names of the
        empty parts that are skipped in the others.
    """
    waiting: list[str] = []
    empty: list[str] = []
    for feed in known_feeds:
        try:
            with os.scandir(landing / feed) as opened:
                entries = sorted(opened, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if not _is_folder(entry) or entry.name.startswith((".", "_")):
                continue
            folder = Path(entry.path)
            found = list(_below(landing, folder, feed, None))
            why = _why_it_waits(folder, found, settled_before)
            if why is None:
                empty += [file.file_name for file in _empty_parts(found)]
            else:
                waiting.append(f"{printable(str(folder.relative_to(landing)))}/ ({why})")
    return {"waiting": tuple(waiting), "empty": tuple(empty)}


def _given(name: str) -> tuple[tuple[str, str | None], ...]:
    """Return the column that a folder of this name gives its parts."""
    column, sign, value = printable(name).partition("=")
    if not (sign and column):
        return ()
    return ((unquote(column), None if value in ("", NO_VALUE) else unquote(value)),)


def _below(
    landing: Path,
    folder: Path,
    feed: str,
    refusal: Refusal | None,
    given: tuple[tuple[str, str | None], ...] = (),
) -> Iterator[LandedFile]:
    """Yield the files in a folder and in its folders.

    Args:
        landing: The landing folder.
        folder: The folder.
        feed: Its feed.
        refusal: Why all of it is refused, if so.
        given: Columns that its name gives.
    """
    waiting = [(folder, refusal, given, 1)]
    while waiting:
        here, why, columns, depth = waiting.pop()
        if depth > DEEPEST:
            why = Refusal(f"folders are nested more than {DEEPEST} deep", _deep_remedy(feed))
            yield _refused_folder(landing, here, feed, why)
            continue
        try:
            with os.scandir(here) as opened:
                entries = list(opened)
        except OSError as error:
            yield _refused_folder(landing, here, feed, unreadable(error))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not _is_folder(entry):
                if is_delivery_name(entry.name):
                    yield replace(_landed(landing, entry, feed, why), given=columns)
                continue
            if entry.name.startswith("_"):
                continue
            more = _given(entry.name)
            deeper = why
            if not more and deeper is None:
                deeper = Refusal(
                    f"it is in a folder inside {printable(here.name)}/, which is itself a folder of"
                    f" {printable(feed)}/",
                    _deep_remedy(feed),
                )
            given_below = tuple(sorted(dict((*columns, *more)).items()))
            waiting.append((Path(entry.path), deeper, given_below, depth + 1))


def _deep_remedy(feed: str) -> str:
    return f"move it to {printable(feed)}/ itself, or to one folder in it"


def _refused_folder(landing: Path, folder: Path, feed: str, refusal: Refusal) -> LandedFile:
    file_name = printable(os.path.relpath(folder, landing))
    return LandedFile(folder, feed, file_name, 0, 0, refusal, is_readable=False)


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


def unreadable(error: OSError | RuntimeError) -> Refusal:
    """Return the refusal of a file that the operating system does not let us read.

    Args:
        error: Its error; for links in a circle, Python's own error.

    Returns:
        The refusal, transient if the file is not to blame.
    """
    why = error.strerror if isinstance(error, OSError) else str(error)
    if is_own_trouble(error):
        return TransientRefusal(
            f"it cannot be read at the moment ({why})",
            "nothing is wrong with the file: check the disk or the network share it is on, and run"
            " again",
        )
    return Refusal(
        f"it cannot be read ({why})", "check the file and its permissions, then run again"
    )


def is_own_trouble(error: Exception) -> bool:
    """Return whether an error is the operating system's and not about the file itself."""
    return isinstance(error, OSError) and error.errno is not None and error.errno not in OF_THE_FILE


def _stays_inside(path: Path, landing: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(landing.resolve())
    except (OSError, RuntimeError):
        return False


def _leaves(path: Path) -> Refusal:
    try:
        target = printable(os.readlink(path))
    except OSError as error:
        return unreadable(error)
    return Refusal(
        f"it is a symlink that leaves the landing folder or leads nowhere ({target})",
        "deliver the file itself",
    )
