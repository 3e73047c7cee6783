"""dbt's own unit tests: the worked examples of the rules and both sides of their edges."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from tests.dbt.compiled import manifest
from tests.dbt.conftest import Built
from tests.dbt.warehouse import dbt


def test_every_unit_test_passes(compiled_folder: Path, empty_build: Built) -> None:
    select = ("test", "--select", "test_type:unit")
    outcome = dbt(
        empty_build.copy(), date(2025, 12, 31), *select, manifest=manifest(compiled_folder)
    )
    results = list(outcome.result.results)
    assert len(results) >= 10
    failed = {result.node.name: result.message for result in results if result.status != "pass"}
    assert failed == {}
