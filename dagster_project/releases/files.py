"""Where releases are stored, how they are named, and the pointer to the current release.

A release is a folder `releases/<id>` with `coupon_ledger.duckdb` and a Parquet file per mart. DuckDB
names the catalog after the file, so the file's name is the same in every release: what a tool stores
about one release (Superset stores `coupon_ledger.marts`) holds for the next. A release of version 0.4
or older is a file `releases/<id>.duckdb` beside a folder of Parquet files; everything that reads,
compares, restores or removes releases knows both forms.

Every rename goes through this module, so that the order of rename and fsync is in one place.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dagster_project.home import fsync_file, fsync_folder
from dagster_project.releases.errors import NoRelease, ReleaseError

_ID = re.compile(r"^(\d{8}T\d{6}Z)-([0-9a-f]{8})$")
_STAMP = "%Y%m%dT%H%M%SZ"
_LEAST = 8  # this many characters of an id are enough, if they match only one
WHAT_IF = "what-if"
"""The folder of questions in a data home: bills recalculated under other terms."""
WHAT_IF_NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""What the name of a question must match."""
SERVING = ("published", "served again", "found served", "restored")
"""Events of the history that make a release current."""
DATABASE_NAME = "coupon_ledger.duckdb"
"""The DuckDB file of every release, in the release's folder."""
REPORT_NAME = "report.html"
"""The report of a release, in its folder; a release of an earlier version has none."""
ABOUT_NAME = "release.json"
"""The file in a release's folder that describes it to readers of Parquet; a release of an earlier version has none."""
_PACK = re.compile(r"close-(\d{4}-\d{2})-(\d{8}T\d{6}Z)")
_PACK_ENTRY = "register.json"
_EARLIER_SUFFIX = ".duckdb"  # a release was a file with this suffix, up to version 0.4
_RECORD_MODE = 0o640  # the publisher appends, a group reads
FILE_MODE = 0o440  # a tool that opens files read-write by default is refused, even its publisher's
FOLDER_MODE = 0o750  # of a release: its publisher and a group of readers, nobody else


def releases_dir(home: Path) -> Path:
    """Return the folder of the retained releases."""
    return home / "releases"


def release_path(home: Path, release_id: str) -> Path:
    """Return the DuckDB file of a release, whichever version wrote it; the file need not exist."""
    if is_what_if(release_id):
        return what_if_link(home, release_id).resolve()
    earlier = releases_dir(home) / f"{release_id}{_EARLIER_SUFFIX}"
    return earlier if earlier.exists() else releases_dir(home) / release_id / DATABASE_NAME


def what_if_link(home: Path, release_id: str) -> Path:
    """Return the link to the release of a question, whose own data home is below this one."""
    return current_link(home / release_id)


def is_what_if(text: str) -> bool:
    """Return whether the text has the form of a release of a question, `what-if/NAME`."""
    folder, _, name = text.partition("/")
    return folder == WHAT_IF and re.fullmatch(WHAT_IF_NAME, name) is not None


def what_ifs(home: Path) -> list[str]:
    """Return the releases of questions that exist, as `what-if/NAME`."""
    folder = home / WHAT_IF
    if not folder.is_dir():
        return []
    names = sorted(f"{WHAT_IF}/{path.name}" for path in folder.iterdir())
    return [name for name in names if is_what_if(name) and what_if_link(home, name).is_file()]


def release_of(path: Path) -> str:
    """Return the id of the release whose DuckDB file this is, by its name alone."""
    return path.parent.name if path.name == DATABASE_NAME else path.stem


def log_of(database: Path) -> Path:
    """Return where DuckDB keeps the write-ahead log of a database file."""
    return database.with_name(database.name + ".wal")


def parquet_dir(home: Path, release_id: str) -> Path:
    """Return the folder with the same marts as Parquet, one file per table."""
    if is_what_if(release_id):
        return release_path(home, release_id).parent
    return releases_dir(home) / release_id


