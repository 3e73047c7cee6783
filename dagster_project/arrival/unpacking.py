"""Turns a gzip file into plain bytes, within limits, checked by Python's own gzip.

Here belongs what happens to bytes before they are text, and telling from them that a file is of another
format than its extension says. DuckDB never unpacks a delivery: it accepts
truncated files.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from dagster_project.arrival.landing import Format
from dagster_project.arrival.report import MEBIBYTE, Limits, Refusal

GZIP_MAGIC = b"\x1f\x8b"
PARQUET_MAGIC = b"PAR1"
HEAD_BYTES = 4096


def unpack(packed: Path, target: Path, limits: Limits) -> Path:
    """Unpack a gzip file.

    Args:
        packed: The gzip file.
        target: File to write.
        limits: How much it may unpack to.

    Returns:
        The target.

    Raises:
        Refusal: If it is no gzip file, is cut short or damaged, or unpacks beyond the limits.
    """
    packed_bytes = packed.stat().st_size
    most = min(
        limits.unpacked_bytes,
        max(limits.ratio_free_bytes, packed_bytes * limits.unpacked_ratio),
    )
    written = 0
    try:
        with gzip.open(packed, "rb") as source, target.open("wb") as sink:
            while block := source.read1(MEBIBYTE):
                written += len(block)
                if written > most:
                    raise Refusal(
                        f"its {packed_bytes} bytes unpack to more than the {most} allowed",
                        "deliver it in parts or unpacked, or raise the limit if the file is right",
                    )
                sink.write(block)
    except EOFError as error:
        raise Refusal(
            f"gzip file is cut short after {written} unpacked bytes", "deliver it again, complete"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Refusal(
            f"gzip file is damaged after {written} unpacked bytes ({error})",
            "pack and deliver it again",
        ) from error
    return target


def misnamed(path: Path, form: Format | None, is_packed: bool) -> Refusal | None:
    """Whether a file that cannot be read is of another format than its extension says.

    Args:
        path: The file as delivered.
        form: Its format by its extension.
        is_packed: Whether it is gzipped by its extension.

    Returns:
        What it is and which extension it needs, by its first bytes; None if they do not tell.
    """
    if form not in ("csv", "jsonl"):
        return None
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    named = f".{form}.gz" if is_packed else f".{form}"
    if head.startswith(PARQUET_MAGIC):
        return Refusal(
            f"it is named {named} and is a Parquet file",
            "deliver it with the extension .parquet",
        )
    if not is_packed and head.startswith(GZIP_MAGIC):
        return Refusal(
            f"it is named {named} and is a gzip file",
            f"deliver it with the extension .{form}.gz, or unpacked",
        )
    if is_packed and not head.startswith(GZIP_MAGIC) and _is_text(head):
        return Refusal(
            f"it is named {named} and is plain text, no gzip file",
            f"deliver it with the extension .{form}, or pack it with gzip",
        )
    return None


def _is_text(head: bytes) -> bool:
    """Whether the first bytes of a file are UTF-8 without NUL; a character may be cut at their end."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return b"\0" not in head
