"""One build on thousands of generated workspaces, shared by everything that looks at its result."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.dbt.compiled import CompiledModels, manifest
from tests.dbt.warehouse import DBT_DIR, dbt, fill_raw
from tests.reference import histories

WORLDS = 1500
"""How many generated worlds the shared build holds; together well over 2,000 workspaces."""

BUILD = ("build", "--exclude-resource-type", "unit_test")

__all__ = ["DBT_DIR", "WORLDS", "Built"]


@dataclass
class Built:
    """A built warehouse and what dbt said of it.

    Attributes:
        path: The warehouse file.
        records: The records it was built from, typed.
        results: dbt's results, one per node.
        nodes: The nodes of the results by unique id.
        test_nodes: The data tests by name.
    """

    path: Path
    records: histories.Records
    results: list[Any]
    nodes: dict[str, Any] = field(default_factory=dict)
    test_nodes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Index the nodes."""
        self.nodes = {result.node.unique_id: result.node for result in self.results}
        self.test_nodes = {
            result.node.name: result.node
            for result in self.results
            if result.node.resource_type == "test"
        }

    def copy(self) -> Path:
        """A copy of the warehouse that may be damaged, under the name the compiled SQL knows."""
        copy = self.path.parent / "copy" / self.path.name
        if not copy.exists():
            copy.parent.mkdir()
            shutil.copyfile(self.path, copy)
        return copy


@pytest.fixture(scope="session")
def built(compiled_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    path = tmp_path_factory.mktemp("built") / "warehouse.duckdb"
    records = histories.combine(histories.sample_worlds(WORLDS, seed=20250630))
    fill_raw(path, [histories.as_deliveries(records)])
    outcome = dbt(path, histories.AS_OF, *BUILD, manifest=manifest(compiled_folder))
    assert outcome.exception is None
    return Built(path, records, list(outcome.result.results))


@pytest.fixture(scope="session")
def empty_build(
    compiled_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """A warehouse built from no rows at all, and what failed in the build."""
    path = tmp_path_factory.mktemp("empty") / "warehouse.duckdb"
    fill_raw(path, [])
    outcome = dbt(path, date(2025, 12, 31), *BUILD, manifest=manifest(compiled_folder))
    return path, [
        result.node.name
        for result in outcome.result.results
        if result.status not in ("success", "pass", "no-op")
    ]


@pytest.fixture(scope="session")
def compiled(compiled_folder: Path) -> CompiledModels:
    """The models as SQL for the histories' as-of date."""
    return CompiledModels(compiled_folder, histories.AS_OF)
