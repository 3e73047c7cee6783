"""`export`: the marts as files for a spreadsheet or another system, with a data dictionary.

Numbers, days and instants stay what they are; text from the source stays text: what a spreadsheet
would take for a formula is a string cell in a workbook and begins with an apostrophe in CSV.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dagster_project.answers.asking import Connection, Row, facts, must_be, rows
from dagster_project.answers.values import FORMULA_SIGNS, clean, neutral, places

if TYPE_CHECKING:
    from openpyxl import Workbook

FORMATS: Final = ("xlsx", "csv", "parquet")
DICTIONARY: Final = "data_dictionary"

_BATCH = 10_000
_SHEET_ROWS = 1_048_576
_SHEET_NAME = 31
_CELL_TEXT = 32_767
_EXACT_DIGITS = 15
_FIRST_YEAR = 1900
_INSTANT = "yyyy-mm-dd hh:mm:ss"
_DAY = "yyyy-mm-dd"
_TEXT = "@"
_QUOTED = "'@"  # text, and marked so that it stays text when someone edits the cell


def export(connection: Connection, kind: str, wanted: Sequence[str], out: Path) -> Row:
    """Write tables of the schema `marts` to a folder.

    Args:
        connection: The release.
        kind: One of `FORMATS`.
        wanted: Tables; none means all.
        out: The folder; made if it is not there. Files of the same name are replaced.

    Raises:
        NotThere: There is no such table.
        OSError: The folder cannot be written to.
    """
    known = [
        row["table_name"]
        for row in rows(
            connection,
            "select table_name from duckdb_tables() where schema_name = 'marts' order by table_name",
        )
    ]
    tables = list(dict.fromkeys(must_be("table", name, known) for name in wanted)) or known
    folder = out.expanduser().absolute()
    of_release = facts(connection)
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "xlsx":
        written = [_workbook(connection, tables, folder, of_release)]
    else:
        write = _write_csv if kind == "csv" else _write_parquet
        written = [
            {
                "file": str(folder / f"{name}.{kind}"),
                "tables": [name],
                "rows": _whole(folder / f"{name}.{kind}", _writer(write, connection, select)),
            }
            for name, select in (
                *((name, f'select * from marts."{name}"') for name in tables),
                (DICTIONARY, _dictionary_select(tables)),
            )
        ]
    return {**of_release, "format": kind, "folder": str(folder), "files": written}


def _dictionary_select(tables: Sequence[str]) -> str:
    names = ", ".join(f"'{name}'" for name in tables)
    return (
        "select columns.table_name, tables.comment as table_description, columns.column_name,"
        " lower(columns.data_type) as data_type, columns.comment as description"
        " from duckdb_columns() as columns inner join duckdb_tables() as tables"
        " on columns.table_oid = tables.table_oid and columns.schema_oid = tables.schema_oid"
        " and columns.database_oid = tables.database_oid"
        f" where columns.schema_name = 'marts' and columns.table_name in ({names})"
        " order by columns.table_name, columns.column_index"
    )


def _whole(path: Path, write: Callable[[Path], int]) -> int:
    """Let a file appear whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        written = write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return written


def _writer(
    write: Callable[[Connection, str, Path], int], connection: Connection, select: str
) -> Callable[[Path], int]:
    return lambda path: write(connection, select, path)


def _read(connection: Connection, select: str) -> tuple[list[str], Iterator[Sequence[Any]]]:
    cursor = connection.execute(select)

    def found() -> Iterator[Sequence[Any]]:
        while batch := cursor.fetchmany(_BATCH):
            yield from batch

    return [str(column[0]) for column in cursor.description or []], found()


def _write_csv(connection: Connection, select: str, path: Path) -> int:
    names, found = _read(connection, select)
    written = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for row in found:
            writer.writerow([_as_csv(value) for value in row])
            written += 1
    return written


