"""How pages look, in the dashboard and in the report: one accent colour, and text that is never markup."""

from __future__ import annotations

from html import escape

from dagster_project.answers.values import clean
from dagster_project.dashboard.blocks import Tiles
from dagster_project.dashboard.charts import ACCENT, FAINT, INK

STYLE = f"""
.cl-tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .75rem; margin: .25rem 0 .5rem; }}
.cl-tile {{ border-top: 3px solid {ACCENT}; background: #f6f8fa; padding: .6rem .8rem .7rem; }}
.cl-tile .label {{ color: {FAINT}; font-size: .85rem; }}
.cl-tile .value {{ color: {INK}; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }}
.cl-tile .note {{ color: {FAINT}; font-size: .8rem; min-height: 1.1em; font-variant-numeric: tabular-nums; }}
.cl-heading {{ color: {INK}; font-size: 1.1rem; font-weight: 600; margin: 1.1rem 0 .2rem; line-height: 1.35; }}
.cl-note {{ color: {FAINT}; font-size: .92rem; margin: .1rem 0; overflow-wrap: anywhere; }}
.cl-note.warning {{ color: {INK}; font-weight: 600; border-left: 4px solid {INK}; padding-left: .6rem; }}
"""
"""The style that both share; each adds a little of its own."""


def plain(text: object) -> str:
    """Return text as HTML that shows it as it is: names come from deliveries and are never markup."""
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
