"""Delivered files, laid out for people."""

from __future__ import annotations

import duckdb
import pytest

from dagster_project.answers.summary import rows_in
from dagster_project.cli.deliveries import tell_rows_in


@pytest.mark.parametrize(
    ("number", "first", "last"),
    [
        (1, "  1 file refused, see `coupon-ledger deliveries`:", "    f000.csv: no header"),
        (5, "  5 files refused, see `coupon-ledger deliveries`:", "    f004.csv: no header"),
        (1205, "  1,205 files refused, see `coupon-ledger deliveries`:", "    and 1,200 more"),
    ],
)
def test_of_refused_files_the_first_are_named_and_the_others_counted(
    number: int, first: str, last: str
) -> None:
    with duckdb.connect(":memory:") as connection:
        connection.execute("create schema release")
        connection.execute(
            "create table release.deliveries as select 'invoices' as feed, 'refused' as verdict,"
            " 'no header' as refusal_reason, null::varchar as notes, timestamp '2026-01-01' as arrived_at,"
            " format('f{:03d}.csv', n) as file_name, 0 as physical_rows, 0 as accepted_rows,"
            " 0 as superseded_rows, 0 as duplicate_rows, 0 as rejected_rows"
            f" from range({number}) as numbers (n)"
        )
        lines = tell_rows_in(rows_in(connection))
    assert (lines[2], lines[-1]) == (first, last)
