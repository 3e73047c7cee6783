"""What a build on Spark did, from the log of its events: plans, and where rows were moved.

The reading of the log and what can be said about any plan belong here. The test decides which plans a
build may have.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STARTED = "org.apache.spark.sql.execution.ui.SparkListenerSQLExecutionStart"
_PASSED_ON = ("Project", "Filter", "WholeStageCodegen", "InputAdapter", "Sort", "Union")


@dataclass(frozen=True)
class Node:
    """An operator of a plan.

    Attributes:
        name: What it is, such as `Exchange` or `SortMergeJoin`.
        text: It with its arguments.
        children: What it reads.
    """

    name: str
    text: str
    children: tuple[Node, ...]

    def walk(self) -> Iterator[Node]:
        """It and everything below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def tables(self) -> set[str]:
        """The tables it reads, without their schemas."""
        scans = [node.name for node in self.walk() if node.name.startswith("Scan parquet")]
        return {name.split(".")[-1].strip() for name in scans}

    @property
    def is_partly_aggregated(self) -> bool:
        """Whether it has only one row per group from each task."""
        if self.name in _PASSED_ON:
            return all(child.is_partly_aggregated for child in self.children)
        return self.name.endswith("Aggregate")


@dataclass(frozen=True)
class Execution:
    """A statement that was executed.

    Attributes:
        model: The model it made, as `schema.name`; empty if it made none.
        plan: Its physical plan.
    """

    model: str
    plan: Node


def told_to(folder: Path) -> dict[str, str]:
    """Spark's configuration to write the log of its events in the form that is read here.

    Args:
        folder: The folder of the log.
    """
    return {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.compress": "false",
        "spark.eventLog.rolling.enabled": "false",
        "spark.eventLog.dir": folder.as_uri(),
    }


def read(log: Path) -> Iterator[Mapping[str, Any]]:
    """The events of a log that is not compressed."""
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def executions(log: Path) -> list[Execution]:
    """Everything that was executed, in order."""
    found = []
    for event in read(log):
        if event["Event"] != _STARTED:
            continue
        plan = _node(event["sparkPlanInfo"])
        found.append(Execution(_made_by(plan), plan))
    return found


def _made_by(plan: Node) -> str:
    """The model that a plan writes, as `schema.name`; empty if it writes none."""
    for node in plan.walk():
        if node.name.startswith("Execute InsertInto"):
            made = re.search(r"/tables/(\w+)/(\w+)", node.text)
            return ".".join(made.groups()) if made else ""
    return ""


def _node(info: Mapping[str, Any]) -> Node:
    return Node(
        str(info["nodeName"]).strip(),
        str(info["simpleString"]),
        tuple(_node(child) for child in info["children"]),
    )


def gathered(plan: Node, spread: Sequence[str], reference: Sequence[str]) -> list[str]:
    """Where a plan brings rows to too few tasks to grow with the data.

    Args:
        plan: The plan.
        spread: Columns with many values, each with few rows: rows may be moved by them.
        reference: Tables that stay small, which a join may be partitioned for: Spark sends them whole.

    Returns:
        One line per join without a key; per exchange to one task, except of rows already aggregated;
        and per exchange by columns none of which spreads, except of aggregated rows and for joins with
        a reference table.
    """
    found = []

    def look(node: Node, is_for_reference: bool) -> None:
        if node.name in ("CartesianProduct", "BroadcastNestedLoopJoin"):
            found.append(f"join without a key: {node.text}")
        moves = node.name == "Exchange" and "RoundRobinPartitioning" not in node.text
        if moves and not node.children[0].is_partly_aggregated:
            keys = re.search(r"hashpartitioning\((.*), \d+\)", node.text)
            columns = re.findall(r"(\w+)#\d+", keys[1]) if keys else []
            if "SinglePartition" in node.text:
                found.append(f"all rows to one task: {node.text}")
            elif not is_for_reference and not set(columns) & set(spread):
                found.append(f"rows by {', '.join(columns) or node.text}")
        if node.name.endswith("Join"):
            is_for_reference = any(
                child.tables and child.tables <= set(reference) for child in node.children
            )
        elif node.name == "Exchange":
            is_for_reference = False
        for child in node.children:
            look(child, is_for_reference)

    look(plan, False)
    return found


def shuffled_rows(log: Path) -> Counter[str]:
    """Rows that each executor read from shuffles."""
    rows: Counter[str] = Counter()
    for event in read(log):
        if event["Event"] == "SparkListenerTaskEnd":
            metrics = (event.get("Task Metrics") or {}).get("Shuffle Read Metrics", {})
            rows[str(event["Task Info"]["Executor ID"])] += int(
                metrics.get("Total Records Read", 0)
            )
    return rows


def moved(log: Path) -> dict[str, tuple[int, int]]:
    """Bytes and rows that tasks wrote for others to read, by the model that was made.

    Args:
        log: The log of events.

    Returns:
        By the model's name, compressed bytes and rows; under the empty name those that made no model.
    """
    made: dict[str, str] = {}
    execution_of: dict[int, str] = {}
    found: dict[str, tuple[int, int]] = {}
    for event in read(log):
        match event["Event"]:
            case kind if kind == _STARTED:
                number = str(event["executionId"])
                model = _made_by(_node(event["sparkPlanInfo"]))
                root = str(event.get("rootExecutionId", number))
                made[number] = model.split(".")[-1] or made.get(root, "")
            case "SparkListenerJobStart":
                number = str(event["Properties"].get("spark.sql.execution.id", ""))
                execution_of |= {int(stage): number for stage in event["Stage IDs"]}
            case "SparkListenerTaskEnd":
                metrics = (event.get("Task Metrics") or {}).get("Shuffle Write Metrics", {})
                model = made.get(execution_of.get(int(event["Stage ID"]), ""), "")
                size, rows = found.get(model, (0, 0))
                found[model] = (
                    size + int(metrics.get("Shuffle Bytes Written", 0)),
                    rows + int(metrics.get("Shuffle Records Written", 0)),
                )
    return found
