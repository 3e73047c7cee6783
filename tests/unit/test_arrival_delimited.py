"""The CSV reader agrees with the standard csv module on any text, however it reads it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dagster_project.arrival.delimited import _scan_plain, check_text, prepare_csv, rewrite_csv
from dagster_project.arrival.report import Limits, Refusal
from dagster_project.arrival.rows import OwnParquet, PlainCsv, Prepared
from dagster_project.arrival.warehouse import Batch, RawRows, load_rows
from dagster_project.feeds import feeds

WORKSPACES = feeds()["workspaces"]
HEADER = "workspace_id,created_at,updated_at,note"
LIMITS = Limits()


@pytest.fixture(autouse=True, scope="module")
def _no_file_is_small() -> Iterator[None]:
    """Have the small files of tests read in the way of large ones."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("dagster_project.arrival.delimited.SMALL_BYTES", 0)
        yield


def prepared(folder: Path, content: bytes) -> Prepared:
    """Check a file with this content."""
    path = folder / "delivery"
    path.write_bytes(content)
    return prepare_csv(path, WORKSPACES, LIMITS, folder / "rows")


@cache
def memory() -> duckdb.DuckDBPyConnection:
    """DuckDB in memory, shared by the examples."""
    return duckdb.connect()


def loaded(folder: Path, preparation: Prepared) -> list[tuple[object, ...]]:
    """Load a prepared file and read it back."""
    rows = load_rows(memory(), WORKSPACES, [Batch(1, preparation)], RawRows(folder / "raw"))
    return (
        memory()
        .execute(f"select row_number, workspace_id, created_at, updated_at from {rows} order by 1")
        .fetchall()
    )


def expected(content: bytes) -> tuple[int, int, list[tuple[object, ...]]]:
    """Records, blank lines and good rows, by the standard csv module alone."""
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    records = list(reader)
    rows = [fields for fields in records if fields]
    good: list[tuple[object, ...]] = [
        (number, *(value or None for value in fields[:3]))
        for number, fields in enumerate(rows)
        if number > 0 and len(fields) == 4
    ]
    return len(rows) - 1, len(records) - len(rows), good


