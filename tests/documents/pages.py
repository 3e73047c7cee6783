"""The pages, their generated parts, and how these are written.

A table is between `<!-- generated: NAME -->` and `<!-- end -->`. A block of code after
`<!-- output: coupon-ledger … -->` is the output of that command on the sample, cut by `| head -N`; after
`<!-- answer -->` it is the answer to the block of SQL before.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path

from typer.testing import CliRunner

from dagster_project.cli import app
from dagster_project.settings import CHECKOUT
from tests.documents.tables import TABLES

README = CHECKOUT / "README.md"
GUIDE = CHECKOUT / "docs" / "analyst-guide.md"
PAGES = [README, CHECKOUT / "CHANGELOG.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
SHOWN_HOME = "data/home"
ANSWER_LINES = 8
WIDTH, ANSWER_WIDTH = 80, 140

_GENERATED = re.compile(r"(<!-- generated: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_OUTPUT = re.compile(
    r"(<!-- output: coupon-ledger (.+?)(?: \| head -(\d+))? -->\n```\w*\n)(.*?)(```)", re.DOTALL
)
_ANSWER = re.compile(r"(```sql\n((?:(?!```).)*)```\n\n<!-- answer -->\n```\n)(.*?)(```)", re.DOTALL)

Ask = Callable[[list[str], int], str]


def queries() -> list[str]:
    """Return the SQL of the analyst guide, in order."""
    return re.findall(r"```sql\n(.*?)```", GUIDE.read_text("utf-8"), flags=re.DOTALL)


def with_tables(text: str) -> str:
    """Return a page with its tables made again."""
    return _GENERATED.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[4]}", text)


def with_outputs(text: str, ask: Ask) -> str:
    """Return a page with every output made again.

    Args:
        text: The page.
        ask: Returns the output of a command on the sample, in a terminal of so many columns.
    """

    def output(found: re.Match[str]) -> str:
        told = ask(shlex.split(found[2]), WIDTH)
        return f"{found[1]}{_head(told, int(found[3]) if found[3] else None)}{found[5]}"

    def answer(found: re.Match[str]) -> str:
        told = ask(["query", found[2]], ANSWER_WIDTH)
        return f"{found[1]}{_head(told, ANSWER_LINES)}{found[4]}"

    return _ANSWER.sub(answer, _OUTPUT.sub(output, text))


def _head(text: str, most: int | None) -> str:
    lines = [line.rstrip() for line in text.strip("\n").splitlines()]
    cut = lines[:most] if most else lines
    return "\n".join(cut + (["…"] if len(cut) < len(lines) else [])) + "\n"


def asking(home: Path, refreshed: str) -> Ask:
    """Return a function that runs a command on the sample's data home.

    Args:
        home: The data home of a finished run on the sample.
        refreshed: What that run printed.
    """
    return partial(_ask, home, refreshed)


def _ask(home: Path, refreshed: str, arguments: list[str], width: int) -> str:
    if arguments == ["run"]:
        return _as_shown(refreshed, home)
    environment: dict[str, str | None] = {
        name: None for name in os.environ if name.startswith(("COUPON_LEDGER_", "DAGSTER_"))
    }
    environment |= {"COUPON_LEDGER_HOME": str(home), "COLUMNS": str(width), "NO_COLOR": "1"}
    done = CliRunner().invoke(app, arguments, env=environment)
    assert done.exit_code == 0, f"{arguments}: {done.output}"
    return _as_shown(done.stdout, home)


def _as_shown(text: str, home: Path) -> str:
    relative = os.path.relpath(home, CHECKOUT)
    shown = text.replace(str(home), SHOWN_HOME).replace(relative, SHOWN_HOME)
    return shown.replace(f"\n  → {SHOWN_HOME}", f" → {SHOWN_HOME}")  # as printed for a short path


def without_accidents(text: str) -> str:
    """Return a text without what differs from run to run: ids of releases, days, instants, times, versions."""
    text = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{8}", "ID", text)
    text = re.sub(r" +\d+\.\d s ", " N s ", text)
    text = re.sub(r"(published) \d{4}-\d\d-\d\d \d\d:\d\d", r"\1 INSTANT", text)
    text = re.sub(r"(arrived) \d{4}-\d\d-\d\d", r"\1 DAY", text)
    text = re.sub(r"\d+\.\d hours ago", "N hours ago", text)
    text = re.sub(r"(\w+) \d+\.\d(, |; total|\n|$)", r"\1 N\2", text)
    text = re.sub(r"; total \d+\.\d", "; total N", text)
    return re.sub(r"\b\d+\.\d+\.\d+\b", "VERSION", text)
