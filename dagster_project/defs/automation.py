"""What runs automatically: the job, its daily schedule, the sensor for new deliveries, and alerts."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import dagster as dg

from dagster_project.defs import pulling
from dagster_project.run_launcher import PROCESS_GONE
from dagster_project.settings import Settings, default_as_of, reporting_day

if TYPE_CHECKING:
    from dagster_project.alerts.occasions import Told

JOB = "refresh"
ALERTS_SECONDS = 300
"""How often to check what changes without a run."""

_ON_ITS_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_TAGS = {
    # A run whose process died is started again from its first step, because the steps of a run belong
    # together. A failed run is not, because the same deliveries would fail again.
    "dagster/max_retries": "1",
    "dagster/retry_strategy": "ALL_STEPS",
    "dagster/retry_on_asset_or_op_failure": "false",
}


def run_config(settings: Settings, as_of: date | None, wait_seconds: int = 3600) -> dict[str, Any]:
    """Return the run configuration of one refresh.

    Args:
        settings: The data home, the landing folder, and how to run.
        as_of: Last day whose events count; None for the default of the day it runs.
        wait_seconds: How long to wait while another process refreshes the same data home.
    """
    return {
        "resources": {
            "refresh": {
                "config": {
                    "home": str(settings.home),
                    "landing": str(settings.landing),
                    "as_of": as_of.isoformat() if as_of else "",
                    "wait_seconds": wait_seconds,
                    "strict": settings.strict,
                    "engine": settings.engine,
                }
            }
        },
        "loggers": {
            "file": {"config": {"folder": str(settings.logs), "format": settings.log_format}}
        },
    }


def defs(settings: Settings) -> dg.Definitions:
    """Return the refresh job, what starts it, and what reports on it."""
    job = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.all() - dg.AssetSelection.groups(pulling.GROUP)
        if settings.pull_from
        else dg.AssetSelection.all(),
        executor_def=dg.in_process_executor,
        config=run_config(settings, settings.as_of),
        tags=_TAGS,
        description="Deliveries in, checked marts out: arrival, one dbt build, a release.",
    )
    return dg.Definitions(
        jobs=[job],
        schedules=[_daily_refresh(settings), _month_close_reminder(settings)],
        sensors=[
            _new_deliveries(settings),
            _failed_runs(settings),
            _finished_runs(settings),
            _alerts(settings),
        ],
    )


def _daily_refresh(settings: Settings) -> dg.ScheduleDefinition:
    @dg.schedule(
        job_name=JOB,
        cron_schedule=settings.schedule_cron,
        execution_timezone=settings.schedule_timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING
        if settings.autostart
        else dg.DefaultScheduleStatus.STOPPED,
        description="Refreshes once a day, as of the day of its tick; after missed ticks, only the"
        " last one is made up for.",
    )
    def daily_refresh(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        tick = context.scheduled_execution_time
        day = default_as_of(settings, _local_day(settings, tick))
        return dg.RunRequest(run_key=tick.isoformat(), run_config=run_config(settings, day))

    return daily_refresh


def _month_close_reminder(settings: Settings) -> dg.ScheduleDefinition:
    @dg.schedule(
        job_name=JOB,
        cron_schedule=settings.close_cron,
        execution_timezone=settings.schedule_timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Starts no run; sends an alert, from the configured working day on, if the month"
        " before is not closed.",
    )
    def month_close_reminder(context: dg.ScheduleEvaluationContext) -> dg.SkipReason:
        from dagster_project.alerts import occasions

        day = _local_day(settings, context.scheduled_execution_time)
        return _reported(occasions.close_reminder(settings, day, datetime.now(UTC)))

    return month_close_reminder


def _new_deliveries(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        job_name=JOB,
        minimum_interval_seconds=settings.sensor_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING
        if settings.autostart
        else dg.DefaultSensorStatus.STOPPED,
        description="Refreshes when the landing folder holds deliveries whose content no run has seen"
        " and which have stopped growing; all of them in one run.",
    )
    def new_deliveries(
        context: dg.SensorEvaluationContext,
    ) -> dg.SensorResult | dg.SkipReason:
        from dagster_project.arrival.noticing import Memory, notice

        if context.instance.get_runs_count(dg.RunsFilter(job_name=JOB, statuses=_ON_ITS_WAY)):
            return dg.SkipReason("A refresh is under way; the rest is looked at after it.")
        memory = Memory.parse(context.cursor)
        now = time.time()
        found = notice(settings.landing, settings.home, settings.settle_seconds, now, memory)
        cursor = str(found.memory)
        if not found.new:
            return dg.SensorResult(skip_reason="Nothing new.", cursor=cursor)
        if found.waiting:
            names = ", ".join(found.waiting[:5])
            reason = f"{len(found.waiting)} of {len(found.new)} may still be written: {names}"
            return dg.SensorResult(skip_reason=reason, cursor=cursor)
        day = default_as_of(settings, reporting_day(settings, datetime.now(UTC)))
        request = dg.RunRequest(run_key=found.state, run_config=run_config(settings, day))
        return dg.SensorResult(run_requests=[request], cursor=cursor)

    return new_deliveries


def _failed_runs(settings: Settings) -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        minimum_interval_seconds=settings.sensor_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Alerts about failed runs; a run whose process died could not do so itself.",
    )
    def failed_runs(context: dg.RunFailureSensorContext) -> dg.SkipReason:
        from dagster_project.alerts import occasions
        from dagster_project.failures import failure_of_run

        run = context.dagster_run
        failure = failure_of_run(_last_words(context), _is_made_again(context))
        now = datetime.now(UTC)
        if source := pulling.source_of_job(run.job_name):
            return _reported(occasions.after_pull(settings, source, run.run_id, failure, now))
        return _reported(
            occasions.after_run(
                settings, run.run_id, failure, _as_of(settings, run.run_config, now), now
            )
        )

    return failed_runs


def _finished_runs(settings: Settings) -> dg.SensorDefinition:
    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        minimum_interval_seconds=settings.sensor_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks after each refresh for refused files, new findings, late data and a full"
        " disk, and reports when a problem is over.",
    )
    def finished_runs(context: dg.RunStatusSensorContext) -> dg.SkipReason:
        from dagster_project.alerts import occasions

        run = context.dagster_run
        if run.job_name != JOB:
            return dg.SkipReason("The run was not a refresh.")
        now = datetime.now(UTC)
        return _reported(
            occasions.after_run(
                settings, run.run_id, None, _as_of(settings, run.run_config, now), now
            )
        )

    return finished_runs


def _alerts(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        minimum_interval_seconds=max(settings.sensor_seconds, ALERTS_SECONDS),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks for what changes without a run: data that grows old, a disk that fills;"
        " sends alerts that could not be sent before.",
    )
    def alerts() -> dg.SkipReason:
        from dagster_project.alerts import occasions

        return _reported(occasions.look(settings, datetime.now(UTC)))

    return alerts


def _reported(sent: "Sequence[Told]") -> dg.SkipReason:
    from dagster_project.alerts import wording

    if not sent:
        return dg.SkipReason("Nothing to report.")
    return dg.SkipReason("Reported: " + "; ".join(wording.title(one.message) for one in sent))


def _is_made_again(context: dg.RunFailureSensorContext) -> bool:
    """Return whether a failed run is retried automatically, even before Dagster has recorded so."""
    tags, instance = context.dagster_run.tags, context.instance
    if "dagster/will_retry" in tags:
        return tags["dagster/will_retry"] == "true"
    is_first = "dagster/retry_number" not in tags
    return instance.run_retries_enabled and is_first and not context.get_step_failure_events()


def _last_words(context: dg.RunFailureSensorContext) -> list[str]:
    """Return why a run failed: the errors of its steps, else what Dagster recorded about its process."""
    errors = []
    for event in context.get_step_failure_events():
        error = event.step_failure_data.error
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            errors.append(" ".join(error.message.split()))
    if errors:
        return errors
    said = context.failure_event.message or "no reason was given"
    noted = context.instance.all_logs(
        context.dagster_run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT
    )
    killed = [one.message for one in noted if "Run execution process" in one.message]
    if killed or PROCESS_GONE in said:
        return ["its process died, as when it is killed or memory runs out", *killed[-1:]]
    return [said]


def _as_of(settings: Settings, config: Mapping[str, Any], now: datetime) -> date:
    given = config.get("resources", {}).get("refresh", {}).get("config", {}).get("as_of")
    return date.fromisoformat(given) if given else reporting_day(settings, now)


def _local_day(settings: Settings, instant: datetime) -> date:
    return instant.astimezone(ZoneInfo(settings.schedule_timezone)).date()
