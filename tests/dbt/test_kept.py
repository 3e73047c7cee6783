"""A build that carries on from the previous one gives the same result as a build from nothing.

Records arrive late, change in any way and arrive again: invoices are restated, voided, moved to another
workspace; redemptions are revoked or arrive afterwards; terms of coupons change retroactively; and the
as-of date moves over everything.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dbt.compiled import CompiledModels
from tests.dbt.test_properties import slowly
from tests.reference import histories
from tests.reference.agreement import all_differences

PUBLISHED_TOO = ("int_invoices_not_counted", "int_rows_superseded")

Days = list[tuple[date, dict[str, list[dict[str, str]]]]]

# Days on which much happens in a history, so that events fall on either side of an as-of date.
DATES = [
    *(date(2023, 12, 31), date(2024, 2, 29), date(2024, 6, 30), date(2024, 12, 31)),
    *(date(2025, 1, 31), date(2025, 4, 30), date(2025, 6, 29), histories.AS_OF),
]


def days_of(versions: list[histories.Records], dates: list[date], random: Random) -> Days:
    """Deliver versions of the same records over some days.

    Args:
        versions: Records with the same ids in each, but other values.
        dates: The as-of date of each day.
        random: Chooses which record arrives when, in which version, and whether its `updated_at` is newer.
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
        versions: Records with the same ids in each, but other values.
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
    """Deliver everything on one day, then nothing, while the as-of date advances by some days each time."""
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
    stepwise = compiled.tables_day_by_day(days, also=PUBLISHED_TOO)
    whole = compiled.tables([delivery for _, delivery in days], days[-1][0], also=PUBLISHED_TOO)
    assert stepwise.keys() == whole.keys()
    # Rows are compared one by one, which takes longer, only in tables that differ.
    others = [name for name in whole if not stepwise[name].equals(whole[name])]
    found, wanted = ({name: one[name].to_pylist() for name in others} for one in (stepwise, whole))
    assert all_differences(found, wanted) == []
    for name in set(PUBLISHED_TOO) & set(others):
        assert found[name] == wanted[name]


@slowly
@given(days=sequences())
def test_whatever_comes(compiled: CompiledModels, days: Days) -> None:
    assert_same(compiled, days)


@pytest.mark.parametrize("seed", [0, 3])
def test_many_worlds_over_many_days(compiled: CompiledModels, seed: int) -> None:
    random = Random(seed)
    versions = [
        histories.combine(histories.sample_worlds(80, seed=100 * seed + which))
        for which in range(3)
    ]
    dates = sorted(random.choices(DATES, k=5))
    assert_same(compiled, days_of(versions, [*dates, histories.AS_OF], random))


@pytest.mark.parametrize("feed", ["coupons", "redemptions", "invoices", "credit_notes"])
def test_a_few_records_of_one_feed_change(compiled: CompiledModels, feed: str) -> None:
    versions = [
        histories.combine(histories.sample_worlds(150, seed=9000 + one)) for one in range(4)
    ]
    assert_same(compiled, days_of_one_feed(versions, feed, Random(1)))


# To the last day of a month, of a February with a leap day and of a year; to the first day of a month and of a year;
# over some days within a month; over a month.
STEPS = [
    *((date(2024, 6, 29), [1]), (date(2024, 2, 28), [1]), (date(2024, 12, 30), [1])),
    *((date(2024, 6, 30), [1]), (date(2024, 12, 31), [1])),
    *((date(2025, 6, 10), [1, 5, 1]), (date(2024, 7, 14), [33])),
]


@pytest.mark.parametrize(("first", "steps"), STEPS, ids=str)
def test_the_as_of_date_moves_and_nothing_is_delivered(
    compiled: CompiledModels, first: date, steps: list[int]
) -> None:
    records = histories.combine(histories.sample_worlds(100, seed=first.toordinal()))
    assert_same(compiled, days_without_deliveries(records, first, steps))


