"""Queries that answers and pages send to an open release."""

from __future__ import annotations

import duckdb

from dagster_project.answers.asking import remembering, rows


def test_a_release_is_asked_once_while_its_answers_are_remembered() -> None:
    with duckdb.connect() as one, duckdb.connect() as other:
        for connection, amount in ((one, 1), (other, 2)):
            connection.execute(f"create table bills as select {amount} as amount")
        with remembering():
            first = rows(one, "select amount from bills where amount < ?", [9])
            first[0]["amount"] = 7  # the caller may change what it received
            one.execute("update bills set amount = 3")
            assert rows(one, "select amount from bills where amount < ?", [9]) == [{"amount": 1}]
            assert rows(one, "select amount from bills where amount < ?", [8]) == [{"amount": 3}]
            assert rows(other, "select amount from bills where amount < ?", [9]) == [{"amount": 2}]
        assert rows(one, "select amount from bills where amount < ?", [9]) == [{"amount": 3}]


def test_what_no_text_in_a_release_has_is_not_found() -> None:
    with duckdb.connect() as connection:
        assert rows(connection, "select 1 where 'in_1' = ?", ["in_1"])
        for wanted in ("in_1\0", "in_1\udce9"):
            assert rows(connection, "select 1 where 'in_1' = ?", [wanted]) == []
