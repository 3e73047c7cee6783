"""The chart of the comparison on the page on speed: bars in SVG, written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from tests.bench.compare import BASE, PROGRAMS

_WIDTH: Final = 860
_ROW: Final = 30
_BAR: Final = 18
_HEAD: Final = 66  # of the title and the names of the columns
_GROUP: Final = 34  # of a group's own title
_NAMES: Final = 210
_COLUMNS: Final = ((_NAMES, 220), (570, 150))  # where bars begin and how long the longest is
_OWN, _OTHER = "#1f6feb", "#8b96a5"
_STYLE: Final = (
    "text{font-family:-apple-system,'Segoe UI','DejaVu Sans',Arial,sans-serif;fill:#1f2328}"
    ".title{font-size:16px;font-weight:600}.group{font-size:14px;font-weight:600}"
    ".text{font-size:13px}.quiet{font-size:12px;fill:#57606a}"
)


def drawn(results: Sequence[Mapping[str, Any]]) -> str:
    """Seconds and peak memory of every program, one group of bars per number of invoices.

    Bars of a group share a scale, those of different groups do not. A program that did not finish has
    no bars and says so.

    Args:
        results: Results of the comparison.
    """
    height = _HEAD + sum(_GROUP + _ROW * len(result["programs"]) for result in results) + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
        f' viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="title">',
        '<title id="title">Seconds and peak memory of programs that make the same marts</title>',
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{height}" rx="6" fill="#ffffff"/>',
        _text(20, 28, "title", "The same five marts from the same files; less is better"),
        _text(_COLUMNS[0][0], 54, "quiet", "seconds (times those of Coupon Ledger on DuckDB)"),
        _text(_COLUMNS[1][0], 54, "quiet", "peak memory"),
    ]
    top = _HEAD
    for result in results:
        parts.append(_text(20, top + 22, "group", f"{result['invoices']:,} invoices"))
        top += _GROUP
        finished = [each for each in result["programs"].values() if "failed" not in each]
        longest = max((each["median_seconds"] for each in finished), default=1.0)
        largest = max((each["peak_bytes"] for each in finished), default=1)
        base = result["programs"].get(BASE, {}).get("median_seconds")
        for name, each in result["programs"].items():
            parts.append(_text(_NAMES - 10, top + 14, "text", PROGRAMS[name], anchor="end"))
            if "failed" in each:
                parts.append(_text(_NAMES, top + 14, "text", each["failed"]))
            else:
                seconds, peak = each["median_seconds"], each["peak_bytes"]
                ratio = f"  ({seconds / base:.2f} x)" if base else ""
                colour = _OWN if name == BASE else _OTHER
                parts += _bar(0, top, seconds / longest, colour, f"{seconds:.1f} s{ratio}")
                parts += _bar(1, top, peak / largest, colour, f"{peak / 1e9:.2f} GB")
            top += _ROW
    return "\n".join([*parts, "</svg>", ""])


def _bar(column: int, top: int, part: float, colour: str, label: str) -> list[str]:
    left, most = _COLUMNS[column]
    width = max(round(part * most, 1), 1)
    return [
        f'<rect x="{left}" y="{top}" width="{width}" height="{_BAR}" rx="2" fill="{colour}"/>',
        _text(left + width + 8, top + 14, "text", label),
    ]


def _text(left: float, top: int, kind: str, text: str, anchor: str = "start") -> str:
    return f'<text x="{left}" y="{top}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
