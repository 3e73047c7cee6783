"""The command line, `coupon-ledger`: every command in one table, in the order and groups of the help.

Exit codes: 0 success, 1 failure, 2 the request names something that does not exist or makes no sense.
A module of `cli/` imports what it needs inside its functions, because `--help` must answer at once.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from typing import Any, Final, TextIO, cast

import typer
from typer.core import TyperGroup

from dagster_project.cli.bridge import bridge
from dagster_project.cli.burndown import burndown
from dagster_project.cli.check import check
from dagster_project.cli.close import close, closes, reopen
from dagster_project.cli.cohorts import cohorts
from dagster_project.cli.config import config, program
from dagster_project.cli.dashboard import dashboard, report
from dagster_project.cli.deliveries import deliveries, rejected
from dagster_project.cli.expiring import expiring
from dagster_project.cli.explain import explain
from dagster_project.cli.export import export
from dagster_project.cli.findings import findings
from dagster_project.cli.health import health
from dagster_project.cli.options import Output, OutputFailed
from dagster_project.cli.outlook import outlook
from dagster_project.cli.programs import programs
from dagster_project.cli.prove import prove
from dagster_project.cli.pull import pull
from dagster_project.cli.query import query
from dagster_project.cli.releases import diff, prune, releases, restore, verify
from dagster_project.cli.run import rebuild, run
from dagster_project.cli.sample import sample
from dagster_project.cli.service import alerts, dev
from dagster_project.cli.top import top
from dagster_project.cli.variance import variance
from dagster_project.cli.what_if import what_if
from dagster_project.cli.workspace import workspace

COMMANDS: Final[tuple[tuple[str, Callable[..., None], str], ...]] = (
    ("Refresh", run, "run --landing deliveries --home ledger --as-of 2025-12-31"),
    ("Refresh", rebuild, "rebuild"),
    ("Refresh", sample, "sample --out invented --workspaces 20 --months 6"),
    ("Questions", workspace, "workspace ws_00014"),
    ("Questions", explain, "explain in_00014_022"),
    ("Questions", prove, "prove in_00014_022 --out proof"),
    ("Questions", burndown, "burndown startup --months 12"),
    ("Questions", variance, "variance ws_00005 --month 2024-02"),
    ("Questions", findings, "findings --severity error --limit 5"),
    ("Questions", expiring, "expiring --within-months 3"),
    ("Questions", outlook, "outlook startup"),
    ("Questions", programs, "programs --month 2024-02"),
    ("Questions", bridge, "bridge --month 2025-12 --by program"),
    ("Questions", top, "top --top 3"),
    ("Questions", cohorts, "cohorts --program startup --age 12"),
    ("Questions", what_if, "what-if --name less --coupon SPRING-50 --set percent_off=40"),
    ("Questions", query, 'query "select * from marts.dim_coupons"'),
    ("Questions", export, "export --format csv --out exported"),
    ("Questions", report, "report --month 2025-11 --out november.html"),
    ("Deliveries", check, "check deliveries/credit_notes/credit-notes.csv"),
    ("Deliveries", deliveries, "deliveries --page deliveries.html"),
    ("Deliveries", rejected, "rejected --feed invoices"),
    ("Releases", releases, "releases"),
    ("Releases", verify, "verify"),
    ("Releases", diff, "diff A B --table fct_discounted_charges"),
    ("Releases", restore, "restore A"),
    ("Releases", prune, "prune --keep 30"),
    ("Month close", close, "close 2025-08 --by 'Ada Byron'"),
    ("Month close", reopen, "reopen 2025-08 --by 'Ada Byron' --reason 'late invoice'"),
    ("Month close", closes, "closes"),
    ("Service", health, "health --max-age-hours 30"),
    ("Service", config, "config"),
    ("Service", dev, "dev --port 3001"),
    ("Service", dashboard, "dashboard --port 8502"),
    ("Service", alerts, "alerts --limit 5"),
)
"""Each command with its group in the help and an example; `A` and `B` stand for ids of releases."""
PULL_GROUP: Final = "Deliveries"
"""The group of `pull`, which has commands of its own."""


class Grouped(TyperGroup):
    """The help, which lists commands by group, in plain text because it may go to a file."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section per group."""
        named = {_name(command): group for group, command, _ in COMMANDS} | {"pull": PULL_GROUP}
        room = formatter.width - 6 - max(map(len, named))
        for group in dict.fromkeys(named.values()):
            with formatter.section(group):
                formatter.write_dl(
                    [
                        (name, command.get_short_help_str(room))
                        for name, command in self.commands.items()
                        if named.get(name) == group
                    ]
                )


def _name(command: Callable[..., None]) -> str:
    return command.__name__.replace("_", "-")


app = typer.Typer(
    cls=Grouped,
    help="What every workspace should have been charged, what is left of its credit, and what"
    " billing got wrong.",
    epilog="Run a command with --help for its options and an example.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.callback()(program)
for _group, _command, _example in COMMANDS:
    app.command(rich_help_panel=_group, epilog=f"Example: coupon-ledger {_example}")(_command)
app.add_typer(pull, name="pull", rich_help_panel=PULL_GROUP)


def main() -> None:
    """Run the command line."""
    if sys.stdout is None:
        print("Standard output is closed; redirect it to a file or terminal.", file=sys.stderr)
        sys.exit(1)
    sys.stdout = cast("TextIO", Output(sys.stdout))
    if sys.stderr is not None:
        sys.stderr = cast("TextIO", Output(sys.stderr))
    # Python processes started from here must not import from the current folder, which may be the landing folder.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except (BrokenPipeError, OutputFailed) as error:
        if isinstance(error, OutputFailed):  # output closed by its reader (`| head`) is no error
            print(error, file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    finally:
        gc.freeze()  # the process ends, and collecting garbage among all its imports takes seconds
