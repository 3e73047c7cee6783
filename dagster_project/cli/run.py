"""A refresh from the command line: the Dagster job in this process, watched, summed up, explained.

Here belongs what a person at a terminal sees of a run. The steps themselves are Dagster's (`defs/`).
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import textwrap
import time
import traceback
import uuid
import warnings
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.refresh import progress, unchanged
from dagster_project.releases.errors import Busy, PublishRefused, ReleaseError
from dagster_project.releases.gate import in_words
from dagster_project.releases.lock import one_writer
from dagster_project.releases.machine import (
    FREE_SPACE,
    MORE_MEMORY,
    explanation,
    is_full,
    is_out_of_memory,
    without_advice,
)
from dagster_project.settings import Settings
from dagster_project.sources import deliveries as pulled

if TYPE_CHECKING:
    import dagster as dg

_WIDTH = 80
_WRAPPED: Any = {
    "subsequent_indent": "    ",
    "break_long_words": False,
    "break_on_hyphens": False,
}


class Terminal:
    """Shows each step on one line: while it runs on a terminal, once it has ended anywhere."""

    def __init__(self) -> None:
        """Start the clock."""
        self.seconds: dict[str, float] = {}
        self.step = ""
        self._began = time.monotonic()
        self._is_terminal = sys.stdout.isatty()

    def started(self, step: str) -> None:
        """Show that a step is running."""
        self.step, self._began = step, time.monotonic()
        self._show("…")

    def advanced(self, step: str, done: int, total: int, what: str) -> None:
        """Show how far it is."""
        self._show(f"{done}/{total} {what}" if total else what)

    def finished(self, step: str, outcome: str) -> None:
        """Leave one line with its time and outcome."""
        self.seconds[step] = time.monotonic() - self._began
        self._clear()
        print(f"  {step:<10} {self.seconds[step]:6.1f} s  {outcome}", flush=True)

    def failed(self) -> None:
        """Leave one line with the time of the step that did not end well."""
        self._clear()
        print(
            f"  {self.step:<10} {time.monotonic() - self._began:6.1f} s  FAILED",
            flush=True,
        )

    def _show(self, text: str) -> None:
        if self._is_terminal:
            line = f"  {self.step:<10} {time.monotonic() - self._began:6.1f} s  {text}"
            print("\r\x1b[K" + line[: _WIDTH - 1], end="", flush=True)

    def _clear(self) -> None:
        if self._is_terminal:
            print("\r\x1b[K", end="")


def refresh(settings: Settings, as_of: date, *, always: bool = False) -> bool:
    """Run the refresh, show how it goes, and end with a summary or an explanation.

    Args:
        settings: Data home, landing folder, limits.
        as_of: Last day whose events count.
        always: Whether to run also where all is as the last refresh left it.

    Returns:
        Whether a release of this very state is served now.
    """
    run_id = str(uuid.uuid4())
    log = settings.logs / f"{run_id}.log"
    title = f"Coupon Ledger, as of {as_of}: {_short(settings.landing)}"
    line = f"{title} → {_short(settings.home)}"
    print(line if len(line) <= _WIDTH else f"{title}\n  → {_short(settings.home)}")
    terminal = Terminal()
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        command = f"coupon-ledger run --as-of {as_of}"
        with one_writer(settings.home, command), progress.listening(terminal):
            terminal.started("prepare")
            before = _served(settings)
            pulled.finish(settings.home)  # what a killed pull had ready comes whole
            if not always and unchanged.is_unchanged(settings, as_of):
                terminal.finished("prepare", "nothing has changed, the release there is is served")
            else:
                landing = unchanged.landing_state(settings)
                _run_job(settings, as_of, run_id, terminal)
                unchanged.remember(settings, as_of, landing)
    except BaseException as error:  # noqa: BLE001 (the person at the terminal gets every failure)
        if terminal.step:
            terminal.failed()
        _explain(settings, error, log)
        _alert(settings, run_id, as_of, error)
        return False
    _alert(settings, run_id, as_of, None)
    from dagster_project import summary
    from dagster_project.releases import open_release

    with open_release(settings.home) as connection:
        print()
        print(summary.refresh(connection, settings.home, terminal.seconds))
    for note in notes(settings.home, as_of, before, datetime.now(UTC).date()):
        print("\n" + textwrap.fill(f"Note: {note}", _WIDTH, **_WRAPPED))
    return True


def notes(home: Path, as_of: date, before: tuple[str, date] | None, today: date) -> list[str]:
    """What a person should know of the day a release was made for, in sentences.

    Args:
        home: The data home.
        as_of: Last day whose events count in the release served now.
        before: Id and as-of date of the release that was served before, if one was.
        today: The current day in UTC.
    """
    told = []
    if before is not None and as_of < before[1]:
        told.append(
            f"this release is as of {as_of}, the one that was served before as of {before[1]}."
            f" `coupon-ledger restore {before[0]} --home {_short(home)}` serves that one again."
        )
    if as_of > today:
        told.append(
            f"{as_of} is not over yet, today is {today} (UTC). What is delivered until then will"
            " change what this release says."
        )
    return told


def refresh_known_at(settings: Settings, known_at: str, as_of: date | None = None) -> bool:
    """Run the refresh with only the deliveries that had arrived by an instant.

    The release goes to a data home of its own, `HOME/known-at/<instant>`, which every command reads
    with `--home`; what `HOME/current` serves does not change.

    Args:
        settings: Of the data home that has the archive; its landing folder is not looked at.
        known_at: The id of a release, or an instant in ISO 8601.
        as_of: Last day whose events count; by default that of the release that was newest then,
            else the day of the instant.

    Returns:
        Whether a release of what was known is served there now.

    Raises:
        ValueError: It is no instant, or nothing had arrived by then.
        NoRelease: There is no such release.
    """
    from dagster_project.arrival.report import ArrivalError
    from dagster_project.refresh import known_at as hindsight

    instant = hindsight.resolve(settings.home, known_at)
    try:
        prepared = hindsight.prepare(settings, instant)
    except (ReleaseError, ArrivalError, OSError) as error:
        print(f"What was known then cannot be laid out: {error}", file=sys.stderr)
        return False
    print(
        f"As known at {instant.at:%Y-%m-%d %H:%M:%S} UTC: {prepared.known:,} of"
        f" {prepared.deliveries:,} deliveries; what {_short(settings.current)} serves stays."
    )
    return refresh(prepared.settings, as_of or instant.as_of or instant.at.date())


def _run_job(settings: Settings, as_of: date, run_id: str, terminal: Terminal) -> None:
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    gc.set_threshold(50_000)  # the libraries make much that stays and little garbage
    # Notes of the libraries to their programmers say nothing to the reader of a terminal.
    warnings.simplefilter("ignore")
    from dagster_project.refresh import dbt_build

    project = dbt_build.prepare(settings)
    from dagster_project.definitions import load
    from dagster_project.defs.automation import JOB, run_config

    job = load(settings, project).resolve_job_def(JOB)
    config = run_config(settings, as_of, wait_seconds=0)
    terminal.finished("prepare", "libraries loaded, models parsed")
    with _instance() as instance:
        job.execute_in_process(run_config=config, instance=instance, run_id=run_id)


def _alert(settings: Settings, run_id: str, as_of: date, error: BaseException | None) -> None:
    """Tell those who are not at this terminal; whoever is there stopped it, or found it locked."""
    if isinstance(error, Busy) or _is_interrupt(error):
        return
    from dagster_project.alerts import occasions
    from dagster_project.failures import failure_of

    failure = None if error is None else failure_of(error)
    occasions.after_run(settings, run_id, failure, as_of, datetime.now(UTC))


def _is_interrupt(error: BaseException | None) -> bool:
    return "Interrupt" in type(error).__name__  # Python's, or the one Dagster makes of it


def _instance() -> dg.DagsterInstance:
    """Dagster's own storage if there is one, so that the run shows there; else none."""
    import dagster as dg

    if os.environ.get("DAGSTER_HOME"):
        return dg.DagsterInstance.get()
    # It is gone with this process: to keep more than the log of the run shows is for nobody.
    settings = {"telemetry": {"enabled": False}, "python_logs": {"python_log_level": "INFO"}}
    return dg.DagsterInstance.ephemeral(settings=settings)


