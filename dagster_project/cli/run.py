"""`run` and `rebuild`: the refresh in this process, its progress, its summary, and why it failed.

What a person at a terminal sees of a run belongs here. The steps themselves are Dagster's (`defs/`).
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
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO
from zoneinfo import ZoneInfo

import typer

from dagster_project.answers import words
from dagster_project.answers.values import amount, clean, count, days_in, moment
from dagster_project.cli import layout
from dagster_project.cli.close import tell_restated
from dagster_project.cli.deliveries import tell_rows_in
from dagster_project.cli.findings import by_type
from dagster_project.cli.options import (
    HomeOption,
    complain,
    explained,
    settings_from,
    settings_of_home,
    stream_of,
    wrong,
)
from dagster_project.cli.terms import tell_changed

if TYPE_CHECKING:
    import dagster as dg
    from rich.progress import Progress

    from dagster_project.answers.asking import Row
    from dagster_project.settings import Settings

_MOST_CHECKS = 10
_WIDTH = 80
_WRAPPED: Any = {
    "subsequent_indent": "    ",
    "break_long_words": False,
    "break_on_hyphens": False,
}


def run(
    landing: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder with the deliveries. [default: the sample]"),
    ] = None,
    home: HomeOption = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="YYYY-MM-DD",
            help="Last day whose events count. [default: the sample's last day, else today in the reporting time zone]",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Publish nothing while a finding of severity error, or a change of a coupon's"
            " terms, is open.",
        ),
    ] = False,
    known_at: Annotated[
        str | None,
        typer.Option(
            metavar="INSTANT",
            help="Only what had arrived by then (ISO 8601, or the id of a release); goes to"
            " HOME/known-at/; the current release does not change.",
        ),
    ] = None,
    engine: Annotated[
        Literal["duckdb", "spark"] | None,
        typer.Option(help="What runs the models. [default: duckdb]"),
    ] = None,
    always: Annotated[
        bool,
        typer.Option("--always", help="Refresh even if nothing has changed since the last time."),
    ] = False,
) -> None:
    """Load deliveries, build and check the marts, publish a release."""
    from dagster_project.settings import checked_as_of, default_as_of, reporting_day

    # What had arrived by then is only in an existing data home.
    settings = settings_from(home, landing) if known_at is None else settings_of_home(home)
    if engine is not None:
        settings = settings.model_copy(update={"engine": engine})
    if strict:
        settings = settings.model_copy(update={"strict": True})
    if known_at is not None:
        raise typer.Exit(0 if _refresh_known_at(settings, known_at, as_of, always) else 1)
    with explained():
        if not settings.landing.is_dir():
            wrong(f"There is no landing folder {settings.landing}; name one with --landing.")
        if any(path.is_file() for path in (settings.home, *settings.home.parents)):
            wrong(f"{settings.home} is not a folder. Name another data home with --home.")
    now = datetime.now(UTC)
    try:
        day = (
            checked_as_of(as_of) if as_of else default_as_of(settings, reporting_day(settings, now))
        )
    except ValueError as error:
        wrong(f"--as-of {as_of}: {error}." if as_of else str(error))
    raise typer.Exit(0 if refresh(settings, day, always=always) else 1)


def _refresh_known_at(settings: Settings, known_at: str, as_of: str | None, always: bool) -> bool:
    from dagster_project.releases.errors import NoRelease
    from dagster_project.settings import checked_as_of

    try:
        day = checked_as_of(as_of) if as_of else None
    except ValueError as error:
        wrong(f"--as-of {as_of}: {error}.")
    try:
        return refresh_known_at(settings, known_at, day, always=always)
    except (ValueError, NoRelease) as error:
        wrong(str(error))


def rebuild(home: HomeOption = None) -> None:
    """Rebuild the warehouse from the archive alone.

    The next run continues from there.
    """
    from dagster_project.arrival import ArrivalError
    from dagster_project.arrival import rebuild as rebuild_raw
    from dagster_project.releases.lock import one_writer

    settings = settings_from(home)
    with explained():
        if not settings.archive.is_dir():
            wrong(f"There is no archive in {settings.home}; name another data home with --home.")
    with explained(), one_writer(settings.home, "coupon-ledger rebuild"):
        try:
            reports = rebuild_raw(settings.home)
        except ArrivalError as error:
            complain(str(error))
            raise typer.Exit(1) from None
    rows = sum(report.physical_rows for report in reports)
    deliveries = count(len(reports), "delivery", "deliveries")
    print(f"{deliveries} with {count(rows, 'row')} loaded again from the archive.")
    print(f"To publish from them: coupon-ledger run --home {settings.home} --landing DIR")


class Terminal:
    """A display of one line per step: live on a terminal, and printed at its end everywhere."""

    def __init__(self) -> None:
        """Start the clock."""
        self.seconds: dict[str, float] = {}
        self.step = ""
        self._began = time.monotonic()
        self._moving: Progress | None = None

    def started(self, step: str) -> None:
        """Show that a step is running."""
        self.step, self._began = step, time.monotonic()
        self._stop()
        if sys.stdout.isatty():
            self._moving = _moving(stream_of(sys.stdout), step)
            self._moving.start()

    def advanced(self, step: str, done: int, total: int, what: str) -> None:
        """Show how far the step is."""
        if self._moving is not None:
            task = self._moving.task_ids[0]
            self._moving.update(task, completed=done, total=total or None, description=clean(what))

    def finished(self, step: str, outcome: str) -> None:
        """Leave one line with the step's time and outcome."""
        self.seconds[step] = time.monotonic() - self._began
        self._stop()
        print(f"  {step:<10} {self.seconds[step]:6.1f} s  {outcome}", flush=True)

    def failed(self) -> None:
        """Leave one line with the time of the step that failed."""
        self._stop()
        print(
            f"  {self.step:<10} {time.monotonic() - self._began:6.1f} s  FAILED",
            flush=True,
        )

    def _stop(self) -> None:
        """Remove the moving line."""
        if self._moving is not None:
            self._moving.stop()
            self._moving = None


