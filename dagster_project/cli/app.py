"""The command line, `coupon-ledger`: every command in one table, in the order and groups of the help.

Exit codes: 0 it worked, 1 it failed, 2 what was asked for does not exist or makes no sense.
A module of `cli/` imports what it needs inside its functions: `--help` must answer at once.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from typing import Final, TextIO, cast

import typer

from dagster_project.cli.burndown import burndown
from dagster_project.cli.close import close, closes, reopen
from dagster_project.cli.deliveries import deliveries, rejected
from dagster_project.cli.expiring import expiring
from dagster_project.cli.explain import explain
from dagster_project.cli.export import export
from dagster_project.cli.findings import findings
from dagster_project.cli.options import Output, OutputFailed
from dagster_project.cli.programs import programs
from dagster_project.cli.query import query
from dagster_project.cli.releases import diff, prune, releases, restore, verify
from dagster_project.cli.run import rebuild, run
from dagster_project.cli.sample import sample
from dagster_project.cli.service import alerts, dev
from dagster_project.cli.variance import variance
from dagster_project.cli.workspace import workspace

COMMANDS: Final[tuple[tuple[str, Callable[..., None]], ...]] = (
    ("Refresh", run),
    ("Refresh", rebuild),
    ("Refresh", sample),
    ("Questions", workspace),
    ("Questions", explain),
    ("Questions", burndown),
    ("Questions", variance),
    ("Questions", findings),
    ("Questions", expiring),
    ("Questions", programs),
    ("Questions", query),
    ("Questions", export),
    ("Deliveries", deliveries),
    ("Deliveries", rejected),
    ("Releases", releases),
    ("Releases", verify),
    ("Releases", diff),
    ("Releases", restore),
    ("Releases", prune),
    ("Month close", close),
    ("Month close", reopen),
    ("Month close", closes),
    ("Service", dev),
    ("Service", alerts),
)
"""Each command with its group in the help."""

app = typer.Typer(
    help="What every workspace should have been charged, what is left of its credit, and what"
    " billing got wrong.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _group, _command in COMMANDS:
    app.command(rich_help_panel=_group)(_command)


def main() -> None:
    """Run the command line."""
    if sys.stdout is None:
        print("Standard output is closed; redirect it to a file or terminal.", file=sys.stderr)
        sys.exit(1)
    sys.stdout = cast("TextIO", Output(sys.stdout))
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except (BrokenPipeError, OutputFailed) as error:
        if isinstance(error, OutputFailed):  # what a reader closes (`| head`) is no error
            print(error, file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    finally:
        gc.freeze()  # the process ends: to look for garbage among all it imported takes seconds
