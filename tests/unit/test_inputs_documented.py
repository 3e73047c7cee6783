"""`docs/inputs.md` says the same about every spelling as the definitions of the types."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dagster_project.arrival.landing import EXTENSIONS
from dagster_project.feeds import Column, feeds, value_types
from expectations.building import pattern

PAGE = (Path(__file__).resolve().parents[2] / "docs/inputs.md").read_text("utf-8")
TYPES = ("boolean", "whole", "amount", "decimal", "currency", "date", "instant")


def of_type(kind: str) -> Column:
    """Any column of a type."""
    return next(
        column for feed in feeds().values() for column in feed.columns if column.type == kind
    )


def section(title: str) -> str:
    """The text below a heading, up to the next."""
    return re.split(r"^#+ ", PAGE.split(f"### {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def spellings(title: str) -> list[str]:
    """The first cell of every row of the table below a heading."""
    return re.findall(r"^\| `([^`]+)` \|", section(title), flags=re.MULTILINE)


def is_taken(kind: str, text: str) -> bool:
    """Whether a text is accepted as a value of a type."""
    found = pattern(of_type(kind))
    assert found is not None
    return re.fullmatch(found, text) is not None


@pytest.mark.parametrize("kind", TYPES)
def test_every_spelling_listed_is_taken(kind: str) -> None:
    assert len(spellings(kind)) >= 3
    assert [text for text in spellings(kind) if not is_taken(kind, text)] == []


def test_every_spelling_said_to_be_refused_is() -> None:
    rows = re.findall(
        r"^\| `([^`]+)` \| (\w+) \|", section("Never accepted as a value"), re.MULTILINE
    )
    assert {kind for _, kind in rows} >= {"id", "amount", "instant", "date", "boolean", "whole"}
    assert [(text, kind) for text, kind in rows if is_taken(kind, text)] == []


def test_every_word_and_spelling_of_a_boolean_is_listed() -> None:
    booleans = value_types()["boolean"]
    listed = {text.lower() for text in spellings("boolean")}
    assert listed == {*booleans["true"], *booleans["false"]}
    for word in value_types()["missing_words"]:
        assert f"| `{word}` |" in section("Never accepted as a value")


def test_every_extension_and_withdrawn_currency_is_listed() -> None:
    for extension in EXTENSIONS:
        assert f"*{extension.removesuffix('.gz')}" in PAGE
    for code in [
        "ANG",
        "BGN",
        "BYR",
        "CUC",
        "EEK",
        "HRK",
        "LTL",
        "LVL",
        "MRO",
        "SKK",
        "SLL",
        "STD",
        "TMM",
        "VEB",
        "VEF",
        "ZMK",
        "ZWL",
    ]:
        assert re.search(rf"\b{code}\b", section("currency"))
