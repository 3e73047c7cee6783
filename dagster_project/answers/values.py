"""How one value is written for people: an amount, a day, a month, a count, a name from the source.

Code that knows the value but neither the terminal nor the page that shows it belongs here. Names from the
source are untrusted: `clean` escapes unprintable characters.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from functools import cache
from typing import Final

FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\t", "\r")
"""The first characters that make a spreadsheet read text as a formula."""

_zone: ContextVar[tzinfo] = ContextVar("zone", default=UTC)
"""The time zone whose calendar gives the days of instants."""


def clean(value: object) -> str:
    """Return text in one line, with every unprintable character escaped."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii")
        for sign in str(value)
    )


@cache
def _places() -> dict[str, int]:
    from dagster_project.product import DBT_PROJECT

    with (DBT_PROJECT / "seeds" / "iso_4217_currencies.csv").open(encoding="utf-8") as file:
        return {row[0]: int(row[1]) for row in csv.reader(file) if row[1].isdigit()}


def places(currency: str | None) -> int:
    """Return the decimal places of a currency, at most 2; 2 if ISO 4217 does not define them."""
    return min(_places().get(currency or "", 2), 2)


def amount(value: Decimal | None, currency: str | None = None) -> str:
    """Return an amount with the decimal places of its currency; with two if a fraction would be lost."""
    if value is None:
        return "–"
    if places(currency) == 0 and value == value.to_integral_value():
        return f"{value:,.0f}"
    return f"{value:,.2f}"


def money(value: Decimal | None, currency: str | None) -> str:
    """Return an amount followed by its currency."""
    return amount(value, currency) if currency is None else f"{amount(value, currency)} {currency}"


@contextmanager
def days_in(zone: tzinfo) -> Iterator[None]:
    """Write the days of instants in a time zone instead of UTC within this context (R0).

    Args:
        zone: The reporting time zone of what is shown.
    """
    token = _zone.set(zone)
    try:
        yield
    finally:
        _zone.reset(token)


def day_in(value: datetime, zone: tzinfo) -> date:
    """Return the day of an instant in a time zone (R0); in UTC if that day is out of range.

    Args:
        value: The instant, in UTC without an offset.
        zone: The time zone.
    """
    try:
        return value.replace(tzinfo=UTC).astimezone(zone).date()
    except OverflowError:
        return value.date()


def day_of(value: datetime) -> date:
    """Return the day of an instant in the time zone that `days_in` sets, else in UTC."""
    return day_in(value, _zone.get())


def day(value: datetime | date | None) -> str:
    """Write a day, or the day of an instant."""
    if isinstance(value, datetime):
        value = day_of(value)
    return "–" if value is None else value.isoformat()


def moment(value: datetime | None) -> str:
    """Return an instant to the minute, UTC."""
    return "–" if value is None else f"{value:%Y-%m-%d %H:%M} UTC"


def moment_beside(value: datetime, other: datetime) -> str:
    """Return an instant in UTC to the minute, or exactly if another one is in the same minute."""
    if value != other and moment(value) == moment(other):
        return f"{value.isoformat(sep=' ')} UTC"
    return moment(value)


def month(value: date) -> str:
    """Return a month as 2024-02."""
    return value.isoformat()[:7]


def quarter(value: date) -> str:
    """Return a quarter as 2024-Q1."""
    return f"{value.year}-Q{(value.month + 2) // 3}"


def count(number: int, one: str, several: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def signed(value: Decimal, currency: str | None = None) -> str:
    """Return a difference: an amount with its sign, plus included."""
    return ("+" if value > 0 else "") + amount(value, currency)


def neutral(text: str) -> str:
    """Return text that no spreadsheet reads as a formula."""
    return f"'{text}" if text.startswith(FORMULA_SIGNS) else text
