"""Answers fit 80 columns whatever the source wrote, with whole numbers; the steps of a bridge lead to its sum."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.answers.values import amount, clean
from dagster_project.cli import layout

any_text = st.text(max_size=120)
short_text = st.text(st.sampled_from("ab 1.,–é日\t\n[]"), min_size=1, max_size=16)
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


@given(st.lists(st.tuples(short_text, short_text, short_text), max_size=4))
def test_a_table_whose_columns_fit_is_as_rich_lays_it_out(rows: list[tuple[str, str, str]]) -> None:
    name = "a name as wide as a narrow terminal"  # no room for bars; tables with bars are always laid out by rich
    heads = ["id", ">of", f"~{name}"]
    shown = [[clean(cell) for cell in line] for line in (["id", "of", name], *rows)]
    fits = sum(max(layout.width(line[place]) for line in shown) for place in range(3)) + 2 * 2 + 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(fits))
        assert layout.table(heads, rows) == layout.table(heads, rows, bars=[Decimal(1)] * len(rows))


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


@given(amounts, amounts)
def test_a_bar_shows_whatever_is_not_zero_and_stays_in_the_width(
    one: Decimal, other: Decimal
) -> None:
    lines = layout.table([">n"], [[amount(one)], [amount(other)]], bars=[one, other])
    assert all(layout.width(line) <= layout.WIDTH for line in lines)
    for line, value in zip(lines[1:], (one, other), strict=True):
        assert bool(set(line) & set("█▏▎▍▌▋▊▉")) == bool(value)


def test_the_middle_of_a_file_name_is_left_out_and_an_id_is_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, identifier = f"invoices/{'long-' * 20}2026-04.csv", "ws_" + "0123456789" * 4
    heads, row = ["workspace", "~file", ">rows"], [[identifier, name, "12"]]
    _, line = layout.table(heads, row)
    assert identifier in line and name not in line and layout.width(line) == layout.WIDTH
    shown = line.split()[1]
    assert shown.startswith("invoices/") and "…" in shown and shown.endswith(".csv")
    monkeypatch.setenv("COLUMNS", "200")
    _, line = layout.table(heads, row)
    assert identifier in line and name in line


def test_a_sentence_continues_in_further_lines_of_its_column() -> None:
    words = " ".join(["word"] * 30)
    lines = layout.table(["|reason", ">rows"], [[words, "7"]])
    assert len(lines) == 4
    assert " ".join(" ".join(lines[1:]).replace(" 7", "").split()) == words


def test_an_id_wider_than_the_terminal_is_shown_whole_on_lines_of_its_own() -> None:
    identifier = "0123456789" * 12
    lines = layout.table(["workspace", ">rows"], [[identifier, "7"], ["ws_1", "8"]])
    assert "".join("".join(lines).split()) == f"workspace:{identifier}rows:7workspace:ws_1rows:8"


@pytest.mark.parametrize("kind", ["", "~", "|"])
def test_no_text_is_read_as_markup(kind: str) -> None:
    text = "[red]a[/red] :smile: [link=x]b"
    assert layout.table([f"{kind}name"], [[text]]) == ["  name", f"  {text}"]
    assert layout.wrap(text) == [text]


@pytest.mark.parametrize(("given", "found"), [("140", 140), ("1", 40), ("", 80), ("wide", 80)])
def test_the_width_is_80_columns_in_a_file_unless_it_is_set(
    given: str, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", given)
    assert layout.columns() == found
