"""The parts of a page: titles, tiles, notes, tables and charts, before they are drawn.

The dashboard and the report draw the same blocks, so both say the same. The blocks and how one value
of a table is written belong here; colours and HTML do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from dagster_project.answers import values

Kind = Literal[
    "text", "prose", "amount", "signed", "count", "percent", "day", "month", "account", "bill"
]
"""What a column holds; `account` and `bill` are ids that link to a page, prose is longer than a name."""
LINKS = ("account", "bill")
NUMBERS = ("amount", "signed", "count", "percent")


@dataclass(frozen=True)
class Lead:
    """The page that a mark of a chart or a value of a table links to.

    Attributes:
        page: The page.
        chosen: The choices to set there, by filter, in addition to the current ones.
    """

    page: str
    chosen: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Heading:
    """The title of the blocks that follow."""

    text: str


@dataclass(frozen=True)
class Note:
    """A sentence.

    Attributes:
        text: The sentence.
        is_warning: Whether the reader must act.
    """

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Tile:
    """A number with its label.

    Attributes:
        label: What it is.
        value: The number as text, with its currency.
        note: What to compare it with.
    """

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Tiles:
    """Numbers side by side."""

    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: The name of the value in the row.
        title: The heading that people read.
        kind: What it holds.
        to: The page that a value links to, which sets a filter there to the value.
        choice: That filter.
    """

    name: str
    title: str
    kind: Kind = "text"
    to: str = ""
    choice: str = ""


@dataclass(frozen=True)
class Table:
    """A table; an empty one is shown as a sentence.

    Attributes:
        name: The name of the files it is saved in; unique on a page.
        columns: The columns from left to right.
        rows: The rows by column name.
        currency: The currency of its amounts, unless each row has a `currency`.
        empty: The sentence to show if there are no rows.
        is_long: Whether the report shows only the first rows.
    """

    name: str
    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Any]]
    currency: str | None = None
    empty: str = "Nothing."
    is_long: bool = False

    def lead(self, row: Mapping[str, Any], column: Column) -> Lead | None:
        """Return the link of a value of a row, None if it has none."""
        value = row.get(column.name)
        if value is None:
            return None
        if column.kind in LINKS:
            return Lead(column.kind, {"id": str(value)})
        if not column.to:
            return None
        chosen = values.month(value) if column.kind == "month" else str(value)
        return Lead(column.to, {column.choice: chosen})

    def text(self, row: Mapping[str, Any], column: Column) -> str:
        """Return a value of a row as people read it."""
        value = row.get(column.name)
        code = row.get("currency") or self.currency
        if value is None:
            return "–"
        match column.kind:
            case "amount":
                return values.amount(value, code)
            case "signed":
                return values.signed(value, code)
            case "count":
                return f"{value:,}"
            case "percent":
                return f"{value:.1f}"
            case "day":
                return values.day(value)
            case "month":
                return values.month(value)
            case _:
                return values.clean(value)


@dataclass(frozen=True)
class Bars:
    """Bars side by side, one for each part of each place on the horizontal axis.

    Attributes:
        title: What is drawn, also for readers who cannot see it.
        unit: The currency of the amounts.
        points: `place`, `part` and `amount` of each bar; a place may have several parts.
        parts: The parts in the order of `charts.SHADES`.
        is_stacked: Whether the parts of a place are stacked.
        leads: The link of the bars of a place, by place.
    """

    title: str
    unit: str
    points: tuple[tuple[str, str, Decimal], ...]
    parts: tuple[str, ...]
    is_stacked: bool = True
    leads: Mapping[str, Lead] = field(default_factory=dict)


@dataclass(frozen=True)
class Waterfall:
    """Steps from one amount to another.

    Attributes:
        title: What is drawn.
        unit: The currency of the amounts.
        steps: Name, amount, and whether the amount is a level rather than a change.
        leads: The link of a step, by its name.
    """

    title: str
    unit: str
    steps: tuple[tuple[str, Decimal, bool], ...]
    leads: Mapping[str, Lead] = field(default_factory=dict)


Block = Heading | Note | Tiles | Table | Bars | Waterfall


@dataclass(frozen=True)
class Chosen:
    """The choices on a page.

    Attributes:
        currency: Amounts in others are not shown beside it.
        month: As 2024-02; None for the last with bills.
        program: Only this program.
        plan: Only this plan.
        id: The id of a workspace or bill.
        ends: Only what runs out in this month, as 2026-02.
        type: Only findings of this type.
        home: The data home, which has closed months and what-ifs; None leaves them out.
        release: The release, or `what-if/NAME`.
    """

    currency: str
    month: str | None = None
    program: str | None = None
    plan: str | None = None
    id: str | None = None
    ends: str | None = None
    type: str | None = None
    home: Path | None = None
    release: str | None = None


@dataclass(frozen=True)
class Page:
    """A page of the dashboard.

    Attributes:
        name: Its name in the address.
        title: The title that people read.
        filters: What can be chosen on it, besides the release.
        has_report: Whether the report has it too.
    """

    name: str
    title: str
    filters: tuple[str, ...] = field(default=())
    has_report: bool = True
