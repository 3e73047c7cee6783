"""How an answer is laid out for a terminal: through rich, within the available width.

Code that knows characters and columns but not coupons belongs here. Names from the source are untrusted:
unprintable characters are shown escaped, and no text is read as markup. Ids and numbers are never cut;
file names are, in the middle.

Done by hand because rich has nothing for it: `blocks`, for a table whose uncuttable values are too wide;
`cut`, which leaves out the middle; `bridge`, whose bars float and differ without colours; `grid`, the
answer to a question in SQL, which may have a million rows, where rich takes 40 µs a cell; and plain
characters for a terminal that has no others.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from dagster_project.answers.values import amount, clean, signed

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.measure import Measurement

WIDTH = 80
"""Columns if the width is unknown, as in a file or a pipe."""

_KINDS = (">", "~", "|")
_LEAST_WIDTH = 40
_MOST_PROSE = 100
_LEAST_NAME = 16
_LEAST_BAR = 6
_MOST_BAR = 30
_MOST_BRIDGE = 40
_PLAIN = str.maketrans(
    {"█": "#", "▓": "+", "░": "-", "…": "~", "–": "-", "×": "x", **dict.fromkeys("▏▎▍▌▋▊▉▐▕", "#")}
)


def columns() -> int:
    """Return the available columns: `COLUMNS` if it is set, else the terminal's, else 80."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        found = int(given)
    elif sys.stdout is not None and sys.stdout.isatty():
        found = shutil.get_terminal_size((WIDTH, 0)).columns
    else:
        found = WIDTH
    return max(found, _LEAST_WIDTH)


def width(text: str) -> int:
    """Count the columns a text takes on a terminal."""
    if text.isascii():
        return len(text)  # the usual case, which does not need rich
    from rich.cells import cell_len

    return cell_len(text)


def _pad(text: str, columns: int) -> str:
    return text + " " * (columns - width(text))


def cut(text: str, most: int) -> str:
    """Return a text cut to at most `most` columns by leaving out its middle."""
    if width(text) <= most:
        return text
    tail_columns = (most - 1) // 3
    tail = ""
    for sign in reversed(text):
        if width(sign + tail) > tail_columns:
            break
        tail = sign + tail
    head = ""
    for sign in text:
        if width(head + sign) > most - 1 - width(tail):
            break
        head += sign
    return f"{head}…{tail}"


def wrap(text: str, indent: str = "", hanging: str | None = None) -> list[str]:
    """Return a text broken into lines at spaces, and within words that are longer than a line.

    Args:
        text: The text; unprintable characters are escaped.
        indent: Put before the first line.
        hanging: Put before the others.
    """
    hanging = indent if hanging is None else hanging
    room = min(columns(), _MOST_PROSE) - max(width(indent), width(hanging))
    found = _broken(clean(text), max(room, _LEAST_NAME))
    return [
        f"{hanging if place else indent}{line}" for place, line in enumerate(found) if line or place
    ]


def _broken(text: str, most: int) -> list[str]:
    if width(text) <= most:
        return [text.rstrip()]  # rich takes 100 µs to find that out
    from rich.text import Text

    return [line.plain.rstrip() for line in Text(text).wrap(_console(), most, overflow="fold")]


def heading(title: str, facts: Mapping[str, Any]) -> list[str]:
    """Return the first lines of every answer: its subject, and its as-of date and release."""
    return [
        *wrap(title, hanging="  "),
        f"As of {facts['as_of_date']}, release {facts['release_id']}",
    ]


