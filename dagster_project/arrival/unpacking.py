"""Unpacking a gzip file into plain bytes, within limits, checked by Python's own gzip.

What happens to bytes before they are text belongs here, and recognising from them that a file is not of the
format that its extension says. DuckDB never unpacks a delivery, because it accepts truncated files.
"""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from dagster_project.arrival.landing import EXTENSIONS, OTHER_KINDS, SPREADSHEET, Format
from dagster_project.arrival.report import MEBIBYTE, Limits, Refusal

GZIP_MAGIC = b"\x1f\x8b"
PARQUET_MAGIC = b"PAR1"
HEAD_BYTES = 4096
EXTENSIONS_BY_LENGTH = sorted(EXTENSIONS, key=len)
GZIP_REMEDY = "deliver it unpacked, or packed with gzip as .csv.gz"
EXPORT_REMEDY = "export it as CSV, JSON Lines or Parquet"
UTF_8_REMEDY = (
    'save it in UTF-8 (Excel: "CSV UTF-8"; PowerShell: -Encoding utf8; SQL Server: code page 65001)'
)
ZIP_MAGIC = b"PK\x03\x04"
OFFICE_NAMES = (b"[Content_Types]", b"_rels/", b"docProps/", b"xl/", b"mimetype", b"Index/")
"""The beginnings of the name of the first entry in a ZIP archive that is a spreadsheet."""
UTF_16_BYTES = 64
"""In how many first bytes text in UTF-16 is recognised: every second one is NUL."""
ZIP_REMEDY = OTHER_KINDS[".zip"][1]
TAR_MAGIC_AT = 257
ZIP_NAME_AT = 30
"""The position of that name in the archive."""


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
                        "deliver it unpacked or in parts",
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


@dataclass(frozen=True)
class Kind:
    """What the first bytes of a file reveal.

    Attributes:
        name: What it is, in words.
        remedy: How to deliver it.
        is_container: Whether files of many kinds begin in this way, so that a file's name may say more.
    """

    name: str
    remedy: str
    is_container: bool = False


MAGIC = {
    PARQUET_MAGIC: Kind("a Parquet file", "deliver it with the extension .parquet"),
    b"\xd0\xcf\x11\xe0": Kind("a spreadsheet (Excel 97)", SPREADSHEET[1]),
    b"\x28\xb5\x2f\xfd": Kind("compressed with Zstandard", GZIP_REMEDY),
    b"BZh": Kind("compressed with bzip2", GZIP_REMEDY),
    b"\xfd7zXZ": Kind("compressed with xz", GZIP_REMEDY),
    b"\x04\x22\x4d\x18": Kind("compressed with LZ4", GZIP_REMEDY),
    b"ORC": Kind("an ORC file", EXPORT_REMEDY),
    b"Obj\x01": Kind("an Avro file", EXPORT_REMEDY),
    b"ARROW1": Kind("an Arrow file", EXPORT_REMEDY),
    b"SQLite format 3": Kind("a SQLite database", EXPORT_REMEDY),
    b"%PDF": Kind("a PDF file", EXPORT_REMEDY),
    b"version https://git-lfs": Kind(
        "a pointer of Git LFS, not the file itself",
        "fetch the file (git lfs pull) and deliver that",
    ),
    codecs.BOM_UTF16_LE: Kind("text in UTF-16", UTF_8_REMEDY),
    codecs.BOM_UTF16_BE: Kind("text in UTF-16", UTF_8_REMEDY),
}
"""What files that are not text in UTF-8 are, by how they begin."""


def kind_of(path: Path) -> Kind | None:
    """Return what a file is by its first bytes, whatever its name; None if they do not tell."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    if head.startswith(ZIP_MAGIC):
        if head[ZIP_NAME_AT:].startswith(OFFICE_NAMES):
            return Kind("a spreadsheet", SPREADSHEET[1])
        return Kind("a ZIP archive", ZIP_REMEDY, is_container=True)
    if head.startswith(GZIP_MAGIC):
        return Kind(
            "a gzip file",
            "deliver it with the extension .csv.gz or .jsonl.gz, or unpacked",
            is_container=True,
        )
    if head[TAR_MAGIC_AT:].startswith(b"ustar"):
        return Kind("a tar archive", ZIP_REMEDY)
    if head and not head.strip(b"\0"):
        return Kind("nothing but NUL bytes", "deliver it again: it was reserved and never written")
    if b"\0" in head and not all(map(any, (head[1:UTF_16_BYTES:2], head[:UTF_16_BYTES:2]))):
        return Kind("text in UTF-16", UTF_8_REMEDY)
    if not _is_text(head):
        return None
    text = head.decode("utf-8-sig", "ignore").lstrip()
    if text.startswith("{"):
        return Kind("JSON", "deliver it with the extension .jsonl or .json")
    if re.match(r"\[\s*[^\sa-zA-Z.]", text):
        return Kind("an array of JSON", "deliver it with the extension .json")
    if text.startswith("<"):
        return Kind("a web page or XML", EXPORT_REMEDY)
    line = text.partition("\n")[0]
    if line.count(",") > max(line.count("\t"), line.count(";"), line.count("|")):
        return Kind("text with commas", "deliver it with the extension .csv, if it has a header")
    return None


def misnamed(
    path: Path, file_name: str, form: Format | None, unpacked: Path | None
) -> Refusal | None:
    """Return a refusal if an unreadable file has another format than its extension says.

    Args:
        path: The file as delivered.
        file_name: How it is named.
        form: Its format by its extension.
        unpacked: What its gzip file holds, where it is one.

    Returns:
        What it is and which extension it needs, by its first bytes; None if they do not tell.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    lowered = file_name.lower()
    named = next(name for name in reversed(EXTENSIONS_BY_LENGTH) if lowered.endswith(name))
    plain = named.removesuffix(".gz")
    if form == "parquet":
        kind = None if head.startswith(PARQUET_MAGIC) else kind_of(path)
        return Refusal(f"it is named {named} and is {kind.name}", kind.remedy) if kind else None
    if head.startswith(GZIP_MAGIC):
        if named == plain:
            return Refusal(
                f"it is named {named} and is a gzip file",
                f"deliver it with the extension {plain}.gz, or unpacked",
            )
        found = None if unpacked is None else kind_of(unpacked)
        if found is None or not _is_other(form, found, unpacked):
            return None
        twice = "pack it once" if found.name == "a gzip file" else found.remedy
        return Refusal(f"the gzip file holds {found.name}", twice)
    if named != plain and _is_text(head):
        return Refusal(
            f"it is named {named} and is plain text, no gzip file",
            f"deliver it with the extension {plain}, or pack it with gzip",
        )
    found = kind_of(path)
    if found is None or not _is_other(form, found, path):
        return None
    return Refusal(f"it is named {named} and is {found.name}", found.remedy)


def _is_other(form: Format | None, kind: Kind, path: Path | None) -> bool:
    """Return whether a file is of another kind than its extension says; text kinds may be alike."""
    if path is None:
        return False
    with path.open("rb") as file:
        is_text = _is_text(file.read(HEAD_BYTES))
    return not is_text or _is_other_text(form, kind)


def _is_other_text(form: Format | None, kind: Kind) -> bool:
    """Return whether text that cannot be read by its extension is of another kind."""
    if form == "csv":
        return "commas" not in kind.name
    return "JSON" not in kind.name


def _is_text(head: bytes) -> bool:
    """Return whether a file's first bytes are UTF-8 without NUL; the last character may be cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return b"\0" not in head
