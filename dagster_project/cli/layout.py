"""How an answer is laid out: escaped, measured and cut for a terminal of 80 columns.

Here belongs what knows characters and columns but not coupons. Names from the source are untrusted:
what is not printable is shown escaped. Numbers are never cut: a table too wide for them is shown as
blocks, one line a value.
"""

from __future__ import annotations

import csv
import io
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from dagster_project.answers.values import amount, clean, neutral, signed

WIDTH = 80
_LEAST_TEXT = 8
_LEAST_BAR = 6
_MOST_BAR = 30
_EIGHTHS = " ▏▎▍▌▋▊▉"
_PLAIN = str.maketrans(
    {"█": "#", "▓": "+", "░": "-", "…": "~", "–": "-", "×": "x", **dict.fromkeys(_EIGHTHS[1:], "#")}
)


def width(text: str) -> int:
    """Columns a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def _columns(sign: str) -> int:
    if unicodedata.combining(sign):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """A text of at most so many columns, its middle left out if it is longer."""
    if width(text) <= columns:
        return text
    tail_columns = (columns - 1) // 3
    head, tail = "", ""
    for sign in reversed(text):
        if width(tail) + _columns(sign) > tail_columns:
            break
        tail = sign + tail
    for sign in text:
        if width(head) + _columns(sign) > columns - 1 - width(tail):
            break
        head += sign
    return f"{head}…{tail}"


def pad(text: str, columns: int, right: bool = False) -> str:
    """A text filled up with spaces."""
    spaces = " " * (columns - width(text))
    return spaces + text if right else text + spaces


def wrap(text: str, indent: str = "", hanging: str | None = None) -> list[str]:
    """A text broken into lines at spaces, and within words that are longer than a line."""
    hanging = indent if hanging is None else hanging
    lines: list[str] = []
    line, is_fresh = indent, True
    for word in clean(text).split(" "):
        rest = word
        while True:
            lead = "" if is_fresh else " "
            if width(line) + len(lead) + width(rest) <= WIDTH:
                line, is_fresh = line + lead + rest, False
                break
            if not is_fresh:
                lines.append(line)
                line, is_fresh = hanging, True
                continue
            part = ""
            for sign in rest:
                if width(line) + width(part) + _columns(sign) > WIDTH:
                    break
                part += sign
            lines.append(line + part)
            line, rest = hanging, rest[len(part) :]
    return [*lines, line.rstrip()] if line.strip() else lines


def heading(title: str, facts: Mapping[str, Any]) -> list[str]:
    """The first lines of every answer: what it is about, and what it rests on."""
    return [
        *wrap(title, hanging="  "),
        f"As of {facts['as_of_date']}, release {facts['release_id']}",
    ]


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    indent: str = "  ",
    bars: Sequence[Decimal] | None = None,
) -> list[str]:
    """A table in at most 80 columns.

    Args:
        heads: Column titles; one that begins with `>` is for numbers: to the right and never cut.
        rows: The cells as text.
        indent: Put before every line.
        bars: One value a row, drawn as a bar in the columns that are left, if enough are.
    """
    numeric = [head.startswith(">") for head in heads]
    titles = [clean(head.removeprefix(">")) for head in heads]
    body = [[clean(cell) for cell in row] for row in rows]
    widths = [max(width(line[place]) for line in [titles, *body]) for place in range(len(titles))]
    gap = 2
    spare = WIDTH - len(indent) - gap * (len(titles) - 1) - sum(widths)
    if spare < 0:
        gap = 1
        spare += len(titles) - 1
    while spare < 0:
        texts = [
            place
            for place in range(len(titles))
            if not numeric[place] and widths[place] > _LEAST_TEXT
        ]
        if not texts:
            return _blocks(titles, body, indent)
        widths[max(texts, key=lambda place: widths[place])] -= 1
        spare += 1
    lines = [
        indent
        + (" " * gap).join(
            pad(cut(cell, columns), columns, right)
            for cell, columns, right in zip(line, widths, numeric, strict=True)
        )
        for line in [titles, *body]
    ]
    cells = min(spare - 2, _MOST_BAR)
    if bars is not None and cells >= _LEAST_BAR:
        top = max(map(abs, bars), default=Decimal(0))
        drawn = ["", *(bar(value, top, cells) for value in bars)]
        lines = [f"{line}  {ink}" for line, ink in zip(lines, drawn, strict=True)]
    return [line.rstrip() for line in lines]


def _blocks(titles: Sequence[str], body: Sequence[Sequence[str]], indent: str) -> list[str]:
    lines: list[str] = []
    for row in body:
        if lines:
            lines.append("")
        for title, cell in zip(titles, row, strict=True):
            if cell:
                lines += wrap(f"{title}: {cell}".removeprefix(": "), indent, indent + "  ")
    return lines


def bar(value: Decimal, top: Decimal, cells: int) -> str:
    """A bar of blocks, to an eighth of a cell; whatever is not zero shows."""
    if not value or not top:
        return ""
    eighths = max(1, int(abs(value) * cells * 8 / top))
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")


def bridge(steps: Sequence[tuple[str, Decimal]], last: str, currency: str | None) -> list[str]:
    """A bridge: the first step is a level, the others are changes, the last line is where they lead.

    Args:
        steps: Labels and amounts.
        last: Label of the level reached.
        currency: Of all amounts.
    """
    levels = [Decimal(0)]
    for _, change in steps:
        levels.append(levels[-1] + change)
    lines = [(label, change) for label, change in steps] + [(last, levels[-1])]
    spans = [*pairwise(levels), (Decimal(0), levels[-1])]
    texts = [
        amount(change, currency) if place in (0, len(steps)) else signed(change, currency)
        for place, (_, change) in enumerate(lines)
    ]
    labels = max(width(clean(label)) for label, _ in lines)
    numbers = max(map(len, texts))
    cells = min(WIDTH - 2 - labels - 2 - numbers - 2, 40)
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
        drawn.append(f"  {pad(clean(label), labels)}  {pad(text, numbers, right=True)}{ink}")
    return drawn


def show(text: str) -> None:
    """Print, in plain signs where the terminal has no others."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    print(text)


