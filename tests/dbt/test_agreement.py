"""The marts equal the reference model, every column, over thousands of generated workspaces."""

from __future__ import annotations

import pytest

from tests.dbt.conftest import Built
from tests.dbt.warehouse import mart
from tests.reference import histories, model
from tests.reference.agreement import KEYS, differences


@pytest.fixture(scope="session")
def expected(built: Built) -> dict[str, list[dict[str, object]]]:
    return model.publish(histories.delivered(built.records), histories.AS_OF)


def test_there_are_at_least_two_thousand_workspaces(built: Built) -> None:
    assert len(built.records["workspaces"]) >= 2000


def test_the_model_knows_every_mart(expected: dict[str, list[dict[str, object]]]) -> None:
    assert set(expected) == set(KEYS)


@pytest.mark.parametrize("name", KEYS)
def test_a_mart_equals_the_reference_model(
    built: Built, expected: dict[str, list[dict[str, object]]], name: str
) -> None:
    assert expected[name], "nothing to compare"
    found = differences(name, mart(built.path, name), expected[name])
    assert not found, "\n".join(found[:20])