def _moving(stream: TextIO, step: str) -> Progress:
    """Return the moving line of a running step: its name, seconds, a bar, and its current item."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    progress = Progress(
        TextColumn(f"  {step:<10}", markup=False),
        TimeElapsedColumn(),
        BarColumn(bar_width=12, complete_style="cyan", finished_style="cyan", pulse_style="cyan"),
        TextColumn("{task.description}", markup=False),
        console=Console(file=stream, highlight=False),
        transient=True,
        refresh_per_second=4,
    )
    progress.add_task("", total=None)
    return progress


def refresh(settings: Settings, as_of: date, *, always: bool = False) -> bool:
    """Run the refresh, show its progress, and end with a summary or an explanation.

    Args:
        settings: Data home, landing folder, limits.
        as_of: Last day whose events count.
        always: Whether to run even if nothing has changed since the last refresh.

    Returns:
        Whether the current release is up to date with this state.
    """
    from dagster_project.home import writing
    from dagster_project.refresh import progress, unchanged
    from dagster_project.releases import open_release
    from dagster_project.releases.lock import one_writer
    from dagster_project.sources import deliveries as pulled

    run_id = str(uuid.uuid4())
    log = settings.logs / f"{run_id}.log"
    title = f"Coupon Ledger, as of {as_of}: {_short(settings.landing)}"
    line = f"{title} → {_short(settings.home)}"
    print(line if len(line) <= _WIDTH else f"{title}\n  → {_short(settings.home)}")
    terminal = Terminal()
    try:
        command = f"coupon-ledger run --as-of {as_of}"
        with (
            writing(settings.home) as closed,
            one_writer(settings.home, command),
            progress.listening(terminal),
        ):
            if closed:
                print(f"  Others could read {_listed(closed)} here; from now on only you can.")
            log.parent.mkdir(exist_ok=True)
            terminal.started("prepare")
            before = _current(settings)
            pulled.finish(settings.home)  # completes the delivery of a pull that was killed
            if not always and unchanged.is_unchanged(settings, as_of):
                terminal.finished(
                    "prepare", "nothing has changed; the current release stays in place"
                )
            else:
                landing = unchanged.landing_state(settings)
                _run_job(settings, as_of, run_id, terminal)
                unchanged.remember(settings, as_of, landing, run_id)
    except BaseException as error:  # noqa: BLE001 (the person at the terminal gets every failure)
        if terminal.step:
            terminal.failed()
        _explain(settings, error, log)
        _alert(settings, run_id, as_of, error)
        return False
    _alert(settings, run_id, as_of, None)
    from dagster_project.answers import terms
    from dagster_project.answers.summary import summary
    from dagster_project.settings import reporting_day

    with open_release(settings.home) as connection:
        data = summary(connection)
    data["terms_changed"] = terms.changed(settings.home, data["release_id"])
    print()
    with days_in(ZoneInfo(settings.reporting_time_zone)):
        layout.show(tell(data, settings.home, terminal.seconds))
    today = reporting_day(settings, datetime.now(UTC))
    for note in notes(settings.home, as_of, before, today, settings.reporting_time_zone):
        print("\n" + textwrap.fill(f"Note: {note}", _WIDTH, **_WRAPPED))
    return True


def tell(data: Row, home: Path, seconds: Mapping[str, float]) -> str:
    """Lay out the summary at the end of a refresh as text.

    Args:
        data: As `answers.summary` returns it, with `terms_changed` from `answers.terms.changed`.
        home: The data home.
        seconds: Time by step.
    """
    release_id = data["release_id"]
    lines = [
        f"Release {release_id}, as of {data['as_of_date']}, is current:",
        f"  {home / 'current'}",
        f"  published {moment(data['created_at'])}; open it read-only in DuckDB 1.4 or later",
        f"  {home / 'releases' / str(release_id)}/*.parquet",
        "  the same marts, one file per table",
    ]
    parts = [
        tell_rows_in(data),
        _given(data),
        _credit_left(data),
        _ending(data),
        _findings(data),
        tell_changed(data["terms_changed"]),
        tell_restated(data["restated"], data["moved"]),
        _checks(data),
        _times(seconds),
    ]
    for part in parts:
        if part:
            lines += ["", *part]
    return "\n".join(lines)


def _given(data: Row) -> list[str]:
    if not data["given"]:
        return ["Given so far: nothing"]
    return [
        "Given so far",
        *layout.table(
            ["program", "currency", ">redemptions", ">discount", ">credit"],
            [
                [
                    row["program"],
                    row["currency"],
                    f"{row['redemptions']:,}",
                    amount(row["discount_amount"], row["currency"]),
                    amount(row["credit_amount"], row["currency"]),
                ]
                for row in data["given"]
            ],
        ),
    ]


def _credit_left(data: Row) -> list[str]:
    if not data["credit_left"]:
        return []
    return [
        "Credit left",
        *layout.table(
            ["currency", ">grants", ">left", f">will lapse by {data['until']}"],
            [
                [
                    row["currency"],
                    f"{row['grants']:,}",
                    amount(row["balance_amount"], row["currency"]),
                    amount(row["projected_breakage_amount"], row["currency"]),
                ]
                for row in data["credit_left"]
            ],
        ),
    ]


def _ending(data: Row) -> list[str]:
    return layout.wrap(words.running_out(data["ending"], data["until"]), hanging="  ")


def _findings(data: Row) -> list[str]:
    if not data["findings_by_type"]:
        return ["Findings: none"]
    return ["Findings", *by_type(data["findings_by_type"])]


def _checks(data: Row) -> list[str]:
    failed = data["checks_not_passed"]
    text = f"Checks: {data['checks'] - len(failed):,} of {data['checks']:,} passed"
    if data["checks_standing"]:
        text += f" ({data['checks_standing']:,} ran in an earlier refresh, over the same rows)"
    if not failed:
        return [text]
    lines = [f"{text}; the others warn, and do not block:"]
    lines += layout.table(
        ["check", ">found"],
        [[row["name"], _found(row)] for row in failed[:_MOST_CHECKS]],
    )
    if len(failed) > _MOST_CHECKS:
        lines.append(f"  and {len(failed) - _MOST_CHECKS:,} more, in release.checks")
    if any(row["unit"] == "file" for row in failed):
        lines.append("  `coupon-ledger deliveries` names the files and what was found in each")
    return lines


def _found(check: Row) -> str:
    """Return how many rows or files a check found; a check of a feed's files says which feed."""
    of_feed = f" of {check['feed']}" if check["feed"] else ""
    return count(check["failures"], check["unit"]) + of_feed


