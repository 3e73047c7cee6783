"""What every step of a refresh does around its work: report its progress, outcome and failure.

What is the same for all steps belongs here. Here an error is still an exception with all its data;
outside the run only its text is left.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from dagster_project.defs.resources import Refresh
from dagster_project.refresh import progress


@dataclass
class Step:
    """A step that is running.

    Attributes:
        outcome: What it did, in a few words with counts; set before it ends.
        notes: What else should be known about it, one line each.
    """

    outcome: str = ""
    notes: Sequence[str] = ()


@contextmanager
def step(context: dg.AssetExecutionContext, refresh: Refresh, name: str) -> Iterator[Step]:
    """Run the work of a step in this block, and log its outcome and notes, or its failure.

    Args:
        context: The context of the step.
        refresh: The refresh that the step is part of.
        name: The name of the step.
    """
    listener = progress.listener()
    listener.started(name)
    began = time.monotonic()
    running = Step()
    try:
        yield running
    except Exception as error:
        from dagster_project import failures
        from dagster_project.alerts import occasions

        failures.make_discreet(error)
        failure = failures.failure_of(error)
        seconds = time.monotonic() - began
        context.log.error(f"FAILED after {seconds:.1f} s: {'; '.join(failures.told(failure)[:10])}")
        now = datetime.now(UTC)
        occasions.after_run(refresh.settings, context.run_id, failure, refresh.as_of_date, now)
        raise
    seconds = time.monotonic() - began
    context.log.info(f"{running.outcome}, {seconds:.1f} s")
    for note in running.notes:
        context.log.info(note)
    listener.finished(name, "\n    ".join([running.outcome, *running.notes]))
