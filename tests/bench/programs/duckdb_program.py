"""The five marts by this product's own dbt models on DuckDB.

As in a refresh: dbt in process, the project parsed before, the settings' threads and memory limit, every
model into a DuckDB file. The inputs are the result of staging, so only the later models run that the five
marts need, without data tests, which the other programs do not have.
"""

from __future__ import annotations

import json
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from dagster_project.arrival.warehouse import STORAGE
from dagster_project.quoting import literal
from dagster_project.refresh import dbt_build
from dagster_project.releases import candidate
from dagster_project.settings import Settings
from tests.bench.programs.contract import EMPTY, INPUTS, RESULTS, command, nothing, source, target


def main(inputs: Path, outputs: Path, as_of: date) -> None:
    """Read the inputs, calculate, write the results.

    Args:
        inputs: Folder of the Parquet files to read.
        outputs: Folder that gets the Parquet files.
        as_of: Last day whose events count.
    """
    with tempfile.TemporaryDirectory(dir=outputs, prefix=".duckdb-") as folder:
        settings = Settings(home=Path(folder) / "home")
        settings.build.mkdir(parents=True)
        with duckdb.connect(
            str(settings.warehouse), config={"storage_compatibility_version": STORAGE}
        ) as connection:
            connection.execute("create schema staging")
            for feed in INPUTS:
                connection.execute(
                    f"create view staging.stg_billing__{feed} as"
                    f" from read_parquet({literal(str(source(inputs, feed)))})"
                )
            for name in EMPTY:
                connection.execute(f"create view staging.{name} as {nothing(name)}")
        candidate.begin(settings.candidate)
        run_models(settings, dbt_build.prepare(settings), as_of)
        with duckdb.connect(str(settings.candidate), config=limits(settings)) as connection:
            for mart, columns in RESULTS.items():
                connection.execute(
                    f"copy (select {', '.join(columns)} from marts.{mart})"
                    f" to {literal(str(target(outputs, mart)))} (format parquet)"
                )


def run_models(
    settings: Settings, project: dbt_build.Project, as_of: date, *selection: str
) -> None:
    """Run models of the project on the engine of the settings.

    Args:
        settings: The settings; their warehouse has what the models read.
        project: The parsed project.
        as_of: Last day whose events count.
        selection: dbt's options that choose models; by default those of the results, but no staging.

    Raises:
        DbtFailed: A model failed.
    """
    chosen = selection or (
        *("--select", *(f"+{mart}" for mart in RESULTS)),
        *("--exclude", "path:models/staging"),
    )
    ended: Any = dbt_build._invoke(
        ["run", *chosen, "--vars", json.dumps({"as_of_date": as_of.isoformat()})],
        settings,
        settings.build / "dbt",
        project.folder / "manifest.msgpack",
        [],
    )
    if not ended.success:
        results = getattr(ended.result, "results", None) or []
        raise dbt_build.DbtFailed(str(ended.exception or [one.message for one in results]))
    if settings.engine == "duckdb":
        dbt_build._close_warehouse()


def limits(settings: Settings) -> dict[str, str | bool | int | float | list[str]]:
    """DuckDB's configuration as in a refresh."""
    return {
        "threads": settings.threads,
        "memory_limit": settings.memory_limit,
        "preserve_insertion_order": False,
    }


if __name__ == "__main__":
    command(main)