def _explain(settings: Settings, error: BaseException, log: Path) -> None:
    """Say what failed, what it means for readers, and what to do."""
    remedy = ""
    if not isinstance(error, ReleaseError):
        error = explanation(settings.home, error.__cause__ or error) or error
    if isinstance(error, PublishRefused):
        told, remedy = in_words(error.problems), error.remedy
    elif isinstance(error, ReleaseError):
        told, remedy = [error.message], error.remedy
    elif _is_interrupt(error):
        told, remedy = ["It was interrupted."], "Run again; it starts over."
    else:
        known = type(error).__module__.startswith("dagster_project.")
        told = [str(error) if known else f"{type(error).__name__}: {error}"]
        from dagster_project.failures import failure_of
        from dagster_project.failures import told as discreetly

        try:
            with log.open("a", encoding="utf-8") as file:
                file.write("".join(traceback.format_tb(error.__traceback__)))
                file.write("; ".join(discreetly(failure_of(error))) + "\n")
        except OSError:
            logging.getLogger(__name__).debug("the log cannot be written either")
    if any(map(is_full, told)):
        remedy = FREE_SPACE
    elif any(map(is_out_of_memory, told)):
        told, remedy = [without_advice(line) for line in told], MORE_MEMORY
    print("\nThe refresh failed:", file=sys.stderr)
    for line in told:
        print(textwrap.fill(line, _WIDTH, initial_indent="  ", **_WRAPPED), file=sys.stderr)
    labelled = [("What it means: ", _still_served(settings)), ("What to do:    ", remedy)]
    if not isinstance(error, Busy) and log.is_file():
        labelled.append(("More in:       ", _short(log)))
    print(file=sys.stderr)
    for label, text in labelled:
        if text:
            print(textwrap.fill(text, _WIDTH, initial_indent=label, **_WRAPPED), file=sys.stderr)


def _still_served(settings: Settings) -> str:
    from dagster_project.releases.files import current_release
    from dagster_project.releases.read import read_pedigree

    try:
        release_id = current_release(settings.home)
        if release_id is None:
            return "nothing was published, and no release is served yet."
        as_of = read_pedigree(settings.home, release_id)["as_of_date"]
        return f"nothing was published; the release of {as_of} ({release_id}) is still served."
    except Exception as error:  # noqa: BLE001 (the first failure is the one to tell)
        return f"nothing was published; the release served before cannot be read ({error})."


def _served(settings: Settings) -> tuple[str, date] | None:
    """Id and as-of date of the release that is served, if one is and can be read."""
    import duckdb

    from dagster_project.releases.files import current_release
    from dagster_project.releases.read import read_pedigree

    try:
        release_id = current_release(settings.home)
        if release_id is None:
            return None
        return release_id, read_pedigree(settings.home, release_id)["as_of_date"]
    except (ReleaseError, duckdb.Error):
        return None  # whatever it is, the refresh makes another one


def _short(path: Path) -> str:
    """A path relative to the current folder where that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
