"""The CSV reader agrees with the standard csv module on any text, however it reads it."""

from __future__ import annotations

import csv
import io
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dagster_project.arrival.delimited import _scan_plain, check_text, prepare_csv, rewrite_csv
from dagster_project.arrival.report import Limits, Refusal
from dagster_project.arrival.rows import PlainCsv, Prepared, TextParquet
from dagster_project.arrival.warehouse import RawRows, load_rows
from dagster_project.feeds import feeds

WORKSPACES = feeds()["workspaces"]
HEADER = "workspace_id,created_at,updated_at,note"
LIMITS = Limits()


def prepared(folder: Path, content: bytes) -> Prepared:
    """Check a file of this content."""
    path = folder / "delivery"
    path.write_bytes(content)
    return prepare_csv(path, WORKSPACES, LIMITS, folder / "rows")


@cache
def memory() -> duckdb.DuckDBPyConnection:
    """DuckDB in memory, shared by the examples."""
    return duckdb.connect()


def loaded(folder: Path, preparation: Prepared) -> list[tuple[object, ...]]:
    """Load a prepared file and read it back."""
    rows = load_rows(memory(), WORKSPACES, 1, preparation, RawRows(folder / "raw"))
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


@settings(max_examples=120, deadline=None)
@given(text=TEXTS, line_end=st.sampled_from(["\n", "\r\n", "\r"]))
@example(text="1,2,3,4\n5,6,7,8", line_end="\n")
@example(text="1,2,3,4\r\n5,6,7,8\r\n", line_end="\r\n")
@example(text="1,2,3\n4,5,6,7,8\n", line_end="\n")
@example(text="1,2,3,4\n\n", line_end="\n")
@example(text=",,,\n#,a,b,c\n \\,',,\n", line_end="\n")
@example(text='"a",b,c,d\n', line_end="\n")
def test_any_text_is_read_as_the_csv_module_reads_it(text: str, line_end: str) -> None:
    content = f"{HEADER}{line_end}{text}".encode()
    try:
        records, blank, good = expected(content)
    except csv.Error:
        records = -1
    with TemporaryDirectory() as folder:
        try:
            preparation = prepared(Path(folder), content)
        except Refusal as refusal:
            assert records == -1
            assert "not closed" in refusal.reason
            return
        if records == -1:
            assert preparation.malformed_rows > 0
            return
        assert (preparation.physical_rows, preparation.blank_rows) == (records, blank)
        assert preparation.good_rows == len(good)
        assert loaded(Path(folder), preparation) == good


@settings(max_examples=100, deadline=None)
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


def test_a_plain_file_is_passed_on_as_it_is(tmp_path: Path) -> None:
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
    assert isinstance(prepared(tmp_path, content).source, TextParquet)


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


def test_the_place_of_a_bad_byte_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_field_beyond_the_limit_is_no_crash(tmp_path: Path) -> None:
    content = f'{HEADER}\n1,"{"x" * 500}",b,c\n2,a,b,c\n'.encode()
    path = tmp_path / "delivery"
    path.write_bytes(content)
    found = rewrite_csv(path, WORKSPACES, Limits(line_bytes=100), tmp_path / "rows")
    assert (found.physical_rows, found.malformed_rows) == (2, 1)


def test_a_header_too_wide_for_the_plain_way_is_read_the_other_way(tmp_path: Path) -> None:
    path = tmp_path / "delivery"
    path.write_bytes(b"a\n1\n")
    assert _scan_plain(path, ("a",)) is None