def _as_csv(value: object) -> object:
    if isinstance(value, str):
        return neutral(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value


def _write_parquet(connection: Connection, select: str, path: Path) -> int:
    import pyarrow.parquet as pq

    # The connection may not touch files, so that a query cannot either; Arrow writes for it.
    reader = connection.execute(select).to_arrow_reader(_BATCH)
    written = 0
    with pq.ParquetWriter(path, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
            written += batch.num_rows
    return written


def _workbook(
    connection: Connection, tables: Sequence[str], folder: Path, of_release: Row
) -> dict[str, Any]:
    from openpyxl import Workbook

    path = folder / f"coupon-ledger-{of_release['release_id']}.xlsx"
    sheets = {name: _sheet_name(name) for name in (*tables, DICTIONARY)}

    def write(to: Path) -> int:
        book = Workbook(write_only=True)
        names, found = _read(connection, _dictionary_select(tables))
        written = _sheet(
            book,
            sheets[DICTIONARY],
            ["sheet", *names],
            ((sheets[row[0]], *row) for row in found),
        )
        for name in tables:
            written += _sheet(
                book, sheets[name], *_read(connection, f'select * from marts."{name}"')
            )
        book.save(to)
        return written

    return {"file": str(path), "tables": list(tables), "rows": _whole(path, write)}


def _sheet_name(table: str) -> str:
    """The table's name without its prefix: with it the longest would not fit."""
    return table.removeprefix("fct_").removeprefix("dim_")[:_SHEET_NAME]


def _sheet(book: Workbook, name: str, names: Sequence[str], found: Iterator[Sequence[Any]]) -> int:
    """One table on a sheet, on further ones where it has more rows than a sheet."""
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    places = {column: place for place, column in enumerate(names)}
    written, on_sheet, number = 0, _SHEET_ROWS, 0
    sheet: Any = None
    cells: dict[str, Any] = {}
    for row in _with_header(names, found):
        if on_sheet == _SHEET_ROWS:
            number += 1
            sheet = book.create_sheet(
                name if number == 1 else f"{name[: _SHEET_NAME - 4]} {number}"
            )
            sheet.freeze_panes = "A2"
            for place, column in enumerate(names, 1):
                sheet.column_dimensions[get_column_letter(place)].width = _width(column)
            cells = {}
            head = []
            for column in names:
                cell = WriteOnlyCell(sheet, column)
                cell.font = Font(bold=True)
                head.append(cell)
            sheet.append(head)
            on_sheet = 1
            if row is names:
                continue
        currency = row[places["currency"]] if "currency" in places else None
        sheet.append(_cells(sheet, cells, names, row, currency))
        on_sheet += 1
        written += 1
    return written


def _with_header(names: Sequence[str], found: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """The rows after their header, so that a table without rows has its sheet too."""
    yield names
    yield from found


def _width(column: str) -> int:
    if column in ("description", "table_description"):
        return 80
    return max(len(column) + 2, 20 if column.endswith(("_at", "_id", "_name")) else 12)


def _cells(
    sheet: Any, cells: dict[str, Any], names: Sequence[str], row: Sequence[Any], currency: Any
) -> Iterator[Any]:
    """The cells of a row; one object per format is used again and again, each is written at once."""
    from openpyxl.cell import WriteOnlyCell

    for column, value in zip(names, row, strict=True):
        if value is None or isinstance(value, bool):
            yield value
            continue
        kept, form = as_cell(column, value, currency)
        cell = cells.get(form)
        if cell is None:
            cell = cells[form] = WriteOnlyCell(sheet, None)
            # openpyxl forgets the type of a cell without any style when it meets it again.
            cell.number_format = form.removeprefix("'")
            cell.quotePrefix = form == _QUOTED
        cell.value = kept
        if isinstance(kept, str):
            cell.data_type = "s"  # never a formula or an error, whatever it begins with
        yield cell


def as_cell(column: str, value: object, currency: Any) -> tuple[object, str]:
    """The value of a cell and its number format."""
    if isinstance(value, int):
        kept: tuple[object, str] = (value, "#,##0")
    elif isinstance(value, Decimal):
        kept = (value, _number_format(column, value, currency))
    elif isinstance(value, datetime):
        kept = (value, _INSTANT)
    elif isinstance(value, date):
        kept = (value, _DAY)
    else:
        stored = _storable(str(value))
        return stored, _QUOTED if stored.startswith(FORMULA_SIGNS) else _TEXT
    # A spreadsheet counts in binary and from 1900: what it would change is text.
    if isinstance(value, Decimal | int):
        text = f"{Decimal(value):f}"
        if len(text.strip("-0.").replace(".", "")) > _EXACT_DIGITS:
            return text, _TEXT
    if isinstance(value, date) and value.year < _FIRST_YEAR:
        return value.isoformat(), _TEXT
    return kept


def _number_format(column: str, value: Decimal, currency: Any) -> str:
    if column.endswith(("_percent", "percent_off")):
        return "0.####"
    whole = places(currency) == 0 and value == value.to_integral_value()
    number = "#,##0" if whole else "#,##0.00"
    code = str(currency or "")
    if len(code) == 3 and code.isascii() and code.isalpha():
        return f"[${code}] {number}"
    return number


def _storable(text: str) -> str:
    """Text as a workbook can hold it: control characters escaped, and not longer than a cell."""
    safe = "".join(sign if sign.isprintable() or sign in "\t\n" else clean(sign) for sign in text)
    return safe if len(safe) <= _CELL_TEXT else safe[: _CELL_TEXT - 1] + "…"
