"""Delivered files, laid out for people."""

from __future__ import annotations

from datetime import date, datetime

import duckdb
import pytest

from dagster_project.answers.deliveries import added_notes
from dagster_project.answers.summary import rows_in
from dagster_project.cli.deliveries import tell, tell_rejected, tell_rows_in


@pytest.mark.parametrize(
    ("number", "first", "last"),
    [
        (1, "  1 file refused, see `coupon-ledger deliveries`:", "    f000.csv: no header"),
        (5, "  5 files refused, see `coupon-ledger deliveries`:", "    f004.csv: no header"),
        (1205, "  1,205 files refused, see `coupon-ledger deliveries`:", "    and 1,200 more"),
    ],
)
def test_the_first_refused_files_are_named_and_the_others_counted(
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


def test_the_parts_of_a_folder_are_refused_once_and_counted_each() -> None:
    with duckdb.connect(":memory:") as connection:
        connection.execute("create schema release")
        connection.execute(
            "create table release.deliveries as select 'invoices' as feed, 'refused' as verdict,"
            " 'no header' as refusal_reason, null::varchar as notes, timestamp '2026-01-01' as arrived_at,"
            " format('invoices/{}/{:03d}.csv', if(n < 100, 'export', 'other'), n) as file_name,"
            " null as delivery_id, null as sha256, 0 as physical_rows, 0 as accepted_rows,"
            " 0 as superseded_rows, 0 as duplicate_rows, 0 as rejected_rows"
            " from range(101) as numbers (n)"
        )
        lines = tell_rows_in(rows_in(connection))
    assert lines[2:] == [
        "  101 files refused, see `coupon-ledger deliveries`:",
        "    invoices/export/ (100 parts): no header",
        "    invoices/other/100.csv: no header",
    ]


REASON = "mtus is not a whole number of at most 18 digits"


@pytest.mark.parametrize(
    ("reason", "record", "told"),
    [
        (REASON, '{"mtus":"1.5","plan":"team"}', f"{REASON}: '1.5'"),
        (REASON, '{"mtus":"\\u202e1.5"}', f"{REASON}: '\\u202e1.5'"),
        (REASON, f'{{"mtus":"{"9" * 61}"}}', f"{REASON}: '{'9' * 60}…'"),
        ("mtus is missing", '{"mtus":null}', "mtus is missing"),
        ("user_id has control characters", '{"channel":"fax"}', "user_id has control characters"),
        ("2 fields where the header has 22", '["NP-50","x"]', "2 fields where the header has 22"),
        (REASON, "not JSON", REASON),
    ],
)
def test_a_rejected_row_is_reported_with_the_value_if_the_row_shows_it(
    reason: str, record: str, told: str
) -> None:
    data = {
        "release_id": "r1",
        "as_of_date": "2026-01-01",
        "total": 1,
        "rows_by_reason": [{"rows": 1, "feed": "invoices", "reason": reason}],
        "rejected_rows": [
            {"file_name": "a.csv", "row_number": 7, "reasons": [reason, "x"], "record": record}
        ],
    }
    text = " ".join(tell_rejected(data).split())
    assert f"a.csv, row 7 {told}; x {' '.join(record.split())}" in text


def test_the_notes_of_the_parts_of_a_folder_are_added_up() -> None:
    words = "words for a missing value (NULL, NA), rejected: "
    notes = [
        f"issued_at: 999 instants without an offset, read as UTC; {words}1 of mtus",
        "plan: 1 value that may stand for a missing one",
        f"issued_at: 1 instant without an offset, read as UTC; {words}2 of mtus, 1 of tax_amount",
    ]
    assert added_notes(notes) == (
        "issued_at: 1,000 instants without an offset, read as UTC;"
        f" {words}3 of mtus, 1 of tax_amount; plan: 1 value that may stand for a missing one"
    )
    assert added_notes(notes[1:2]) == notes[1]
    assert added_notes([]) is None


def test_unknown_columns_of_parts_are_reported_once() -> None:
    ignored = "ignored, since the feed has no such column: "
    notes = [
        f"plan: 1 value that may stand for a missing one; {ignored}'Mtus' looks like mtus, 'utm 2'",
        f"{ignored}'utm 2', 'x', and 3 more",
        "plan: 1 value that may stand for a missing one",
    ]
    assert added_notes(notes) == (
        "plan: 2 values that may stand for a missing one;"
        f" {ignored}'Mtus' looks like mtus, 'utm 2', 'x', and 3 more"
    )


def test_of_many_files_that_failed_checks_the_first_are_named_and_the_others_counted() -> None:
    data = {
        "release_id": "r1",
        "as_of_date": date(2026, 1, 1),
        "deliveries": [],
        "failed_checks": [
            {
                "delivery_id": str(number),
                "file_name": f"f{number:04}.csv",
                "name": name,
                "observed": "1 of 2 rows",
            }
            for number in range(1_060)
            for name in ("a_is_given", "b_is_given")
        ],
    }
    lines = tell(data).splitlines()
    assert "Checks failed by f0049.csv: a_is_given (1 of 2 rows), b_is_given (1 of 2 rows)" in lines
    assert lines[-1] == "and 1,010 more files, in release.delivery_checks"
    assert "f0050" not in tell(data)
    assert "Checks" not in tell({**data, "failed_checks": []})


def test_deliveries_of_one_name_are_told_apart_by_their_arrival() -> None:
    """A corrected file has the name of the file that failed."""
    files = [
        {
            "delivery_id": f"d{hour}",
            "arrived_at": datetime(2026, 1, 1, hour),
            "file_name": name,
            "verdict": "loaded",
            "accepted_rows": 1,
            "superseded_rows": 0,
            "duplicate_rows": 0,
            "rejected_rows": 0,
        }
        for hour, name in enumerate(("a.csv", "a.csv", "a.csv", "b.csv"))
    ]
    data = {
        "release_id": "r1",
        "as_of_date": date(2026, 1, 1),
        "deliveries": files,
        "failed_checks": [
            {**file, "name": "x_is_given", "observed": f"{number} of 9 rows"}
            for number, file in enumerate(files)
            if number != 1
        ],
    }
    assert [line for line in tell(data).splitlines() if line.startswith("Checks")] == [
        "Checks failed by a.csv, arrived 2026-01-01 00:00 UTC: x_is_given (0 of 9 rows)",
        "Checks failed by a.csv, arrived 2026-01-01 02:00 UTC: x_is_given (2 of 9 rows)",
        "Checks failed by b.csv: x_is_given (3 of 9 rows)",
    ]
