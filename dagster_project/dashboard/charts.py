"""Charts of blocks, by Altair: drawn by the browser on a page, and as SVG in the report.

Amounts become points of a chart in `_points`, and nowhere else: a chart of DECIMAL can be drawn a hundred
times too large, so a point is a float, rounded to what one can see. No number that is read comes from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from dagster_project.answers.values import amount
from dagster_project.dashboard.blocks import Bars, Waterfall

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

ACCENT = "#17608a"
SHADES = (ACCENT, "#8fb4c9", "#d3dde3", "#52616b")
"""Of the parts of a bar; each is lighter or darker than the others, in black and white too."""
INK, FAINT = "#1c2430", "#5b6672"
_FONT = "Source Sans, Source Sans 3, DejaVu Sans, sans-serif"
_HEIGHT = 260


def _points(rows: Iterable[dict[str, Any]], *amounts: str) -> pd.DataFrame:
    """Return rows as what a chart is drawn from, its amounts as float64."""
    import pandas as pd

    frame = pd.DataFrame(list(rows))
    return frame.astype(dict.fromkeys(amounts, "float64")) if len(frame) else frame


def chart(block: Bars | Waterfall) -> alt.Chart | alt.LayerChart:
    """Return the chart of a block, as wide as where it stands.

    Args:
        block: What to draw; its amounts are of one currency.
    """
    drawn = _bars(block) if isinstance(block, Bars) else _waterfall(block)
    styled: alt.Chart | alt.LayerChart = (
        drawn.properties(width="container", height=_HEIGHT, description=block.title)
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


def _bars(block: Bars) -> alt.Chart:
    import altair as alt

    places = list(dict.fromkeys(place for place, _, _ in block.points))
    frame = _points(
        (
            {
                "place": place,
                "part": part,
                "order": block.parts.index(part),
                "amount": value,
                "told": f"{amount(value, block.unit)} {block.unit}",
            }
            for place, part, value in block.points
        ),
        "amount",
    )
    many = len(places) > 14
    encoded = {
        "x": alt.X(
            "place:N",
            sort=places,
            title=None,
            axis=alt.Axis(labelAngle=-45 if many else 0, labelOverlap=True, grid=False),
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
        "tooltip": [
            alt.Tooltip("place:N", title=block.axis),
            alt.Tooltip("part:N", title="what"),
            alt.Tooltip("told:N", title="amount"),
        ],
    }
    if not block.is_stacked:
        encoded["xOffset"] = alt.XOffset("part:N", sort=list(block.parts))
        del encoded["order"]
    bars: alt.Chart = alt.Chart(frame).mark_bar(stroke="#ffffff", strokeWidth=0.5).encode(**encoded)
    return bars


def _is_large(block: Bars) -> bool:
    return any(abs(value) >= Decimal(20) for _, _, value in block.points)


def _waterfall(block: Waterfall) -> alt.LayerChart:
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
                "told": amount(value, block.unit),
            }
        )
    frame = _points(rows, "start", "end", "top")
    names = [name for name, _, _ in block.steps]
    labels = alt.Axis(
        labelAngle=0,
        grid=False,
        labelFontSize=11,
        labelOverlap=True,
        labelExpr="split(datum.label, ' ')",
    )
    x = alt.X("step:N", sort=names, title=None, axis=labels)
    base = alt.Chart(frame).encode(x=x)
    bars = base.mark_bar().encode(
        y=alt.Y("start:Q", title=block.unit, axis=alt.Axis(format=",.0f", tickCount=5)),
        y2="end:Q",
        color=alt.Color(
            "kind:N",
            scale=alt.Scale(domain=["amount", "step"], range=[ACCENT, "#8fb4c9"]),
            legend=None,
        ),
        tooltip=[alt.Tooltip("step:N", title="step"), alt.Tooltip("told:N", title=block.unit)],
    )
    told = base.mark_text(dy=-7, fontSize=10, color=INK).encode(y="top:Q", text="told:N")
    return alt.LayerChart(layer=[bars, told])


def svg(block: Bars | Waterfall, width: int = 880) -> str:
    """Return the chart of a block as SVG.

    Args:
        block: What to draw.
        width: In pixels.
    """
    import vl_convert

    drawn = chart(block).properties(width=width, height=220)
    return str(vl_convert.vegalite_to_svg(drawn.to_dict()))
