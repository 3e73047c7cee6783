"""`sample`: invented billing data with known errors, in the layout that a supplier delivers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dagster_project.cli.options import wrong


def sample(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder to write landing/ and truth.json to.")
    ],
    workspaces: Annotated[
        int | None, typer.Option(min=1, help="How many workspaces. [default: 150]")
    ] = None,
    months: Annotated[int, typer.Option(min=1, help="How many months.")] = 30,
    seed: Annotated[int, typer.Option(help="Same seed, same sample.")] = 1,
    invoices: Annotated[
        int | None,
        typer.Option(
            min=1, help="About how many invoices, instead of workspaces: large samples, fast."
        ),
    ] = None,
    file_format: Annotated[
        Literal["parquet", "csv"], typer.Option("--format", help="With --invoices.")
    ] = "parquet",
    files: Annotated[
        Literal["year", "month", "single"],
        typer.Option(help="With --invoices: which invoices share a file."),
    ] = "year",
    hold_back: Annotated[
        bool,
        typer.Option(
            "--hold-back",
            help="With --invoices: put those of the last month in next/, to deliver later.",
        ),
    ] = False,
) -> None:
    """Generate realistic billing data with known errors."""
    if invoices is None and (file_format != "parquet" or files != "year" or hold_back):
        wrong("--format, --files and --hold-back need --invoices: give a number of invoices.")
    if invoices is not None and workspaces is not None:
        wrong("Give --workspaces or --invoices, not both: one follows from the other.")
    if hold_back and months < 2:
        wrong("--hold-back needs a month before the last: give --months 2 or more.")
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            wrong(f"{out} is not an empty folder: name a new one with --out.")
        out.mkdir(parents=True, exist_ok=True)
        if invoices is None:
            from dagster_project.sample import generate_sample

            generate_sample(workspaces or 150, months, seed, out)
        else:
            from dagster_project.sample.scale import generate_large_sample

            made = generate_large_sample(
                invoices, months, seed, out, file_format=file_format, grouping=files,
                hold_back=hold_back,
            )  # fmt: skip
    except OSError as error:
        wrong(
            f"{error.filename or out} cannot be written: {error.strerror}; name another folder"
            " with --out."
        )
    if invoices is not None:
        print(f"{made.invoices:,} invoices of {made.workspaces:,} workspaces to {made.last_day}")
    written = [path for path in (out / "landing").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in written)
    print(f"{len(written):,} deliveries, {size:,} bytes in {out / 'landing'}")
    as_of = f" --as-of {made.last_day}" if invoices is not None else ""
    print(f"Refresh from it: coupon-ledger run --landing {out / 'landing'} --home DIR{as_of}")
    if hold_back:
        print(f"The last month, to deliver later: {out / 'next'}")
