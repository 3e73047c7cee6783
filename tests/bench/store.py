"""What is kept under `build/bench/`: samples, and the results of every measurement."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from dagster_project.sample import scale
from dagster_project.sample.scale import Grouping, LargeFormat, generate_large_sample
from dagster_project.settings import CHECKOUT

FOLDER = CHECKOUT / "build" / "bench"


def sample(
    invoices: int,
    file_format: LargeFormat = "parquet",
    grouping: Grouping = "year",
    *,
    hold_back: bool = False,
    folder: Path = FOLDER,
) -> Path:
    """A generated sample, made once per version of the generator.

    Args:
        invoices: About how many.
        file_format: The format of its files.
        grouping: Which invoices share a file.
        hold_back: Whether its last month is in a landing folder of its own.
        folder: Where samples are kept, in `samples/`.

    Returns:
        Its folder, with `landing/`, `truth.json` and perhaps `next/`; not to be changed.
    """
    held = "-held-back" if hold_back else ""
    name = f"{invoices}-{file_format}-{grouping}{held}-{_generator()}"
    kept = folder / "samples" / name
    if not (kept / "truth.json").is_file():
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        generate_large_sample(
            invoices, 30, 1, kept, file_format=file_format, grouping=grouping, hold_back=hold_back
        )
    return kept


def last_day(sample_folder: Path) -> date:
    """The last day of a sample."""
    truth = json.loads((sample_folder / "truth.json").read_text("utf-8"))
    return date.fromisoformat(truth["last_day"])


def deliver(source: Path, landing: Path) -> None:
    """Link the files of one landing folder into another; their bytes are shared."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            target = landing / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)


def keep(kind: str, result: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    """Add a result to those of its kind, `<kind>.json`."""
    path = folder / f"{kind}.json"
    results = [*kept(kind, folder), dict(result)]
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    temporary.replace(path)
    return path


def kept(kind: str, folder: Path = FOLDER) -> list[dict[str, Any]]:
    """Every result of a kind, oldest first."""
    path = folder / f"{kind}.json"
    if not path.is_file():
        return []
    results: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return results


def _generator() -> str:
    """A digest of the generator's code."""
    digest = hashlib.sha256()
    for path in sorted(Path(scale.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
