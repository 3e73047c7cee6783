"""Rows kept only to be shown carry no personal data and are never too long."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.arrival.report import Limits, Refusal
from dagster_project.arrival.rows import (
    SHOWN_CHARACTERS,
    check_names,
    shown_fields,
    shown_object,
    shown_text,
)
from dagster_project.feeds import feeds

WORKSPACES = feeds()["workspaces"]
INVOICES = feeds()["invoices"]
HEADER = WORKSPACES.column_names


@given(st.data())
def test_a_personal_value_is_removed_wherever_surplus_or_missing_fields_move_it(
    data: st.DataObject,
) -> None:
    fields = ["x", "name", "SECRET", "created", "updated"]
    if data.draw(st.booleans()):
        for _ in range(data.draw(st.integers(0, 3))):
            fields.insert(data.draw(st.integers(0, len(fields))), "surplus")
    else:
        for _ in range(data.draw(st.integers(0, 3))):
            others = [place for place, value in enumerate(fields) if value != "SECRET"]
            del fields[data.draw(st.sampled_from(others))]
    assert "SECRET" not in shown_fields(WORKSPACES, HEADER, fields)


def test_a_row_of_a_feed_without_personal_data_is_shown_whole() -> None:
    assert json.loads(shown_fields(INVOICES, INVOICES.column_names, ["a", "b"])) == ["a", "b"]
    assert json.loads(shown_text(INVOICES, "{rubbish")) == "{rubbish"


def test_a_line_that_may_hold_personal_data_and_cannot_be_read_is_withheld() -> None:
    assert "SECRET" not in shown_text(WORKSPACES, '{"owner_user_id: "SECRET"')


def test_an_object_is_shown_without_its_personal_values() -> None:
    entries = [("owner_user_id", "SECRET"), ("a", None), ("b", True), ("owner_user_id", "SECRET")]
    assert shown_object(WORKSPACES, entries) == (
        '{"owner_user_id": "[removed]", "a": null, "b": true, "owner_user_id": "[removed]"}'
    )


def test_long_values_are_shortened() -> None:
    shown = shown_fields(INVOICES, INVOICES.column_names, ["x" * 1_000_000])
    assert len(shown) < SHOWN_CHARACTERS + 100
    assert "(1000000 characters)" in json.loads(shown)[0]
    wide = shown_fields(INVOICES, INVOICES.column_names, ["x" * 1_000] * 10_000)
    assert len(wide) < 3 * SHOWN_CHARACTERS
    assert json.loads(wide)[-1] == "… (10000 fields)"


def test_a_missing_column_is_told_with_the_one_that_looks_like_it() -> None:
    names = ["workspace_id", "Created_at", "updated_at"]
    with pytest.raises(Refusal) as caught:
        check_names(WORKSPACES, names, Limits())
    assert caught.value.reason == (
        "missing required column created_at ('Created_at' looks like created_at)"
    )
    assert "workspace_id, created_at, updated_at" in caught.value.remedy
