"""Reads Parquet, in a process of its own.

Here belongs starting that process and understanding how it ended. Parquet is a binary format parsed
by C++ code: a damaged or hostile file can end the process that reads it, or take all its memory, and
that must not be the process that holds the warehouse.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from dagster_project.arrival.report import ArrivalError, Limits, Refusal
from dagster_project.arrival.rows import Prepared, TextParquet
from dagster_project.feeds import Feed
from dagster_project.product import CODE

WORKER = (
    "import sys; sys.modules['numpy'] = None; "
    "from dagster_project.arrival.parquet_worker import main; main(sys.argv[1:])"
)
"""pyarrow does without numpy, which takes longer to import than many a file to read."""
REMEDY = "write and deliver the file again"


def prepare_parquet(path: Path, feed: Feed, limits: Limits, rows_path: Path) -> Prepared:
    """Check a Parquet file and write its rows as text to a Parquet file of our own.

    Args:
        path: The file.
        feed: The feed it is delivered for.
        limits: How long reading may take, how much memory it may use, how much may be unpacked.
        rows_path: Where rows are written; the worker's answer is written beside it.

    Returns:
        Its rows, with counts.

    Raises:
        Refusal: If the file is unreadable or a column has a type that is not exact text.
        ArrivalError: If the worker cannot be started.
    """
    answer_path = rows_path.with_suffix(".answer")
    errors_path = rows_path.with_suffix(".errors")
    files = [str(path), str(rows_path), str(answer_path)]
    command = [sys.executable, "-c", WORKER, feed.name, *files]
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(
        part for part in (str(CODE), environment.get("PYTHONPATH")) if part
    )
    try:
        with errors_path.open("wb") as errors:
            ended = subprocess.run(
                command,
                input=json.dumps(asdict(limits)).encode(),
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment,
                timeout=limits.parquet_seconds,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise Refusal(
            f"reading it took more than {limits.parquet_seconds} seconds",
            "deliver it in parts, or raise the limit if the file is right",
        ) from error
    if not answer_path.exists():
        last = errors_path.read_text("utf-8", "replace").strip().splitlines()[-1:]
        raise ArrivalError(f"the Parquet reader could not start ({' '.join(last)}); install again")
    if ended.returncode != 0:
        code = ended.returncode
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        raise Refusal(f"unreadable Parquet: its reader ended {how}", REMEDY)
    answer = json.loads(answer_path.read_text("utf-8"))
    if "refusal" in answer:
        raise Refusal(*answer["refusal"])
    return Prepared(
        source=TextParquet(rows_path),
        physical_rows=answer["rows"],
        absent_columns=tuple(answer["absent_columns"]),
        unknown_columns=tuple(answer["unknown_columns"]),
    )
