"""Lack of disk space, memory or rights to files: what has happened, and what to do about it.

Turning errors of the operating system and of DuckDB into messages for people belongs here; deciding
what is written, and in which order, does not.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from dagster_project.releases.errors import ReleaseError

FREE_SPACE = "Free space (`coupon-ledger prune --keep N` removes old releases) and run again."
MORE_MEMORY = (
    "Let DuckDB use more memory (COUPON_LEDGER_MEMORY_LIMIT, 4GB unless it is set; half of the machine's"
    " is a good start) or do less at a time (COUPON_LEDGER_THREADS=1), and run again."
)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def is_full(text: str) -> bool:
    """Return whether a message of any program is about a full disk."""
    return "No space left" in text or "Disk quota exceeded" in text


def is_out_of_memory(text: str) -> bool:
    """Return whether a message, DuckDB's or one that quotes it, is about DuckDB's memory limit."""
    return "Out of Memory Error" in text


def without_advice(text: str) -> str:
    """Remove DuckDB's advice for programmers from a message."""
    return re.sub(r"\s*Possible solutions:.*", "", text, flags=re.DOTALL)


def explanation(home: Path, error: BaseException) -> ReleaseError | None:
    """Explain an error about a data home's disk or about memory; None if about something else."""
    if not isinstance(error, OSError | duckdb.Error):
        return None
    text = " ".join(str(error).split())
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL or is_full(text):
        free = shutil.disk_usage(home).free // 1_000_000 if home.exists() else 0
        return ReleaseError(f"The disk of {home} is full ({free} MB left): {text}", FREE_SPACE)
    if is_out_of_memory(text):
        return ReleaseError(without_advice(text), MORE_MEMORY)
    refused = "ermission denied" in text or "Read-only file system" in text
    if number in _REFUSED or refused:
        named = getattr(error, "filename", None)
        if named and not Path(str(named)).is_relative_to(home):
            return ReleaseError(
                f"{named} cannot be read or written: {text}",
                "Give this user the right to read and write it, and run again.",
            )
        return ReleaseError(
            f"{home} cannot be written: {text}",
            "Give this user the right to write there, and run again.",
        )
    return None


@contextmanager
def explained(home: Path, failed: str = "", remedy: str = "") -> Iterator[None]:
    """Turn an error of the disk or of DuckDB into what happened and what to do.

    Args:
        home: The data home.
        failed: What failed, for other errors than the machine's; without it, these are raised unchanged.
        remedy: What to do then.

    Raises:
        ReleaseError: What happened and what to do.
    """
    try:
        yield
    except (OSError, duckdb.Error) as error:
        meaning = explanation(home, error)
        if meaning is None and failed:
            meaning = ReleaseError(f"{failed}: {' '.join(str(error).split())}", remedy)
        if meaning is None:
            raise
        raise meaning from error
