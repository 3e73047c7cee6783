"""Rows as CSV, for every command and page that writes some."""

from __future__ import annotations

import io
from datetime import date
from decimal import Decimal

import pytest

from dagster_project.answers.as_csv import write_csv

ROW = ["=1+1", "a,b", None, Decimal("0E-8"), Decimal("-1.50"), True, date(2024, 2, 29)]


@pytest.mark.parametrize(
    ("is_raw", "first", "neutralised"), [(False, "'=1+1", {"a": 1}), (True, "=1+1", {})]
)
def test_cells_are_plain_and_no_text_is_read_as_a_formula(
    is_raw: bool, first: str, neutralised: dict[str, int]
) -> None:
    file = io.StringIO()
    assert write_csv(file, "abcdefg", [ROW], is_raw=is_raw) == (1, neutralised)
    assert file.getvalue() == (f'a,b,c,d,e,f,g\n{first},"a,b",,0.00000000,-1.50,true,2024-02-29\n')