def _times(seconds: Mapping[str, float]) -> list[str]:
    steps = ", ".join(f"{step} {taken:.1f}" for step, taken in seconds.items())
    return [f"Seconds: {steps}; total {sum(seconds.values()):.1f}"]


def notes(
    home: Path, as_of: date, before: tuple[str, date] | None, today: date, zone: str = "UTC"
) -> list[str]:
    """Return what a person should know about the as-of date of a release, in sentences.

    Args:
        home: The data home.
        as_of: Last day whose events count in the current release.
        before: Id and as-of date of the previous current release, if there was one.
        today: The current day in the reporting time zone.
        zone: That time zone.
    """
    notes = []
    if before is not None and as_of < before[1]:
        notes.append(
            f"this release is as of {as_of}, the previous one as of {before[1]}. To make the"
            f" previous one current again: `coupon-ledger restore {before[0]} --home {_short(home)}`."
        )
    if as_of > today:
        notes.append(
            f"{as_of} is not over yet; today is {today} ({zone}). Deliveries that arrive until then"
            " will change these amounts."
        )
    return notes


def refresh_known_at(
    settings: Settings, known_at: str, as_of: date | None = None, *, always: bool = False
) -> bool:
    """Run the refresh with only the deliveries that had arrived by an instant.

    The release goes to a data home of its own, `HOME/known-at/<instant>`, which every command reads
    with `--home`; `HOME/current` does not change.

    Args:
        settings: The settings of the data home with the archive; its landing folder is not read.
        known_at: The id of a release, or an instant in ISO 8601.
        as_of: Last day whose events count; by default that of the release that was newest then,
            else the day of the instant.
        always: Whether to run even if nothing has changed since the last such refresh.

    Returns:
        Whether a release of what was known then is current there.

    Raises:
        ValueError: `known_at` is not an instant, or nothing had arrived by then.
        NoRelease: There is no such release.
    """
    from dagster_project.arrival.report import ArrivalError
    from dagster_project.refresh import known_at as hindsight
    from dagster_project.releases.errors import ReleaseError
    from dagster_project.settings import checked_as_of, reporting_day

    instant = hindsight.resolve(settings.home, known_at)
    try:
        day = checked_as_of(as_of or instant.as_of or reporting_day(settings, instant.at))
    except ValueError as error:
        raise ValueError(f"--known-at {known_at}: {error}") from None
    try:
        prepared = hindsight.prepare(settings, instant)
    except (ReleaseError, ArrivalError, OSError) as error:
        complain(f"What was known then cannot be prepared: {error}")
        return False
    print(
        f"As known at {instant.at:%Y-%m-%d %H:%M:%S} UTC: {prepared.known:,} of"
        f" {prepared.deliveries:,} deliveries; {_short(settings.current)} does not change."
    )
    return refresh(prepared.settings, day, always=always)


