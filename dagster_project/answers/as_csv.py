"""Rows as CSV: amounts with all their decimals, and no text that a spreadsheet would read as a formula."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, TextIO

from dagster_project.answers.values import neutral


def write_csv(
    file: TextIO, names: Sequence[str], rows: Iterable[Sequence[Any]], *, is_raw: bool = False
) -> tuple[int, dict[str, int]]:
    """Write a header and rows; text that a spreadsheet would read as a formula gets an apostrophe.

    Args:
        file: Where to, opened with `newline=""`; lines end in a line feed.
        names: Column titles.
        rows: The values.
        is_raw: Whether text is left unchanged.

    Returns:
        How many rows there are, and by column how many texts got an apostrophe.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    written = 0
    neutralised: dict[str, int] = {}
    for row in rows:
        cells = [_plain(value) for value in row]
        if not is_raw:
            for place, value in enumerate(row):
                if isinstance(value, str) and (safe := neutral(value)) != value:
                    cells[place] = safe
                    neutralised[names[place]] = neutralised.get(names[place], 0) + 1
        writer.writerow(cells)
        written += 1
    return written, neutralised


def _plain(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value
