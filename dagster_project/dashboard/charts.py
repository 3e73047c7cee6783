"""Charts of blocks, by Altair, as SVG: the same on a page and in the report.

Amounts become floats in `_points` and nowhere else, because a chart of DECIMAL can be drawn a hundred
times too large. Numbers shown as text are written from the exact amounts.

A mark with a lead is a link in the SVG, so the keyboard reaches it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from dagster_project.answers.values import amount
from dagster_project.dashboard.blocks import Bars, Lead, Waterfall

if TYPE_CHECKING:
    import altair as alt

ACCENT = "#17608a"
SHADES = (ACCENT, "#8fb4c9", "#d3dde3", "#52616b")
"""Colours of the parts of a bar; each is lighter or darker than the others, in black and white too."""
INK, FAINT = "#1c2430", "#5b6672"
_FONT = "Source Sans, Source Sans 3, DejaVu Sans, sans-serif"
_HEIGHT = 220
WIDE, PAPER, NARROW = 1080, 760, 340
"""How wide a chart is drawn, in pixels."""
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


def _points(rows: Iterable[dict[str, Any]], *amounts: str) -> alt.InlineData:
    """Return rows as data for Altair, with the amounts as floats."""
    import altair as alt

    return alt.InlineData(
        values=[
            {name: float(value) if name in amounts else value for name, value in row.items()}
            for row in rows
        ]
    )


def chart(block: Bars | Waterfall, width: int = WIDE) -> alt.Chart | alt.LayerChart:
    """Return the chart of a block.

    Args:
        block: What to draw; its amounts are of one currency.
        width: In pixels.
    """
    drawn = _bars(block, width) if isinstance(block, Bars) else _waterfall(block, width < PAPER)
    styled: alt.Chart | alt.LayerChart = (
        drawn.properties(
            width=width,
            height=_HEIGHT,
            description=block.title,
            autosize={"type": "fit-x", "contains": "padding"},
        )
        .configure(
            font=_FONT, background="#ffffff", padding={"left": 4, "right": 8, "top": 8, "bottom": 4}
        )
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=FAINT,
            titleColor=FAINT,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            domain=False,
            ticks=False,
            gridColor="#e6eaee",
            labelPadding=6,
        )
        .configure_legend(
            orient="top",
            title=None,
            labelFontSize=12,
            labelColor=INK,
            symbolType="square",
            padding=0,
            offset=10,
        )
    )
    return styled


def _bars(block: Bars, width: int) -> alt.Chart:
    import altair as alt

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
    encoded = {
        "x": alt.X(
            "place:N",
            sort=places,
            title=None,
            axis=alt.Axis(labelAngle=-45 if is_slanted else 0, labelOverlap=True, grid=False),
        ),
        "y": alt.Y(
            "amount:Q",
            title=block.unit,
            stack="zero" if block.is_stacked else None,
            axis=alt.Axis(format=",.0f" if _is_large(block) else ",.2f", tickCount=5),
        ),
        "color": alt.Color(
            "part:N",
            sort=list(block.parts),
            scale=alt.Scale(domain=list(block.parts), range=list(SHADES[: len(block.parts)])),
            legend=alt.Legend() if len(block.parts) > 1 else None,
        ),
        "order": alt.Order("order:Q"),
        "description": alt.Description("told:N"),
    }
    if block.leads:
        encoded["href"] = alt.Href("lead:N")
    if not block.is_stacked:
        encoded["xOffset"] = alt.XOffset("part:N", sort=list(block.parts))
        del encoded["order"]
    bars: alt.Chart = (
        alt.Chart(points).mark_bar(stroke="#ffffff", strokeWidth=0.5).encode(**encoded)
    )
    return bars


def _is_large(block: Bars) -> bool:
    return any(abs(value) >= Decimal(20) for _, _, value in block.points)


def _told(place: str, part: str, value: Decimal, unit: str) -> str:
    """Return the text of a mark for readers who point at it or cannot see it."""
    return f"{place}{', ' if part else ''}{part}: {amount(value, unit)} {unit}"


def _mark(block: Bars | Waterfall, place: str) -> str:
    """Return the number of a place among those with a lead as a URL fragment; empty without a lead."""
    return f"#{list(block.leads).index(place)}" if place in block.leads else ""


def _waterfall(block: Waterfall, is_narrow: bool) -> alt.LayerChart:
    import altair as alt

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
    labels = alt.Axis(
        labelAngle=-45 if is_narrow else 0,
        grid=False,
        labelFontSize=11,
        labelOverlap=False,
        labelExpr="datum.label" if is_narrow else "split(datum.label, ' ')",
    )
    x = alt.X("step:N", sort=[name for name, _, _ in block.steps], title=None, axis=labels)
    base = alt.Chart(points).encode(x=x)
    encoded = {
        "y": alt.Y("start:Q", title=block.unit, axis=alt.Axis(format=",.0f", tickCount=5)),
        "y2": alt.Y2("end:Q"),
        "color": alt.Color(
            "kind:N",
            scale=alt.Scale(domain=["amount", "step"], range=[ACCENT, "#8fb4c9"]),
            legend=None,
        ),
        "description": alt.Description("told:N"),
    }
    if block.leads:
        encoded["href"] = alt.Href("lead:N")
    bars = base.mark_bar().encode(**encoded)
    if is_narrow:  # the numbers would overlap; the table beside the chart has them
        return alt.LayerChart(layer=[bars])
    told = base.mark_text(dy=-7, fontSize=10, color=INK, aria=False).encode(
        y="top:Q", text="amount:N"
    )
    return alt.LayerChart(layer=[bars, told])


def svg(
    block: Bars | Waterfall, width: int = WIDE, address: Callable[[Lead], str] | None = None
) -> str:
    """Return the chart of a block as SVG.

    Args:
        block: What to draw.
        width: In pixels.
        address: Returns the address of a lead; without it marks are not links.
    """
    import altair as alt
    import vl_convert

    with alt.utils.schemapi.debug_mode(False):  # what is drawn here is checked by tests
        text = vl_convert.vegalite_to_svg(chart(block, width).to_dict(validate=False))
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
