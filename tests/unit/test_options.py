"""What the commands share: a data home that does not exist is reported, and none is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dagster_project.cli import app
from dagster_project.cli.reading import READING

COMMANDS = [
    ("deliveries",),
    ("deliveries", "--page", "page.html"),
    ("rejected",),
    ("releases",),
    ("restore", "20260101T000000Z-00000000"),
    ("verify",),
    ("prune", "--keep", "1"),
    ("diff", "20260101T000000Z-00000000", "20260102T000000Z-00000000"),
    ("query", "select 1"),
    ("workspace", "ws_1"),
    ("explain", "in_1"),
    ("burndown",),
    ("variance",),
    ("findings",),
    ("expiring",),
    ("programs",),
    ("outlook",),
    ("bridge",),
    ("top",),
    ("cohorts",),
    ("what-if", "--name", "less", "--coupon", "C-1", "--set", "percent_off=10"),
    ("export", "--out", "out"),
    ("prove", "in_1", "--out", "proof"),
    ("close", "2026-03", "--by", "Ada"),
    ("reopen", "2026-03", "--by", "Ada", "--reason", "late"),
    ("closes",),
    ("alerts",),
    ("alerts", "--test"),
    ("run", "--known-at", "2026-01-01T00:00:00Z"),
]


def test_no_reading_command_is_left_out() -> None:
    assert set(READING) <= {command for command, *_ in COMMANDS}


def of(arguments: tuple[str, ...]) -> str:
    """A name for the case."""
    return " ".join(arguments[:2])


@pytest.mark.parametrize("arguments", COMMANDS, ids=of)
def test_a_missing_data_home_is_reported(
    tmp_path: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, [*arguments, "--home", "typo"])
    assert shown.exit_code == 2
    assert shown.stdout == ""
    assert f"There is no data home {tmp_path / 'typo'}" in shown.stderr
    assert "--home" in shown.stderr and "coupon-ledger run" in shown.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("prune", "--keep", "1"), ("alerts",), ("closes",)], ids=of)
def test_a_folder_of_something_else_is_not_a_data_home(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "letters").mkdir()
    shown = CliRunner().invoke(app, [*arguments, "--home", str(tmp_path)])
    assert shown.exit_code == 2
    assert f"There is no data home {tmp_path}" in shown.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


def test_an_empty_folder_is_one_that_waits_for_its_first_run(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["releases", "--home", str(tmp_path)])
    assert shown.exit_code == 0
    assert "No release in" in shown.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("sample", "--out"),
        ("prove", "in_1", "--out"),
        ("run", "--landing"),
        ("run", "--home"),
        ("rebuild", "--home"),
        ("dev", "--only", "daemon", "--landing"),
        ("releases", "--home"),
    ],
    ids=of,
)
def test_a_folder_that_cannot_be_read_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COUPON_LEDGER_HOME", str(tmp_path))
    shown = CliRunner().invoke(app, [*arguments, str(tmp_path / ("x" * 300))])
    assert isinstance(shown.exception, SystemExit), shown.exception
    assert shown.exit_code in (1, 2)
    assert "File name too long" in shown.stderr
