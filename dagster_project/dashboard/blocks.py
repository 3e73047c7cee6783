"""The parts of a page: titles, tiles, notes, tables and charts, before they are drawn.

The dashboard and the report draw the same blocks, so that both say the same. The blocks and how one value
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
"""What a column holds; `account` and `bill` are ids that lead to a page, prose is longer than a name."""
LINKS = ("account", "bill")
NUMBERS = ("amount", "signed", "count", "percent")


@dataclass(frozen=True)
class Lead:
    """Where a mark of a chart or a value of a table leads on to.

    Attributes:
        page: The page.
        chosen: What is chosen there, by the name of the filter, besides what is chosen already.
    """

    page: str
    chosen: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Heading:
    """The title of what follows."""

    text: str


@dataclass(frozen=True)
class Note:
    """A sentence.

    Attributes:
        text: The sentence.
        is_warning: Whether a person must act.
    """

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Tile:
    """A number that says more than a chart.

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
        to: The page that a value leads on to, where it is the choice of a filter there.
        choice: That filter.
    """

    name: str
    title: str
    kind: Kind = "text"
    to: str = ""
    choice: str = ""


@dataclass(frozen=True)
class Table:
    """A table; one that lists nothing says so in words.

    Attributes:
        name: Of the files it is saved in; a page has no two of one name.
        columns: From left to right.
        rows: By column name.
        currency: The currency of its amounts, unless each row has a `currency`.
        empty: What to say where there is no row.
        is_long: Whether the report leaves rows out after the first ones.
    """

    name: str
    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Any]]
    currency: str | None = None
    empty: str = "Nothing."
    is_long: bool = False

    def lead(self, row: Mapping[str, Any], column: Column) -> Lead | None:
        """Return where a value of a row leads on to, None where it leads nowhere."""
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
    """Bars side by side, one for each part of each place on the axis.

    Attributes:
        title: What is drawn, also for readers who cannot see it.
        axis: What the places are.
        unit: What the amounts are of: a currency.
        points: `place`, `part` and `amount` of each bar; a place may have several parts.
        parts: The parts from the strongest colour to the lightest.
        is_stacked: Whether the parts of a place stand on one another.
        leads: Where the bars of a place lead on to.
    """

    title: str
    axis: str
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
        unit: What the amounts are of: a currency.
        steps: Name, amount, and whether the amount is where one stands rather than a step.
        leads: Where a step leads on to, by its name.
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
        currency: Amounts of others are not shown beside it.
        month: As 2024-02; None for the last with bills.
        program: Only this program.
        plan: Only this plan.
        id: Which workspace or bill.
        ends: Only what runs out in this month, as 2026-02.
        type: Only findings of this type.
        home: The data home, where closed months and what-ifs are asked for; None where it is not known.
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
        name: In its address.
        title: The title that people read.
        filters: What can be chosen on it, besides the release.
        has_report: Whether the report has it too.
    """

    name: str
    title: str
    filters: tuple[str, ...] = field(default=())
    has_report: bool = True
