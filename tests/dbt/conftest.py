"""One build on thousands of generated workspaces, shared by everything that looks at its result."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project.refresh.compiled import of_one_database
from tests.dbt.compiled import CompiledModels, manifest
from tests.dbt.warehouse import DBT_DIR, candidate_of, dbt, fill_raw
from tests.reference import histories
from tests.shared import Shared

WORLDS = 1500
"""How many generated worlds the shared build has; together they have well over 2,000 workspaces."""

BUILD = ("build", "--exclude-resource-type", "unit_test")

__all__ = ["DBT_DIR", "WORLDS", "Built"]


@dataclass
class Built:
    """A built warehouse and dbt's results.

    Attributes:
        path: The warehouse file, which no test changes: all workers read it.
        records: The records it was built from, typed.
        ended: How building or testing each node ended, by name.
        nodes: The nodes by unique id.
        copies: A folder of this worker for a copy of the warehouse.
        test_nodes: The data tests by name.
    """

    path: Path
    records: histories.Records
    ended: dict[str, str]
    nodes: dict[str, Any]
    copies: Path
    test_nodes: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        """Index the data tests."""
        self.test_nodes = {
            node.name: node for node in self.nodes.values() if node.resource_type == "test"
        }

    def copy(self) -> Path:
        """A copy of the warehouse that may be damaged, under the name that the compiled SQL uses."""
        copy = self.copies / self.path.name
        if not copy.exists():
            shutil.copyfile(self.path, copy)
        return copy


def _build(folder: Path, records: histories.Records, as_of: date, compiled_folder: Path) -> None:
    """Build a warehouse, store dbt's results, and put the marts into the same file for compiled SQL."""
    path = folder / "warehouse.duckdb"
    fill_raw(path, [histories.as_deliveries(records)])
    outcome = dbt(path, as_of, *BUILD, manifest=manifest(compiled_folder))
    assert outcome.exception is None
    results = outcome.result.results
    ended = {result.node.name: str(result.status) for result in results}
    nodes = {result.node.unique_id: result.node for result in results}
    for node in nodes.values():
        node.compiled_code = of_one_database(getattr(node, "compiled_code", None) or "")
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"attach '{candidate_of(path)}' as candidate (read_only)")
        connection.execute("create schema marts")
        for (name,) in connection.execute(
            "select table_name from duckdb_tables() where database_name = 'candidate'"
        ).fetchall():
            connection.execute(f"create table marts.{name} as from candidate.marts.{name}")
    (folder / "built.pickle").write_bytes(pickle.dumps((records, ended, nodes)))


def _read(folder: Path, copies: Path) -> Built:
    """A build that `_build` made."""
    records, ended, nodes = pickle.loads((folder / "built.pickle").read_bytes())
    return Built(folder / "warehouse.duckdb", records, ended, nodes, copies)


@pytest.fixture(scope="session")
def built(compiled_folder: Path, shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The build on generated workspaces."""

    def make(folder: Path) -> None:
        records = histories.combine(histories.sample_worlds(WORLDS, seed=20250630))
        _build(folder, records, histories.AS_OF, compiled_folder)

    return _read(shared.made("built", make), tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="session")
def empty_build(
    compiled_folder: Path, shared: Shared, tmp_path_factory: pytest.TempPathFactory
) -> Built:
    """A build on no rows at all."""

    def make(folder: Path) -> None:
        records: histories.Records = {feed: [] for feed in histories.FEEDS}
        _build(folder, records, date(2025, 12, 31), compiled_folder)

    return _read(shared.made("empty", make), tmp_path_factory.mktemp("empty"))


@pytest.fixture(scope="session")
def compiled(compiled_folder: Path) -> CompiledModels:
    """The models as SQL for the histories' as-of date."""
    return CompiledModels(compiled_folder, histories.AS_OF)