def grid(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The rows of a question in SQL, one line each: numbers to the right, nulls empty, nothing cut.

    Args:
        names: Column titles.
        rows: The values; whole numbers go without separators, they may be years or ids.
    """
    body = [[_cell(value) for value in row] for row in rows]
    numeric = [all(row[place][1] for row in body) for place in range(len(names))]
    texts = [[clean(name) for name in names], *[[text for text, _ in row] for row in body]]
    widths = [max(width(line[place]) for line in texts) for place in range(len(names))]
    return "\n".join(
        "  ".join(
            pad(text, columns, is_number)
            for text, columns, is_number in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in texts
    )


def grid_or_records(
    names: Sequence[str], rows: Sequence[Sequence[Any]], columns: int | None
) -> str:
    """The rows of a question in SQL: one line each, or a block each where a line does not fit.

    Args:
        names: Column titles.
        rows: The values.
        columns: Of the terminal; None where lines may have any length.
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
            f"{pad(title, broad)}  {_cell(value)[0]}".rstrip()
            for title, value in zip(titles, row, strict=True)
        ]
    return "\n".join(lines)


def _cell(value: object) -> tuple[str, bool]:
    """A value as text, and whether it is a number or nothing."""
    if value is None:
        return "", True
    if isinstance(value, bool):
        return str(value).lower(), False
    if isinstance(value, int):
        return str(value), True
    if isinstance(value, Decimal):
        return f"{value:,}", True
    return clean(value), False


def as_csv(
    names: Sequence[str], rows: Iterable[Sequence[Any]], *, is_raw: bool = False
) -> tuple[str, dict[str, int]]:
    """CSV with a header; numbers untouched, text that a spreadsheet takes for a formula quoted.

    Args:
        names: Column titles.
        rows: The values.
        is_raw: Whether text is left as it is.

    Returns:
        The text, and by column how many texts were quoted.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    quoted: dict[str, int] = {}
    for row in rows:
        cells = [str(value).lower() if isinstance(value, bool) else value for value in row]
        for place, value in enumerate(row):
            if isinstance(value, str) and not is_raw and (safe := neutral(value)) != value:
                cells[place] = safe
                quoted[names[place]] = quoted.get(names[place], 0) + 1
        writer.writerow(cells)
    return text.getvalue(), quoted
