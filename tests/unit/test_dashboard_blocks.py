"""Blocks as charts, text and files: amounts stay exact, and text is never markup or a formula."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from dagster_project.dashboard import charts, look, saving
from dagster_project.dashboard.blocks import Bars, Column, Lead, Table, Waterfall


def drawn_rows(block: Bars | Waterfall) -> list[dict[str, Any]]:
    (rows,) = charts.chart(block).to_dict()["datasets"].values()
    return list(rows)


@pytest.mark.parametrize("value", ["1803.85", "0.01", "-12.30", "123456789012.34", "0.00"])
def test_a_bar_is_as_long_as_its_amount(value: str) -> None:
    bars = Bars("title", "USD", (("2025-01", "net", Decimal(value)),), ("net",))
    (row,) = drawn_rows(bars)
    assert row["amount"] == float(value)
    assert row["told"] == f"2025-01: {Decimal(value):,.2f} USD"


def test_a_step_of_a_waterfall_starts_where_the_previous_one_ended() -> None:
    steps = (
        ("List", Decimal("100.10"), True),
        ("Off", Decimal("-30.05"), False),
        ("Error", Decimal("2.00"), False),
        ("Kept", Decimal("72.05"), True),
    )
    rows = drawn_rows(Waterfall("title", "EUR", steps))
    assert [(row["start"], row["end"]) for row in rows] == [
        (0, 100.1), (100.1, 70.05), (70.05, 72.05), (0, 72.05),
    ]  # fmt: skip


def test_amounts_have_the_places_of_their_currency() -> None:
    table = Table("t", (Column("paid", "Paid", "amount"),), [{"paid": Decimal("1200.00")}], "JPY")
    assert table.text(table.rows[0], table.columns[0]) == "1,200"


def test_a_row_s_own_currency_counts_before_the_table_s() -> None:
    row = {"paid": Decimal("1200.00"), "currency": "USD"}
    table = Table("t", (Column("paid", "Paid", "amount"),), [row], "JPY")
    assert table.text(row, table.columns[0]) == "1,200.00"


def test_saved_text_is_not_a_formula_and_saved_amounts_are_exact() -> None:
    columns = (Column("name", "Name"), Column("paid", "Paid", "amount"))
    rows = [{"name": "=1+1", "paid": Decimal("-99999999999999.99")}]
    assert saving.as_csv(Table("t", columns, rows, "USD")).decode() == (
        "name,paid,currency\n'=1+1,-99999999999999.99,USD\n"
    )


def test_text_is_shown_unchanged() -> None:
    assert look.plain("<b>&\u202e") == "&lt;b&gt;&amp;\\u202e"
    assert "<b>" not in look.heading("<b>") + look.note("<b>")


def test_a_mark_is_a_link_where_it_leads_on_and_nowhere_else() -> None:
    steps = (("List", Decimal(100), True), ("Credit", Decimal(-30), False))
    block = Waterfall("title", "EUR", steps, {"Credit": Lead("credit", {"month": "2025-01"})})
    told = charts.svg(block, address=lambda lead: f"/{lead.page}?a=1&month={lead.chosen['month']}")
    assert told.count("<a ") == 1
    assert '<a href="/credit?a=1&amp;month=2025-01" aria-label="Credit: -30.00 EUR">' in told
    assert "<title>List: 100.00 EUR</title>" in told
    assert "http" not in told.replace("http://www.w3.org/2000/svg", "")
    assert "<a " not in charts.svg(block)


def test_text_of_a_chart_is_never_markup() -> None:
    place = "</text><script>harmed()</script>\"'"
    bars = Bars("title", "USD", ((place, "net", Decimal(1)),), ("net",))
    assert "<script" not in charts.svg(bars)


def test_a_table_leads_on_sorts_by_value_and_leaves_out_what_is_too_much() -> None:
    columns = (
        Column("program", "Program", to="month", choice="program"),
        Column("paid", "Paid", "amount"),
    )
    rows = [{"program": f"<{n}>", "paid": Decimal(n)} for n in (2, 10, 3)]
    table = Table("given", columns, rows, "USD")
    told = look.table(table, 2, lambda lead: f"/{lead.page}?{lead.chosen}", is_sorted_by_click=True)
    assert told.count("<tr>") == 3  # its head and two rows
    assert 'data-v="10">10.00<' in told
    assert "&lt;2&gt;</a>" in told
    assert look.left_out(table, 2, "save it.") == look.note("1 more row: save it.")
    assert look.left_out(table, 3, "save it.") == ""
