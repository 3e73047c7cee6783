"""Instants as whole seconds, days as whole numbers since 1970, and how both are written.

Calendar arithmetic of the sample (rule R0) and nothing else; no amounts, no clock.
"""

from __future__ import annotations

from datetime import date
from functools import cache

DAY = 86_400
FOREVER = 1 << 60

_EPOCH = date(1970, 1, 1).toordinal()
_FIRST_YEAR = 1970
_MONTH_STARTS = tuple(
    date(_FIRST_YEAR + month // 12, month % 12 + 1, 1).toordinal() - _EPOCH
    for month in range((2200 - _FIRST_YEAR) * 12)
)


def day_number(day: date) -> int:
    """Return the days from 1970-01-01 to `day`."""
    return day.toordinal() - _EPOCH


def day_date(number: int) -> date:
    """Return the date of a day number."""
    return date.fromordinal(number + _EPOCH)


def instant(day: date, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    """Return the seconds from 1970-01-01T00:00:00Z to the given UTC time."""
    return day_number(day) * DAY + hour * 3600 + minute * 60 + second


@cache
def month_of(number: int) -> int:
    """Return the months from January 1970 to the month of a day number."""
    day = day_date(number)
    return (day.year - _FIRST_YEAR) * 12 + day.month - 1


def month_start(month: int) -> int:
    """Return the day number of the first day of a month (counted from January 1970)."""
    return _MONTH_STARTS[month]


def day_in_month(month: int, day_of_month: int) -> int:
    """Return the day number of a day of a month, clamped to the month's last day (R0)."""
    first = _MONTH_STARTS[month]
    return first + min(day_of_month, _MONTH_STARTS[month + 1] - first) - 1


def add_months(moment: int, months: int) -> int:
    """Add calendar months to an instant: same time of day, clamped to the month's end (R0)."""
    number, seconds = divmod(moment, DAY)
    month = month_of(number)
    day_of_month = number - _MONTH_STARTS[month] + 1
    return day_in_month(month + months, day_of_month) * DAY + seconds


@cache
def day_text(number: int) -> str:
    """Return a day number as `YYYY-MM-DD`."""
    return day_date(number).isoformat()


def instant_text(moment: int) -> str:
    """Return an instant as `YYYY-MM-DDTHH:MM:SSZ`."""
    number, seconds = divmod(moment, DAY)
    minutes, second = divmod(seconds, 60)
    return f"{day_text(number)}T{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}Z"


def optional_instant_text(moment: int | None) -> str:
    """Return an instant as text, or the empty string for None."""
    return "" if moment is None else instant_text(moment)
