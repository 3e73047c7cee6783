"""Every data test passes on good data and fails on a planted violation."""

from __future__ import annotations

import duckdb
import pytest

from tests.dbt import violations
from tests.dbt.conftest import DBT_DIR, Built

SINGULAR_TESTS = sorted(path.stem for path in (DBT_DIR / "tests" / "singular").rglob("*.sql"))


def failures(connection: duckdb.DuckDBPyConnection, compiled: str) -> int:
    """How many rows a compiled data test returns."""
    row = connection.execute(f"select count(*) from ({compiled}) as failing").fetchone()
    assert row is not None
    return int(row[0])


def plant(connection: duckdb.DuckDBPyConnection, statements: tuple[str, ...]) -> int:
    """Run the statements and return how many rows they changed."""
    changed = 0
    for statement in statements:
        row = connection.execute(statement).fetchone()
        changed += int(row[0]) if row else 0
    return changed


def test_the_generated_histories_pass_every_data_test_of_severity_error(built: Built) -> None:
    assert set(built.ended.values()) <= {"success", "pass", "warn", "no-op"}, built.ended


def test_every_singular_test_has_a_planted_violation() -> None:
    assert sorted(violations.SINGULAR) == SINGULAR_TESTS


@pytest.mark.parametrize("name", SINGULAR_TESTS)
def test_a_singular_test_fails_on_its_planted_violation(built: Built, name: str) -> None:
    must_be_seen_failing(built, name, violations.SINGULAR[name])


@pytest.mark.parametrize(("name", "broken"), violations.FURTHER, ids=str)
def test_each_condition_of_a_singular_test_is_seen_failing(
    built: Built, name: str, broken: str
) -> None:
    must_be_seen_failing(built, name, violations.FURTHER[name, broken])


def must_be_seen_failing(built: Built, name: str, violation: tuple[str, ...]) -> None:
    """A data test passes, or warns, before the violation is planted, and fails after it."""
    node = built.test_nodes[name]
    with duckdb.connect(str(built.copy())) as connection:
        before = failures(connection, node.compiled_code)
        assert before == 0 or node.config.severity.lower() == "warn"
        connection.execute("begin")
        assert plant(connection, violation) > 0, "the violation changed nothing"
        assert failures(connection, node.compiled_code) > before or before > 0
        connection.execute("rollback")


def test_every_generic_test_fails_on_each_planted_violation(built: Built) -> None:
    generic = [node for node in built.test_nodes.values() if hasattr(node, "test_metadata")]
    assert {node.test_metadata.name for node in generic} == {"primary_key", "accepted_values"}
    with duckdb.connect(str(built.copy())) as connection:
        for node in generic:
            model = built.nodes[node.attached_node]
            relation = f"{model.schema}.{model.name}"
            assert failures(connection, node.compiled_code) == 0, node.name
            for violation in violations.of_generic(node, relation):
                connection.execute("begin")
                assert plant(connection, violation) > 0, node.name
                assert failures(connection, node.compiled_code) > 0, (node.name, violation)
                connection.execute("rollback")


def test_a_key_may_lack_only_what_is_named_as_nullable(built: Built) -> None:
    [node] = [
        node
        for node in built.test_nodes.values()
        if hasattr(node, "test_metadata") and node.test_metadata.kwargs.get("nullable")
    ]
    with duckdb.connect(str(built.copy())) as connection:
        without = connection.execute(
            "select count(*) from marts.fct_program_performance_monthly where currency is null"
        ).fetchone()
        assert without is not None and without[0] > 0
        assert failures(connection, node.compiled_code) == 0


def test_every_data_test_survives_an_empty_warehouse(empty_build: Built) -> None:
    assert set(empty_build.ended.values()) <= {"success", "pass", "no-op"}, empty_build.ended
