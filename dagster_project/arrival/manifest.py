"""The optional manifest beside a delivery: the sender's statement of its content.

Reading and comparing `<file>.manifest.json` belongs here. Only a manifest reveals a file that was cut
exactly at the end of a line.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from dataclasses import dataclass
from decimal import Decimal

from dagster_project.arrival.landing import MANIFEST_SUFFIX, LandedFile, is_own_trouble
from dagster_project.arrival.report import MEBIBYTE, Refusal, TransientRefusal
from dagster_project.feeds import Feed

UNREADABLE = "the manifest cannot be read"
NOT_UTF8 = "the manifest cannot be read as UTF-8"
REMEDY = "deliver the file again, complete, with a manifest that describes it"


@dataclass(frozen=True)
class ControlTotal:
    """The sum of one amount column over all rows."""

    column: str
    total: Decimal


@dataclass(frozen=True)
class Manifest:
    """What a manifest promises; None for what it does not state."""

    sha256: str | None = None
    rows: int | None = None
    control_total: ControlTotal | None = None


def read_manifest(landed: LandedFile) -> str | None:
    """Return the text of the manifest beside a landed file, None if there is no manifest.

    A manifest that cannot be read as text is returned as a text that is not a manifest, so that it is
    refused when it is parsed, and refused again when the warehouse is rebuilt.

    Raises:
        TransientRefusal: If the disk, the network or this machine is to blame.
    """
    path = landed.path.with_name(landed.path.name + MANIFEST_SUFFIX)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            return None
        return _unreadable(error)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return UNREADABLE
    with os.fdopen(descriptor, "rb") as file:
        try:
            return file.read(MEBIBYTE).decode("utf-8-sig")
        except OSError as error:
            return _unreadable(error)
        except UnicodeDecodeError:
            return NOT_UTF8


def _unreadable(error: OSError) -> str:
    """Return the text that represents an unreadable manifest.

    Raises:
        TransientRefusal: If the disk, the network or this machine is to blame.
    """
    if not is_own_trouble(error) or error.errno == errno.ENXIO:  # a socket
        return UNREADABLE
    raise TransientRefusal(
        f"its manifest cannot be read at the moment ({error.strerror})",
        "nothing is wrong with the file: check the disk or the network share it is on, and run again",
    ) from error


def parse_manifest(text: str, feed: Feed) -> Manifest:
    """Parse a manifest.

    Args:
        text: Its text: an object with any of `sha256`, `rows`, `control_total`.
        feed: The feed whose amount columns a control total may name.

    Raises:
        Refusal: If it is not a manifest.
    """
    if text == UNREADABLE:
        raise Refusal(
            "its manifest cannot be read, or is no regular file",
            f"check it and its permissions, or {REMEDY}",
        )
    if text == NOT_UTF8:
        raise Refusal("its manifest is not UTF-8", REMEDY)
    try:
        content = json.loads(text, parse_float=_Number)
    except (ValueError, RecursionError) as error:
        raise Refusal(f"its manifest is not JSON ({error})", REMEDY) from error
    if not isinstance(content, dict) or not content.keys() <= {"sha256", "rows", "control_total"}:
        raise Refusal(
            "its manifest is not an object with sha256, rows and control_total only", REMEDY
        )
    sha256, rows = content.get("sha256"), content.get("rows")
    if sha256 is not None and not (
        isinstance(sha256, str) and re.fullmatch("[0-9a-fA-F]{64}", sha256)
    ):
        raise Refusal(f"its manifest has the sha256 {sha256!r:.80}: not 64 hex digits", REMEDY)
    if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 0):
        raise Refusal(f"its manifest has rows {rows!r:.80}: not a whole number", REMEDY)
    return Manifest(
        sha256.lower() if sha256 else None,
        rows,
        _control_total(content.get("control_total"), feed),
    )


class _Number(str):
    """The digits of a number with a point or an exponent, which may be too large to calculate with."""


def _control_total(content: object, feed: Feed) -> ControlTotal | None:
    if content is None:
        return None
    amounts = [column.name for column in feed.columns if column.type == "amount"]
    if not isinstance(content, dict) or content.keys() != {"column", "total"}:
        raise Refusal("its manifest's control_total is not an object of column and total", REMEDY)
    column, total = content["column"], str(content["total"])
    if column not in amounts:
        raise Refusal(
            f"its manifest's control_total names {column!r:.80}, "
            f"which is no amount column ({', '.join(amounts) or 'the feed has none'})",
            REMEDY,
        )
    if not re.fullmatch(r"-?[0-9]{1,30}([.][0-9]{1,8})?", total, re.ASCII):
        raise Refusal(f"its manifest's control_total {total!r:.80} is not an amount", REMEDY)
    return ControlTotal(column, Decimal(total))


def check_sha256(manifest: Manifest, sha256: str) -> None:
    """Compare the bytes.

    Raises:
        Refusal: If they are not those the manifest describes.
    """
    if manifest.sha256 not in (None, sha256):
        raise Refusal(
            f"its sha256 is {sha256}, its manifest says {manifest.sha256}",
            REMEDY,
        )


def check_rows(manifest: Manifest, rows: int) -> None:
    """Compare the number of records.

    Raises:
        Refusal: If the file has more or fewer than the manifest says.
    """
    if manifest.rows not in (None, rows):
        has = "1 row" if rows == 1 else f"{rows} rows"
        raise Refusal(f"it has {has}, its manifest says {manifest.rows}", REMEDY)


def check_total(manifest: Manifest, total: Decimal) -> None:
    """Compare the control total.

    Args:
        manifest: The manifest, with a control total.
        total: Exact sum of the column over all rows where it is an amount.

    Raises:
        Refusal: If it is not the sum the manifest says.
    """
    promised = manifest.control_total
    if promised is not None and promised.total != total:
        raise Refusal(
            f"the sum of {promised.column} is {total.normalize():f}, "
            f"its manifest says {promised.total:f}",
            REMEDY,
        )
