"""Colours and a moving line belong to a terminal; files and pipes get plain lines."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from dagster_project.settings import CHECKOUT

RED = "\x1b[31m"
PROGRESS = """
from dagster_project.cli.run import Terminal
terminal = Terminal()
terminal.started("dbt_build")
terminal.advanced("dbt_build", 90, 212, "model 23 of 53: fct_\\x1b[32m[bold]x")
terminal.finished("dbt_build", "53 models built")
"""


def on_a_terminal(command: list[str], **environment: str) -> str:
    """What a command writes to standard output and error, both a terminal of 100 columns."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        command, stdin=child, stdout=child, stderr=child, cwd=CHECKOUT, env=plain(environment)
    )
    os.close(child)
    written = b""
    while True:
        try:
            part = os.read(parent, 65_536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        written += part
    os.close(parent)
    process.wait(timeout=60)
    return written.decode("utf-8")


def plain(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a common terminal, without the settings of this one."""
    ours = ("COUPON_LEDGER_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**inherited, "TERM": "xterm-256color", "COLUMNS": "100", **environment}


def wrong(tmp_path: Path) -> list[str]:
    """A command that goes wrong."""
    return [sys.executable, "-m", "dagster_project.cli", "verify", "--home", str(tmp_path / "typo")]


def test_an_error_is_red_on_a_terminal(tmp_path: Path) -> None:
    shown = on_a_terminal(wrong(tmp_path))
    assert f"{RED}There is no data home" in shown
    assert f"make it with `coupon-ledger run --home {tmp_path / 'typo'}" in shown, "in one line"


def test_no_colour_is_respected(tmp_path: Path) -> None:
    shown = on_a_terminal(wrong(tmp_path), NO_COLOR="1")
    assert "There is no data home" in shown and RED not in shown


@pytest.mark.parametrize("no_colour", [{}, {"NO_COLOR": "1"}], ids=["colours", "none"])
def test_what_is_wrong_with_health_or_settings_is_red_on_a_terminal(
    tmp_path: Path, no_colour: dict[str, str]
) -> None:
    for command, message in [
        (["health", "--home", str(tmp_path)], "release   FAILED  No release has been published."),
        (["config"], "Unknown setting COUPON_LEDGER_HOEM: did you mean COUPON_LEDGER_HOME?"),
    ]:
        called = [sys.executable, "-m", "dagster_project.cli", *command]
        shown = on_a_terminal(called, COUPON_LEDGER_HOEM="x", **no_colour)
        (line,) = [line for line in shown.splitlines() if message in line]
        assert line.startswith(RED) == (not no_colour)
        assert r"\x1b" not in shown


def test_an_error_in_a_pipe_is_plain(tmp_path: Path) -> None:
    shown = subprocess.run(
        wrong(tmp_path), capture_output=True, text=True, cwd=CHECKOUT, env=plain({}), check=False
    )
    assert shown.stderr.startswith("There is no data home") and "\x1b" not in shown.stderr


def test_a_step_shows_how_far_it_is_on_a_terminal_and_leaves_one_line() -> None:
    shown = on_a_terminal([sys.executable, "-c", PROGRESS])
    assert r"model 23 of 53: fct_\x1b[32m[bold]x" in shown
    assert "53 models built" in shown.splitlines()[-1]


def test_a_step_leaves_one_plain_line_in_a_pipe() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", PROGRESS], capture_output=True, text=True, cwd=CHECKOUT, check=True
    )
    assert shown.stderr == "" and "\x1b" not in shown.stdout
    (line,) = shown.stdout.splitlines()
    assert line.split()[0] == "dbt_build" and line.endswith("s  53 models built")
