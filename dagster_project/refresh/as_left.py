"""Whether the files of a build are unchanged since the product wrote them; if so, their rows need not be verified.

DuckDB never changes a block in use: it writes another one, then a header with a number that only grows. So the
headers of a file, and the checksums with which its blocks begin, reveal every write by any program, whatever the
modification time says. DuckDB itself compares a block with its checksum whenever it reads it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from dagster_project.releases.files import log_of
from dagster_project.settings import Settings

_HEADERS: Final = 3 * 4096
_BLOCK: Final = 262_144
_CHECKSUM: Final = 8


def note(settings: Settings) -> None:
    """Note the state of the warehouse and the candidate; if that fails, the next build reads their rows."""
    with suppress(OSError):
        _noted(settings).write_text(_state(settings), "utf-8")


def are_as_left(settings: Settings) -> bool:
    """Return whether the warehouse and the candidate are in the state last noted."""
    try:
        return _noted(settings).read_text("utf-8") == _state(settings)
    except (OSError, ValueError):
        return False


@contextmanager
def kept_up(settings: Settings) -> Iterator[None]:
    """Keep the note up to date while the product writes to the warehouse.

    Afterwards there is no note if the files did not match it before, if something failed, such as reading a damaged
    block, or if the candidate has changed as well.
    """
    is_known = are_as_left(settings)
    candidate = _state_of(settings.candidate) if is_known else ""
    _noted(settings).unlink(missing_ok=True)
    yield
    with suppress(OSError):
        if is_known and _state_of(settings.candidate) == candidate:
            note(settings)


@contextmanager
def forgotten_on_failure(settings: Settings) -> Iterator[None]:
    """Remove the note if something fails, because the candidate may then not be what was tested."""
    try:
        yield
    except BaseException:
        _noted(settings).unlink(missing_ok=True)
        raise


def _noted(settings: Settings) -> Path:
    return settings.build / "as_left"


def _state(settings: Settings) -> str:
    """Return digests of the headers and checksums of both files.

    Raises:
        OSError: A file is missing, or has a write-ahead log, which may hold further changes.
    """
    return f"{_state_of(settings.warehouse)} {_state_of(settings.candidate)}"


def _state_of(path: Path) -> str:
    if log_of(path).exists():
        raise FileExistsError(log_of(path))
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(f"{size} ".encode() + file.read(_HEADERS))
        for start in range(_HEADERS, size, _BLOCK):
            digest.update(os.pread(file.fileno(), _CHECKSUM, start))
    return digest.hexdigest()
