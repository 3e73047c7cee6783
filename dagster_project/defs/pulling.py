"""Pulls from billing systems, as assets before the deliveries, for the systems that settings name.

How a pull runs in Dagster belongs here: alone, by its own schedule, with an alert when it fails. What a
pull does is defined in `sources`.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_project.defs.tables import code
from dagster_project.product import CODE
from dagster_project.releases.lock import one_writer
from dagster_project.run_launcher import show_alive
from dagster_project.settings import Settings

GROUP = "sources"
JOB_OF = "pull_{}"
WAIT_SECONDS = 3600
"""How long a pull that is ready to deliver waits for a refresh to end."""
RETRIES = {
    # What a killed pull has read is stored: a new run of it continues from there.
    "dagster/max_retries": "2",
    "dagster/retry_on_asset_or_op_failure": "false",
}


class Pull(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The folders of a pull's state and deliveries; its key is only in the environment.

    Attributes:
        home: The data home.
        landing: The landing folder.
    """

    home: str
    landing: str

    @property
    def settings(self) -> Settings:
        """The settings of this pull."""
        return Settings(home=Path(self.home), landing=Path(self.landing))


def source_key(source: str) -> dg.AssetKey:
    """Return the asset key of what is pulled from a billing system."""
    return dg.AssetKey([GROUP, source])


def source_keys(settings: Settings) -> list[dg.AssetKey]:
    """Return the sources that settings name."""
    return [source_key(source) for source in settings.pull_from]


def source_of_job(job_name: str) -> str | None:
    """Return the source that a job pulls from, None for another job."""
    prefix = JOB_OF.format("")
    return job_name.removeprefix(prefix) if job_name.startswith(prefix) else None


def defs(settings: Settings) -> dg.Definitions:
    """Return one asset, job and schedule for each source that settings name."""
    if not settings.pull_from:
        return dg.Definitions()
    return dg.Definitions(
        assets=[_asset(settings, source) for source in settings.pull_from],
        jobs=[
            dg.define_asset_job(
                JOB_OF.format(source),
                selection=dg.AssetSelection.assets(source_key(source)),
                executor_def=dg.in_process_executor,
                config=_run_config(settings),
                tags=RETRIES,
                description=f"Fetches from {source} into the landing folder.",
            )
            for source in settings.pull_from
        ],
        schedules=[_schedule(settings, source) for source in settings.pull_from],
        resources={"pull": Pull(home=str(settings.home), landing=str(settings.landing))},
    )


def _run_config(settings: Settings) -> dict[str, Any]:
    config = {"home": str(settings.home), "landing": str(settings.landing)}
    log = {"folder": str(settings.logs), "format": settings.log_format}
    return {"resources": {"pull": {"config": config}}, "loggers": {"file": {"config": log}}}


def _schedule(settings: Settings, source: str) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=f"daily_{JOB_OF.format(source)}",
        job_name=JOB_OF.format(source),
        cron_schedule=settings.pull_cron,
        execution_timezone=settings.schedule_timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        run_config=_run_config(settings),
        description=f"Pulls from {source}; the sensor of new deliveries then refreshes.",
    )


def _asset(settings: Settings, source: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=source_key(source),
        group_name=GROUP,
        description=_DESCRIPTIONS[source],
        owners=[settings.owners["deliveries"]],
        kinds={source},
        pool=f"pull_{source}",
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=settings.pull_within_hours)
        ),
        metadata=code(CODE / "dagster_project" / "sources" / _MODULES[source]),
    )
    def pulled(context: dg.AssetExecutionContext, pull: Pull) -> dg.MaterializeResult[None]:
        """Fetch what changed and deliver it, whole or not at all."""
        show_alive(pull.settings.home, context.run_id)
        began = time.monotonic()
        try:
            metadata = _PULLS[source](pull.settings, _alone(pull.settings, context.run_id))
        except Exception as error:
            _tell(pull.settings, source, context.run_id, error)
            raise
        _tell(pull.settings, source, context.run_id, None)
        context.log.info(f"{metadata['rows']:,} rows delivered, {time.monotonic() - began:.1f} s")
        return dg.MaterializeResult(metadata=metadata)

    return pulled


def _alone(settings: Settings, run_id: str) -> Callable[[], AbstractContextManager[None]]:
    return lambda: one_writer(settings.home, f"Dagster run {run_id}, a pull", WAIT_SECONDS)


def _tell(settings: Settings, source: str, run_id: str, error: Exception | None) -> None:
    from dagster_project import failures
    from dagster_project.alerts import occasions

    failure = None
    if error is not None:
        failures.make_discreet(error)
        failure = failures.failure_of(error)
    occasions.after_pull(settings, source, run_id, failure, datetime.now(UTC))


def _pull_stripe(
    settings: Settings, exclusively: Callable[[], AbstractContextManager[None]]
) -> dict[str, Any]:
    from dagster_project.sources import stripe_pull

    report = stripe_pull.pull(settings, exclusively=exclusively)
    refused = [f"- {one.feed} {one.id}: {one.why}" for one in report.refused[:100]]
    return {
        **_counted(report.delivered),
        "objects": sum(report.objects.values()),
        "refused": len(report.refused),
        "refused_objects": dg.MetadataValue.md("\n".join(refused) or "none"),
        "bounds": sum(note.kind == "end_is_a_bound" for note in report.notes),
        "report": dg.MetadataValue.path(
            str(settings.home / "pulls" / "stripe" / report.pull / "report.json")
        ),
    }


def _pull_postgres(
    settings: Settings, exclusively: Callable[[], AbstractContextManager[None]]
) -> dict[str, Any]:
    from dagster_project.sources import postgres

    sources = postgres.read_file(settings.postgres_sources)
    return _counted(postgres.pull(settings, sources, exclusively=exclusively).delivered)


def _counted(delivered: dict[str, int]) -> dict[str, Any]:
    return {
        "rows": sum(delivered.values()),
        **{f"rows_of_{feed}": count for feed, count in delivered.items()},
    }


_PULLS = {"stripe": _pull_stripe, "postgres": _pull_postgres}
_MODULES = {"stripe": "stripe_pull.py", "postgres": "postgres.py"}
_DESCRIPTIONS = {
    "stripe": "What changed in the Stripe account since the last pull, as deliveries of the five feeds.",
    "postgres": "The rows of a SELECT for each feed in a Postgres database, as deliveries.",
}
