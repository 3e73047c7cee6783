"""A table of a page as a file: CSV, and a workbook with one sheet."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dagster_project.answers.as_csv import write_csv
from dagster_project.answers.values import clean
from dagster_project.dashboard.blocks import Table


def as_csv(table: Table) -> bytes:
    """Return every row of a table as CSV; text that a spreadsheet reads as a formula gets an apostrophe.

    Args:
        table: The table; its amounts are written with all decimals and without thousands separators.
    """
    text = io.StringIO()
    names = [column.name for column in table.columns]
    has_currency = table.currency is not None and "currency" not in names
    rows = [
        [
            *(_plain(row.get(name)) for name in names),
            *([row.get("currency") or table.currency] if has_currency else []),
        ]
        for row in table.rows
    ]
    write_csv(text, [*names, *(["currency"] if has_currency else [])], rows)
    return text.getvalue().encode("utf-8")


def as_xlsx(table: Table, about: str) -> bytes:
    """Return every row of a table as a workbook.

    Args:
        table: The table; its amounts are numbers with the decimals of their currency.
        about: The first line, which names the release.
    """
    import xlsxwriter

    from dagster_project.answers.workbook import SHEET_NAME, Page

    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True}) as book:
        page = Page(book, table.name[:SHEET_NAME])
        page.title(about)
        names = [column.name for column in table.columns]
        if table.currency is not None and "currency" not in names:
            names.append("currency")
        rows = [{name: _cell(row, name, table) for name in names} for row in table.rows]
        page.block(table.name.replace("_", " "), names, rows)
        page.end()
    return file.getvalue()


def _cell(row: Mapping[str, Any], name: str, table: Table) -> object:
    if name == "currency":
        return row.get(name) or table.currency
    value = row.get(name)
    return clean(value) if isinstance(value, str) else value


def _plain(value: object) -> object:
    return f"{value.isoformat()}Z" if isinstance(value, datetime) else value