def _run_job(settings: Settings, as_of: date, run_id: str, terminal: Terminal) -> None:
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    # The libraries create four million long-lived objects and little garbage; a collection every 50,000
    # objects takes a twelfth of the time of a run of few rows.
    gc.set_threshold(3_000_000)
    # Warnings of libraries are for programmers, not for the reader of a terminal.
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
    """Send alerts after a run, unless its user interrupted it or the data home was locked."""
    from dagster_project.releases.errors import Busy

    if isinstance(error, Busy) or _is_interrupt(error):
        return
    from dagster_project.alerts import occasions
    from dagster_project.failures import failure_of

    failure = None if error is None else failure_of(error)
    occasions.after_run(settings, run_id, failure, as_of, datetime.now(UTC))


def _is_interrupt(error: BaseException | None) -> bool:
    return "Interrupt" in type(error).__name__  # Python's, or the one Dagster raises in its place


def _instance() -> dg.DagsterInstance:
    """Return the instance with Dagster's storage if `DAGSTER_HOME` is set, so the run shows there.

    Otherwise return an instance whose storage is only in memory.
    """
    import dagster as dg

    if os.environ.get("DAGSTER_HOME"):
        return dg.DagsterInstance.get()
    # This storage ends with the process; only the log of the run can be read afterwards.
    settings = {"telemetry": {"enabled": False}, "python_logs": {"python_log_level": "INFO"}}
    instance = dg.DagsterInstance.ephemeral(settings=settings)
    # Nothing reads its events; storing them in SQL and looking for earlier ones takes a fifth of a run
    # without deliveries.
    storage: Any = instance.event_log_storage
    storage.store_event = lambda event: None
    storage.get_asset_records = lambda asset_keys=None: []
    storage.fetch_observations = lambda *_, **__: dg.EventRecordsResult([], "", has_more=False)
    return instance