def entries(home: Path, release_id: str) -> list[Path]:
    """Return what a release consists of in the folder of releases: a folder, or in the old form a file."""
    folder, database = parquet_dir(home, release_id), release_path(home, release_id)
    return [folder] if database.parent == folder else [folder, database]


def temporary_dir(home: Path, release_id: str) -> Path:
    """Return the folder in which a release is written before it gets its name."""
    return releases_dir(home) / f"{release_id}.tmp"


def pack_dir(home: Path, release_id: str, month: str, at: datetime) -> Path:
    """Return the folder in which a close stores its pack beside its release."""
    stamp = at.astimezone(UTC).strftime(_STAMP)
    return parquet_dir(home, release_id) / f"close-{month}-{stamp}"


def current_link(home: Path) -> Path:
    """Return the symlink readers open."""
    return home / "current"


def history_path(home: Path) -> Path:
    """Return the append-only record of which release was current when, and of closes."""
    return releases_dir(home) / "history.jsonl"


def closes_path(home: Path) -> Path:
    """Return the append-only register of months closed and reopened."""
    return home / "closes.jsonl"


def is_release_id(text: str) -> bool:
    """Return whether the text has the form of a release id."""
    return _ID.match(text) is not None


def release_ids(home: Path) -> list[str]:
    """Return the ids of the releases on disk, oldest first."""
    folder = releases_dir(home)
    if not folder.is_dir():
        return []
    return sorted({release_id for path in folder.iterdir() if (release_id := _release_in(path))})


def _release_in(path: Path) -> str | None:
    """Return the id of the release in an entry of the folder of releases, None if it is no release."""
    if path.suffix == _EARLIER_SUFFIX and is_release_id(path.stem):
        return path.stem
    if is_release_id(path.name) and (path / DATABASE_NAME).is_file():
        return path.name
    return None


def current_release(home: Path) -> str | None:
    """Return the id of the current release, None if no release has been published yet.

    Raises:
        ReleaseError: `current` exists but does not point to a release.
    """
    link = current_link(home)
    try:
        target = os.readlink(link)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ReleaseError(
            f"{link} is not a symlink ({error.strerror}).",
            "Move it away; `coupon-ledger restore ID` makes a link to a release again.",
        ) from error
    release_id = release_of(Path(target))
    if not is_release_id(release_id) or not (link.parent / target).is_file():
        raise ReleaseError(
            f"{link} points to {target}, which is not a release.",
            "`coupon-ledger releases` lists the retained releases; `coupon-ledger restore ID` makes"
            " one of them current.",
        )
    return release_id


def served_release(home: Path) -> str | None:
    """Return the id of the current release, None also if `current` does not point to a release."""
    try:
        return current_release(home)
    except ReleaseError:
        return None


def resolve(home: Path, release_id: str | None, *, is_recorded: bool = False) -> str:
    """Return the full id of the release asked for, or of the current one; it is on disk.

    Args:
        home: The data home.
        release_id: The release, enough of its id, or `what-if/NAME` for that of a question.
        is_recorded: Whether it must be a release of the recorded data, not of a question.

    Raises:
        NoRelease: No release exists, or not that one; names near matches.
    """
    if release_id is None:
        current = current_release(home)
        if current is None:
            raise NoRelease(
                f"No release has been published in {home} yet.",
                "`coupon-ledger run` makes one.",
            )
        return current
    if release_id.startswith(f"{WHAT_IF}/"):
        return _resolve_what_if(home, release_id, is_recorded)
    if is_release_id(release_id) and release_path(home, release_id).is_file():
        return release_id
    known = release_ids(home)
    if not known:
        raise NoRelease(
            f"There is no release {release_id!r} in {home}: no release has been published there.",
            "`coupon-ledger run` makes one.",
        )
    matches = [known_id for known_id in known if release_id and release_id in known_id]
    if len(matches) == 1 and len(release_id) >= _LEAST:
        return matches[0]
    if len(matches) > 1:
        problem = f"{release_id!r} matches {len(matches)} releases in {home}, the newest"
    elif matches:
        problem = (
            f"{release_id!r} is too short: give at least {_LEAST} characters of the id of a release in"
            f" {home}:"
        )
    else:
        problem = f"There is no release {release_id!r} in {home}; use one of:"
        halves = {half: one for one in known for half in (one, *one.split("-"))}
        near = difflib.get_close_matches(release_id, halves, n=3)
        matches = list(dict.fromkeys(halves[half] for half in near)) or known
    raise NoRelease(f"{problem} {', '.join(matches[-3:])}.")


