"""A discount is in force for the bills that carry it, and not for those that were right not to."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.sources.stripe_windows import Mark, Window, windows

CARRIES, SET_ASIDE, SILENT = Mark.CARRIES, Mark.SET_ASIDE, Mark.SILENT
instants = st.integers(0, 40)
ends = st.none() | instants


def is_in(found: list[Window], at: int) -> bool:
    return any(first <= at and (after is None or at < after) for first, after in found)


def test_without_bills_it_is_in_force_from_its_start_to_its_end() -> None:
    assert windows(10, 20, []) == [(10, 20)]
    assert windows(10, None, []) == [(10, None)]


def test_a_bill_that_was_made_before_its_start_begins_it_later() -> None:
    assert windows(10, None, [(12, SET_ASIDE), (15, CARRIES)]) == [(13, None)]


def test_a_bill_that_carries_it_after_its_end_ends_it_later() -> None:
    assert windows(10, 20, [(15, CARRIES), (20, CARRIES)]) == [(10, 21)]
    assert windows(10, 20, [(15, CARRIES), (19, CARRIES)]) == [(10, 20)]


def test_it_is_interrupted_where_a_bill_sets_it_aside() -> None:
    marks = [(12, CARRIES), (15, SET_ASIDE), (18, CARRIES)]
    assert windows(10, None, marks) == [(10, 15), (16, None)]


def test_a_silent_bill_within_it_is_expected_to_carry_it() -> None:
    assert windows(10, 20, [(12, SILENT), (25, SILENT)]) == [(10, 20)]


def test_it_is_not_in_force_while_another_stands_in_its_place() -> None:
    assert windows(10, None, [(12, CARRIES)], [(20, 30)]) == [(10, 20), (30, None)]
    assert windows(10, None, [(12, CARRIES)], [(20, None)]) == [(10, 20)]
    assert windows(10, None, [], [(5, None)]) == [(10, 10)], "never in force"


@settings(max_examples=300)
@given(
    start=instants,
    end=ends,
    said=st.dictionaries(instants, st.sampled_from(Mark), max_size=9),
    excluded=st.lists(st.tuples(instants, ends), max_size=2),
)
def test_every_bill_is_covered_as_it_says(
    start: int, end: int | None, said: dict[int, Mark], excluded: list[Window]
) -> None:
    found = windows(start, end, sorted(said.items()), excluded)
    for at, mark in said.items():
        is_natural = is_in([(start, end)], at) and not is_in(excluded, at)
        assert is_in(found, at) == (mark is CARRIES or (mark is SILENT and is_natural))
    assert found == sorted(found), "in order"
    for (_, after), (first, _) in pairwise(found):
        assert after is not None
        assert after <= first, "and apart"
