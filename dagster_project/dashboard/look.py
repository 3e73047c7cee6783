"""How pages look, in the dashboard and in the report: one accent colour, and text that is never markup."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from html import escape
from typing import Any

from dagster_project.answers.values import clean, count
from dagster_project.dashboard.blocks import NUMBERS, Bars, Column, Lead, Table, Tiles, Waterfall
from dagster_project.dashboard.charts import ACCENT, FAINT, INK, NARROW, PAPER, WIDE, svg

STYLE = f"""
.cl-tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .75rem; margin: .25rem 0 .5rem; }}
.cl-tile {{ border-top: 3px solid {ACCENT}; background: #f6f8fa; padding: .6rem .8rem .7rem; }}
.cl-tile .label {{ color: {FAINT}; font-size: .85rem; }}
.cl-tile .value {{ color: {INK}; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }}
.cl-tile .note {{ color: {FAINT}; font-size: .8rem; font-variant-numeric: tabular-nums; }}
.cl-heading {{ color: {INK}; font-size: 1.1rem; font-weight: 600; margin: 1.1rem 0 .2rem; line-height: 1.35; }}
.cl-note {{ color: {INK}; font-size: .92rem; margin: .1rem 0; overflow-wrap: anywhere; }}
.cl-table {{ overflow: auto; max-height: 29rem; }}
.cl-table table {{ border-collapse: collapse; width: 100%; margin: 0; font-size: .86rem; color: {INK}; }}
.cl-table th, .cl-table td {{ text-align: left; padding: .28rem .55rem; border: 0; border-bottom: 1px solid #dfe4ea; vertical-align: top; overflow-wrap: break-word; }}
.cl-table td.text {{ max-width: 24rem; }}
.cl-table td.prose {{ min-width: 15rem; }}
.cl-table th {{ color: {FAINT}; font-weight: 600; vertical-align: bottom; overflow-wrap: normal; background: #ffffff; position: sticky; top: 0; }}
.cl-table .number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.cl-table th.number {{ white-space: normal; }}
.cl-table .day {{ white-space: nowrap; font-variant-numeric: tabular-nums; }}
.cl-table a, .cl-note a {{ color: {ACCENT}; }}
.cl-chart {{ margin: .4rem 0; break-inside: avoid; }}
.cl-chart svg {{ max-width: 100%; height: auto; }}
.cl-note.warning {{ color: {INK}; font-weight: 600; border-left: 4px solid {INK}; padding-left: .6rem; }}
"""
"""The style that both share; each adds a little of its own."""


def plain(text: object) -> str:
    """Return text escaped for HTML, because names come from deliveries and must never be markup."""
    return escape(clean(text))


def heading(text: str) -> str:
    """Return a heading as HTML."""
    return f'<h2 class="cl-heading">{plain(text)}</h2>'


def note(text: str, is_warning: bool = False) -> str:
    """Return a sentence as HTML."""
    kind = "cl-note warning" if is_warning else "cl-note"
    return f'<p class="{kind}">{plain(text)}</p>'


def tiles(block: Tiles) -> str:
    """Return numbers side by side as HTML."""
    shown = "".join(
        f'<div class="cl-tile"><div class="label">{plain(tile.label)}</div>'
        f'<div class="value">{plain(tile.value)}</div><div class="note">{plain(tile.note)}</div></div>'
        for tile in block.tiles
    )
    return f'<div class="cl-tiles">{shown}</div>'


def figure(
    block: Bars | Waterfall,
    address: Callable[[Lead], str] | None = None,
    *,
    on_paper: bool = False,
) -> str:
    """Return a chart as HTML.

    Args:
        block: What to draw.
        address: Returns the address of a lead; without it marks are not links.
        on_paper: Whether it is drawn once, as wide as paper, instead of for wide and narrow screens.
    """
    drawn = (
        svg(block, PAPER)
        if on_paper
        else f'<div class="cl-wide">{svg(block, WIDE, address)}</div>'
        f'<div class="cl-narrow">{svg(block, NARROW, address)}</div>'
    )
    return (
        f'<figure class="cl-chart" role="group" aria-label="{plain(block.title)}">{drawn}</figure>'
    )


def table(
    block: Table,
    most: int,
    address: Callable[[Lead], str] | None = None,
    *,
    is_sorted_by_click: bool = False,
) -> str:
    """Return a table as HTML, or its sentence if it has no rows.

    Args:
        block: The table.
        most: How many rows to show of it.
        address: Returns the address of a lead; without it values are not links.
        is_sorted_by_click: Whether the titles of columns are buttons, and cells carry the value to sort by.
    """
    if not block.rows:
        return note(block.empty)
    shown = block.rows[:most]
    name = plain(block.name.replace("_", " "))
    head = "".join(
        f'<th scope="col" class="{_kind(column)}"'
        + (
            f' aria-sort="none"><button type="button">{plain(column.title)}</button></th>'
            if is_sorted_by_click and column.title and len(shown) > 1
            else f">{plain(column.title)}</th>"
        )
        for column in block.columns
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{_kind(column)}"'
            + (f' data-v="{_sorted_by(row.get(column.name))}"' if is_sorted_by_click else "")
            + f">{_linked(block, row, column, address)}</td>"
            for column in block.columns
        )
        + "</tr>\n"
        for row in shown
    )
    return (
        f'<div class="cl-table" tabindex="0" role="region" aria-label="{name}"><table aria-label="{name}">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def left_out(block: Table, most: int, told: str) -> str:
    """Return as HTML how many rows of a table are not shown, and where they are; empty if all are shown.

    Args:
        block: The table.
        most: How many rows are shown.
        told: Where all rows are, in words.
    """
    more = len(block.rows) - most
    return note(f"{count(more, 'more row')}: {told}") if more > 0 else ""


def _kind(column: Column) -> str:
    if column.kind in NUMBERS:
        return "number"
    if column.kind in ("day", "month"):
        return "day"
    return "prose" if column.kind == "prose" else "text"


def _sorted_by(value: object) -> str:
    if value is None:
        return ""
    return plain(value.isoformat() if isinstance(value, date | datetime) else value)


def _linked(
    block: Table, row: Mapping[str, Any], column: Column, address: Callable[[Lead], str] | None
) -> str:
    text = plain(block.text(row, column))
    lead = block.lead(row, column) if address else None
    return (
        text if address is None or lead is None else f'<a href="{plain(address(lead))}">{text}</a>'
    )