def _resolve_what_if(home: Path, release_id: str, is_recorded: bool) -> str:
    if is_recorded:
        raise NoRelease(
            f"{release_id} answers a question about other terms: it can neither become current nor"
            " close a month.",
            "`coupon-ledger releases` lists the releases of the recorded data.",
        )
    known = what_ifs(home)
    if release_id in known:
        return release_id
    raise NoRelease(
        f"There is no release {release_id!r} in {home}{one_of(release_id, known)}",
        "`coupon-ledger what-if` makes one.",
    )


def one_of(wanted: str, known: Sequence[str]) -> str:
    """Return the end of a message that there is no such what-if, naming those most like it, or all."""
    near = difflib.get_close_matches(wanted, known, n=3) or known
    return f"; use one of: {', '.join(near)}." if near else "."


def next_release_id(home: Path, now: datetime, content_hash: str) -> str:
    """Return an id after every id ever given here, even when the clock went back."""
    given = [
        *release_ids(home),
        *(str(event["release_id"]) for event in read_history(home)),
    ]
    folder = releases_dir(home)
    if folder.is_dir():
        given += [path.name.split(".")[0] for path in folder.iterdir()]
    stamps = [match.group(1) for match in map(_ID.match, given) if match]
    moment = now.astimezone(UTC).replace(microsecond=0)
    if stamps:
        newest = datetime.strptime(max(stamps), _STAMP).replace(tzinfo=UTC)
        moment = max(moment, newest + timedelta(seconds=1))
    return f"{moment.strftime(_STAMP)}-{content_hash[:8]}"


