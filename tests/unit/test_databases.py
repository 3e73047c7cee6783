"""Deleted rows stay in the files of a build until there are many of them."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from dagster_project.databases import open_to_write
from dagster_project.refresh.carrying_on import MOST_DELETED, is_fragmented

ROWS = 500_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with a table of several row groups, from which every second row was deleted."""
    path = tmp_path / "warehouse.duckdb"
    for statement in (
        f"create table halved as from range({ROWS}) as one(i)",
        "delete from halved where i % 2 = 0",
    ):
        with open_to_write(path) as connection:
            connection.execute(statement)
    return path


def stored(path: Path) -> int:
    with duckdb.connect(str(path), read_only=True) as connection:
        [(rows,)] = connection.execute(
            "select estimated_size from duckdb_tables() where table_name = 'halved'"
        ).fetchall()
    return int(rows)


def test_deleted_rows_stay_where_the_product_writes(file: Path) -> None:
    with open_to_write(file) as connection:
        connection.execute("create table other as select 1 as one")
    assert stored(file) == ROWS


def test_other_writes_clear_them_out(file: Path) -> None:
    with duckdb.connect(str(file)) as connection:
        connection.execute("create table other as select 1 as one")
    assert stored(file) < 0.6 * ROWS


@pytest.mark.parametrize("is_much", [False, True])
def test_much_is_a_part_of_all_that_is_stored(file: Path, is_much: bool) -> None:
    more = round(ROWS / 2 / MOST_DELETED) - ROWS + (-1 if is_much else 1)
    with open_to_write(file) as connection:
        connection.execute(f"create table other as from range({more})")
        assert is_fragmented(connection) == is_much


def test_nothing_stored_is_not_fragmented(tmp_path: Path) -> None:
    with open_to_write(tmp_path / "empty.duckdb") as connection:
        assert not is_fragmented(connection)
