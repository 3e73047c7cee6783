"""The five marts by the same dbt models on Spark, in one process on this machine.

As in a refresh with `--engine spark`: the settings' threads, their memory limit as the heap of the JVM,
every model into Parquet. A result is a folder of the files that Spark's tasks wrote.
"""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from dagster_project.refresh import dbt_build, spark
from dagster_project.settings import Settings
from tests.bench.programs.contract import EMPTY, INPUTS, RESULTS, command, nothing, source, target
from tests.bench.programs.duckdb_program import run_models


def main(inputs: Path, outputs: Path, as_of: date) -> None:
    """Read the inputs, calculate, write the results.

    Args:
        inputs: Folder of the Parquet files to read.
        outputs: Folder that gets the folders of Parquet files.
        as_of: Last day whose events count.
    """
    with tempfile.TemporaryDirectory(dir=outputs, prefix=".spark-") as folder:
        settings = Settings(home=Path(folder) / "home", engine="spark")
        # Spark's partitions follow the rows that arrived; none arrive here, so they follow the inputs.
        chosen = spark.sql_configuration(settings, _rows(inputs))
        settings = settings.model_copy(update={"spark_conf": chosen | settings.spark_conf})
        settings.scratch.mkdir(parents=True)
        with duckdb.connect(str(settings.warehouse)):
            pass  # nothing has arrived in it
        project = dbt_build.prepare(settings)
        with spark.ready(settings):
            from pyspark.sql import SparkSession

            session = SparkSession.active()
            tables = spark.local_dir(settings) / "tables"
            for schema in ("staging", "intermediate", "marts"):
                session.sql(f"create database {schema} location '{tables / schema}'")
            for feed in INPUTS:
                path = source(inputs, feed).absolute()
                session.sql(
                    f"create view staging.stg_billing__{feed} as select * from parquet.`{path}`"
                )
            for name in EMPTY:
                session.sql(f"create view staging.{name} as {nothing(name)}")
            run_models(settings, project, as_of)
            for mart in RESULTS:
                (tables / "marts" / mart).rename(target(outputs, mart))


def _rows(inputs: Path) -> int:
    """Rows of all inputs together."""
    return sum(pq.read_metadata(source(inputs, feed)).num_rows for feed in INPUTS)


if __name__ == "__main__":
    command(main)
