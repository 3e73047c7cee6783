"""Answers fit 80 columns whatever the source wrote, numbers whole, and bridges lead where they say."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from dagster_project.answers.values import amount, clean
from dagster_project.cli import layout

any_text = st.text(max_size=120)
amounts = st.decimals(min_value=-(10**15), max_value=10**15, places=2)


@given(any_text, st.integers(min_value=2, max_value=80))
def test_cut_text_is_never_wider_than_asked_and_whole_if_it_fits(text: str, columns: int) -> None:
    shown = clean(text)
    cut = layout.cut(shown, columns)
    assert layout.width(cut) <= columns
    assert cut == shown or layout.width(shown) > columns


def test_wide_signs_count_twice_and_combining_ones_not_at_all() -> None:
    assert layout.width("日本") == 4
    assert layout.width("e\u0301") == 1
    assert layout.pad("日本", 6) == "日本  "


@given(any_text, st.integers(min_value=0, max_value=20))
def test_wrapped_lines_fit_and_lose_nothing(text: str, spaces: int) -> None:
    lines = layout.wrap(text, " " * spaces)
    assert all(layout.width(line) <= layout.WIDTH for line in lines)
    assert "".join("".join(lines).split()) == "".join(clean(text).split())


@given(st.lists(st.tuples(any_text, any_text, amounts, amounts), min_size=1, max_size=5))
def test_a_table_fits_and_keeps_every_number_whole(
    rows: list[tuple[str, str, Decimal, Decimal]],
) -> None:
    lines = layout.table(
        ["name", "of", ">first", ">second"],
        [[name, of, amount(one), amount(two)] for name, of, one, two in rows],
        bars=[row[2] for row in rows],
    )
    assert all(layout.width(line) <= layout.WIDTH for line in lines)
    together = "\n".join(lines)
    for _, _, one, two in rows:
        assert amount(one) in together
        assert amount(two) in together


def test_a_table_too_wide_for_its_numbers_becomes_blocks() -> None:
    big = amount(Decimal("9999999999999999.99"))
    lines = layout.table(["name", *(f">n{place}" for place in range(5))], [["a", *[big] * 5]])
    assert lines == ["  name: a", *(f"  n{place}: {big}" for place in range(5))]


@given(amounts, st.lists(amounts, min_size=1, max_size=4))
def test_a_bridge_leads_to_the_sum_of_its_steps(first: Decimal, changes: list[Decimal]) -> None:
    steps = [("before", first), *((f"effect {n}", one) for n, one in enumerate(changes))]
    lines = layout.bridge(steps, "after", "USD")
    assert all(layout.width(line) <= layout.WIDTH for line in lines)
    shown = [
        Decimal(line.removeprefix(f"  {label}").split()[0].replace(",", "").lstrip("+"))
        for line, (label, _) in zip(lines, [*steps, ("after", first)], strict=True)
    ]
    assert sum(shown[:-1]) == shown[-1] == first + sum(changes)


@given(amounts, amounts, st.integers(min_value=6, max_value=40))
def test_a_bar_shows_whatever_is_not_zero_and_stays_in_its_cells(
    one: Decimal, other: Decimal, cells: int
) -> None:
    top = max(abs(one), abs(other))
    drawn = layout.bar(one, top, cells)
    assert len(drawn) <= cells
    assert bool(drawn) == bool(one)