class _Name:
    """A cell whose middle is left out if its column is narrower."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        most = width(self._text)
        return Measurement(min(most, _LEAST_NAME), most)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        yield Text(cut(self._text, options.max_width), no_wrap=True, end="")


def fits(heads: Sequence[str], rows: Iterable[Sequence[str]], indent: str = "  ") -> bool:
    """Return whether `table` lays these rows out as a table, and not as one block per row."""
    least = _measured(heads, rows)[-1]
    return sum(least) + len(least) - 1 <= columns() - width(indent)


def _measured(
    heads: Sequence[str], rows: Iterable[Sequence[str]]
) -> tuple[list[str], list[str], list[list[str]], list[int], list[int]]:
    """Return kinds and titles of the columns, the cells, and the most and least width of each column."""
    kinds = [head[:1] if head[:1] in _KINDS else "=" for head in heads]
    titles = [clean(head.lstrip("".join(_KINDS))) for head in heads]
    body = [[clean(cell) for cell in row] for row in rows]
    most = [max(width(line[place]) for line in [titles, *body]) for place in range(len(titles))]
    least = [
        min(full, max(_LEAST_NAME, width(title))) if kind in "~|" else full
        for full, kind, title in zip(most, kinds, titles, strict=True)
    ]
    return kinds, titles, body, most, least


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    indent: str = "  ",
    bars: Sequence[Decimal] | None = None,
) -> list[str]:
    """Return a table within the available width.

    Args:
        heads: Column titles. One that begins with `>` is for numbers, aligned right; one with `~` for
            names, whose middle may be left out; one with `|` for sentences, which continue on further
            lines. Nothing else is ever cut or broken.
        rows: The cells as text.
        indent: Put before every line.
        bars: One value per row, drawn as a bar in the remaining columns, if there are enough.
    """
    kinds, titles, body, most, least = _measured(heads, rows)
    room, gaps = columns() - width(indent), len(titles) - 1
    if sum(least) + gaps > room:
        return blocks(titles, body, indent)
    gap = 2 if sum(most) + 2 * gaps <= room else 1
    if bars is None and sum(most) + gap * gaps <= room:
        return [_line(kinds, most, indent, " " * gap, line) for line in (titles, *body)]
    from rich.bar import Bar
    from rich.table import Table
    from rich.text import Text

    cells = min(room - sum(most) - gap * gaps - 2, _MOST_BAR)
    laid = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="")
    for kind, title in zip(kinds, titles, strict=True):
        laid.add_column(
            Text(title),
            justify="right" if kind == ">" else "left",
            no_wrap=kind not in "~|",
            overflow="fold",
        )
    is_drawn = bars is not None and cells >= _LEAST_BAR
    if is_drawn:
        laid.add_column(Text(""), width=cells)
    top = max(map(abs, bars or ()), default=Decimal(0))
    for place, line in enumerate(body):
        drawn: list[RenderableType] = [
            _Name(cell) if kind == "~" else Text(cell)
            for cell, kind in zip(line, kinds, strict=True)
        ]
        if is_drawn and bars is not None:
            share = float(abs(bars[place]) / top) if top else 0.0
            least_share = 1 / (8 * cells) if bars[place] else 0.0  # any value but zero is visible
            drawn.append(Bar(1, 0, max(share, least_share), width=cells))
        laid.add_row(*drawn)
    return [f"{indent}{line}".rstrip() for line in _lines(laid, room)]


def _line(
    kinds: Sequence[str], widths: Sequence[int], indent: str, gap: str, cells: Sequence[str]
) -> str:
    """Return a line of a table whose columns all have their full width, as rich would, at a tenth of its time."""
    padded = (
        " " * (most - width(cell.rstrip())) + cell.rstrip() if kind == ">" else _pad(cell, most)
        for kind, most, cell in zip(kinds, widths, cells, strict=True)
    )
    return (indent + gap.join(padded)).rstrip()


def _console(most: int | None = None) -> Console:
    """Return a rich console for plain text: an answer has no colours, wherever it goes."""
    from rich.console import Console

    return Console(
        width=most or columns(), color_system=None, markup=False, highlight=False, emoji=False
    )


def _lines(content: RenderableType, most: int) -> list[str]:
    console = _console(most)
    with console.capture() as captured:
        console.print(content)
    return captured.get().splitlines()


def blocks(titles: Sequence[str], body: Sequence[Sequence[str]], indent: str) -> list[str]:
    """Return a table that is too wide: one value per line, and a blank line between rows."""
    lines: list[str] = []
    for row in body:
        if lines:
            lines.append("")
        for title, cell in zip(titles, row, strict=True):
            if cell:
                lines += wrap(f"{title}: {cell}".removeprefix(": "), indent, indent + "  ")
    return lines


def bridge(steps: Sequence[tuple[str, Decimal]], last: str, currency: str | None) -> list[str]:
    """Return a bridge: the first step is a level, the others are changes, the last line is the level reached.

    Args:
        steps: Labels and amounts.
        last: Label of the level reached.
        currency: The currency of all amounts.
    """
    levels = [Decimal(0)]
    for _, change in steps:
        levels.append(levels[-1] + change)
    lines = [(clean(label), change) for label, change in steps] + [(clean(last), levels[-1])]
    spans = [*pairwise(levels), (Decimal(0), levels[-1])]
    texts = [
        amount(change, currency) if place in (0, len(steps)) else signed(change, currency)
        for place, (_, change) in enumerate(lines)
    ]
    labels = max(width(label) for label, _ in lines)
    numbers = max(map(len, texts))
    cells = min(columns() - 2 - labels - 2 - numbers - 2, _MOST_BRIDGE)
    low, high = min(levels), max(levels)
    drawn = []
    for place, ((label, _), text, (start, end)) in enumerate(zip(lines, texts, spans, strict=True)):
        ink = ""
        if high > low and cells >= _LEAST_BAR and start != end:
            left, right = (
                int((level - low) * cells / (high - low)) for level in sorted((start, end))
            )
            left = min(left, cells - 1)
            sign = "█" if place in (0, len(steps)) else "▓" if end > start else "░"
            ink = "  " + " " * left + sign * max(1, right - left)
        drawn.append(f"  {_pad(label, labels)}  {text.rjust(numbers)}{ink}")
    return drawn


def grid(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return the rows of a question in SQL, one line each: numbers to the right, nulls empty, nothing cut.

    Args:
        names: Column titles.
        rows: The values; whole numbers have no separators because they may be years or ids.
    """
    body = [[_cell(value) for value in row] for row in rows]
    numeric = [all(row[place][1] for row in body) for place in range(len(names))]
    texts = [[clean(name) for name in names], *[[text for text, _ in row] for row in body]]
    widths = [max(width(line[place]) for line in texts) for place in range(len(names))]
    return "\n".join(
        "  ".join(
            " " * (most - width(text)) + text if is_number else _pad(text, most)
            for text, most, is_number in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in texts
    )


def grid_or_records(
    names: Sequence[str], rows: Sequence[Sequence[Any]], columns: int | None
) -> str:
    """Return the rows of a question in SQL: one line each, or a block each if a line does not fit.

    Args:
        names: Column titles.
        rows: The values.
        columns: The columns of the terminal; None if lines may have any length.
    """
    text = grid(names, rows)
    if columns is None or not rows or max(map(width, text.splitlines())) <= columns:
        return text
    titles = [clean(name) for name in names]
    broad = max(map(width, titles))
    lines: list[str] = []
    for number, row in enumerate(rows, 1):
        head = f"row {number:,} "
        lines.append(head + "-" * (min(columns, WIDTH) - len(head)))
        lines += [
            f"{_pad(title, broad)}  {_cell(value)[0]}".rstrip()
            for title, value in zip(titles, row, strict=True)
        ]
    return "\n".join(lines)


def _cell(value: object) -> tuple[str, bool]:
    """Return a value as text, and whether it is a number or null."""
    if value is None:
        return "", True
    if isinstance(value, bool):
        return str(value).lower(), False
    if isinstance(value, int):
        return str(value), True
    if isinstance(value, Decimal):
        return f"{value:,}", True
    return clean(value), False


def show(text: str) -> None:
    """Print a text, in plain characters if the output's encoding lacks others."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    print(text)
