"""Turns a gzip file into plain bytes, within limits, checked by Python's own gzip.

Here belongs what happens to bytes before they are text. DuckDB never unpacks a delivery: it accepts
truncated files.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from dagster_project.arrival.report import MEBIBYTE, Limits, Refusal


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
            while block := source.read(MEBIBYTE):
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
