"""Reading what Spark moved, and reporting it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.bench import shuffle
from tests.pipeline.spark_events import moved

_START = "org.apache.spark.sql.execution.ui.SparkListenerSQLExecutionStart"


def plan(name: str, text: str, *children: dict[str, Any]) -> dict[str, Any]:
    return {"nodeName": name, "simpleString": text, "children": list(children)}


def scan(table: str) -> dict[str, Any]:
    return plan(f"Scan parquet {table}", f"FileScan file:/storage/tables/{table.replace('.', '/')}")


def insert(model: str, *children: dict[str, Any]) -> dict[str, Any]:
    name = "Execute InsertIntoHadoopFsRelationCommand"
    place = f"{name} file:/storage/tables/{model.replace('.', '/')}, false, Parquet"
    return plan("AdaptiveSparkPlan", "isFinalPlan=false", plan(name, place, *children))


def execution(number: int, root: int, content: dict[str, Any]) -> dict[str, Any]:
    return {
        "Event": _START,
        "executionId": number,
        "rootExecutionId": root,
        "sparkPlanInfo": content,
    }


def job(number: int, *stages: int) -> dict[str, Any]:
    properties = {"spark.sql.execution.id": str(number)}
    return {"Event": "SparkListenerJobStart", "Stage IDs": list(stages), "Properties": properties}


def task(stage: int, size: int, rows: int) -> dict[str, Any]:
    written = {"Shuffle Bytes Written": size, "Shuffle Records Written": rows}
    metrics = {"Shuffle Write Metrics": written}
    return {"Event": "SparkListenerTaskEnd", "Stage ID": stage, "Task Metrics": metrics}


def test_what_tasks_write_is_that_of_the_model_they_make(tmp_path: Path) -> None:
    events = [
        execution(1, 1, plan("CreateTable", "")),
        execution(2, 1, insert("intermediate.int_a", scan("staging.stg_b"))),
        job(2, 10),
        job(2, 11, 12),
        task(10, 100, 5),
        task(10, 50, 2),
        task(11, 7, 1),
        execution(3, 3, plan("Aggregate", "", scan("marts.fct_c"))),
        job(3, 20),
        task(20, 9, 3),
        {"Event": "SparkListenerTaskEnd", "Stage ID": 20},  # failed, so it has no metrics
    ]
    log = tmp_path / "events"
    log.write_text("\n".join(map(json.dumps, events)), "utf-8")
    assert moved(log) == {"int_a": (157, 8), "": (9, 3)}


RESULT = {
    "invoices": 1000,
    "workspaces": 40,
    "delivered_rows": 1200,
    "raw_bytes": 33_000,
    "table_bytes": 175_000,
    "base_invoices_bytes": 47_000,
    "release_bytes": 78_000,
    "release_parquet_bytes": 30_000,
    "moved": {
        "int_a": {"bytes": 2_000, "rows": 500},
        "int_b": {"bytes": 90_000, "rows": 4_000},
        "data tests": {"bytes": 10_000, "rows": 100},
    },
    "measured_at": "2026-01-01",
    "commit": "abc1234",
    "processor": "a processor",
    "cores": 2,
    "memory_gib": 24,
    "load_before": 0.1,
    "versions": {"Python": "3"},
}


def test_an_invoices_share_is_told_and_a_billion_times_it() -> None:
    told = shuffle.block(RESULT)
    assert "1,000 invoices of 40 workspaces, 1,200 delivered rows" in told
    for line in (
        "| delivered rows, as text Parquet | 33 B | 33 GB |",
        "| moved by models | 92 B in 4.5 rows | 92 GB |",
        "| moved by data tests | 10 B in 0.1 rows | 10 GB |",
        "| a release: DuckDB file, Parquet | 78 B, 30 B | 78 GB, 30 GB |",
    ):
        assert line in told
    assert told.splitlines()[-2:] == [
        "| `int_b` | 90 B in 4.0 rows | 90 GB |",
        "| `int_a` | 2 B in 0.5 rows | 2 GB |",
    ]
