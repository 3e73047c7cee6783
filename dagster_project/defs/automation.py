"""When a refresh runs: the job, its daily schedule, and the sensor for new deliveries."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.settings import Settings

if TYPE_CHECKING:
    from dagster_project.arrival.landing import LandedFile

JOB = "refresh"


def run_config(settings: Settings, as_of: date, wait_seconds: int = 3600) -> dict[str, Any]:
    """The run configuration of one refresh."""
    return {
        "resources": {
            "refresh": {
                "config": {
                    "home": str(settings.home),
                    "landing": str(settings.landing),
                    "as_of": as_of.isoformat(),
                    "wait_seconds": wait_seconds,
                    "strict": settings.strict,
                    "engine": settings.engine,
                }
            }
        }
    }


def defs(settings: Settings) -> dg.Definitions:
    """The job with what starts it."""
    job = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.all(),
        executor_def=dg.in_process_executor,
        description="Deliveries in, checked marts out: arrival, one dbt build, a release.",
    )

    @dg.schedule(
        job=job,
        cron_schedule=settings.schedule_cron,
        execution_timezone=settings.schedule_timezone,
        description="Refreshes once a day, as of the day of its tick.",
    )
    def daily_refresh(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = context.scheduled_execution_time.date()
        return dg.RunRequest(run_key=day.isoformat(), run_config=run_config(settings, day))

    @dg.sensor(
        job=job,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Refreshes when deliveries lie in the landing folder that no run has seen.",
    )
    def new_deliveries(
        context: dg.SensorEvaluationContext,
    ) -> dg.SensorResult | dg.SkipReason:
        from dagster_project.arrival.landing import find_landed
        from dagster_project.feeds import feeds

        now = datetime.now(UTC)
        landed = find_landed(settings.landing, list(feeds()), None)
        growing = unsettled(landed, now, settings.settle_seconds)
        if growing:
            return dg.SkipReason(f"Still being written: {', '.join(growing[:5])}")
        seen = signature(landed)
        if not landed or seen == context.cursor:
            return dg.SkipReason("Nothing new.")
        request = dg.RunRequest(run_key=seen, run_config=run_config(settings, now.date()))
        return dg.SensorResult(run_requests=[request], cursor=seen)

    return dg.Definitions(jobs=[job], schedules=[daily_refresh], sensors=[new_deliveries])


def unsettled(landed: "Sequence[LandedFile]", now: datetime, settle_seconds: int) -> list[str]:
    """Names of files changed so lately that they may not be whole yet."""
    limit = now.timestamp() - settle_seconds
    return [file.file_name for file in landed if file.modified_ns / 1e9 > limit]


def signature(landed: "Sequence[LandedFile]") -> str:
    """Tells one state of the landing folder from another by names, sizes and times."""
    digest = hashlib.sha256()
    for file in sorted(landed, key=lambda one: one.file_name):
        digest.update(f"{file.file_name}\0{file.size_bytes}\0{file.modified_ns}\n".encode())
    return digest.hexdigest()
