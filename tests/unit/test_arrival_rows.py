"""Rows stored only to be shown have no personal data and are never too long."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.arrival import delimited, json_lines
from dagster_project.arrival.report import Limits, Refusal
from dagster_project.arrival.rows import (
    SHOWN_CHARACTERS,
    OwnParquet,
    PlainCsv,
    Prepared,
    check_names,
    has_plain_ids,
    note_of_unknown,
    shown_fields,
    shown_object,
    shown_text,
    words_for_missing,
)
from dagster_project.feeds import feeds, value_types

WORKSPACES = feeds()["workspaces"]
INVOICES = feeds()["invoices"]
REDEMPTIONS = feeds()["redemptions"]


@given(st.data())
def test_a_personal_value_is_removed_wherever_fields_are_lost_added_or_run_together(
    data: st.DataObject,
) -> None:
    fields = ["x", "name", "SECRET", "created", "updated"]
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(fields) - 1))
        match data.draw(st.sampled_from(["add", "lose", "run together"])):
            case "add":
                fields.insert(place, "surplus")
            case "lose" if fields[place] != "SECRET" and len(fields) > 1:
                del fields[place]
            case "run together":
                between = data.draw(st.sampled_from([",", "\n", ""]))
                fields[place : place + 2] = [between.join(fields[place : place + 2])]
    assert "SECRET" not in shown_fields(WORKSPACES, fields)


def test_a_malformed_row_shows_what_cannot_be_personal() -> None:
    fields = ["rd_1", "", "2024-01-02", "SECRET", "2024-01-02T10:00:00.5+02:00", "partner", "7"]
    assert json.loads(shown_fields(REDEMPTIONS, fields)) == [
        "[removed]", "", "2024-01-02", "[removed]", "2024-01-02T10:00:00.5+02:00", "partner",
        "[removed]",
    ]  # fmt: skip
    assert "SECRET" not in shown_fields(REDEMPTIONS, ["2024-01-02,SECRET", "2024-01-02\nSECRET"])


def test_a_row_of_a_feed_without_personal_data_is_shown_whole() -> None:
    assert json.loads(shown_fields(INVOICES, ["a", "b\nc"])) == ["a", "b\nc"]
    assert json.loads(shown_object(INVOICES, [("odd", "b\nc")])) == {"odd": "b\nc"}
    assert json.loads(shown_text(INVOICES, "{rubbish")) == "{rubbish"


def test_a_line_that_may_hold_personal_data_and_cannot_be_read_is_withheld() -> None:
    assert "SECRET" not in shown_text(WORKSPACES, '{"owner_user_id: "SECRET"')


def test_an_object_is_shown_without_its_personal_values() -> None:
    entries = [("owner_user_id", "SECRET"), ("created_at", None), ("owner_user_id", "SECRET")]
    assert shown_object(WORKSPACES, entries) == (
        '{"owner_user_id": "[removed]", "created_at": null, "owner_user_id": "[removed]"}'
    )


def test_an_object_is_shown_without_what_may_be_personal_under_another_name() -> None:
    entries = [
        ("workspace_id", "ws_1"),
        ("owner", "SECRET"),
        ("Owner_user_id", 7),
        ("workspace_name", "Acme,SECRET\nws_2"),
    ]
    assert json.loads(shown_object(WORKSPACES, entries)) == {
        "workspace_id": "ws_1",
        "owner": "[removed]",
        "Owner_user_id": "[removed]",
        "workspace_name": "(not shown: it has control characters)",
    }


def test_long_values_are_shortened() -> None:
    shown = shown_fields(INVOICES, ["x" * 1_000_000])
    assert len(shown) < SHOWN_CHARACTERS + 100
    assert "(1000000 characters)" in json.loads(shown)[0]
    wide = shown_fields(INVOICES, ["x" * 1_000] * 10_000)
    assert len(wide) < 3 * SHOWN_CHARACTERS
    assert json.loads(wide)[-1] == "… (10000 fields)"


def test_a_missing_column_is_reported_with_the_one_that_looks_like_it() -> None:
    names = ["workspace_id", "Created_at", "updated_at"]
    with pytest.raises(Refusal) as caught:
        check_names(WORKSPACES, names, Limits())
    assert caught.value.reason == (
        "missing required column created_at ('Created_at' looks like created_at)"
    )
    assert "workspace_id, created_at, updated_at" in caught.value.remedy


@pytest.mark.parametrize(
    ("found", "column"),
    [
        ("TaxAmount", "tax_amount"),
        ("tax_amuont", "tax_amount"),
        ("issued", "issued_at"),
        ("currency_code", "currency"),
        ("net_amount", None),
        ("Amount", None),
        ("period", None),
    ],
)
def test_a_column_looks_like_one_that_no_word_of_its_name_contradicts(
    found: str, column: str | None
) -> None:
    absent = ("tax_amount", "total_amount", "issued_at", "currency", "period_start")
    prepared = Prepared(
        PlainCsv(Path(), (), {}),
        1,
        absent_columns=absent,
        unknown_columns=(found,),
    )
    told = f"{found!r} looks like {column}" if column else repr(found)
    assert note_of_unknown(INVOICES, prepared) == (
        f"ignored, since the feed has no such column: {told}"
    )


def test_no_other_column_of_the_feed_is_taken_for_a_missing_one() -> None:
    names = ["id", "workspace_name", "created_at", "updated_at"]
    with pytest.raises(Refusal) as caught:
        check_names(WORKSPACES, names, Limits())
    assert caught.value.reason == "missing required column workspace_id"


@given(
    texts=st.lists(
        st.none()
        | st.sampled_from(["in_1", "12", "NA", "undefined", "7.0", "a\tb", "a\x7f", "é", "x\x85"])
        | st.sampled_from(["x" * 200, "x" * 201])
        | st.text(max_size=5),
        max_size=4,
    ),
    first=st.integers(0, 2),
)
def test_plain_ids_have_nothing_to_reject_or_note(texts: list[str | None], first: int) -> None:
    ids = pa.array(texts, pa.string())[first:]
    given_ids = [text for text in texts[first:] if text is not None]
    through_a_float = re.compile(str(value_types()["id"]["through_a_float"]))
    unusual = [
        text
        for text in given_ids
        if len(text) > 200
        or any(unicodedata.category(letter) == "Cc" for letter in text)
        or text in words_for_missing()
        or through_a_float.fullmatch(text)
    ]
    assert not (unusual and has_plain_ids(ids))


@pytest.mark.parametrize("texts", [[], [None], ["in_1", None, "12"], ["cus_NffrFeUfNV2Hib"]])
def test_usual_ids_are_plain(texts: list[str | None]) -> None:
    assert has_plain_ids(pa.array(texts, pa.string()))


@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
def test_every_row_of_several_batches_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    rows = [
        {"workspace_id": f"w{number}", "created_at": "2025-01-01", "updated_at": "2025-01-01"}
        for number in range(1, 8)
    ]
    objects = [json.dumps(row) for row in rows]
    path = tmp_path / "delivery"
    if form == "csv":
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        path.write_text("\n".join(lines), "utf-8")
    else:
        path.write_text(
            "\n".join(objects) if form == "jsonl" else f"[{','.join(objects)}]", "utf-8"
        )
    reader = delimited if form == "csv" else json_lines
    monkeypatch.setattr(reader, "BATCH_ROWS", 3)
    prepare = delimited.prepare_csv if form == "csv" else json_lines.prepare_json
    prepared = prepare(path, WORKSPACES, Limits(), tmp_path / "rows")
    assert isinstance(prepared.source, OwnParquet)
    found = pq.read_table(prepared.source.path, columns=["row_number", "workspace_id"]).to_pylist()
    assert prepared.good_rows == len(rows)
    assert [(row["row_number"], row["workspace_id"]) for row in found] == [
        (number, row["workspace_id"]) for number, row in enumerate(rows, start=1)
    ]
