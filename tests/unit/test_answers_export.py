"""What is exported keeps its type and its value, and no text becomes a formula."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import duckdb
import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.answers import workbook
from dagster_project.answers.values import neutral
from dagster_project.quoting import literal


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum(a1)", "\t=1", "\r=1"])
def test_text_like_a_formula_begins_with_an_apostrophe(text: str) -> None:
    assert neutral(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a=1", "ws-1", "'=1", "1+1"])
def test_other_text_is_untouched(text: str) -> None:
    assert neutral(text) == text


def sheet_of(folder: Path, select: str) -> Any:
    """The only sheet of the workbook that a select becomes, as openpyxl reads it."""
    path = folder / "book.xlsx"
    with duckdb.connect() as connection:
        workbook.write(path, connection, [workbook.Sheet("s", f"({select})")])
    return openpyxl.load_workbook(path)["s"]


@pytest.mark.parametrize(
    ("column", "value", "currency", "kept", "number_format"),
    [
        ("net_amount", "-1.50::decimal(18, 2)", "USD", -1.5, "[$USD] #,##0.00"),
        ("net_amount", "150.00::decimal(18, 2)", "JPY", 150.0, "[$JPY] #,##0"),
        ("net_amount", "150.25::decimal(18, 2)", "JPY", 150.25, "[$JPY] #,##0.00"),
        ("net_amount", "1.50::decimal(18, 2)", None, 1.5, "#,##0.00"),
        ("net_amount", "1.50::decimal(18, 2)", '"x', 1.5, "#,##0.00"),
        ("effective_percent", "33.3333::decimal(9, 4)", "USD", 33.3333, "General"),
        ("mtus", "10000::bigint", "USD", 10_000, "#,##0"),
        ("burn_month", "date '2024-02-01'", None, datetime(2024, 2, 1), "yyyy-mm-dd"),
        (
            "ends_at",
            "timestamp '2024-02-01 03:00:00'",
            None,
            datetime(2024, 2, 1, 3),
            "yyyy-mm-dd hh:mm:ss",
        ),
        ("plan", "'team'", None, "team", "@"),
        ("plan", "'=1'", None, "=1", "@"),
        ("plan", "'<&>'", None, "<&>", "@"),
        ("plan", "' a  b '", None, " a  b ", "@"),
        ("plan", r"'a' || chr(7) || 'b'", None, r"a\x07b", "@"),
        ("plan", r"chr(8238) || 'b'", None, r"\u202eb", "@"),
        ("is_open", "true", None, True, '"TRUE";"TRUE";"FALSE"'),
        ("is_open", "false", None, False, '"TRUE";"TRUE";"FALSE"'),
        ("share", "0.5::double", None, 0.5, "General"),
        ("share", "'nan'::double", None, "nan", "@"),
        ("days", "[1, 2]", None, "[1, 2]", "@"),
        ("lasts", "interval 1 day", None, "1 day", "@"),
    ],
)
def test_a_cell_has_its_type_and_format(
    tmp_path: Path, column: str, value: str, currency: str | None, kept: object, number_format: str
) -> None:
    code = "null::varchar" if currency is None else literal(currency)
    cell = sheet_of(tmp_path, f"select {value} as {column}, {code} as currency")["A2"]
    assert (cell.value, cell.number_format) == (kept, number_format)
    assert type(cell.value) is type(kept)
    assert cell.quotePrefix == (value == "'=1'")


def test_what_is_missing_is_an_empty_cell(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, "select null::date as a, 'x' as b, null::decimal(18, 2) as amount")
    assert [cell.value for cell in sheet[2]] == [None, "x", None]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("9999999999999999.99::decimal(18, 2)", "9999999999999999.99"),
        ("-12345678901234.56::decimal(18, 2)", "-12345678901234.56"),
        ("9007199254740993::bigint", "9007199254740993"),
        ("timestamp '1899-12-31 00:00:00'", "1899-12-31T00:00:00"),
        ("date '1900-02-28'", "1900-02-28"),
        ("timestamp 'infinity'", "infinity"),
    ],
)
def test_what_a_spreadsheet_would_change_is_text(tmp_path: Path, value: str, kept: str) -> None:
    cell = sheet_of(tmp_path, f"select {value} as a")["A2"]
    assert (cell.value, cell.data_type) == (kept, "s")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("1234567890123.45::decimal(18, 2)", 1234567890123.45),
        ("9999999999999000.00::decimal(18, 2)", 9999999999999000),
        ("date '1900-03-01'", datetime(1900, 3, 1)),
    ],
)
def test_what_a_spreadsheet_keeps_unchanged_is_not_text(
    tmp_path: Path, value: str, kept: object
) -> None:
    cell = sheet_of(tmp_path, f"select {value} as a")["A2"]
    assert (cell.value, cell.data_type) == (kept, "d" if isinstance(kept, date) else "n")


_QUICK = settings(max_examples=40)


@_QUICK
@given(st.lists(st.decimals(min_value=-(10**15), max_value=10**15, places=2), min_size=1))
def test_every_amount_is_read_back_to_the_cent(tmp_path: Path, amounts: list[Decimal]) -> None:
    values = ", ".join(f"({place}, {one}::decimal(18, 2))" for place, one in enumerate(amounts))
    sheet = sheet_of(tmp_path, f"select a from (values {values}) as v (n, a) order by n")
    found = [row[0].value for row in sheet.iter_rows(min_row=2)]
    assert [Decimal(str(one)).quantize(Decimal("0.01")) for one in found] == amounts


@_QUICK
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60), min_size=1
    )
)
def test_any_text_is_stored_and_never_obeyed(tmp_path: Path, texts: list[str]) -> None:
    values = ", ".join(f"({place}, {literal(one)})" for place, one in enumerate(texts))
    path = tmp_path / "book.xlsx"
    with duckdb.connect() as connection:
        relation = f"(select a from (values {values}) as v (n, a) order by n)"
        workbook.write(path, connection, [workbook.Sheet("s", relation)])
    with ZipFile(path) as book:
        ET.fromstring(book.read("xl/worksheets/sheet1.xml"))
    cells = [row[0] for row in openpyxl.load_workbook(path)["s"].iter_rows(min_row=2)]
    assert len(cells) == len(texts)
    for cell, text in zip(cells, texts, strict=True):
        assert cell.data_type in ("s", "n", "inlineStr") and cell.data_type != "f"
        if text and text.isprintable():
            assert cell.value == text
        assert cell.quotePrefix == text.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_a_relation_with_more_rows_than_a_sheet_continues_on_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook, "_SHEET_ROWS", 11)
    path = tmp_path / "book.xlsx"
    with duckdb.connect() as connection:
        for rows, sheets in (
            (0, ["s"]),
            (10, ["s"]),
            (11, ["s", "s 2"]),
            (25, ["s", "s 2", "s 3"]),
        ):
            relation = f"(select range as a from range({rows}))"
            (written,) = workbook.write(path, connection, [workbook.Sheet("s", relation)])
            book = openpyxl.load_workbook(path)
            assert book.sheetnames == sheets
            found = [
                row[0] for sheet in book for row in sheet.iter_rows(min_row=2, values_only=True)
            ]
            assert found == list(range(rows))
            assert written.rows == rows


def test_heads_stay_in_view_and_columns_can_be_filtered(tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    with duckdb.connect() as connection:
        relation = "(select 'x' as id, 'a name of some length' as name from range(7))"
        workbook.write(path, connection, [workbook.Sheet("s", relation, frozen=1)])
    sheet = openpyxl.load_workbook(path)["s"]
    assert (sheet.freeze_panes, sheet.auto_filter.ref, sheet.dimensions) == ("B2", "A1:B8", "A1:B8")
    assert sheet.column_dimensions["B"].width > len("a name of some length")


def test_a_column_is_as_wide_as_its_amounts_with_their_currency(tmp_path: Path) -> None:
    select = "select 'USD' as currency, -1234567890.12::decimal(18, 2) as a"
    width = sheet_of(tmp_path, select).column_dimensions["B"].width
    assert width > len("-USD 1,234,567,890.12")


def test_a_long_description_continues_on_lines_of_its_own_row(tmp_path: Path) -> None:
    select = (
        "select repeat('word ', 12 * n) as description, repeat('a', 70) as delivery_id"
        " from range(4) as many (n) order by n"
    )
    sheet = sheet_of(tmp_path, select)
    assert sheet["A2"].alignment.wrap_text and not sheet["B2"].alignment.wrap_text
    heights = [sheet.row_dimensions[row].height for row in range(2, 6)]
    assert heights == [15, 30, 45, 60]


def test_a_heading_is_above_its_numbers_and_text_does_not_touch_them(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, "select 1.50::decimal(18, 2) as amount, 'x' as plan")
    assert [sheet[cell].alignment.horizontal for cell in ("A1", "A2")] == ["right", "right"]
    assert [sheet[cell].alignment.indent for cell in ("B1", "B2")] == [1, 1]
