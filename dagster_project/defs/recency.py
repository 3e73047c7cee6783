"""Whether data is late: the age of each feed's newest record, as a check of the mart that shows it.

Only the check belongs here. What late means is defined in `freshness`, which alerts share. The check
warns: a late supplier is no reason to withhold the data that exists.
"""

import time
from collections.abc import Iterator

import dagster as dg

from dagster_project.answers import freshness
from dagster_project.defs.resources import Refresh
from dagster_project.defs.tables import code
from dagster_project.defs.transformation import mart_keys
from dagster_project.product import CODE
from dagster_project.refresh.dbt_build import Project
from dagster_project.settings import Settings

STEP = "data_age"


def check_name(feed: str) -> str:
    """Name the check of a feed."""
    return f"newest_{feed}_are_recent"


def defs(settings: Settings, project: Project) -> dg.Definitions:
    """Return one check per feed that is watched."""
    keys = mart_keys(settings, project)
    watched = {feed: keys[freshness.mart_of(feed)] for feed in settings.late_after_days}
    if not watched:
        return dg.Definitions()
    specs = [
        dg.AssetCheckSpec(
            check_name(feed),
            asset=key,
            description=f"The newest record of {feed} is at most"
            f" {settings.late_after_days[feed]} days old: the time of the data, not of the run.",
            metadata=code(CODE / "dagster_project" / "answers" / "freshness.py"),
        )
        for feed, key in watched.items()
    ]

    @dg.multi_asset_check(name=STEP, specs=specs, pool="warehouse")
    def data_age(
        context: dg.AssetCheckExecutionContext, refresh: Refresh
    ) -> Iterator[dg.AssetCheckResult]:
        """Compare the newest record of each feed with the as-of date of the run."""
        import duckdb

        began = time.monotonic()
        today = refresh.as_of_date
        with duckdb.connect(str(refresh.settings.candidate), read_only=True) as connection:
            newest = freshness.newest_days(connection, refresh.settings, today)
            late = {
                one.feed: one for one in freshness.late_feeds(connection, refresh.settings, today)
            }
        seconds = time.monotonic() - began
        context.log.info(f"{len(watched)} feeds looked at, {len(late)} late, {seconds:.1f} s")
        for feed, key in watched.items():
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=check_name(feed),
                passed=feed not in late,
                severity=dg.AssetCheckSeverity.WARN,
                description=str(late[feed]) if feed in late else None,
                metadata={
                    "newest_record": str(newest[feed] or "none"),
                    "compared_with": today.isoformat(),
                    "days_allowed": settings.late_after_days[feed],
                },
            )

    return dg.Definitions(asset_checks=[data_age])
