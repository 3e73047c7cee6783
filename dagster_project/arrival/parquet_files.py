"""Reading Parquet, in a process of its own.

Starting that process and interpreting its end belong here. Parquet is a binary format parsed by C++ code:
a damaged or hostile file can crash the process that reads it, or take all its memory, and that must not
be the process that holds the warehouse.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dagster_project.arrival.report import (
    OWN_TROUBLE_REMEDY,
    ArrivalError,
    Limits,
    Refusal,
    TransientRefusal,
)
from dagster_project.arrival.rows import NOTHING_GIVEN, OwnParquet, Prepared
from dagster_project.feeds import Feed
from dagster_project.product import CODE

WORKER = (
    "import sys; sys.modules['numpy'] = None; "
    "from dagster_project.arrival.parquet_worker import main; main()"
)
"""pyarrow does not need numpy, whose import takes longer than reading many a file."""
REMEDY = "write and deliver the file again"


@dataclass(frozen=True)
class ParquetFile:
    """One file to be read.

    Attributes:
        path: The file.
        rows_path: Where its rows are written; the worker's answer and the gate's sample are written beside it.
        given: Columns that the folder of the file gives, with the value of all its rows.
    """

    path: Path
    rows_path: Path
    given: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def answer_path(self) -> Path:
        """Where the worker's answer is written."""
        return self.rows_path.with_suffix(".answer")

    @property
    def sample_path(self) -> Path:
        """Where the rows that the gate looks at are written, if it does not look at all rows."""
        return self.rows_path.with_suffix(".sample")


def prepare_parquet(
    path: Path,
    feed: Feed,
    limits: Limits,
    rows_path: Path,
    given: Mapping[str, str | None] = NOTHING_GIVEN,
) -> Prepared:
    """Check a Parquet file and write its rows to a Parquet file of our own.

    Args:
        path: The file.
        feed: The feed it is delivered for.
        limits: How long reading may take, how much memory it may use, how much may be unpacked.
        rows_path: Where rows are written; the worker's answer is written beside it.
        given: Columns that the folder of the file gives, with the value of all its rows.

    Returns:
        Its rows, with counts.

    Raises:
        Refusal: If the file is unreadable, or a column has a type without an exact text.
        ArrivalError: If the worker cannot be started.
    """
    [outcome] = prepare_parquets([ParquetFile(path, rows_path, given)], feed, limits)
    if isinstance(outcome, Refusal):
        raise outcome
    return outcome


def prepare_parquets(
    files: Sequence[ParquetFile], feed: Feed, limits: Limits
) -> list[Prepared | Refusal]:
    """Check some Parquet files in one process, each on its own.

    Args:
        files: The files.
        feed: The feed they are delivered for.
        limits: How long reading one may take, how much memory it may use, how much may be unpacked.

    Returns:
        For each, its rows or why it is refused.

    Raises:
        ArrivalError: If the worker cannot be started.
    """
    outcomes: list[Prepared | Refusal] = []
    while len(outcomes) < len(files):
        waiting = files[len(outcomes) :]
        how = _work(waiting, feed, limits)
        for file in waiting:
            if not file.answer_path.exists():
                break
            answer = json.loads(file.answer_path.read_text("utf-8"))
            if not answer:
                outcomes.append(how or Refusal("unreadable Parquet: its reader stopped", REMEDY))
                break
            outcomes.append(_outcome(answer, file))
    return outcomes


def _work(files: Sequence[ParquetFile], feed: Feed, limits: Limits) -> Refusal | None:
    """Let a process read the files, and return why it stopped before the last, if it did."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(
        part for part in (str(CODE), environment.get("PYTHONPATH")) if part
    )
    order = {
        "feed": feed.name,
        "limits": asdict(limits),
        "files": [
            {
                "path": str(file.path),
                "rows": str(file.rows_path),
                "answer": str(file.answer_path),
                "sample": str(file.sample_path),
                "given": dict(file.given),
            }
            for file in files
        ],
    }
    errors_path = files[0].rows_path.with_suffix(".errors")
    code: int | None
    try:
        with errors_path.open("wb") as errors:
            ended = subprocess.run(
                [sys.executable, "-c", WORKER],
                input=json.dumps(order).encode(),
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment,
                timeout=limits.parquet_seconds,
                check=False,
            )
        code = ended.returncode
    except subprocess.TimeoutExpired:
        code = None
    if not files[0].answer_path.exists():
        if code is None:
            raise ArrivalError(
                f"the Parquet reader did not start within {limits.parquet_seconds} seconds; run again"
            )
        last = " ".join(errors_path.read_text("utf-8", "replace").strip().splitlines()[-1:])
        raise ArrivalError(f"the Parquet reader could not start ({last}); install again")
    if code is None:
        return Refusal(
            f"reading it took more than {limits.parquet_seconds} seconds",
            "deliver it in parts",
        )
    if code == 0:
        return None
    if code == -signal.SIGKILL:
        return TransientRefusal(
            "its Parquet reader was killed, as when memory runs out",
            "give the product more memory, and run again",
        )
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    return Refusal(f"unreadable Parquet: its reader ended {how}", REMEDY)


def _outcome(answer: dict[str, Any], file: ParquetFile) -> Prepared | Refusal:
    if "refusal" in answer:
        return Refusal(*answer["refusal"])
    if "trouble" in answer:
        return TransientRefusal(f"it cannot be taken ({answer['trouble'][0]})", OWN_TROUBLE_REMEDY)
    sample = file.sample_path if file.sample_path.exists() else None
    return Prepared(
        source=OwnParquet(file.rows_path, answer["form"], sample),
        physical_rows=answer["rows"],
        absent_columns=tuple(answer["absent_columns"]),
        unknown_columns=tuple(answer["unknown_columns"]),
    )
