"""What Spark moves between tasks: bytes and rows of every model, extrapolated to a billion invoices.

One build of a generated sample on Spark belongs here, with its tables planned as if they were large, and
the reading of its log of events. Bytes and rows do not depend on how busy the machine is.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster_project.releases import files, open_release
from tests.bench import machine, measure, refresh, store
from tests.pipeline.spark_events import moved, told_to

_SHOWN = 8  # models that move most
_PACKAGES = ("duckdb", "dbt-core", "dbt-spark", "pyspark")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("--invoices", type=int, default=300_000, help="about how many")
    parser.add_argument("--results", type=Path, default=store.FOLDER, help="where results are kept")


def main(options: argparse.Namespace) -> None:
    """Build, read the log, keep and print the result."""
    result = measured(options.invoices, options.results)
    store.keep("shuffle", result, options.results)
    print(block(result))


def measured(invoices: int, folder: Path = store.FOLDER) -> dict[str, Any]:
    """Build a sample on Spark and count what it moved.

    Args:
        invoices: About how many.
        folder: Where samples are kept, and the build is made and removed.

    Returns:
        Rows, and bytes of everything that is written or moved.

    Raises:
        measure.RunFailed: The build failed.
    """
    work = folder / "shuffle"
    shutil.rmtree(work, ignore_errors=True)
    events = work / "events"
    events.mkdir(parents=True)
    sample = store.sample(invoices, folder=folder)
    home = work / "home"
    storage = home / "build" / "spark"
    print(f"building {invoices:,} invoices on Spark", file=sys.stderr, flush=True)
    measure.run(
        refresh.command(sample / "landing", home, store.last_day(sample), "spark"),
        work / "run.log",
        {"COUPON_LEDGER_SPARK_CONF": json.dumps(configuration(events))},
    )
    (log,) = events.iterdir()
    models: dict[str, dict[str, int]] = defaultdict(lambda: {"bytes": 0, "rows": 0})
    for model, (size, rows) in moved(log).items():
        models[model or "data tests"]["bytes"] += size
        models[model or "data tests"]["rows"] += rows
    release_id = files.current_release(home) or ""
    with open_release(home) as connection:
        rows_of = dict(
            connection.execute("select table_name, row_count from release.tables").fetchall()
        )
        [(delivered,)] = connection.execute(
            "select sum(physical_rows) from release.deliveries"
        ).fetchall()
    result = {
        **machine.described(_PACKAGES),
        "invoices": int(rows_of["fct_discounted_charges"]),
        "workspaces": int(rows_of["dim_workspaces"]),
        "delivered_rows": int(delivered),
        "raw_bytes": _size(storage / "raw"),
        "table_bytes": _size(storage / "tables"),
        "base_invoices_bytes": _size(storage / "tables/staging/base_billing__invoices"),
        "release_bytes": files.release_path(home, release_id).stat().st_size,
        "release_parquet_bytes": _size(files.parquet_dir(home, release_id)),
        "moved": dict(models),
    }
    shutil.rmtree(work)
    return result


def configuration(events: Path) -> Mapping[str, str]:
    """Spark's configuration for it.

    Args:
        events: Folder for the log of events.
    """
    sent_whole = str(64 * 1024)  # bytes; larger tables are moved, as they are if all are large
    return {
        "spark.sql.autoBroadcastJoinThreshold": sent_whole,
        "spark.sql.adaptive.autoBroadcastJoinThreshold": sent_whole,
        **told_to(events),
    }


def block(result: Mapping[str, Any]) -> str:
    """A result for people: an invoice's share, and a billion times that."""
    invoices = result["invoices"]

    def row(name: str, size: int, rows: int | None = None, more: int | None = None) -> str:
        each = f"{size / invoices:.0f} B" + (f", {more / invoices:.0f} B" if more else "")
        each += f" in {rows / invoices:.1f} rows" if rows is not None else ""
        billion = f"{size / invoices:.0f} GB" + (f", {more / invoices:.0f} GB" if more else "")
        return f"| {name} | {each} | {billion} |"

    models = {name: each for name, each in result["moved"].items() if name != "data tests"}
    tests = result["moved"].get("data tests", {"bytes": 0, "rows": 0})
    all_bytes = sum(each["bytes"] for each in models.values())
    all_rows = sum(each["rows"] for each in models.values())
    most = sorted(models, key=lambda name: -models[name]["bytes"])[:_SHOWN]
    return "\n".join(
        [
            f"Measured on {invoices:,} invoices of {result['workspaces']:,} workspaces,"
            f" {result['delivered_rows']:,} delivered rows; {machine.sentence(dict(result))}.",
            "",
            "| | per invoice | a billion |",
            "|---|---|---|",
            row("delivered rows, as text Parquet", result["raw_bytes"]),
            row("tables of all layers, Parquet", result["table_bytes"]),
            row("of them base invoices", result["base_invoices_bytes"]),
            row("moved by models", all_bytes, all_rows),
            row("moved by data tests", tests["bytes"], tests["rows"]),
            row(
                "a release: DuckDB file, Parquet",
                result["release_bytes"],
                more=result["release_parquet_bytes"],
            ),
            "",
            "The models that move most:",
            "",
            "| model | per invoice | a billion |",
            "|---|---|---|",
            *(row(f"`{name}`", models[name]["bytes"], models[name]["rows"]) for name in most),
        ]
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))
