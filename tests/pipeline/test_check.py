"""`check` tells, without a data home, what a run would make of a file, and says so by its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from dagster_project.cli import app

HEADER = "workspace_id,workspace_name,owner_user_id,created_at,updated_at"
GOOD = "ws_1,Acme,u_1,2025-01-02T00:00:00Z,2025-01-02T00:00:00Z"


def checked(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """The exit code of `check --json`, and what it says."""
    result = CliRunner().invoke(app, ["check", *map(str, arguments), "--json"])
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture(autouse=True)
def _no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COUPON_LEDGER_HOME", str(tmp_path / "no" / "home"))


def test_a_file_that_is_accepted_is_told_with_its_notes(tmp_path: Path) -> None:
    path = tmp_path / "workspaces.csv"
    path.write_text(f"{HEADER}\n{GOOD}\nws_2,NULL,,2025-01-02 00:00,{GOOD[-20:]}\n", "utf-8")
    code, found = checked(path)
    assert (code, found["is_accepted"]) == (0, True)
    (file,) = found["files"]
    assert (file["verdict"], file["rows"], file["accepted_rows"]) == ("loaded", 2, 2)
    assert file["notes"] == (
        "workspace_name: 1 value that may stand for a missing one;"
        " created_at: 1 instant without an offset, read as UTC"
    )
    assert not (tmp_path / "no").exists()
    assert path.read_text("utf-8").startswith(HEADER)


def test_a_record_that_comes_again_is_told_as_a_run_counts_it(tmp_path: Path) -> None:
    path = tmp_path / "workspaces.csv"
    older = GOOD.replace(GOOD[-20:], "2000-01-01T00:00:00Z")
    path.write_text(f"{HEADER}\n{GOOD}\n{GOOD}\n{older}\n", "utf-8")
    code, found = checked(path)
    (file,) = found["files"]
    counts = [file[f"{fate}_rows"] for fate in ("accepted", "superseded", "duplicate", "rejected")]
    assert (code, counts) == (0, [1, 1, 1, 0])
    told = " ".join(CliRunner().invoke(app, ["check", str(path)]).stdout.split())
    assert "3 rows, 1 accepted, 1 superseded, 1 duplicate" in told


def test_every_reason_is_told_with_row_column_value_and_form(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    rows = [GOOD, "ws_2,B,7.0,1735689600000,2025-01-02T00:00:00Z", 'ws_3,a"b,u,,', "ws_4,C"]
    path.write_text("\n".join([HEADER, *rows]), "utf-8")
    code, found = checked(path, "--feed", "workspaces")
    assert code == 1
    (file,) = found["files"]
    assert (file["rows"], file["accepted_rows"], file["rejected_rows"]) == (4, 1, 3)
    told = {one["reason"].split(" ")[0]: one for one in file["rejections"]}
    assert told["created_at"]["first_row"] == 2
    assert told["created_at"]["value"] == "1735689600000"
    assert "it looks like a number since an epoch" in told["created_at"]["expected"]
    assert told["owner_user_id"]["value"] is None
    assert "7.0" not in json.dumps(told["owner_user_id"])
    assert any("a quote inside a value" in one["reason"] for one in file["rejections"])
    assert {"workspace_id_is_readable"}.isdisjoint(one["check"] for one in file["gate"])
    assert "created_at_is_readable" in {one["check"] for one in file["gate"]}


def test_the_form_of_a_value_is_told_once_and_only_where_it_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "coupons.csv"
    header = "coupon_id,coupon_name,program,discount_type,percent_off,currency,duration,updated_at"
    form = "a decimal with at most 9 digits before the point and 4 after it"
    rows = [
        f"{percent},C,special,percent_off,{percent},{currency},forever,{updated_at}"
        for percent, currency, updated_at in (
            ("100", "USD", "2025-01-02"),
            ("100.0001", "USD", "2025-01-02"),
            ("10", "KWD", "2025-01-02"),
            ("1e1", "XXX", ""),
        )
    ]
    path.write_text("\n".join([header, *rows]), "utf-8")
    _, found = checked(path)
    expected = {one["reason"]: one["expected"] for one in found["files"][0]["rejections"]}
    assert expected["percent_off is above 100"] is None
    assert (
        expected["currency is not supported: only currencies with 0 or 2 decimal places are"]
        is None
    )
    assert expected["currency is not an ISO 4217 currency"] == "expected: an ISO 4217 currency"
    assert expected["updated_at is missing"].startswith("expected: an ISO 8601 instant")
    assert expected[f"percent_off is not {form}"].startswith(
        f"expected: {form}; it has an exponent"
    )
    text = " ".join(CliRunner().invoke(app, ["check", str(path)]).stdout.split())
    assert "which has '1e1'; it has an exponent" in text
    assert "which has 'KWD'; expected" not in text
    assert "updated_at is missing: 1 row, first row 4; expected: an ISO 8601 instant" in text


def test_missing_values_of_a_row_of_totals_are_told_in_one_line_and_the_gate_repeats_none(
    tmp_path: Path,
) -> None:
    path = tmp_path / "workspaces.csv"
    path.write_text(f"{HEADER}\n{GOOD}\nTotal,,,,\nws_2,B,,2025-01-02 noon,{GOOD[-20:]}\n", "utf-8")
    code, found = checked(path)
    assert code == 1
    assert {"created_at_is_given", "created_at_is_readable", "updated_at_is_given"} <= {
        one["check"] for one in found["files"][0]["gate"]
    }
    text = " ".join(CliRunner().invoke(app, ["check", str(path)]).stdout.split())
    assert "no value in 2 columns: 1 row, first row 2 in each: created_at, updated_at" in text
    assert "created_at is not an ISO 8601 instant" in text
    assert "is_given" not in text
    assert "is_readable" not in text


def test_a_refused_file_and_one_of_no_known_feed_have_their_own_exit_codes(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a;b\n1;2\n", "utf-8")
    shown = CliRunner().invoke(app, ["check", "--help"]).stdout
    assert "exit code 1 if anything would be refused or rejected" in " ".join(shown.split())
    code, found = checked(path, "--feed", "workspaces")
    assert code == 1
    assert "semicolons" in found["files"][0]["reason"]
    result = CliRunner().invoke(app, ["check", str(path)])
    assert result.exit_code == 2
    assert "--feed" in result.output
    assert CliRunner().invoke(app, ["check", str(tmp_path / "none")]).exit_code == 2


def test_columns_that_the_feed_does_not_have_are_told_with_what_they_look_like(
    tmp_path: Path,
) -> None:
    """A misspelt optional column would silently change what is calculated."""
    path = tmp_path / "workspaces.csv"
    names = [f"c{number}" for number in range(6)]
    header = HEADER.replace("workspace_name", "Workspace_Name")
    path.write_text(
        f"{','.join(names[:3])},{header},{','.join(names[3:])}\n1,2,3,{GOOD},4,5,6\n", "utf-8"
    )
    code, found = checked(path)
    assert code == 0
    assert found["files"][0]["notes"] == (
        "ignored, since the feed has no such column: 'Workspace_Name' looks like workspace_name,"
        " 'c0', 'c1', 'c2', 'c3', and 2 more"
    )
    path.write_text(f'{HEADER},"a, b; c"\n{GOOD},7\n', "utf-8")
    assert checked(path)[1]["files"][0]["notes"] == (
        "ignored, since the feed has no such column: 'a  b  c'"
    )


def test_a_file_that_is_not_there_is_named_as_it_was_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["check", "invoices.csv"])
    assert result.exit_code == 2
    assert "There is no invoices.csv: name a file or a folder." in result.stderr


def test_a_folder_of_parts_is_checked_as_one(tmp_path: Path) -> None:
    folder = tmp_path / "workspaces"
    folder.mkdir()
    for number in range(3):
        (folder / f"part-{number}.csv").write_text(f"{HEADER}\n{GOOD}\n", "utf-8")
    (folder / "part-3.csv").write_text(f"{HEADER}\n{GOOD.replace('ws_1', 'ws_2')}\n", "utf-8")
    code, found = checked(folder)
    assert code == 0
    assert sum(file["accepted_rows"] for file in found["files"]) >= 1


def test_parts_that_are_refused_for_one_reason_are_told_together(tmp_path: Path) -> None:
    folder = tmp_path / "workspaces" / "export"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"part-{number}.csv").write_text(f"id\nws_{number}\n", "utf-8")
    (folder / "part-3.csv").write_text("workspace_id;x\n1;2\n", "utf-8")
    (folder / "_SUCCESS").touch()
    told = " ".join(CliRunner().invoke(app, ["check", str(tmp_path)]).stdout.split())
    assert told.count("REFUSED as a whole") == 2
    assert "workspaces/export/part-0.csv and 2 other parts (workspaces): REFUSED" in told
    assert len(checked(tmp_path)[1]["files"]) == 4


def test_a_copy_is_told_as_one_and_a_copy_of_a_refused_file_as_refused(tmp_path: Path) -> None:
    landing = tmp_path / "workspaces"
    landing.mkdir()
    for name in ("a.csv", "b.csv"):
        (landing / name).write_text(f"{HEADER}\n{GOOD}\n,,,,\n", "utf-8")
    for name in ("c.txt", "d.txt", "e.tsv"):
        (landing / name).write_text(f"{HEADER}\n{GOOD}\n", "utf-8")
    code, found = checked(tmp_path)
    assert code == 1
    told = {file["file_name"].removeprefix("workspaces/"): file for file in found["files"]}
    assert [told["a.csv"][name] for name in ("verdict", "rows", "accepted_rows")] == [
        "loaded",
        2,
        1,
    ]
    copy = told["b.csv"]
    assert [copy[name] for name in ("verdict", "rows", "accepted_rows", "rejected_rows")] == [
        *("known", 0, 0, 0)
    ]
    assert (copy["same_as"], copy["rejections"]) == ("workspaces/a.csv", [])
    assert {told[name]["verdict"] for name in ("c.txt", "d.txt", "e.tsv")} == {"refused"}
    assert told["d.txt"]["reason"] == told["c.txt"]["reason"]
    assert "unknown extension .txt" in told["d.txt"]["reason"]
    assert "unknown extension .tsv" in told["e.tsv"]["reason"]
    text = CliRunner().invoke(app, ["check", str(tmp_path)]).stdout
    assert "b.csv (workspaces): the same bytes as workspaces/a.csv" in text
    assert text.count("REFUSED as a whole") == 3


def test_a_landing_folder_is_checked_with_what_lies_in_no_feeds_folder(tmp_path: Path) -> None:
    good, stray = tmp_path / "workspaces" / "a.csv", tmp_path / "b.csv"
    for path in (good, stray, tmp_path / "other" / "c.csv"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{HEADER}\n{GOOD}\n", "utf-8")
    code, found = checked(tmp_path)
    verdicts = {file["file_name"]: file["verdict"] for file in found["files"]}
    assert code == 1
    assert verdicts == {"workspaces/a.csv": "loaded", "b.csv": "refused", "other/c.csv": "refused"}


def test_what_is_no_file_in_a_folder_is_told_and_never_opened(tmp_path: Path) -> None:
    folder = tmp_path / "workspaces"
    deep = folder.joinpath(*["d"] * 20)
    deep.mkdir(parents=True)
    os.mkfifo(folder / "fifo.csv")
    (folder / "circle.csv").symlink_to("circle.csv")
    (folder / "away.csv").symlink_to("/etc/hostname")
    code, found = checked(folder)
    assert code == 1
    assert {Path(file["file_name"]).name for file in found["files"]} == {
        *("fifo.csv", "circle.csv", "away.csv", "d")
    }
    assert {file["verdict"] for file in found["files"]} == {"refused"}


def test_python_files_in_the_current_folder_are_never_imported(tmp_path: Path) -> None:
    rows = {name: ["2025-01-01T00:00:00Z"] for name in ("created_at", "updated_at")}
    (tmp_path / "workspaces").mkdir()
    table = pa.table({"workspace_id": ["ws_1"], **rows})
    pq.write_table(table, tmp_path / "workspaces" / "w.parquet")
    for name in ("csv", "random", "struct"):
        (tmp_path / f"{name}.py").write_text(
            f"open('{name} was run', 'w')\nraise SystemExit('no')\n"
        )
    checked = subprocess.run(
        [sys.executable, "-P", "-m", "dagster_project.cli", "check", "workspaces"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert not list(tmp_path.glob("*was run"))
