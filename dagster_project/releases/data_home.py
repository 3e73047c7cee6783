"""What a data home records about itself: the version of its layout, and how the last run ended.

The two small files that hold this, `home.json` and `last_run.json`, belong here. Older versions of the
product wrote neither; a data home without them is one of an older version.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from dagster_project.home import write_whole
from dagster_project.product import product_version
from dagster_project.releases.errors import ReleaseError

LAYOUT = 2
"""The newest layout that this version knows, and the one it writes. Layout 1 is that of versions 0.1 to
0.4, whose releases are files in `releases/`; they are read as they are."""

_MODE = 0o640  # as for the releases themselves


def layout_path(home: Path) -> Path:
    """Return the file that records the layout of a data home."""
    return home / "home.json"


def last_run_path(home: Path) -> Path:
    """Return the file that records how the last run ended."""
    return home / "last_run.json"


def layout_of(home: Path) -> int:
    """Return the version of the layout of a data home; 1 if it does not say.

    Raises:
        ReleaseError: The file does not hold a version.
    """
    return _read(home)[0]


def check_layout(home: Path) -> None:
    """Make sure that this version of the product knows the layout of a data home.

    Raises:
        ReleaseError: A newer version wrote the data home, the version is not readable, or the data home
            is not a folder.
    """
    layout, written_by = _read(home)
    if layout > LAYOUT:
        raise ReleaseError(
            f"The data home {home} has layout {layout}, written by Coupon Ledger {written_by};"
            f" this is {product_version()}, which knows layouts up to {LAYOUT}.",
            f"Install {written_by} or newer, or name another data home with --home.",
        )


def stamp_layout(home: Path) -> None:
    """Note that a data home has the layout of this version; only the holder of the lock may.

    If the file cannot be written, the next holder writes it: on a full disk `prune` must still run.
    """
    path = layout_path(home)
    if path.exists() and layout_of(home) == LAYOUT:
        return
    with suppress(OSError):
        _write(path, {"layout": LAYOUT, "written_by": product_version()})


def remember_run(
    home: Path, run_id: str, at: datetime, as_of: date, failure: str | None = None
) -> None:
    """Record how a run ended, replacing the record of the run before.

    Args:
        home: The data home.
        run_id: The run.
        at: When its end was noticed, in UTC.
        as_of: Last day whose events counted in it.
        failure: Why it failed, in words without personal data; None if it did not fail.

    Raises:
        OSError: The record cannot be written.
    """
    line = {
        "run_id": run_id,
        "at": at.astimezone(UTC).isoformat(timespec="seconds"),
        "as_of_date": as_of.isoformat(),
        "is_success": failure is None,
        "failure": failure,
    }
    _write(last_run_path(home), line)


def last_run(home: Path) -> dict[str, Any] | None:
    """Return what `remember_run` recorded last, `at` as an instant; None if nothing can be read."""
    try:
        found = json.loads(last_run_path(home).read_text("utf-8"))
        return {
            **found,
            "at": datetime.fromisoformat(found["at"]),
            "is_success": found["is_success"],
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(home: Path) -> tuple[int, str]:
    path = layout_path(home)
    try:
        content = json.loads(path.read_text("utf-8"))
        layout, written_by = content["layout"], content["written_by"]
        if type(layout) is not int or layout < 1:
            raise ValueError(f"layout is {layout!r}")
    except FileNotFoundError:
        return 1, "0.4.0 or older"
    except NotADirectoryError as error:
        raise ReleaseError(
            f"{home} is not a folder.", "Name another data home with --home."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ReleaseError(
            f"{path} does not say which layout the data home has ({error}).",
            "Restore it from a backup, or remove it if only this version was ever used here.",
        ) from error
    return layout, str(written_by)


def _write(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, json.dumps(content) + "\n", _MODE)