def flip(home: Path, release_id: str) -> None:
    """Make a release current: one rename, then an fsync."""
    link = current_link(home)
    log_of(link).unlink(missing_ok=True)  # a reader would replay it
    temporary = link.with_name(f".current.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(release_path(home, release_id).relative_to(home))
    os.replace(temporary, link)
    fsync_folder(home)


def remember(home: Path, event: str, release_id: str, now: datetime, **details: object) -> None:
    """Append one line to the history, durably; a line cut by a crash stays a line of its own."""
    line = {
        "at": now.astimezone(UTC).isoformat(timespec="seconds"),
        "event": event,
        "release_id": release_id,
        **details,
    }
    append_line(history_path(home), line)


def read_history(home: Path) -> list[dict[str, Any]]:
    """Return the history, oldest first; a line that is cut or damaged is left out."""
    events = read_lines(history_path(home), passes_over_damage=True)
    return [event for event in events if "release_id" in event]


def append_line(
    path: Path,
    line: Mapping[str, object],
    *,
    is_chained: bool = False,
    mode: int = _RECORD_MODE,
) -> str:
    """Append one JSON object to a file of such lines, durably; only the holder of the lock may.

    A line that a crash cut never took effect and is removed first: anything else that cannot be read
    in such a file is damage.

    Args:
        path: The file, created if absent.
        line: The object.
        is_chained: Whether the line gets the sha256 of the line before it as `previous`.
        mode: Who may read and write a new file, whatever the umask.

    Returns:
        The sha256 of the new line.
    """
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, mode)
    with os.fdopen(descriptor, "r+b") as file:
        if is_new:
            os.fchmod(descriptor, mode)
        *whole, _ = file.read().split(b"\n")
        file.truncate(sum(len(text) + 1 for text in whole))
        file.seek(0, os.SEEK_END)
        if is_chained:
            line = {**line, "previous": _sha256(whole[-1]) if whole else ""}
        text = json.dumps(line).encode()
        file.write(text + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        fsync_folder(path.parent)
    return _sha256(text)


def read_lines(
    path: Path, *, passes_over_damage: bool = False, ends_with: str | None = None
) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines, oldest first, without lines that a crash cut.

    Args:
        path: The file, which need not exist.
        passes_over_damage: Whether damaged lines are left out too.
        ends_with: The sha256 of a line that was written; it must still be there.

    Raises:
        ReleaseError: A line is damaged, does not follow the line it was written after, or is gone.
    """
    *texts, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]
    remedy = f"Restore {path.name} from a backup."
    lines: list[dict[str, Any]] = []
    before = ""
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
            if not isinstance(line, dict):
                raise ValueError("it is not an object")
        except ValueError as error:
            if passes_over_damage:
                continue
            raise ReleaseError(f"Line {number} of {path} is damaged ({error}).", remedy) from error
        is_chained = any("previous" in one for one in (line, *lines[-1:]))
        if is_chained and line.get("previous") != before and not passes_over_damage:
            raise ReleaseError(
                f"Line {number} of {path} does not follow the line it was written after: lines"
                " were changed, removed or inserted.",
                remedy,
            )
        before = _sha256(text)
        lines.append(line)
    if ends_with is not None and ends_with not in map(_sha256, texts):
        raise ReleaseError(f"{path} has lost its end: the entry made last is missing.", remedy)
    return lines


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def remove_leftovers(home: Path) -> list[str]:
    """Remove what a killed publication or removal left, and logs beside files that are read-only.

    DuckDB would replay such a log into the release when someone opens it. Only the holder of the lock
    may call this.
    """
    removed: list[str] = []
    folder = releases_dir(home)
    if not folder.is_dir():
        return removed
    removed += [path.name for path in folder.glob("*/close-*.tmp") if not finish_pack(home, path)]
    unfinished = [
        path
        for path in folder.iterdir()
        if path.is_dir() and is_release_id(path.name) and not release_path(home, path.name).exists()
    ]
    for path in (
        *folder.glob("*.tmp"),
        *folder.glob("*.wal"),
        *folder.glob(f"*/{DATABASE_NAME}.wal"),
        *home.glob("current.wal"),
        *home.glob(".current.*.tmp"),
        *unfinished,
    ):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        removed.append(path.name)
    return removed


def finish_pack(home: Path, temporary: Path) -> bool:
    """Give a close pack its name if its close is in the register, or remove it.

    Only the holder of the lock may call this. It also finishes what a killed close left.

    Args:
        home: The data home.
        temporary: The folder in which the pack was made, beside its final place.

    Returns:
        Whether the pack has its name now.
    """
    named = _PACK.fullmatch(temporary.stem)
    path = closes_path(home)
    *lines, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]
    for text in reversed(lines if named else []):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            line = json.loads(text)
            found = pack_dir(
                home, line["release_id"], line["month"], datetime.fromisoformat(line["at"])
            )
            if line["event"] == "closed" and found.name == temporary.stem:
                entry = temporary / _PACK_ENTRY
                entry.unlink(missing_ok=True)
                entry.write_bytes(text + b"\n")
                make_durable(temporary)
                os.replace(temporary, temporary.with_name(temporary.stem))
                fsync_folder(temporary.parent)
                return True
    shutil.rmtree(temporary)
    return False


def make_durable(folder: Path) -> None:
    """Make the files of a finished folder durable, and readable only by their owner and group."""
    for file in folder.iterdir():
        file.chmod(FILE_MODE)
        fsync_file(file)
    folder.chmod(FOLDER_MODE)
    fsync_folder(folder)
