"""The help: commands in groups, each whole on its line, and examples that run as they stand."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dagster_project.cli import app
from dagster_project.cli.app import COMMANDS
from dagster_project.cli.reading import READING
from dagster_project.releases import files
from dagster_project.settings import SAMPLE_LANDING
from tests.pipeline.conftest import SampleRun

NAMES = [command.__name__.replace("_", "-") for _, command, _ in COMMANDS]


def test_every_command_is_in_the_help_once_under_its_group_with_its_whole_sentence() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert "..." not in shown.partition("Refresh:")[2]
    assert max(map(len, shown.splitlines())) <= 80
    for group, command, _ in COMMANDS:
        _, _, section = shown.partition(f"\n{group}:\n")
        lines = section.partition("\n\n")[0].splitlines()
        summary = str(command.__doc__).splitlines()[0]
        (line,) = (one for one in lines if one.split()[0] == command.__name__.replace("_", "-"))
        assert line.split(maxsplit=1)[1] == summary


def test_completion_is_offered() -> None:
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).stdout


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_command_ends_with_its_example(name: str) -> None:
    (example,) = (
        example for _, command, example in COMMANDS if command.__name__.replace("_", "-") == name
    )
    assert example.split()[0] == name
    shown = CliRunner().invoke(app, [name, "--help"]).stdout
    assert " ".join(shown.split()).endswith(f"Example: coupon-ledger {example}")


def test_every_reading_command_is_a_command_and_answers_in_json() -> None:
    assert set(READING) <= set(NAMES)
    for name in READING:
        assert "--json" in CliRunner().invoke(app, [name, "--help"]).stdout


def test_every_example_runs_on_the_sample(
    sample_run: SampleRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sample_run.result.returncode == 0, sample_run.result.stderr
    shutil.copytree(sample_run.home, tmp_path / "ledger", symlinks=True)
    (tmp_path / "deliveries").symlink_to(SAMPLE_LANDING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COUPON_LEDGER_HOME", str(tmp_path / "ledger"))
    started: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments))
    release_id = str(files.current_release(sample_run.home))
    # `rebuild` leaves no build, which a what-if needs, so it comes last.
    for _, command, example in sorted(COMMANDS, key=lambda one: one[1].__name__ == "rebuild"):
        arguments = [release_id if one in ("A", "B") else one for one in shlex.split(example)]
        shown = CliRunner().invoke(app, arguments)
        assert shown.exit_code == 0, f"{example}\n{shown.output}\n{shown.exception!r}"
        assert shown.stdout or command.__name__ == "dev"
    assert len(started) == 2, "dev hands over to Dagster, dashboard to Streamlit"
