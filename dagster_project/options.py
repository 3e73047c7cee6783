"""Options that several commands of the command line share; what only one takes stands with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="The data home. [default: $COUPON_LEDGER_HOME, or data/home]",
    ),
]
ReleaseOption = Annotated[
    str | None,
    typer.Option("--release", metavar="ID", help="A kept release instead of current."),
]
