"""What is exported keeps its type and its value, and no text becomes a formula."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.answers import export


@pytest.mark.parametrize(
    ("column", "value", "currency", "kept", "number_format"),
    [
        ("net_amount", Decimal("-1.50"), "USD", Decimal("-1.50"), "[$USD] #,##0.00"),
        ("net_amount", Decimal("150.00"), "JPY", Decimal("150.00"), "[$JPY] #,##0"),
        ("net_amount", Decimal("1.50"), None, Decimal("1.50"), "#,##0.00"),
        ("net_amount", Decimal("1.50"), '"x', Decimal("1.50"), "#,##0.00"),
        ("effective_percent", Decimal("33.3333"), "USD", Decimal("33.3333"), "0.####"),
        ("mtus", 10_000, "USD", 10_000, "#,##0"),
        ("burn_month", date(2024, 2, 1), None, date(2024, 2, 1), "yyyy-mm-dd"),
        ("ends_at", datetime(2024, 2, 1, 3), None, datetime(2024, 2, 1, 3), "yyyy-mm-dd hh:mm:ss"),
        ("plan", "team", None, "team", "@"),
        ("plan", "=1", None, "=1", "'@"),
        ("plan", "a\x00b", None, r"a\x00b", "@"),
    ],
)
def test_a_cell_has_its_type_and_format(
    column: str, value: object, currency: str | None, kept: object, number_format: str
) -> None:
    assert export.as_cell(column, value, currency) == (kept, number_format)


def test_what_a_spreadsheet_would_change_is_text() -> None:
    assert export.as_cell("net_amount", Decimal("9999999999999999.99"), "USD") == (
        "9999999999999999.99",
        "@",
    )
    assert export.as_cell("created_at", datetime(1899, 12, 31), None)[0] == "1899-12-31T00:00:00"


@given(st.decimals(min_value=-(10**12), max_value=10**12, places=2))
def test_an_amount_a_spreadsheet_can_hold_stays_a_number(value: Decimal) -> None:
    kept, _ = export.as_cell("net_amount", value, "USD")
    assert kept == value and isinstance(kept, Decimal)
    assert Decimal(f"{float(value):.2f}") == value


@given(st.text(max_size=60))
def test_any_text_can_be_stored(text: str) -> None:
    kept, number_format = export.as_cell("workspace_name", text, None)
    assert isinstance(kept, str)
    assert number_format in ("@", "'@")
    assert number_format == "'@" or not kept.startswith(("=", "+", "-", "@", "\t", "\r"))
