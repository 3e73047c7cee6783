"""What arrival reports about a delivery, its limits, and the two ways in which it can stop.

The plain data types that the modules of this package pass to one another belong here. Code that reads a
file or a database does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["loaded", "refused", "known"]
Severity = Literal["error", "warn"]

MEBIBYTE = 1024 * 1024
OWN_TROUBLE_REMEDY = "check free space and permissions of the data home, then run again"


@dataclass(frozen=True)
class Limits:
    """How far arrival trusts a delivered file.

    Attributes:
        unpacked_bytes: Most bytes that a gzip file or the pages of a Parquet file may unpack to.
        unpacked_ratio: Most times its size that such a file may unpack to.
        ratio_free_bytes: Bytes up to which the ratio is not checked, since small files of few values
            pack very well.
        line_bytes: Longest line or record of a text file. Reading one takes several times its size: as
            Python's text, as fields, as a batch.
        columns: Most columns of a file.
        parquet_seconds: Longest time that reading one Parquet file, or small ones together, may take.
        parquet_memory_bytes: Most memory, as address space, that reading one Parquet file may take.
        memory_megabytes: Memory that DuckDB may use before it writes to disk.
    """

    unpacked_bytes: int = 64 * 1024 * MEBIBYTE
    unpacked_ratio: int = 200
    ratio_free_bytes: int = 64 * MEBIBYTE
    line_bytes: int = 16 * MEBIBYTE
    columns: int = 20_000
    parquet_seconds: int = 3_600
    parquet_memory_bytes: int = 8 * 1024 * MEBIBYTE
    memory_megabytes: int = 2_000


@dataclass(frozen=True)
class GateResult:
    """One check of the supplier's gate on one delivery.

    Attributes:
        check_name: Name of the check.
        severity: `error` refuses the file, `warn` is reported.
        passed: Whether the delivery passes.
        observed: What was seen, in words and counts; never personal data.
    """

    check_name: str
    severity: Severity
    passed: bool
    observed: str


@dataclass(frozen=True)
class DeliveryReport:
    """What became of one file of the landing folder.

    Attributes:
        feed: Feed, or the name of the folder if that is not a feed.
        file_name: Path relative to the landing folder.
        delivery_id: Identifies the delivery (`SideRecord`).
        verdict: `loaded`, `refused`, or `known` if the feed had these bytes before.
        reason: Why it was refused; for a known one, why it was refused then; else None.
        remedy: What to do about a refusal, else None.
        physical_rows: Records in the file, malformed ones included, blank lines not.
        loaded_rows: Rows written to `raw.<feed>`.
        malformed_rows: Rows written to `raw.malformed_rows`.
        blank_rows: Blank lines.
        gate_failures: Checks of the gate that do not hold.
        seconds: Time it took.
        is_again: Whether an earlier run came to the same verdict, so that it was only loaded again from the archive.
    """

    feed: str
    file_name: str
    delivery_id: str
    verdict: Verdict
    reason: str | None = None
    remedy: str | None = None
    physical_rows: int = 0
    loaded_rows: int = 0
    malformed_rows: int = 0
    blank_rows: int = 0
    gate_failures: tuple[GateResult, ...] = ()
    seconds: float = 0.0
    is_again: bool = False


class Refusal(Exception):
    """A whole file is refused; the other files go on.

    Attributes:
        reason: What is wrong, with the place in the file if there is one.
        remedy: What the supplier or the operator can do.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        """Keep the reason and the remedy."""
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


class TransientRefusal(Refusal):
    """A file is refused through no fault of its own; the next run judges it again."""


class ArrivalError(Exception):
    """Arrival itself cannot go on, for instance because the archive is damaged or the disk is full."""
