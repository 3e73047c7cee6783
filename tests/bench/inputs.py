"""What the compared programs start from: a sample's records after arrival and staging, as Parquet."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from dagster_project.arrival import arrive
from dagster_project.quoting import literal
from dagster_project.refresh import dbt_build
from dagster_project.settings import Settings
from tests.bench import measure, store
from tests.bench.programs.contract import INPUTS, source
from tests.bench.programs.duckdb_program import run_models


def prepared(invoices: int, folder: Path = store.FOLDER) -> tuple[Path, Path]:
    """The inputs made from a sample, once per version of its generator.

    Args:
        invoices: About how many.
        folder: Where inputs are kept, in `inputs/`.

    Returns:
        Their folder, and that of the sample.
    """
    sample = store.sample(invoices, folder=folder)
    kept = folder / "inputs" / sample.name
    if not kept.is_dir():
        home = folder / "work" / "home"
        shutil.rmtree(home, ignore_errors=True)
        making = kept.with_name(f".{kept.name}")
        shutil.rmtree(making, ignore_errors=True)
        measure.run(
            [sys.executable, "-m", "tests.bench.inputs", str(sample), str(home), str(making)],
            folder / "work" / "inputs.log",
        )
        shutil.rmtree(home)
        making.rename(kept)
    return kept, sample


def export(warehouse: Path, inputs: Path) -> None:
    """Write a warehouse's staged records as Parquet.

    Args:
        warehouse: The DuckDB file.
        inputs: The folder that gets the files.
    """
    inputs.mkdir(parents=True)
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        connection.execute("set memory_limit = '4GB'")
        for feed in INPUTS:
            connection.execute(
                f"copy staging.stg_billing__{feed} to {literal(str(source(inputs, feed)))}"
                " (format parquet)"
            )


def main(sample: Path, home: Path, inputs: Path) -> None:
    """Let a sample arrive, stage it, export it."""
    settings = Settings(home=home, landing=sample / "landing")
    arrive(settings.landing, home, "inputs", datetime.now(UTC), with_gate=False)
    project = dbt_build.prepare(settings)
    day = store.last_day(sample)
    dbt_build._invoke(
        ["seed"], settings, settings.build / "dbt", project.folder / "manifest.msgpack", []
    )
    staged = (f"+stg_billing__{feed}" for feed in INPUTS)
    run_models(settings, project, day, "--select", *staged)
    export(settings.warehouse, inputs)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