TEXTS = st.text(
    st.sampled_from(
        ["a", "é", "🎉", ",", ",", ",", "\n", "\n", "\r", '"', " ", "\0", "#", "\\", "'"]
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(text=TEXTS, line_end=st.sampled_from(["\n", "\r\n", "\r"]))
@example(text="1,2,3,4\n5,6,7,8", line_end="\n")
@example(text="1,2,3,4\r\n5,6,7,8\r\n", line_end="\r\n")
@example(text="1,2,3\n4,5,6,7,8\n", line_end="\n")
@example(text="1,2,3,4\n\n", line_end="\n")
@example(text=",,,\n#,a,b,c\n \\,',,\n", line_end="\n")
@example(text='"a",b,c,d\n', line_end="\n")
@example(text='a,b"c"\n"d,e",f\n', line_end="\n")
def test_any_text_is_read_as_the_csv_module_reads_it_where_its_quotes_leave_no_doubt(
    text: str, line_end: str
) -> None:
    content = f"{HEADER}{line_end}{text}".encode()
    with TemporaryDirectory() as folder:
        try:
            preparation = prepared(Path(folder), content)
        except Refusal as refusal:
            assert not has_quotes_in_place(content.decode())
            assert "not closed" in refusal.reason or "backslashes" in refusal.reason
            return
        found = loaded(Path(folder), preparation)
        assert preparation.good_rows == len(found)
        if has_quotes_in_place(content.decode()):
            records, blank, good = expected(content)
            assert (preparation.physical_rows, preparation.blank_rows) == (records, blank)
            assert found == good
        else:
            assert preparation.malformed_rows > 0


def has_quotes_in_place(text: str) -> bool:
    """Whether every quote opens or closes a value, or is doubled in one; character by character."""
    state = "begin"
    for character in text:
        if state == "inside":
            state = "closing" if character == '"' else "inside"
        elif character in ",\r\n":
            state = "begin"
        elif character == '"' and state in ("begin", "closing"):
            state = "inside"
        elif character == '"' or state == "closing":
            return False
        else:
            state = "plain"
    return state != "inside"


@settings(max_examples=100)
@given(
    rows=st.lists(
        st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=4, max_size=4),
        max_size=8,
    ),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_any_value_written_by_the_csv_module_comes_back(
    rows: list[list[str]], quoting: int, line_end: str
) -> None:
    if quoting == csv.QUOTE_MINIMAL:  # Python 3.11 writes a lone CR without quotes
        rows = [[value.replace("\r", "") for value in row] for row in rows]
    text = io.StringIO()
    writer = csv.writer(text, quoting=quoting, lineterminator=line_end)  # type: ignore[arg-type]
    writer.writerow(HEADER.split(","))
    writer.writerows(rows)
    with TemporaryDirectory() as folder:
        preparation = prepared(Path(folder), text.getvalue().encode())
        found = loaded(Path(folder), preparation)
    assert found == [
        (number, *(value or None for value in row[:3])) for number, row in enumerate(rows, 1)
    ]


def test_a_plain_file_is_passed_on_unchanged(tmp_path: Path) -> None:
    content = f"{HEADER}\n".encode() + b"".join(b"%d,a,b,c\n" % row for row in range(1000))
    source = prepared(tmp_path, content).source
    assert isinstance(source, PlainCsv)
    assert source.samples == {1000: ("999", "a", "b", "c")}


@pytest.mark.parametrize(
    "row",
    [
        '"a",b,c,d\n',
        "a,b,c,d\r\n",
        "a,b,c\0,d\n",
        "a,b,c\n",
        "\n",
        "a,b,c,d\r",
        f"{'x' * 2**21},,,\n",
    ],
)
def test_a_file_with_anything_odd_in_it_is_not(tmp_path: Path, row: str) -> None:
    content = f"{HEADER}\n1,a,b,c\n{row}2,a,b,c\n".encode()
    assert isinstance(prepared(tmp_path, content).source, OwnParquet)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_where_a_chunk_ends_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, line_end: bytes
) -> None:
    rows = [b"%d,\xc3\xa9%s,b,c" % (row, b"x" * (row % 30)) for row in range(200)]
    content = line_end.join([HEADER.encode(), *rows])
    monkeypatch.setattr("dagster_project.arrival.delimited.CHUNK", size)
    preparation = prepared(tmp_path, content)
    assert isinstance(preparation.source, PlainCsv)
    assert preparation.physical_rows == 200
    assert [row[2] for row in loaded(tmp_path, preparation)] == [
        "é" + "x" * (row % 30) for row in range(200)
    ]


def test_both_ways_of_reading_give_the_same_rows(tmp_path: Path) -> None:
    rows = "".join(f"ws_{row},a{row},,\n" for row in range(500))
    plain = prepared(tmp_path, f"{HEADER}\n{rows}".encode())
    rewritten = rewrite_csv(tmp_path / "delivery", WORKSPACES, LIMITS, tmp_path / "again")
    assert plain.physical_rows == rewritten.physical_rows == 500
    assert loaded(tmp_path, plain) == loaded(tmp_path, rewritten)


def test_the_place_of_a_bad_byte_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "delivery"
    path.write_bytes("a,é\nb,é\n".encode() + b"c,\xe9\n")
    for size in (1, 2, 3, 5, 100):
        monkeypatch.setattr("dagster_project.arrival.delimited.CHUNK", size)
        with pytest.raises(Refusal, match=r"byte 0xe9 at position 12, line 3"):
            check_text(path, LIMITS)


def test_an_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "delivery"
    path.write_bytes(b"a,b\n" + b"x" * 200 + b"\n")
    monkeypatch.setattr("dagster_project.arrival.delimited.CHUNK", 16)
    with pytest.raises(Refusal, match="line 2 is longer than 100 bytes"):
        check_text(path, Limits(line_bytes=100))


def test_a_field_beyond_the_limit_does_not_crash(tmp_path: Path) -> None:
    content = f'{HEADER}\n1,"{"x" * 500}",b,c\n2,a,b,c\n'.encode()
    path = tmp_path / "delivery"
    path.write_bytes(content)
    with pytest.raises(Refusal, match=r"begins in line 2 \(row 1\) is longer than 100 bytes"):
        rewrite_csv(path, WORKSPACES, Limits(line_bytes=100), tmp_path / "rows")


def test_a_record_of_many_lines_is_bounded_as_one_line_is(tmp_path: Path) -> None:
    path = tmp_path / "delivery"
    path.write_text(f'{HEADER}\n1,"' + "x\n" * 50 + '",b,c\n', "utf-8")
    with pytest.raises(Refusal, match="is longer than 100 bytes"):
        rewrite_csv(path, WORKSPACES, Limits(line_bytes=100), tmp_path / "rows")
    assert rewrite_csv(path, WORKSPACES, LIMITS, tmp_path / "rows").physical_rows == 1


HYPHENATED = "workspace_id,workspace_name,created_at,updated_at"


def trusted(
    folder: Path, lines: list[str], header: str = HYPHENATED
) -> tuple[list[str], list[int]]:
    """Ids of the rows that are taken from a file of these lines, and numbers of those set apart."""
    (folder / "delivery").write_text("\n".join([header, *lines]) + "\n", "utf-8")
    preparation = prepare_csv(folder / "delivery", WORKSPACES, LIMITS, folder / "rows")
    rows = load_rows(memory(), WORKSPACES, [Batch(1, preparation)], RawRows(folder / "raw"))
    taken = memory().execute(f"select workspace_id from {rows} order by row_number").fetchall()
    apart = []
    if preparation.malformed is not None:
        apart = memory().read_parquet(str(preparation.malformed)).fetchall()
    assert len(taken) + len(apart) == preparation.physical_rows
    return [text for (text,) in taken], [row[0] for row in apart]


GOOD = [f'w{number},"Name, {number}",2025-01-01,2025-01-01' for number in range(9)]
PLAIN = [f"w{number},Name,2025-01-01,2025-01-01" for number in range(9)]


@pytest.mark.parametrize(
    ("lines", "taken", "apart"),
    [
        # A quote inside a value that does not begin with one; the next quoted value resolves the doubt.
        ([*GOOD[:2], 'a,5" pipe,2025-01-01,2025-01-01', *GOOD[2:4]], "w0 w1 w2 w3", [3]),
        # No quote follows at all, so none can be open.
        ([*GOOD[:2], 'a,5" pipe,2025-01-01,2025-01-01', *PLAIN[2:4]], "w0 w1 w2 w3", [3]),
        # Text after a closing quote.
        ([GOOD[0], 'a,"x"y,2025-01-01,2025-01-01', *GOOD[1:3]], "w0 w1 w2", [2]),
        # A line break is written as a closing quote and a line break: the tail looks like a row.
        ([GOOD[0], 'a,"Half "', 'causes," and more",2025-01-01,2025-01-01', GOOD[1]], "w0 w1", [2, 3]),
        ([GOOD[0], 'a,"Half "', 'causes, and more",2025-01-01,2025-01-01', GOOD[1]], "w0 w1", [2, 3]),
        # The broken record continues over a line without quotes.
        (
            [GOOD[0], 'a,"x"y', "causes,b,2025-01-01,2025-01-01", 'z",2025-01-01,2025-01-01', GOOD[1]],
            "w0 w1",
            [2, 3, 4],
        ),
        # An unquoted line break: the row that follows a short one that ends in text.
        ([GOOD[0], "a,Half", "causes,and more,2025-01-01,2025-01-01", PLAIN[1]], "w0 w1", [2, 3]),
        ([GOOD[0], "a,Half", "more", "causes,and,2025-01-01,2025-01-01", PLAIN[1]], "w0 w1", [2, 3, 4]),
        # A short row that ends in a date was not broken by a line break.
        ([GOOD[0], "a,Half,2025-01-01", PLAIN[1]], "w0 w1", [2]),
        # Two breaks.
        ([*GOOD[:1], 'a,b"c,2025-01-01,2025-01-01', 'd,e"f,2025-01-01,2025-01-01', *GOOD[1:3]], "w0 w1 w2", [2, 3]),
    ],
)  # fmt: skip
def test_no_row_is_taken_before_reading_is_certain_again(
    tmp_path: Path, lines: list[str], taken: str, apart: list[int]
) -> None:
    assert trusted(tmp_path, lines) == (taken.split(), apart)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([GOOD[0], r'a,"say \"hi\"",2025-01-01,2025-01-01', GOOD[1]], "escaped by backslashes"),
        (
            [GOOD[0], r'a,"x\"', r"causes,b\",2025-01-01,2025-01-01", GOOD[1]],
            "escaped by backslashes",
        ),
        ([GOOD[0], 'a,"x"y,2025-01-01,2025-01-01', 'b,"open', "z"], "not closed"),
        ([GOOD[0], 'a,"open,2025-01-01,2025-01-01', PLAIN[1]], "not closed"),
        # The record that is broken has a value that is never closed.
        ([GOOD[0], 'a,x"y,2025-01-01,2025-01-01', 'z",2025-01-01,"open'], "not closed"),
    ],
)
def test_a_file_whose_records_cannot_be_told_apart_is_refused(
    tmp_path: Path, lines: list[str], reason: str
) -> None:
    with pytest.raises(Refusal, match=reason):
        trusted(tmp_path, lines)


