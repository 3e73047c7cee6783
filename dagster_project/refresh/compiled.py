"""The models and data tests as SQL that DuckDB runs without dbt, compiled once per version of the code.

So a question is answered in a fraction of the time that dbt takes to start. The models are compiled for a build that
carries on from one of the same day, under terms that hold from some instant on. The days and the delivery number of a
question are markers in that SQL, which `Models.sql` replaces. No rule is written twice.

Each model is stored with the columns that it reads from other models (`columns_read`). If none of these has changed,
the model has not changed either.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from dagster_project.digests import sha256_of
from dagster_project.quoting import quote
from dagster_project.refresh.columns_read import (
    Tables,
    columns_read,
    without_rows,
)
from dagster_project.refresh.dbt_build import DbtFailed, Project, compile_project
from dagster_project.releases import candidate
from dagster_project.releases.fingerprint import tables_of
from dagster_project.settings import Settings

# No bill is from these years, and no delivery has that number.
_DAY, _HOLDS_FROM, _LAST_DELIVERY = date(4711, 3, 9), date(4712, 5, 5), 987_654_321_987
_DAY_IN_SQL = re.compile(f"'{_DAY}'")
_END_IN_SQL = re.compile(r"'4711-03-(?:08|09|10|11) [0-9:]{8}'")
_FIRST_IN_SQL = re.compile(r"'4712-05-0[3-6] [0-9:]{8}'")
_ALL_TIME = datetime(1, 1, 1)
_DESCRIBING = ("compiled.py", "columns_read.py")
"""The modules whose code decides what is stored of a compiled model; a change in them compiles the project again."""
_FORGETTING_GROUPS = ("forget_workspaces", "forget_months")
_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)
_RELATION = re.compile(r'"warehouse"\."(\w+)"\."(\w+)"')


@dataclass(frozen=True)
class Node:
    """A model or a data test.

    Attributes:
        name: Its name.
        kind: `model`, `test` or `seed`.
        schema: The schema of a model.
        is_incremental: Whether a model adds rows to those it has, and not by replacing whole workspaces or months.
        reads: Names of the models and seeds it depends on, and ids of sources.
        severity: Of a test: `error` or `warn`.
        sql: The query, with markers.
        columns_read: The columns that a model reads from others, by the others' names; it reads all columns of those
            that are not named.
    """

    name: str
    kind: str
    schema: str
    is_incremental: bool
    reads: tuple[str, ...]
    severity: str
    sql: str
    columns_read: Mapping[str, Sequence[str]] = field(default_factory=dict, compare=False)

    @property
    def relation(self) -> str:
        """The table of a model, as SQL."""
        return f"warehouse.{self.schema}.{self.name}"

    @cached_property
    def relations(self) -> frozenset[tuple[str, str]]:
        """The relations that the query names, by schema and name."""
        return relations_in(self.sql)

    @cached_property
    def named(self) -> frozenset[str]:
        """The names of these relations."""
        return frozenset(name for _, name in self.relations)


@dataclass(frozen=True)
class Moment:
    """The values that replace the markers.

    Attributes:
        as_of: Last day whose events count.
        end: The first instant after it.
        last_delivery: Number of the last delivery in the recorded build.
        first: The first instant whose bills are under the changed terms; None for all bills.
    """

    as_of: date
    end: datetime
    last_delivery: int
    first: datetime | None


class Models:
    """The compiled project.

    Attributes:
        nodes: Models, seeds and data tests by name, each after those that it reads.
    """

    def __init__(self, nodes: Iterable[Node]) -> None:
        """Take nodes in the order of their dependencies."""
        self.nodes = {node.name: node for node in nodes}

    @classmethod
    def of(cls, content: Iterable[Mapping[str, Any]]) -> Models:
        """Return the project of nodes that were written as JSON."""
        return cls(Node(**{**one, "reads": tuple(one["reads"])}) for one in content)

    @cached_property
    def tests(self) -> list[Node]:
        """The data tests."""
        return [node for node in self.nodes.values() if node.kind == "test"]

    def needed_for(self, names: Iterable[str]) -> list[Node]:
        """Return models and everything they read, in the order of their dependencies."""
        wanted: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in self.nodes and name not in wanted:
                wanted.add(name)
                waiting += self.nodes[name].reads
        return [node for name, node in self.nodes.items() if name in wanted]

    def sql(self, node: Node, moment: Moment) -> str:
        """Return the query of a node for a question."""
        text = _END_IN_SQL.sub(f"'{moment.end}'", node.sql)
        text = _DAY_IN_SQL.sub(f"'{moment.as_of}'", text)
        first = (moment.first or _ALL_TIME).isoformat(" ")
        text = _FIRST_IN_SQL.sub(f"'{first}'", text)
        return text.replace(str(_LAST_DELIVERY), str(moment.last_delivery))


def relations_in(sql: str) -> frozenset[tuple[str, str]]:
    """Return the relations that compiled SQL names, by schema and name."""
    return frozenset(_RELATION.findall(_COMMENT.sub("", sql)))


def models(settings: Settings, project: Project, warehouse: Path, marts: Path) -> Models:
    """Return the compiled project, from the cache if it is there, else compiled now.

    Args:
        settings: What the models are calculated with.
        project: The parsed project.
        warehouse: The file of a build of this project.
        marts: The file of the marts of such a build: a candidate or a release.

    Raises:
        DbtFailed: The project cannot be compiled.
    """
    zones = [settings.reporting_time_zone, dict(project.time_zones)]
    code = [sha256_of(Path(__file__).with_name(name)) for name in _DESCRIBING]
    made_by = json.dumps([duckdb.__version__, *code, *zones])
    path = project.folder / f"compiled-{hashlib.sha256(made_by.encode()).hexdigest()[:16]}.json"
    try:
        return Models.of(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError):  # none, or of another version
        nodes = _compile(settings, project)
        with duckdb.connect(str(warehouse), read_only=True) as connection:
            candidate.attach(connection, marts)
            tables = tables_of(connection, "warehouse") | tables_of(connection, candidate.DATABASE)
        nodes = with_columns(nodes, tables)
        with suppress(OSError):  # if it cannot be written, the next question compiles again
            with tempfile.NamedTemporaryFile(
                "w", dir=path.parent, encoding="utf-8", delete=False
            ) as file:
                json.dump([asdict(node) for node in nodes], file)
            os.replace(file.name, path)
    return Models(nodes)


def variables(time_zone: str, feed_time_zones: Mapping[str, str]) -> dict[str, object]:
    """Return dbt's variables for SQL with markers.

    Args:
        time_zone: The reporting time zone.
        feed_time_zones: Time zones of feeds whose instants without an offset are not in UTC.
    """
    return {
        "as_of_date": _DAY.isoformat(),
        "reporting_time_zone": time_zone,
        "feed_time_zones": dict(feed_time_zones),
        "kept": {"delivery_sequence": _LAST_DELIVERY, "as_of_date": _DAY.isoformat()},
        "terms_hold_from": _HOLDS_FROM.isoformat(),
    }


def nodes_of(compiled: Iterable[Any], manifest: Mapping[str, Any]) -> list[Node]:
    """Return what dbt compiled, each node after those that it reads.

    Args:
        compiled: dbt's nodes.
        manifest: The content of their `manifest.json`.
    """
    found = {}
    for node in compiled:
        hooks = "".join(hook.sql for hook in getattr(node.config, "pre_hook", []))
        parents = manifest["nodes"][node.unique_id]["depends_on"].get("nodes", [])
        found[node.unique_id] = Node(
            name=node.name,
            kind=str(node.resource_type),
            schema=node.schema,
            is_incremental=node.config.materialized == "incremental"
            and not any(macro in hooks for macro in _FORGETTING_GROUPS),
            reads=tuple(
                manifest["nodes"][one]["name"] if one in manifest["nodes"] else one
                for one in parents
            ),
            severity=str(getattr(node.config, "severity", "")).lower(),
            sql=of_one_database(getattr(node, "compiled_code", None) or ""),
        )
    by_name = {node.name: node for node in found.values()}
    ordered: dict[str, Node] = {}

    def place(node: Node) -> None:
        for name in node.reads:
            if name not in ordered and name in by_name:
                place(by_name[name])
        ordered.setdefault(node.name, node)

    for node in by_name.values():
        place(node)
    return list(ordered.values())


def of_one_database(sql: str) -> str:
    """Return compiled SQL with the marts in the same database as everything else.

    Args:
        sql: The text as dbt compiled it, with the marts in the candidate.
    """
    return sql.replace(f'"{candidate.DATABASE}"."marts".', '"warehouse"."marts".')


def with_columns(nodes: Sequence[Node], tables: Tables) -> list[Node]:
    """Return nodes that know which columns of other models they read.

    Args:
        nodes: In the order of their dependencies.
        tables: The tables and views of a build.
    """
    with without_rows({"warehouse": tables}) as connection:
        return [
            replace(node, columns_read=_columns_read(connection, node))
            if node.kind == "model"
            else node
            for node in nodes
        ]


def _columns_read(connection: duckdb.DuckDBPyConnection, node: Node) -> dict[str, list[str]]:
    """Return the columns that a model reads from others, and give its empty table the columns of its query."""
    columns = columns_read(connection, node.sql)
    if not node.is_incremental:
        table = f"{quote(node.schema)}.{quote(node.name)}"
        with suppress(duckdb.Error):  # the query names a table that the build does not have
            connection.execute(f"create or replace table {table} as {node.sql}")
    return columns


def _compile(settings: Settings, project: Project) -> list[Node]:
    given = variables(settings.reporting_time_zone, project.time_zones)
    compiled = compile_project(settings, project, given)
    if not compiled:
        raise DbtFailed("dbt compiled nothing")
    return nodes_of(compiled, project.manifest)