_GRANTS = (
    "select workspace_id, {} as instant from intermediate.int_credit_grants_scheduled where {}"
)
_LINES = "select workspace_id, {} as instant from intermediate.int_lines_billed where {}"
HAPPENINGS = {
    "a grant ends, and the next one may start": _GRANTS.format("grant_ended_at", "true"),
    "a weekly bill is due": _LINES.format("next_bill_at", "billing_interval = 'week'"),
    "a bill was due fifteen days ago": _LINES.format("next_bill_at + to_days(15)", "true"),
    "the horizon comes to a weekly bill": "select workspace_id, issued_at - to_months(24) as instant"
    " from intermediate.int_bills_expected where billing_interval = 'week'"
    " and issued_at > '2027-05-01'",
    **{
        f"a promotion ended {months} months ago": f"select workspace_id, ended_at + to_months({months}) as instant"
        " from intermediate.int_redemptions_with_terms where has_ended and ended_by = 'expiry'"
        for months in (1, 12)
    },
}
# Instants at which a workspace changes for other reasons.
_OTHER_REASONS = " union all ".join(
    f"select workspace_id, {instant} as instant from {table}"
    for table, instant in (
        ("marts.fct_discounted_charges", "issued_at"),
        ("intermediate.int_redemptions_with_terms", "redeemed_at"),
        ("intermediate.int_redemptions_with_terms", "started_at"),
        ("intermediate.int_redemptions_with_terms", "ended_at"),
    )
)


@pytest.fixture(scope="module")
def records() -> histories.Records:
    """Records in which all of these happen; no test changes them."""
    return histories.combine(histories.sample_worlds(150, seed=16))


@pytest.fixture(scope="module")
def days_of_happenings(
    compiled: CompiledModels, records: histories.Records
) -> dict[str, list[date]]:
    """Days on which each of them happens in a workspace, and nothing else."""
    with compiled.built([histories.as_deliveries(records)]) as connection:
        return {
            name: [
                day
                for (day,) in connection.execute(
                    f"select cast(instant as date) as day from ({happenings}) as happenings"
                    " where day between '2023-10-01' and '2026-12-31' and not exists"
                    f" (select * from ({_OTHER_REASONS}) as others where"
                    " others.workspace_id = happenings.workspace_id and cast(others.instant as date) = day)"
                    " group by day order by count(*) desc, hash(day) limit 3"
                ).fetchall()
            ]
            for name, happenings in HAPPENINGS.items()
        }


@pytest.mark.parametrize("happening", HAPPENINGS)
def test_a_day_on_which_nothing_else_happens_in_a_workspace(
    compiled: CompiledModels,
    records: histories.Records,
    days_of_happenings: dict[str, list[date]],
    happening: str,
) -> None:
    assert days_of_happenings[happening]
    for day in days_of_happenings[happening]:
        assert_same(compiled, days_without_deliveries(records, day - timedelta(days=1), [1]))


def test_the_horizon_reaches_the_end_of_grants(compiled: CompiledModels) -> None:
    records = histories.combine(histories.sample_worlds(150, seed=16))
    end = datetime(2026, 11, 15)  # the horizon of the day before, which has what ends before it
    records["redemptions"] = [dict(one, ends_at=end) for one in records["redemptions"]]
    assert_same(compiled, days_without_deliveries(records, date(2024, 11, 14), [1]))


@pytest.mark.parametrize(
    ("zone", "steps"),
    [("Pacific/Auckland", [3, 1, 31, 1]), ("America/Los_Angeles", [1, 1, 1, 1])],
)
def test_days_begin_and_months_end_elsewhere(
    compiled_folder: Path, zone: str, steps: list[int]
) -> None:
    first = date(2024, 6, 27)
    there = CompiledModels(compiled_folder, first, zone)
    records = histories.combine(histories.sample_worlds(150, seed=len(zone)))
    hours = timedelta(hours=-12 if zone.startswith("Pacific") else 7)
    records = histories.moved(records, hours)  # so that much happens where days begin
    assert_same(there, days_without_deliveries(records, first, steps))


def test_the_horizon_passes_a_leap_day_and_the_last_bill_but_one(
    compiled: CompiledModels,
) -> None:
    records = histories.combine(histories.sample_worlds(150, seed=16))
    last: histories.Record = {"billing_interval": "day", "interval_count": 17}
    last["issued_at"] = datetime(2026, 2, 19, 10)
    records["invoices"] = [{**one, **last} for one in records["invoices"]]
    # The as-of date advances by 16 days, in which no bill is due; the horizon advances by 17.
    assert_same(compiled, days_without_deliveries(records, date(2026, 2, 19), [16]))