def test_a_null_mark_is_null_without_quotes_and_text_within(tmp_path: Path) -> None:
    rows = [
        r"w1,\N,2025-01-01,2025-01-01",
        r'w2,"\N",2025-01-01,2025-01-01',
        r"w3,\Na,2025-01-01,2025-01-01",
    ]
    path = tmp_path / "delivery"
    for header, lines in (
        (HYPHENATED, rows),
        (f'"{HYPHENATED.replace(",", chr(34) + "," + chr(34))}"', rows),
    ):
        path.write_text("\n".join([header, *lines]), "utf-8")
        preparation = prepare_csv(path, WORKSPACES, LIMITS, tmp_path / "rows")
        loaded_rows = load_rows(
            memory(), WORKSPACES, [Batch(1, preparation)], RawRows(tmp_path / "raw")
        )
        found = memory().execute(f"select workspace_name from {loaded_rows} order by row_number")
        assert found.fetchall() == [(None,), (r"\N",), (r"\Na",)]


def test_a_null_mark_is_null_in_a_plain_file(tmp_path: Path) -> None:
    path = tmp_path / "delivery"
    path.write_text(f"{HYPHENATED}\n" + "\\N,\\N,\\N,2025-01-01\n" * 3, "utf-8")
    preparation = prepare_csv(path, WORKSPACES, LIMITS, tmp_path / "rows")
    assert isinstance(preparation.source, PlainCsv)
    loaded_rows = load_rows(
        memory(), WORKSPACES, [Batch(1, preparation)], RawRows(tmp_path / "raw")
    )
    found = memory().execute(f"select workspace_id, workspace_name, updated_at from {loaded_rows}")
    assert found.fetchall() == [(None, None, "2025-01-01")] * 3


def test_a_header_too_wide_for_the_plain_way_is_read_the_other_way(tmp_path: Path) -> None:
    path = tmp_path / "delivery"
    path.write_bytes(b"a\n1\n")
    assert _scan_plain(path, ("a",)) is None


def test_malformed_rows_written_before_a_doubtful_line_are_all_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagster_project.arrival.rows.BATCH_ROWS", 1_000)
    short = "ws_1,2026-01-01\n"
    content = HEADER + "\n" + 2_500 * short + 'y"z,b,c,d\n' + "ws_2,b,c,d\n" + 2_500 * short
    (tmp_path / "delivery").write_text(content, "utf-8")
    found = rewrite_csv(tmp_path / "delivery", WORKSPACES, LIMITS, tmp_path / "rows")
    assert (found.good_rows, found.malformed_rows) == (1, 5_001)
    numbers = duckdb.execute(
        "select row_number from read_parquet(?) where reason <> '' and record <> '' order by all",
        [str(found.malformed)],
    ).fetchall()
    assert [number for (number,) in numbers] == [one for one in range(1, 5_003) if one != 2_502]
