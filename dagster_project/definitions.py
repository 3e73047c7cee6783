"""What Dagster loads: the definitions in `defs/`, merged; nothing is defined here.

`dagster dev -m dagster_project.definitions` loads them; the command line runs their job in process.
"""

from __future__ import annotations

import dagster as dg

from dagster_project.defs import (
    automation,
    consumption,
    ingestion,
    pulling,
    recency,
    release,
    resources,
    transformation,
)
from dagster_project.refresh import dbt_build
from dagster_project.settings import Settings


def load(settings: Settings, project: dbt_build.Project) -> dg.Definitions:
    """Return all definitions for one data home and one parsed dbt project."""
    return dg.Definitions.merge(
        resources.defs(settings),
        pulling.defs(settings),
        ingestion.defs(settings, project),
        transformation.defs(settings, project),
        recency.defs(settings, project),
        release.defs(settings, project),
        consumption.defs(project),
        automation.defs(settings),
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions for the settings in the environment."""
    settings = Settings()
    return load(settings, dbt_build.prepare(settings))
