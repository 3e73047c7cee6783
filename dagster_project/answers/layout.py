"""How an answer is laid out: escaped, measured and cut for a terminal of 80 columns, and as JSON.

Here belongs what knows characters and columns but not coupons. Names from the source are untrusted:
what is not printable is shown escaped. Numbers are never cut: a table too wide for them is shown as
blocks, one line a value.
"""

from __future__ import annotations

import csv
import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import Any

WIDTH = 80
_LEAST_TEXT = 8
_LEAST_BAR = 6
_MOST_BAR = 30
_EIGHTHS = " ▏▎▍▌▋▊▉"
_PLAIN = str.maketrans(
    {"█": "#", "▓": "+", "░": "-", "…": "~", "–": "-", "×": "x", **dict.fromkeys(_EIGHTHS[1:], "#")}
)


def clean(value: object) -> str:
    """Text in one line, with every character that is not printable escaped."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii")
        for sign in str(value)
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


@cache
def _places() -> dict[str, int]:
    from dagster_project.product import DBT_PROJECT

    with (DBT_PROJECT / "seeds" / "iso_4217_currencies.csv").open(encoding="utf-8") as file:
        return {row[0]: int(row[1]) for row in csv.reader(file) if row[1].isdigit()}


def places(currency: str | None) -> int:
    """Decimal places of a currency; 2 where it has none of its own to say."""
    return min(_places().get(currency or "", 2), 2)


def amount(value: Decimal | None, currency: str | None = None) -> str:
    """An amount with as many places as its currency has, and never fewer than it needs."""
    if value is None:
        return "–"
    if places(currency) == 0 and value == value.to_integral_value():
        return f"{value:,.0f}"
    return f"{value:,.2f}"


def money(value: Decimal | None, currency: str | None) -> str:
    """An amount with its currency behind it."""
    return amount(value, currency) if currency is None else f"{amount(value, currency)} {currency}"


def day(value: datetime | date | None) -> str:
    """The day of an instant, UTC."""
    return "–" if value is None else value.isoformat()[:10]


def moment(value: datetime | None) -> str:
    """An instant to the minute, to the second where that is needed to tell it from the hour."""
    return "–" if value is None else f"{value:%Y-%m-%d %H:%M} UTC"


def month(value: date) -> str:
    """A month as 2024-02."""
    return value.isoformat()[:7]


def count(number: int, one: str, several: str | None = None) -> str:
    """A number with its noun."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


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
        amount(change, currency)
        if place in (0, len(steps))
        else ("+" if change > 0 else "") + amount(change, currency)
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


def as_json(data: Mapping[str, Any]) -> str:
    """The answer for machines: amounts as text with their places, instants ISO 8601 in UTC."""
    return json.dumps(data, default=_plain, indent=2)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        return value.isoformat() + "Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    raise TypeError(f"{value!r} has no place in JSON")


def show_json(data: Mapping[str, Any]) -> None:
    """Print an answer for machines."""
    show(as_json(data))


def show(text: str) -> None:
    """Print, in plain signs where the terminal has no others."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    print(text)
