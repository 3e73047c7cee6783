"""What is asked of a release once, and what is asked again."""

from __future__ import annotations

from typing import Any, cast

import duckdb

from dagster_project.answers.asking import Connection, each_once, rows


class Counting:
    """A connection that keeps what it was asked."""

    def __init__(self) -> None:
        """Ask an empty database."""
        self.asked: list[str] = []
        self._connection = duckdb.connect()

    def execute(self, sql: str) -> Any:
        """Keep the statement and run it."""
        self.asked.append(sql)
        return self._connection.execute(sql)


def test_within_the_block_a_select_with_the_same_values_is_asked_once() -> None:
    counting = Counting()
    connection = cast(Connection, counting)
    with each_once():
        first = rows(connection, "select ? as plan, 1 as bills", ["pro"])
        first[0]["bills"] = 2
        assert rows(connection, "select ? as plan, 1 as bills", ["pro"]) == [
            {"plan": "pro", "bills": 1}
        ], "what one page does to its rows is not seen by another"
        assert rows(connection, "select ? as plan, 1 as bills", ["team"])[0]["plan"] == "team"
    assert len(counting.asked) == 2


def test_outside_the_block_every_select_is_asked() -> None:
    counting = Counting()
    connection = cast(Connection, counting)
    with each_once():
        rows(connection, "select 1 as bills")
    rows(connection, "select 1 as bills")
    rows(connection, "select 1 as bills")
    assert len(counting.asked) == 3
