"""The tests run the models as dbt compiles them, on whatever day."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from tests.dbt.compiled import CompiledModels, manifest
from tests.dbt.warehouse import dbt

LEAP_DAY = date(2024, 2, 29)


def test_models_for_a_day_are_those_that_dbt_compiles_for_it(
    compiled_folder: Path, tmp_path: Path
) -> None:
    outcome = dbt(
        tmp_path / "warehouse.duckdb",
        LEAP_DAY,
        *("compile", "--select", "path:models", "--full-refresh"),
        manifest=manifest(compiled_folder),
    )
    compiled = {
        result.node.relation_name: result.node.compiled_code
        for result in outcome.result.results
        if result.node.resource_type == "model"
    }
    assert len(compiled) > 50
    assert CompiledModels(compiled_folder, LEAP_DAY).queries == compiled
