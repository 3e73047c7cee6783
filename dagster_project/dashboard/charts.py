"""Charts of blocks, by Vega-Lite, as SVG: the same on a page and in the report.

Amounts become points of a chart in `_points`, and nowhere else: a chart of DECIMAL can be drawn a hundred
times too large, so a point is a float, rounded to what one can see. No number that is read comes from here.

A mark that leads on is a link in the SVG, so that it is reached by keyboard too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

from dagster_project.answers.values import amount
from dagster_project.dashboard.blocks import Bars, Lead, Waterfall

ACCENT = "#17608a"
SHADES = (ACCENT, "#8fb4c9", "#d3dde3", "#52616b")
"""Of the parts of a bar; each is lighter or darker than the others, in black and white too."""
INK, FAINT = "#1c2430", "#5b6672"
_FONT = "Source Sans, Source Sans 3, DejaVu Sans, sans-serif"
_HEIGHT = 220
WIDE, PAPER, NARROW = 1080, 760, 340
"""How wide a chart is drawn, in pixels."""
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_LOOK = {
    "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
    "height": _HEIGHT,
    "autosize": {"type": "fit-x", "contains": "padding"},
    "config": {
        "font": _FONT,
        "background": "#ffffff",
        "padding": {"left": 4, "right": 8, "top": 8, "bottom": 4},
        "view": {"stroke": None},
        "axis": {
            "labelColor": FAINT,
            "titleColor": FAINT,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "domain": False,
            "ticks": False,
            "gridColor": "#e6eaee",
            "labelPadding": 6,
        },
        "legend": {
            "orient": "top",
            "title": None,
            "labelFontSize": 12,
            "labelColor": INK,
            "symbolType": "square",
            "padding": 0,
            "offset": 10,
        },
    },
}
"""What all charts have, as Vega-Lite."""


def _points(rows: Iterable[dict[str, Any]], *amounts: str) -> dict[str, Any]:
    """Return rows as what a chart is drawn from, its amounts as floats."""
    return {
        "values": [
            {name: float(value) if name in amounts else value for name, value in row.items()}
            for row in rows
        ]
    }


def chart(block: Bars | Waterfall, width: int = WIDE) -> dict[str, Any]:
    """Return the chart of a block, as Vega-Lite.

    Args:
        block: What to draw; its amounts are of one currency.
        width: In pixels.
    """
    drawn = _bars(block, width) if isinstance(block, Bars) else _waterfall(block, width < PAPER)
    return {**_LOOK, **drawn, "width": width, "description": block.title}


def _bars(block: Bars, width: int) -> dict[str, Any]:
    places = list(dict.fromkeys(place for place, _, _ in block.points))
    points = _points(
        (
            {
                "place": place,
                "part": part,
                "order": block.parts.index(part),
                "amount": value,
                "told": _told(place, part if len(block.parts) > 1 else "", value, block.unit),
                "lead": _mark(block, place),
            }
            for place, part, value in block.points
        ),
        "amount",
    )
    is_slanted = len(places) > width // 75
    parts = list(block.parts)
    encoded: dict[str, Any] = {
        "x": {
            "field": "place",
            "type": "nominal",
            "sort": places,
            "title": None,
            "axis": {"labelAngle": -45 if is_slanted else 0, "labelOverlap": True, "grid": False},
        },
        "y": {
            "field": "amount",
            "type": "quantitative",
            "title": block.unit,
            "stack": "zero" if block.is_stacked else None,
            "axis": {"format": ",.0f" if _is_large(block) else ",.2f", "tickCount": 5},
        },
        "color": {
            "field": "part",
            "type": "nominal",
            "sort": parts,
            "scale": {"domain": parts, "range": list(SHADES[: len(parts)])},
            "legend": {} if len(parts) > 1 else None,
        },
        "description": {"field": "told", "type": "nominal"},
    }
    if block.leads:
        encoded["href"] = {"field": "lead", "type": "nominal"}
    if block.is_stacked:
        encoded["order"] = {"field": "order", "type": "quantitative"}
    else:
        encoded["xOffset"] = {"field": "part", "type": "nominal", "sort": parts}
    return {
        "data": points,
        "mark": {"type": "bar", "stroke": "#ffffff", "strokeWidth": 0.5},
        "encoding": encoded,
    }


def _is_large(block: Bars) -> bool:
    return any(abs(value) >= Decimal(20) for _, _, value in block.points)


def _told(place: str, part: str, value: Decimal, unit: str) -> str:
    """Return the text of a mark for readers who point at it or cannot see it."""
    return f"{place}{', ' if part else ''}{part}: {amount(value, unit)} {unit}"


def _mark(block: Bars | Waterfall, place: str) -> str:
    """Return the number of a place among those that lead on, in the form of an address; empty for others."""
    return f"#{list(block.leads).index(place)}" if place in block.leads else ""


def _waterfall(block: Waterfall, is_narrow: bool) -> dict[str, Any]:
    rows, level = [], Decimal(0)
    for name, value, is_level in block.steps:
        start, end = (Decimal(0), value) if is_level else (level, level + value)
        level = end
        rows.append(
            {
                "step": name,
                "start": start,
                "end": end,
                "top": max(start, end),
                "kind": "amount" if is_level else "step",
                "amount": amount(value, block.unit),
                "told": _told(name, "", value, block.unit),
                "lead": _mark(block, name),
            }
        )
    points = _points(rows, "start", "end", "top")
    x = {
        "field": "step",
        "type": "nominal",
        "sort": [name for name, _, _ in block.steps],
        "title": None,
        "axis": {
            "labelAngle": -45 if is_narrow else 0,
            "grid": False,
            "labelFontSize": 11,
            "labelOverlap": False,
            "labelExpr": "datum.label" if is_narrow else "split(datum.label, ' ')",
        },
    }
    encoded: dict[str, Any] = {
        "x": x,
        "y": {
            "field": "start",
            "type": "quantitative",
            "title": block.unit,
            "axis": {"format": ",.0f", "tickCount": 5},
        },
        "y2": {"field": "end"},
        "color": {
            "field": "kind",
            "type": "nominal",
            "scale": {"domain": ["amount", "step"], "range": [ACCENT, "#8fb4c9"]},
            "legend": None,
        },
        "description": {"field": "told", "type": "nominal"},
    }
    if block.leads:
        encoded["href"] = {"field": "lead", "type": "nominal"}
    layers = [{"mark": {"type": "bar"}, "encoding": encoded}]
    if not is_narrow:  # where the numbers would stand on one another, they are in the table beside
        told = {
            "x": x,
            "y": {"field": "top", "type": "quantitative"},
            "text": {"field": "amount", "type": "nominal"},
        }
        mark = {"type": "text", "dy": -7, "fontSize": 10, "color": INK, "aria": False}
        layers.append({"mark": mark, "encoding": told})
    return {"data": points, "layer": layers}


def svg(
    block: Bars | Waterfall, width: int = WIDE, address: Callable[[Lead], str] | None = None
) -> str:
    """Return the chart of a block as SVG.

    Args:
        block: What to draw.
        width: In pixels.
        address: Gives the address of where a mark leads on to; without it marks are no links.
    """
    import vl_convert

    text = vl_convert.vegalite_to_svg(chart(block, width))
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(text)  # noqa: S314 (drawn by ourselves)
    leads = list(block.leads.values())
    for parent in list(root.iter()):
        for place, link in enumerate(list(parent)):
            if link.tag != f"{{{_SVG}}}a":
                continue
            (mark,) = list(link)
            number = link.attrib.pop(f"{{{_XLINK}}}href", "").rpartition("#")[2]
            if address is None or not number:
                parent.remove(link)
                parent.insert(place, mark)
                continue
            link.set("href", address(leads[int(number)]))
            link.set("aria-label", mark.get("aria-label", ""))
    for mark in root.iter(f"{{{_SVG}}}path"):
        if mark.get("aria-roledescription") == "bar":
            ElementTree.SubElement(mark, f"{{{_SVG}}}title").text = mark.get("aria-label")
    return ElementTree.tostring(root, encoding="unicode")
