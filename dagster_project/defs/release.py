"""Marts to a release: the gate, the copy, the flip; all of it in `releases`."""

from datetime import timedelta
from functools import partial

import dagster as dg

from dagster_project.dashboard.report import report
from dagster_project.defs.resources import Refresh
from dagster_project.defs.steps import step
from dagster_project.defs.tables import came_from, code, loaded_deliveries, schema
from dagster_project.defs.transformation import Translator
from dagster_project.feeds import feeds
from dagster_project.product import CODE
from dagster_project.refresh import as_left, dbt_build
from dagster_project.releases.contents import pedigree_tables
from dagster_project.releases.publishing import Publication, publish
from dagster_project.settings import Settings

STEP = "release"
_TABLES = [
    ("table_schema", "varchar", "marts, or release for where they came from.", False),
    ("table_name", "varchar", "The table.", False),
    ("row_count", "bigint", "Its rows.", False),
    ("fingerprint", "varchar", "Fingerprint of its content, whatever the order of rows.", False),
]
_PEDIGREE = {name for _, name in pedigree_tables()}


def defs(settings: Settings, project: dbt_build.Project) -> dg.Definitions:
    """Return the release as an asset downstream of the marts."""
    translator = Translator(settings)
    copied = [
        translator.get_asset_key(node)
        for node in project.manifest["nodes"].values()
        if node["resource_type"] == "model"
        and (node["schema"] == "marts" or node["name"] in _PEDIGREE)
    ]

    @dg.asset(
        key=STEP,
        deps=copied,
        group_name=STEP,
        kinds={"python", "duckdb", "parquet"},
        pool="warehouse",
        description="The current release: a read-only DuckDB file of the checked marts.",
        owners=[settings.owners[STEP]],
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=settings.fresh_within_hours)
        ),
        metadata=code(CODE / "dagster_project" / "releases" / "publishing.py"),
    )
    def release(context: dg.AssetExecutionContext, refresh: Refresh) -> dg.MaterializeResult[None]:
        """Publish the build of this run, or refuse."""
        settings = refresh.settings
        with step(context, refresh, STEP) as running, as_left.forgotten_on_failure(settings):
            publication = publish(
                settings.home,
                marts=settings.candidate,
                built=settings.built,
                as_of=refresh.as_of_date,
                build=dbt_build.read_receipt(settings, context.run_id),
                manifest=project.manifest,
                now=refresh.started_at,
                code_version=project.code_version,
                engine=settings.engine,
                reporting_time_zone=settings.reporting_time_zone,
                threads=settings.threads,
                memory_limit=settings.memory_limit,
                report=partial(report, home=settings.home) if settings.reports else None,
            )
            running.outcome = outcome(publication)
        passed = sum(check.status == "pass" for check in publication.checks)
        return dg.MaterializeResult(
            metadata={
                "release_id": publication.release_id,
                "path": dg.MetadataValue.path(str(publication.path)),
                "is_new": publication.is_new,
                "as_of_date": refresh.as_of_date.isoformat(),
                "dagster/row_count": sum(publication.rows.values()),
                "dagster/column_schema": schema(_TABLES),
                "marts": dg.MetadataValue.md(
                    "\n".join(f"- {name}: {rows:,} rows" for name, rows in publication.rows.items())
                ),
                "checks": f"{passed:,} of {len(publication.checks):,} passed",
                **came_from(loaded_deliveries(settings.warehouse), list(feeds())),
            }
        )

    return dg.Definitions(assets=[release])


def outcome(publication: Publication) -> str:
    """Return in a few words what a publication did."""
    rows = sum(publication.rows.values())
    if not publication.is_new:
        return "nothing has changed; the current release stays in place"
    text = f"{len(publication.rows)} marts, {rows:,} rows published"
    if publication.without_report:
        text += f"; without its report, which cannot be made: {publication.without_report}"
    return text
