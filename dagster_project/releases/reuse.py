"""What a new release can reuse of the one published last: the Parquet copies of unchanged marts.

`HOME/build/published.json` records what each copy holds. Nothing depends on that record: if it is missing, or
a copy disagrees with it, copies are written again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dagster_project.digests import sha256_of
from dagster_project.releases import files
from dagster_project.releases.fingerprint import Column, TableContent


@dataclass(frozen=True)
class Copy:
    """The Parquet copy of a mart.

    Attributes:
        content: What the mart holds.
        about: The metadata of the file, by key.
        sha256: The digest of the file.
    """

    content: TableContent
    about: Mapping[str, str]
    sha256: str


@dataclass(frozen=True)
class Before:
    """The release published last.

    Attributes:
        release_id: Its id.
        copies: The Parquet copies of its marts, by name.
    """

    release_id: str
    copies: Mapping[str, Copy]


def record_path(home: Path) -> Path:
    """Return the file that records the Parquet copies of the last release."""
    return home / "build" / "published.json"


def remember(home: Path, release_id: str, made_by: str, copies: Mapping[str, Copy]) -> None:
    """Record the Parquet copies of a release; if that fails, the run does not.

    Args:
        home: The data home.
        release_id: The release.
        made_by: How its files were written: versions and options.
        copies: The Parquet copies of its marts, by name.
    """
    record = {
        "release_id": release_id,
        "made_by": made_by,
        "copies": {
            name: {
                "rows": copy.content.rows,
                "fingerprint": copy.content.fingerprint,
                "columns": [[column.name, column.type] for column in copy.content.columns],
                "about": dict(copy.about),
                "sha256": copy.sha256,
            }
            for name, copy in copies.items()
        },
    }
    with suppress(OSError):
        record_path(home).write_text(json.dumps(record), "utf-8")  # if cut short, it is not used


def recall(home: Path, made_by: str) -> Before | None:
    """Return the last published release, if its files were written in the way of a new one's.

    Args:
        home: The data home.
        made_by: How a new release's files are written: versions and options.
    """
    try:
        record = json.loads(record_path(home).read_text("utf-8"))
        release_id = str(record["release_id"])
        copies = {
            str(name): Copy(
                TableContent(
                    int(copy["rows"]),
                    str(copy["fingerprint"]),
                    tuple(Column(str(column), str(kind)) for column, kind in copy["columns"]),
                ),
                dict(copy["about"]),
                str(copy["sha256"]),
            )
            for name, copy in record["copies"].items()
        }
        is_alike = record["made_by"] == made_by and files.is_release_id(release_id)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Before(release_id, copies) if is_alike else None


def linked(
    home: Path,
    before: Before | None,
    file: Path,
    content: TableContent,
    about: Mapping[str, str],
) -> Copy | None:
    """Hard-link to the Parquet copy of a mart in the previous release, if it can be used unchanged.

    Its bytes are compared with the recorded digest, so that damage is not passed on.

    Args:
        home: The data home.
        before: The previous release.
        file: The link, in the folder of the new release.
        content: What the mart holds.
        about: The metadata that the file must have.

    Returns:
        The copy; None if it must be written.
    """
    copy = before.copies.get(file.stem) if before else None
    if before is None or copy is None or (copy.content, copy.about) != (content, about):
        return None
    try:
        os.link(files.parquet_dir(home, before.release_id) / file.name, file)
    except OSError:  # it is gone, or this disk has no hard links
        return None
    if sha256_of(file) == copy.sha256:
        return copy
    file.unlink()
    return None
