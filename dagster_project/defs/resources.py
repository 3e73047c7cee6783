"""What the steps of a refresh share: the data home, the as-of day, and the right to write."""

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
from pydantic import PrivateAttr, field_validator

from dagster_project.failures import plain
from dagster_project.home import make_private, writing
from dagster_project.releases.errors import Busy
from dagster_project.releases.lock import one_writer
from dagster_project.run_launcher import show_alive
from dagster_project.settings import Settings, checked_as_of, default_as_of, reporting_day

_MOST = 10_000  # characters of a line
_LINE = "%(asctime)s %(levelname)-7s %(message)s"


class Refresh(dg.ConfigurableResource):  # type: ignore[type-arg]
    """One refresh of one data home; it holds the lock from the first step to the last.

    Attributes:
        home: The data home.
        landing: The landing folder.
        as_of: Last day whose events count, as YYYY-MM-DD; empty for the default.
        strict: Whether open findings of severity error stop publication.
        engine: What runs the models, `duckdb` or `spark`.
        wait_seconds: How long to wait while another process refreshes the same data home.
    """

    home: str
    landing: str
    as_of: str = ""
    wait_seconds: int = 3600
    strict: bool = False
    engine: str = "duckdb"

    _started_at: datetime | None = PrivateAttr(default=None)

    @field_validator("as_of")
    @classmethod
    def _can_be_calculated(cls, value: str) -> str:
        return checked_as_of(value).isoformat() if value else ""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["Refresh"]:
        """Take the lock for as long as the run lasts, naming this run as its holder.

        Raises:
            Busy: Another process held the lock for longer than `wait_seconds`.
        """
        run_id = context.run.run_id if context.run else "-"
        home, command = self.settings.home, _in_words(context)
        show_alive(home, run_id)
        with contextlib.ExitStack() as held:
            held.enter_context(writing(home))
            try:
                held.enter_context(one_writer(home, command))
            except Busy as busy:
                if not self.wait_seconds or context.log is None:
                    raise
                context.log.info(f"waiting: {busy.message}")
                held.enter_context(one_writer(home, command, self.wait_seconds))
            self._started_at = datetime.now(UTC)
            yield self

    @property
    def settings(self) -> Settings:
        """The settings of this refresh."""
        settings = Settings(home=Path(self.home), landing=Path(self.landing), strict=self.strict)
        changes: dict[str, object] = {"engine": self.engine}
        if self.as_of:
            changes["as_of"] = checked_as_of(self.as_of)
        return settings.model_copy(update=changes)

    @property
    def started_at(self) -> datetime:
        """When the run began, in UTC; the only clock its steps read."""
        assert self._started_at is not None, "read outside a run"
        return self._started_at

    @property
    def as_of_date(self) -> date:
        """Last day whose events count."""
        return default_as_of(self.settings, reporting_day(self.settings, self.started_at))


def _in_words(context: dg.InitResourceContext) -> str:
    """Return who holds the lock, for the message about a locked data home."""
    if context.run is None:
        return "Dagster"
    tags = context.run.tags
    by = tags.get("dagster/schedule_name") or tags.get("dagster/sensor_name")
    return f"Dagster run {context.run.run_id}" + (f", started by {by}" if by else "")


@dg.logger(
    config_schema={"folder": str, "format": dg.Field(str, default_value="text")},
    description="One log file per run in the data home, instead of the terminal.",
)
def run_log(context: dg.InitLoggerContext) -> logging.Logger:
    """Return a logger that writes `<folder>/<run id>.log`, as text or as one JSON object per line."""
    folder = Path(context.logger_config["folder"])
    logger = logging.getLogger(f"coupon_ledger.{context.run_id}")
    # Dagster asks for the logger once for the run and once for its steps.
    if not any(isinstance(handler, logging.FileHandler) for handler in logger.handlers):
        make_private(folder)
        handler = _Log(folder / f"{context.run_id}.log", encoding="utf-8")
        as_json = context.logger_config["format"] == "json"
        handler.setFormatter(_Json() if as_json else _OneLine(_LINE))
        handler.addFilter(_is_said)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return logger


class _Log(logging.FileHandler):
    """A log that leaves out lines if the disk is full; the run itself says why."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Ignore errors of the disk."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _is_said(record: logging.LogRecord) -> bool:
    """Return whether a record is a step's own or says why the run failed, not another event of Dagster."""
    meta = getattr(record, "dagster_meta", {}) or {}
    event = meta.get("dagster_event")
    return event is None or event.event_type_value == "PIPELINE_FAILURE"


class _OneLine(logging.Formatter):
    """The step and its message on one line, without the id of the run, which is the file's name."""

    def format(self, record: logging.LogRecord) -> str:
        step, text, _ = _said(record)
        plain = logging.makeLogRecord({**record.__dict__, "msg": f"{step}: {text}", "args": ()})
        return super().format(plain)


class _Json(logging.Formatter):
    """The same as JSON, with the id of the run."""

    def format(self, record: logging.LogRecord) -> str:
        step, text, run_id = _said(record)
        at = datetime.fromtimestamp(record.created, UTC)
        return json.dumps(
            {
                "at": at.isoformat(timespec="milliseconds"),
                "level": record.levelname.lower(),
                "run_id": run_id,
                "step": step,
                "message": text,
            }
        )


def _said(record: logging.LogRecord) -> tuple[str, str, str]:
    """Return the step, its message on one line, and the id of the run."""
    meta = getattr(record, "dagster_meta", {}) or {}
    text = str(meta.get("orig_message") or record.getMessage())
    return str(meta.get("step_key") or "-"), plain(text, _MOST), str(meta.get("run_id") or "-")


def defs(settings: Settings) -> dg.Definitions:
    """Return the resource, set from the settings, and the loggers."""
    return dg.Definitions(
        resources={
            "refresh": Refresh(
                home=str(settings.home),
                landing=str(settings.landing),
                as_of=settings.as_of.isoformat() if settings.as_of else "",
                strict=settings.strict,
                engine=settings.engine,
            )
        },
        loggers={"console": dg.colored_console_logger, "file": run_log},
    )