def _explain(settings: Settings, error: BaseException, log: Path) -> None:
    """Say what failed, what it means for readers, and what to do."""
    from dagster_project.failures import failure_of
    from dagster_project.failures import told as discreetly
    from dagster_project.releases import machine
    from dagster_project.releases.errors import Busy, PublishRefused, ReleaseError
    from dagster_project.releases.gate import in_words

    remedy = ""
    if not isinstance(error, ReleaseError):
        error = machine.explanation(settings.home, error.__cause__ or error) or error
    if isinstance(error, PublishRefused):
        lines, remedy = in_words(error.problems), error.remedy
    elif isinstance(error, ReleaseError):
        lines, remedy = [error.message], error.remedy
    elif _is_interrupt(error):
        lines, remedy = ["The run was interrupted."], "Run again; the refresh starts over."
    else:
        known = type(error).__module__.startswith("dagster_project.")
        lines = [str(error) if known else f"{type(error).__name__}: {error}"]
        try:
            with log.open("a", encoding="utf-8") as file:
                file.write("".join(traceback.format_tb(error.__traceback__)))
                file.write("; ".join(discreetly(failure_of(error))) + "\n")
        except OSError:
            logging.getLogger(__name__).debug("the log cannot be written either")
    if any(map(machine.is_full, lines)):
        remedy = machine.FREE_SPACE
    elif any(map(machine.is_out_of_memory, lines)):
        lines, remedy = [machine.without_advice(line) for line in lines], machine.MORE_MEMORY
    complain("\nThe refresh failed:")
    for line in lines:
        complain(textwrap.fill(line, _WIDTH, initial_indent="  ", **_WRAPPED))
    labelled = [("What it means: ", _still_current(settings)), ("What to do:    ", remedy)]
    if not isinstance(error, Busy) and log.is_file():
        labelled.append(("More in:       ", _short(log)))
    print(file=sys.stderr)
    for label, text in labelled:
        if text:
            print(textwrap.fill(text, _WIDTH, initial_indent=label, **_WRAPPED), file=sys.stderr)


def _still_current(settings: Settings) -> str:
    from dagster_project.releases.files import current_release
    from dagster_project.releases.read import read_pedigree

    try:
        release_id = current_release(settings.home)
        if release_id is None:
            return "nothing was published, and there is no current release yet."
        as_of = read_pedigree(settings.home, release_id)["as_of_date"]
        return f"nothing was published; the release of {as_of} ({release_id}) is still current."
    except Exception as error:  # noqa: BLE001 (the first failure is the one to report)
        return f"nothing was published; the current release cannot be read ({error})."


def _current(settings: Settings) -> tuple[str, date] | None:
    """Return id and as-of date of the current release, if there is one and it can be read."""
    import duckdb

    from dagster_project.releases.errors import ReleaseError
    from dagster_project.releases.files import current_release
    from dagster_project.releases.read import read_pedigree

    try:
        release_id = current_release(settings.home)
        if release_id is None:
            return None
        return release_id, read_pedigree(settings.home, release_id)["as_of_date"]
    except (ReleaseError, duckdb.Error):
        return None  # whatever is wrong, the refresh makes another release


def _listed(folders: list[str]) -> str:
    *others, last = [f"{name}/" for name in folders]
    return f"{', '.join(others)} and {last}" if others else last


def _short(path: Path) -> str:
    """Return a path relative to the current folder if that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
