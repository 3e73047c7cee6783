"""The archive: every delivered byte under its sha256, and beside it what is known about the delivery.

Everything that writes to `archive/` belongs here. A file there is written aside, fsynced and renamed, so
it is whole or absent; its bytes never change afterwards. A side record holds enough to rebuild the
warehouse without the landing folder: where the delivery came from, its place in the order, and, once it
has been judged, the verdict.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, BinaryIO

from dagster_project.arrival.landing import Format, LandedFile, unreadable
from dagster_project.arrival.report import (
    MEBIBYTE,
    ArrivalError,
    DeliveryReport,
    GateResult,
    Refusal,
    TransientRefusal,
    Verdict,
)
from dagster_project.digests import sha256_of
from dagster_project.home import fsync_folder

BLOCK = MEBIBYTE
RESERVE_BYTES = 16 * MEBIBYTE
"""The space that a copy of a delivery leaves free on the disk of the data home."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class SideRecord:
    """What the archive knows about one delivery; stored beside its bytes as `<delivery_id>.json`.

    Attributes:
        delivery_id: Its identity; `<identity>-2` … if another feed had the same before.
        delivery_sequence: Place in the order of all deliveries.
        feed: Feed, or name of the folder.
        file_name: Path relative to the landing folder.
        sha256: The sha256 of the bytes; None if they could not be read.
        size_bytes: Size of the bytes.
        modified_ns: Modification time in the landing folder, nanoseconds since 1970.
        arrived_at: When the run that first saw it started, ISO 8601, UTC.
        run_id: The run that first saw it.
        format: Format by its name, None if unknown.
        is_packed: Whether it is gzipped.
        manifest: Content of its manifest, if there was one beside it.
        circumstances: Digests of what else its verdicts depended on, one for each time it was judged. A
            refused file is judged again if it comes in circumstances that are none of these.
        verdict: None until judged.
        reason: Why it was refused.
        remedy: What to do about that.
        gate: Results of the gate, None until it ran.
        physical_rows: Records in the file, as far as they were counted.
        blank_rows: Blank lines.
        unknown_columns: Columns of the file that the feed does not have.
        given: Columns that folders named `column=value` give it, sorted by name.
    """

    delivery_id: str
    delivery_sequence: int
    feed: str
    file_name: str
    sha256: str | None
    size_bytes: int
    modified_ns: int
    arrived_at: str
    run_id: str
    format: Format | None
    is_packed: bool
    manifest: str | None
    circumstances: tuple[str, ...]
    verdict: Verdict | None = None
    reason: str | None = None
    remedy: str | None = None
    gate: tuple[GateResult, ...] | None = None
    physical_rows: int = 0
    blank_rows: int = 0
    unknown_columns: tuple[str, ...] = ()
    given: tuple[tuple[str, str | None], ...] = ()

    @property
    def identity(self) -> str:
        """Identifies its content: its bytes, with the columns that its folder gives."""
        return self.delivery_id.partition("-")[0]

    @property
    def is_to_be_tried_again(self) -> bool:
        """Whether it was refused through no fault of its own, such as for a full disk."""
        return self.verdict == "refused" and not self.circumstances

    @property
    def modified_at(self) -> datetime:
        """Modification time as an instant without zone, UTC."""
        try:
            return datetime(1970, 1, 1) + timedelta(microseconds=self.modified_ns // 1_000)
        except OverflowError:
            return datetime.max if self.modified_ns > 0 else datetime.min

    @property
    def refusal(self) -> Refusal | None:
        """The refusal recorded, if it was refused."""
        if self.verdict != "refused":
            return None
        return Refusal(self.reason or "refused", self.remedy or "deliver it again")

    def refused(self, refusal: Refusal) -> SideRecord:
        """Return the same record with a refusal."""
        return replace(self, verdict="refused", reason=refusal.reason, remedy=refusal.remedy)

    def report(self, seconds: float) -> DeliveryReport:
        """Return a report of this delivery, without the rows that were loaded."""
        return DeliveryReport(
            feed=self.feed,
            file_name=self.file_name,
            delivery_id=self.delivery_id,
            verdict=self.verdict or "known",
            reason=self.reason,
            remedy=self.remedy,
            physical_rows=self.physical_rows,
            blank_rows=self.blank_rows,
            gate_failures=tuple(result for result in self.gate or () if not result.passed),
            seconds=seconds,
        )


class Archive:
    """The folder `archive/` of one data home."""

    def __init__(self, folder: Path, temporary: Path) -> None:
        """Name the folders.

        Args:
            folder: The archive itself.
            temporary: Where files are written before they are renamed; on the same file system.
        """
        self.folder = folder
        self.temporary = temporary

    def bytes_path(self, sha256: str) -> Path:
        """Return where the bytes of this sha256 are stored."""
        return self.folder / sha256[:2] / sha256

    def record_path(self, delivery_id: str) -> Path:
        """Return where the side record of this delivery is stored."""
        return self.folder / delivery_id[:2] / f"{delivery_id}.json"

    def delivery_ids(self) -> set[str]:
        """Return the ids of all deliveries in the archive, from the names of their side records."""
        return {
            path.name.removesuffix(".json") for path in self.folder.glob("[0-9a-f][0-9a-f]/*.json")
        }

    def records(self, delivery_ids: set[str]) -> list[SideRecord]:
        """Return the side records of these deliveries, in the order of all deliveries."""
        found = [self.read_record(delivery_id) for delivery_id in delivery_ids]
        return sorted(found, key=lambda record: record.delivery_sequence)

    def read_record(self, delivery_id: str) -> SideRecord:
        """Return the side record of one delivery.

        Raises:
            ArrivalError: If it cannot be read or is not one.
        """
        path = self.record_path(delivery_id)
        try:
            content = json.loads(path.read_bytes())
            gate = content.pop("gate")
            return SideRecord(
                circumstances=tuple(content.pop("circumstances")),
                unknown_columns=tuple(content.pop("unknown_columns")),
                given=tuple((name, value) for name, value in content.pop("given", ())),
                gate=None if gate is None else tuple(GateResult(**result) for result in gate),
                **content,
            )
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArrivalError(
                f"{path}: not a side record of the archive ({error}); "
                "restore the file from a backup, or remove it to forget the delivery"
            ) from error

    def write_record(self, record: SideRecord) -> None:
        """Write a side record, whole or not at all."""
        temporary = self.temporary / f"{record.delivery_id}.json"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(asdict(record), file, indent=1, ensure_ascii=True)
            file.write("\n")
            _sync(file)
        self._put(temporary, self.record_path(record.delivery_id))

    def store(self, landed: LandedFile) -> tuple[str, int]:
        """Copy a landed file into the archive, reading it once.

        Args:
            landed: The file; its bytes are read from the landing folder here and nowhere else.

        Returns:
            The sha256 and the size of the bytes kept.

        Raises:
            Refusal: If it cannot be read, or changed while it was read.
        """
        temporary = self.temporary / "incoming"
        digest = hashlib.sha256()
        with _open_landed(landed) as source:
            before = os.fstat(source.fileno())
            if before.st_size > shutil.disk_usage(self.temporary).free - RESERVE_BYTES:
                raise too_large(before.st_size)
            try:
                with temporary.open("wb") as target:
                    while block := _read(source):
                        digest.update(block)
                        target.write(block)
                    after = os.fstat(source.fileno())
                    _sync(target)
                    size = target.tell()
            except OSError as error:
                temporary.unlink(missing_ok=True)
                if error.errno in FULL:
                    raise too_large(before.st_size) from error
                raise
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise Refusal(
                "it was still being written while it was read",
                "nothing: the next run takes it; better deliver as .part and rename when complete",
            )
        sha256 = digest.hexdigest()
        path = self.bytes_path(sha256)
        if path.exists() and sha256_of(path) == sha256:
            temporary.unlink()
        else:
            temporary.chmod(0o400)
            self._put(temporary, path)
        return sha256, size

    def check_bytes(self, record: SideRecord) -> None:
        """Make sure that the archive still has the bytes of a delivery, unchanged.

        Raises:
            ArrivalError: If the bytes are gone or changed.
        """
        if record.sha256 is None:
            return
        path = self.bytes_path(record.sha256)
        remedy = (
            f"restore {path.name} from a backup; or remove it, deliver the file again and run again"
        )
        try:
            found = sha256_of(path)
        except OSError as error:
            raise ArrivalError(
                f"{path}: cannot be read ({error.strerror}), delivered as {record.file_name}; {remedy}"
            ) from error
        if found != record.sha256:
            raise ArrivalError(
                f"{path}: changed since it was archived, delivered as {record.file_name}; {remedy}"
            )

    def _put(self, temporary: Path, path: Path) -> None:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fsync_folder(path.parent.parent)
        os.replace(temporary, path)
        fsync_folder(path.parent)


def sha256_of_landed(landed: LandedFile) -> str:
    """Return the sha256 of a landed file, only to find out whether the file is known.

    Raises:
        Refusal: If it cannot be read.
    """
    digest = hashlib.sha256()
    with _open_landed(landed) as source:
        while block := _read(source):
            digest.update(block)
    return digest.hexdigest()


def identity_of(sha256: str, given: tuple[tuple[str, str | None], ...]) -> str:
    """Return the identity of a delivery's content: the sha256, unless its folder gives columns.

    Args:
        sha256: Of its bytes.
        given: The columns, sorted by name.
    """
    if not given:
        return sha256
    return hashlib.sha256(json.dumps([sha256, given]).encode()).hexdigest()


def too_large(size: int) -> TransientRefusal:
    """Return the refusal of a delivery that does not fit on the disk of the data home.

    Args:
        size: Its size in bytes.
    """
    return TransientRefusal(
        f"it has {size} bytes, more than can be copied to the disk of the data home",
        "free space there and run again",
    )


def pseudo_sha256(landed: LandedFile, refusal: Refusal) -> str:
    """Return an id for a delivery whose bytes may not or cannot be read, from its place and the reason."""
    text = json.dumps(["not read", landed.feed, landed.file_name, refusal.reason])
    return hashlib.sha256(text.encode()).hexdigest()


def _open_landed(landed: LandedFile) -> BinaryIO:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        path = landed.path.resolve(strict=True) if landed.path.is_symlink() else landed.path
        descriptor = os.open(path, flags)
    except (OSError, RuntimeError) as error:
        raise unreadable(error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refusal("it is not a regular file", "deliver a regular file")
    return os.fdopen(descriptor, "rb", buffering=0)


def _read(source: BinaryIO) -> bytes:
    try:
        return source.read(BLOCK)
    except OSError as error:
        raise unreadable(error) from error


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())
