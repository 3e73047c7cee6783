"""A build that carries on from the one before gives what a build from nothing gives.

Records come late, change in any way and come again: invoices are restated, voided, moved to another
workspace; redemptions are revoked or turn up afterwards; coupons change their terms backwards; and the
as-of date moves over everything.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dbt.compiled import CompiledModels
from tests.dbt.test_properties import slowly
from tests.reference import histories
from tests.reference.agreement import all_differences

Days = list[tuple[date, dict[str, list[dict[str, str]]]]]

# Days on which much happens in a history, so that it falls on either side of an as-of date.
DATES = [
    *(date(2023, 12, 31), date(2024, 2, 29), date(2024, 6, 30), date(2024, 12, 31)),
    *(date(2025, 1, 31), date(2025, 4, 30), date(2025, 6, 29), histories.AS_OF),
]


def days_of(versions: list[histories.Records], dates: list[date], random: Random) -> Days:
    """Deliver versions of the same records over some days.

    Args:
        versions: The same ids in every one of them, with other values.
        dates: The as-of date of each day.
        random: Chooses which record comes when, in which version, and whether it says to be newer.
    """
    days: Days = []
    for number, as_of in enumerate(dates):
        chosen: histories.Records = {feed: [] for feed in histories.FEEDS}
        for feed in histories.FEEDS:
            many = random.choice((0, 0, 0.02, 0.2, 0.7)) if number else 0.8
            for records in versions[: 1 if number == 0 else None]:
                for record in records[feed]:
                    if random.random() >= many:
                        continue
                    hours = random.choice((0, number, number, number, -1))
                    updated_at = histories.UPDATED_AT + timedelta(hours=hours)
                    chosen[feed].append(dict(record, updated_at=updated_at))
        days.append((as_of, histories.as_deliveries(chosen)))
    return days


def days_of_one_feed(versions: list[histories.Records], feed: str, random: Random) -> Days:
    """Deliver everything on one day, then a few records of one feed in other versions, day after day.

    Args:
        versions: The same ids in every one of them, with other values.
        feed: The feed.
        random: Chooses the records.
    """
    days: Days = [(histories.AS_OF, histories.as_deliveries(versions[0]))]
    for hours, other in enumerate(versions[1:], start=1):
        updated_at = histories.UPDATED_AT + timedelta(hours=hours)
        chosen: histories.Records = {name: [] for name in histories.FEEDS}
        chosen[feed] = [
            dict(record, updated_at=updated_at) for record in other[feed] if random.random() < 0.1
        ]
        days.append((histories.AS_OF, histories.as_deliveries(chosen)))
    return days


def days_without_deliveries(records: histories.Records, first: date, steps: list[int]) -> Days:
    """Deliver everything on one day, then nothing, while the as-of date moves on by some days each time."""
    days: Days = [(first, histories.as_deliveries(records))]
    nothing = histories.as_deliveries({feed: [] for feed in histories.FEEDS})
    for step in steps:
        days.append((days[-1][0] + timedelta(days=step), nothing))
    return days


@st.composite
def sequences(draw: st.DrawFn) -> Days:
    worlds = draw(
        st.lists(st.tuples(*[histories.workspace_histories()] * 2), min_size=1, max_size=8)
    )
    versions = [histories.combine(world[which] for world in worlds) for which in (0, 1)]
    dates = sorted(draw(st.lists(st.sampled_from(DATES), min_size=1, max_size=3)))
    return days_of(versions, [*dates, histories.AS_OF], Random(draw(histories.SEEDS)))


def assert_same(compiled: CompiledModels, days: Days) -> None:
    stepwise = compiled.run_day_by_day(days)
    whole = compiled.run([delivery for _, delivery in days], days[-1][0])
    assert all_differences(stepwise, whole) == []


@slowly
@given(days=sequences())
def test_whatever_comes(compiled: CompiledModels, days: Days) -> None:
    assert_same(compiled, days)


@pytest.mark.parametrize("seed", range(4))
def test_many_worlds_over_many_days(compiled: CompiledModels, seed: int) -> None:
    random = Random(seed)
    versions = [
        histories.combine(histories.sample_worlds(80, seed=100 * seed + which))
        for which in range(3)
    ]
    dates = sorted(random.choices(DATES, k=5))
    assert_same(compiled, days_of(versions, [*dates, histories.AS_OF], random))


@pytest.mark.parametrize("feed", ["coupons", "redemptions", "invoices", "credit_notes"])
def test_a_few_records_of_one_feed_are_other_ones(compiled: CompiledModels, feed: str) -> None:
    versions = [
        histories.combine(histories.sample_worlds(150, seed=9000 + one)) for one in range(4)
    ]
    assert_same(compiled, days_of_one_feed(versions, feed, Random(1)))


# Days at whose end a year, a leap day's month or a month of thirty days ends, and days on which nothing does.
FIRST_DAYS = [
    *(date(2023, 12, 30), date(2024, 2, 28), date(2024, 6, 29), date(2024, 7, 14)),
    *(date(2024, 11, 19), date(2024, 12, 31), date(2025, 2, 27), date(2025, 6, 10)),
]


@pytest.mark.parametrize("first", FIRST_DAYS, ids=str)
def test_the_as_of_date_moves_and_nothing_is_delivered(
    compiled: CompiledModels, first: date
) -> None:
    records = histories.combine(histories.sample_worlds(150, seed=first.toordinal()))
    assert_same(compiled, days_without_deliveries(records, first, [1, 1, 1, 5, 1]))


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/Los_Angeles"])
def test_days_begin_and_months_end_elsewhere(compiled_folder: Path, zone: str) -> None:
    first = date(2024, 6, 27)
    there = CompiledModels(compiled_folder, first, zone)
    records = histories.combine(histories.sample_worlds(150, seed=len(zone)))
    hours = timedelta(hours=-12 if zone.startswith("Pacific") else 7)
    records = histories.moved(records, hours)  # much happens where days begin
    for steps in ([1, 1, 1, 1], [3, 1, 31, 1]):
        assert_same(there, days_without_deliveries(records, first, steps))
