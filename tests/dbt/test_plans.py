"""No model and no data test compares every row of one table with every row of another."""

from __future__ import annotations

import re

import duckdb

from tests.dbt.conftest import Built

EVERY_WITH_EVERY = re.compile(
    '"name": *"(BLOCKWISE_NL_JOIN|NESTED_LOOP_JOIN|CROSS_PRODUCT|IE_JOIN|PIECEWISE_MERGE_JOIN)'
)


def joins_of(connection: duckdb.DuckDBPyConnection, query: str) -> set[str]:
    """The joins in DuckDB's plan whose work grows with the product of their sides.

    A wide plan as text has shortened names of joins, so the JSON form is read.
    """
    [(_, plan)] = connection.execute(f"explain (format json) {query}").fetchall()
    return set(EVERY_WITH_EVERY.findall(plan))


def test_every_join_has_an_equality(built: Built) -> None:
    found = {}
    with duckdb.connect(str(built.path), read_only=True) as connection:
        # If one side is tiny, DuckDB uses a nested loop even where it need not.
        connection.execute("set nested_loop_join_threshold = 0; set merge_join_threshold = 0")
        for node in built.nodes.values():
            if node.resource_type in ("model", "test"):
                found[node.name] = joins_of(connection, node.compiled_code)
    assert len(found) > 80
    assert {name: joins for name, joins in found.items() if joins} == {}


def test_one_without_would_be_seen(built: Built) -> None:
    with duckdb.connect(str(built.path), read_only=True) as connection:
        assert joins_of(
            connection,
            "select * from marts.dim_workspaces as one left join marts.dim_workspaces as other"
            " on one.workspace_id = other.workspace_id and one.created_at > other.created_at"
            " or other.workspace_name is null",
        )


def test_no_hash_table_is_built_of_the_invoices_for_the_fewer_rows_joined_to_them(
    built: Built,
) -> None:
    (charges,) = (node for node in built.nodes.values() if node.name == "fct_discounted_charges")
    with duckdb.connect(str(built.path), read_only=True) as connection:
        [(_, plan)] = connection.execute(
            f"explain (format json) {charges.compiled_code}"
        ).fetchall()
    assert set(re.findall(r'"Join Type": "(\w+)"', plan)) == {"LEFT"}
