"""A value is written in one way everywhere: escaped, with the places of its currency, in UTC."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.answers.as_json import as_json
from dagster_project.answers.values import amount, clean, neutral, signed

any_text = st.text(max_size=120)


@given(any_text)
def test_no_control_character_gets_through(text: str) -> None:
    assert clean(text).isprintable()


def test_escape_sequences_and_reordering_signs_are_shown_escaped() -> None:
    assert clean("a\x1b[31mb\u202ec\nd") == r"a\x1b[31mb\u202ec\nd"


@pytest.mark.parametrize(
    ("value", "currency", "text"),
    [
        (Decimal("1234.50"), "USD", "1,234.50"),
        (Decimal("1234.00"), "JPY", "1,234"),
        (Decimal("1234.50"), "JPY", "1,234.50"),
        (Decimal("-0.01"), "EUR", "-0.01"),
        (Decimal("5.00"), None, "5.00"),
        (Decimal("5.00"), "???", "5.00"),
        (None, "USD", "–"),
    ],
)
def test_an_amount_has_the_places_of_its_currency(
    value: Decimal | None, currency: str | None, text: str
) -> None:
    assert amount(value, currency) == text


def test_json_keeps_places_and_says_utc() -> None:
    data = {"a": Decimal("0.10"), "at": datetime(2024, 1, 2, 3, 4), "on": date(2024, 1, 2)}
    assert json.loads(as_json(data)) == {
        "a": "0.10",
        "at": "2024-01-02T03:04:00Z",
        "on": "2024-01-02",
    }


@pytest.mark.parametrize(
    ("value", "currency", "text"),
    [
        (Decimal("12.50"), "USD", "+12.50"),
        (Decimal("-1200.00"), "JPY", "-1,200"),
        (Decimal("0.00"), "EUR", "0.00"),
    ],
)
def test_a_difference_has_a_sign_even_if_it_is_a_rise(
    value: Decimal, currency: str, text: str
) -> None:
    assert signed(value, currency) == text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum(a1)", "\t=1", "\r=1"])
def test_text_like_a_formula_begins_with_an_apostrophe(text: str) -> None:
    assert neutral(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a=1", "ws-1", "'=1", "1+1"])
def test_other_text_is_untouched(text: str) -> None:
    assert neutral(text) == text
