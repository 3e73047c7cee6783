"""The age of a feed's newest record: the time of the data, not of the run that loaded it.

The one definition that checks and alerts share belongs here. It reads the marts of a release, or of the
warehouse in which they were just built.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from dagster_project.answers.values import count, day_in
from dagster_project.quoting import literals
from dagster_project.settings import Settings, first_instant

if TYPE_CHECKING:
    import duckdb

# The mart that shows a feed, the instant of its records, and which of its rows are records.
_NEWEST = {
    "workspaces": ("dim_workspaces", "created_at", "true"),
    "coupons": ("dim_coupons", "updated_at", "true"),
    "redemptions": ("dim_coupon_redemptions", "redeemed_at", "not is_derived"),
    "invoices": ("fct_discounted_charges", "issued_at", "true"),
    "credit_notes": ("fct_credit_notes", "issued_at", "true"),
}


@dataclass(frozen=True)
class LateFeed:
    """A feed whose newest record is too old.

    Attributes:
        feed: The feed.
        newest: Day of its newest record in the reporting time zone; None if it has none.
        days: How many days before the as-of date that was; None if it has none.
        days_allowed: How many days are allowed.
    """

    feed: str
    newest: date | None
    days: int | None
    days_allowed: int

    def __str__(self) -> str:
        """Return one line for people."""
        if self.newest is None:
            return f"{self.feed}: no record exists"
        return (
            f"{self.feed}: the newest record is of {self.newest}, {count(self.days or 0, 'day')} ago;"
            f" {self.days_allowed:,} are allowed"
        )


def mart_of(feed: str) -> str:
    """Return the mart that shows the records of a feed."""
    return _NEWEST[feed][0]


def newest_days(
    connection: duckdb.DuckDBPyConnection, settings: Settings, until: date
) -> dict[str, date | None]:
    """Return the day of the newest record of each watched feed in the reporting time zone, None where it has none.

    Only invoices that count and redemptions that were delivered are considered.

    Args:
        connection: A release, or the candidate after its build.
        settings: Their `late_after_days` names the feeds; `reporting_time_zone` says where days begin.
        until: Records of later days are left out: a mistyped year would hide what is missing.
    """
    zone = ZoneInfo(settings.reporting_time_zone)
    after = first_instant(until + timedelta(days=1), zone)
    newest: dict[str, date | None] = {}
    for feed in settings.late_after_days:
        mart, instant, condition = _NEWEST[feed]
        row = connection.execute(
            f"select max({instant}) from marts.{mart}"
            f" where {instant} < {literals([after])} and {condition}"
        ).fetchone()
        last = row[0] if row else None
        newest[feed] = None if last is None else day_in(last, zone)
    return newest


def late_feeds(
    connection: duckdb.DuckDBPyConnection, settings: Settings, today: date
) -> list[LateFeed]:
    """Return the feeds whose newest record is older than the settings allow.

    Args:
        connection: A release, or the candidate after its build.
        settings: Their `late_after_days` limits the age of a feed's newest record.
        today: The day to compare with, in the reporting time zone, see `default_as_of`.

    Raises:
        duckdb.Error: The marts do not exist.
    """
    newest = newest_days(connection, settings, today)
    late = []
    for feed, days_allowed in settings.late_after_days.items():
        day = newest[feed]
        days = None if day is None else (today - day).days
        if days is None or days > days_allowed:
            late.append(LateFeed(feed, day, days, days_allowed))
    return late
