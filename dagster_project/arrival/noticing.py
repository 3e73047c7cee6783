"""Noticing deliveries that no run has seen, by their content, once they have stopped growing.

What a sensor asks every minute or so belongs here. It reads names, sizes and the archive's records, and
bytes only if the size does not decide. Nothing here writes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dagster_project.arrival.archive import (
    Archive,
    SideRecord,
    identity_of,
    pseudo_sha256,
    sha256_of_landed,
)
from dagster_project.arrival.landing import MANIFEST_SUFFIX, LandedFile, find_landed
from dagster_project.arrival.manifest import read_manifest
from dagster_project.arrival.report import Refusal
from dagster_project.feeds import feeds

Marks = dict[str, str]

TRIED_AGAIN_SECONDS = 900
"""The time after which a file that was refused for lack of space, memory or a working disk is new again."""


@dataclass(frozen=True)
class Memory:
    """What is remembered from one look to the next.

    Attributes:
        settled: The digest of the landing folder's state in which a run had seen every file.
        growing: Size and times of each file that no run has seen, and when they were first seen, by name.
    """

    settled: str = ""
    growing: dict[str, tuple[str, float]] | None = None

    @classmethod
    def parse(cls, text: str | None) -> Memory:
        """Return what an earlier look left; nothing, if that cannot be parsed."""
        try:
            content = json.loads(text or "{}")
            growing = {
                str(name): (str(mark), float(at))
                for name, (mark, at) in content.get("growing", {}).items()
            }
            return cls(str(content.get("settled", "")), growing)
        except (ValueError, TypeError, AttributeError):
            return cls()

    def __str__(self) -> str:
        """Return the memory as text for the next look."""
        return json.dumps({"settled": self.settled, "growing": self.growing or {}})


@dataclass(frozen=True)
class Noticed:
    """What a look at the landing folder found.

    Attributes:
        new: Names of the files that no run has seen.
        waiting: Those of them that may not be whole yet.
        state: A digest of the new files, which differs if there are others or one has changed.
        memory: For the next look.
    """

    new: tuple[str, ...]
    waiting: tuple[str, ...]
    state: str
    memory: Memory


def notice(landing: Path, home: Path, settle_seconds: int, now: float, memory: Memory) -> Noticed:
    """Look for deliveries that no run has seen.

    A file is new if its feed never had its bytes, or had them refused under another name or beside another
    manifest. It waits until it has been seen unchanged for as long as it must settle, by this machine's
    clock alone, because the times of files come from the clocks of their writers. A file that was refused
    through no fault of its own, such as for a full disk, is new again after a while.

    Args:
        landing: The landing folder.
        home: The data home.
        settle_seconds: How long size and times of a file must have stayed the same.
        now: The current time in seconds since 1970.
        memory: What the previous look left.

    Raises:
        ArrivalError: The landing folder cannot be listed, or the archive is damaged.
    """
    landed = find_landed(landing, list(feeds()), time.time() - settle_seconds)
    marks = {file.file_name: _mark(file) for file in landed}
    state = _digest(marks)
    if state == memory.settled:
        return Noticed((), (), state, memory)
    archive = Archive(home / "archive", home / "build" / "tmp")
    known = _Known(archive.records(archive.delivery_ids()))
    new = [file.file_name for file in landed if not known.has_seen(file, now)]
    tried = {
        file.file_name: record.arrived_at for file in landed if (record := known.to_be_tried(file))
    }
    if not new:
        return Noticed((), (), state, Memory(settled="" if tried else state))
    before = memory.growing or {}
    growing = {
        name: before[name] if before.get(name, ("",))[0] == marks[name] else (marks[name], now)
        for name in new
    }
    waiting = tuple(name for name in new if now - growing[name][1] < settle_seconds)
    state = _digest({name: f"{marks[name]} {tried.get(name, '')}" for name in new})
    return Noticed(tuple(new), waiting, state, Memory(growing=growing))


class _Known:
    """The archive's records, by what is visible of a file without reading it, and by its bytes."""

    def __init__(self, records: Sequence[SideRecord]) -> None:
        self._by_place = {
            (one.feed, one.file_name, one.size_bytes, one.modified_ns): one
            for one in records
            if one.sha256 is not None
        }
        self._by_bytes = {(one.feed, one.identity): one for one in records}
        self._sizes = {(one.feed, one.size_bytes) for one in records if one.sha256 is not None}
        self._ids = {one.delivery_id for one in records}
        self._last = {(one.feed, one.file_name): one for one in records}

    def to_be_tried(self, file: LandedFile) -> SideRecord | None:
        """Return a file's last refusal, unchanged since, if it was not the file's own fault."""
        last = self._last.get((file.feed, file.file_name))
        if last is None or not last.is_to_be_tried_again:
            return None
        is_same = (last.size_bytes, last.modified_ns) == (file.size_bytes, file.modified_ns)
        return last if is_same else None

    def has_seen(self, file: LandedFile, now: float) -> bool:
        """Return whether a run has taken this file, or the same bytes for the same feed.

        Args:
            file: The file.
            now: The current time in seconds since 1970.
        """
        tried = self.to_be_tried(file)
        if tried is not None:
            at = datetime.fromisoformat(tried.arrived_at).replace(tzinfo=UTC).timestamp()
            return 0 <= now - at < TRIED_AGAIN_SECONDS
        if not file.is_readable:
            assert file.refusal is not None
            return pseudo_sha256(file, file.refusal) in self._ids
        place = (file.feed, file.file_name, file.size_bytes, file.modified_ns)
        record = self._by_place.get(place)
        if record is None:
            last = self._last.get((file.feed, file.file_name))
            was_unread = last is not None and last.sha256 is None
            if not was_unread and (file.feed, file.size_bytes) not in self._sizes:
                return False
            try:
                identity = identity_of(sha256_of_landed(file), file.given)
            except Refusal as refusal:
                return pseudo_sha256(file, refusal) in self._ids
            record = self._by_bytes.get((file.feed, identity))
        if record is None:
            return False
        if record.verdict != "refused":
            return True
        # Under another name or beside another manifest, arrival may judge it differently.
        return record.file_name == file.file_name and record.manifest == _manifest(file)


def _manifest(file: LandedFile) -> str | None:
    try:
        return read_manifest(file)
    except Refusal as refusal:
        return str(refusal)


def _mark(file: LandedFile) -> str:
    manifest = file.path.with_name(file.path.name + MANIFEST_SUFFIX)
    try:
        status = manifest.lstat()
        beside = f"{status.st_size} {status.st_mtime_ns}"
    except OSError:
        beside = "-"
    try:
        changed = file.path.lstat().st_ctime_ns  # it also changes with the file's rights
    except OSError:
        changed = 0
    return f"{file.size_bytes} {file.modified_ns} {changed} {beside}"


def _digest(marks: Marks) -> str:
    digest = hashlib.sha256()
    for name in sorted(marks):
        digest.update(f"{name}\0{marks[name]}\n".encode())
    return digest.hexdigest()
