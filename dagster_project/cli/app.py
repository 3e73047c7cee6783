"""The command line, `coupon-ledger`: options in, text out, exit codes; the work is done elsewhere.

Every command imports only what it needs, inside its function: `--help` must answer at once.
Exit codes: 0 it worked, 1 it failed, 2 it was asked for something that does not exist or make sense.
"""

from __future__ import annotations

import gc
import os
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO, cast

import typer

from dagster_project.cli.close import register_closing
from dagster_project.cli.options import (
    HomeOption,
    JsonOption,
    Output,
    OutputFailed,
    ReleaseOption,
    explained,
    settings_from,
    settings_of_home,
    wrong,
)
from dagster_project.cli.pull import register_pull
from dagster_project.cli.reading import register as register_reading
from dagster_project.cli.service import register_service

if TYPE_CHECKING:
    from dagster_project.settings import Settings

app = typer.Typer(
    help="What every workspace should have been charged, what is left of its credit, and what"
    " billing got wrong.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line."""
    if sys.stdout is None:
        print("Standard output is closed: give it somewhere to go.", file=sys.stderr)
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


@app.command()
def run(
    landing: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where deliveries lie. [default: the sample]"),
    ] = None,
    home: HomeOption = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="YYYY-MM-DD",
            help="Last day whose events count. [default: the sample's last day, else today in UTC]",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Publish nothing while a finding of severity error is open."),
    ] = False,
    known_at: Annotated[
        str | None,
        typer.Option(
            metavar="INSTANT",
            help="Only what had arrived by then (ISO 8601, or the id of a release); goes to"
            " HOME/known-at/, what is served stays.",
        ),
    ] = None,
    engine: Annotated[
        Literal["duckdb", "spark"] | None,
        typer.Option(help="What runs the models. [default: duckdb]"),
    ] = None,
    always: Annotated[
        bool,
        typer.Option("--always", help="Also where nothing has changed since the last refresh."),
    ] = False,
) -> None:
    """Refresh: deliveries in, checked marts out, as a release."""
    from dagster_project.cli.run import refresh
    from dagster_project.settings import default_as_of

    # What had arrived by then lies in a data home that is there.
    settings = settings_from(home, landing) if known_at is None else settings_of_home(home)
    if engine is not None:
        settings = settings.model_copy(update={"engine": engine})
    if known_at is not None:
        raise typer.Exit(0 if _refresh_known_at(settings, known_at, as_of) else 1)
    if not settings.landing.is_dir():
        wrong(f"There is no landing folder {settings.landing}: name one with --landing.")
    now = datetime.now(UTC)
    try:
        day = date.fromisoformat(as_of) if as_of else default_as_of(settings, now.date())
    except ValueError as error:
        wrong(f"--as-of {as_of}: give a day as YYYY-MM-DD." if as_of else str(error))
    if strict:
        settings = settings.model_copy(update={"strict": True})
    raise typer.Exit(0 if refresh(settings, day, always=always) else 1)


def _refresh_known_at(settings: Settings, known_at: str, as_of: str | None) -> bool:
    from dagster_project.cli.run import refresh_known_at
    from dagster_project.releases.errors import NoRelease

    try:
        day = date.fromisoformat(as_of) if as_of else None
    except ValueError:
        wrong(f"--as-of {as_of}: give a day as YYYY-MM-DD.")
    try:
        return refresh_known_at(settings, known_at, day)
    except (ValueError, NoRelease) as error:
        wrong(str(error))


@app.command()
def rebuild(home: HomeOption = None) -> None:
    """Make the warehouse again from the archive alone; `run` then goes on from there."""
    from dagster_project.arrival import ArrivalError
    from dagster_project.arrival import rebuild as rebuild_raw
    from dagster_project.releases.lock import one_writer

    settings = settings_from(home)
    if not settings.archive.is_dir():
        wrong(f"There is no archive in {settings.home}: name another data home with --home.")
    with explained(), one_writer(settings.home, "coupon-ledger rebuild"):
        try:
            reports = rebuild_raw(settings.home)
        except ArrivalError as error:
            print(error, file=sys.stderr)
            raise typer.Exit(1) from None
    rows = sum(report.loaded_rows for report in reports)
    print(f"{len(reports):,} deliveries with {rows:,} rows loaded again from the archive.")
    print(f"Publish from them: coupon-ledger run --home {settings.home} --landing DIR")


@app.command()
def sample(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets landing/ and truth.json.")],
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
        typer.Option(help="With --invoices: which of them share a file."),
    ] = "year",
    hold_back: Annotated[
        bool,
        typer.Option(
            "--hold-back",
            help="With --invoices: those of the last month come apart, in next/, to deliver later.",
        ),
    ] = False,
) -> None:
    """Generate realistic billing data with known errors."""
    if invoices is None and (file_format != "parquet" or files != "year" or hold_back):
        wrong("--format, --files and --hold-back go with --invoices: give a number of invoices.")
    if invoices is not None and workspaces is not None:
        wrong("Give --workspaces or --invoices, not both: one follows from the other.")
    if hold_back and months < 2:
        wrong("--hold-back needs a month before the last: give --months 2 or more.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        wrong(f"{out} is not an empty folder: name a new one with --out.")
    try:
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


@app.command()
def deliveries(
    home: HomeOption = None,
    release: ReleaseOption = None,
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write an HTML page to send to the supplier instead."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List what was delivered and what became of it."""
    from dagster_project import as_data, summary
    from dagster_project.answers.layout import show_json
    from dagster_project.releases.read import reading

    settings = settings_of_home(home)
    if page is not None and json:
        wrong("Give --page or --json, not both.")
    if page is not None:
        from dagster_project.dashboard import supplier_page

        with explained(), reading(settings.home, release) as connection:
            text = supplier_page.page(connection)
        try:
            page.write_text(text, "utf-8")
        except OSError as error:
            wrong(f"{page} cannot be written: {error.strerror}; name another file with --page.")
        print(f"Written to {page}")
        return
    with explained(), reading(settings.home, release) as connection:
        if json:
            show_json(as_data.deliveries(connection))
        else:
            print(summary.deliveries(connection))


@app.command()
def rejected(
    home: HomeOption = None,
    release: ReleaseOption = None,
    feed: Annotated[str | None, typer.Option(help="Only rows of this feed.")] = None,
    delivery: Annotated[
        str | None,
        typer.Option(help="Only rows of this delivery: its id, or part of its name."),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all of them to a CSV file."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List rejected rows with every reason."""
    from dagster_project import as_data, summary
    from dagster_project.answers.layout import show_json
    from dagster_project.feeds import feeds
    from dagster_project.releases.read import reading

    settings = settings_of_home(home)
    if feed is not None and feed not in feeds():
        wrong(f"There is no feed {feed!r}; there is {', '.join(feeds())}.")
    if csv is not None and json:
        wrong("Give --csv or --json, not both.")
    with explained(), reading(settings.home, release) as connection:
        if delivery is not None and not summary.has_delivery(connection, delivery):
            wrong(
                f"There is no delivery {delivery!r} in this release: `coupon-ledger deliveries`"
                " lists them."
            )
        if csv is not None:
            count = summary.rejected_to_csv(connection, csv, feed, delivery)
            print(f"{count:,} rejected rows written to {csv}")
        elif json:
            show_json(as_data.rejected(connection, feed, delivery))
        else:
            print(summary.rejected(connection, feed, delivery))


@app.command()
def releases(home: HomeOption = None, json: JsonOption = False) -> None:
    """List the releases kept, with what changed in their totals."""
    from dagster_project import as_data, summary
    from dagster_project.answers.layout import show_json
    from dagster_project.releases import list_releases

    settings = settings_of_home(home)
    with explained():
        if json:
            show_json(as_data.releases(list_releases(settings.home), settings.home))
            return
        print(summary.releases(list_releases(settings.home), settings.home))


@app.command()
def restore(
    release_id: Annotated[str, typer.Argument(metavar="ID", help="The release to serve.")],
    home: HomeOption = None,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Even if closed months differ in it and it lists none."),
    ] = False,
) -> None:
    """Serve an earlier release again; recorded."""
    import getpass

    from dagster_project.releases import current_release
    from dagster_project.releases import restore as restore_release

    settings = settings_of_home(home)
    with explained():
        before = current_release(settings.home)
        served = restore_release(
            settings.home, release_id, datetime.now(UTC), getpass.getuser(), is_forced=anyway
        )
    if served == before:
        print(f"Release {served} was served already: {settings.current}")
        return
    instead = f" instead of {before}" if before else ""
    print(f"Release {served} is served{instead}:\n  {settings.current}")
    print("The next run that ends well serves its own release again.")


@app.command()
def verify(
    release_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A release. [default: current]")
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Check that a release holds what it says."""
    from dagster_project import as_data
    from dagster_project.answers.layout import show_json
    from dagster_project.releases import verify as verify_release

    settings = settings_of_home(home)
    with explained():
        found = verify_release(settings.home, release_id)
    if json:
        show_json(as_data.verification(found))
        raise typer.Exit(1 if found.problems else 0)
    if found.problems:
        print(f"Release {found.release_id} is NOT sound:", file=sys.stderr)
        for problem in found.problems:
            print(f"  {problem}", file=sys.stderr)
        print("Serve another one: coupon-ledger restore ID", file=sys.stderr)
        raise typer.Exit(1)
    print(
        f"Release {found.release_id} is sound: {found.tables} tables as fingerprinted,"
        f" {found.checks} checks recorded."
    )


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest to keep.")],
    home: HomeOption = None,
) -> None:
    """Remove old releases; never the one served, nor one being read."""
    from dagster_project.releases import prune as prune_releases

    settings = settings_of_home(home)
    with explained():
        pruned = prune_releases(settings.home, keep, datetime.now(UTC))
    for release_id in pruned.removed:
        print(f"removed  {release_id}")
    for release_id, reason in pruned.spared.items():
        print(f"kept     {release_id}  ({reason})")
    if not pruned.removed and not pruned.spared:
        print("Nothing to remove.")


@app.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="The release to compare from.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The release to compare with.")],
    table: Annotated[str | None, typer.Option(help="Only this table, down to its cells.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many cells to list.")] = 50,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Compare two releases: rows by key, totals, cells."""
    from dagster_project import as_data, summary
    from dagster_project import releases as kept
    from dagster_project.answers.layout import show_json
    from dagster_project.releases.files import resolve
    from dagster_project.releases.read import read_pedigree

    settings = settings_of_home(home)
    with explained():
        both = [
            read_pedigree(settings.home, resolve(settings.home, one)) for one in (before, after)
        ]
        found = kept.diff(settings.home, before, after, table)
        if json:
            few = (
                None
                if table is None
                else kept.diff_cells(settings.home, before, after, table, limit)
            )
            show_json(as_data.differences(found, both, few))
            return
        print(summary.differences(found, both))
        if table is not None:
            cells = kept.diff_cells(settings.home, before, after, table, limit + 1)
            if cells:
                print(summary.cells(cells[:limit]))
            if len(cells) > limit:
                print(f"and more: these are the first {limit}, --limit N shows N of them")


@app.command()
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One select.")],
    home: HomeOption = None,
    release: ReleaseOption = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    json: JsonOption = False,
) -> None:
    """Ask the release in SQL; it can be read, nothing else."""
    import duckdb

    from dagster_project import as_data, summary
    from dagster_project.answers.layout import show_json
    from dagster_project.releases import open_release

    settings = settings_of_home(home)
    if csv and json:
        wrong("Give --csv or --json, not both.")
    with explained(), open_release(settings.home, release) as connection:
        try:
            statements = connection.extract_statements(sql)
            if len(statements) != 1:
                many = f"these are {len(statements)} statements" if statements else "this is none"
                wrong(f"Give one select: {many}.")
            cursor = connection.execute(statements[0])
            names = [str(column[0]) for column in cursor.description or []]
            rows = cursor.fetchall()
        except duckdb.Error as error:
            wrong(str(error))
        if json:
            show_json(as_data.answer(connection, names, rows))
            return
    # Whole numbers may be years or ids.
    table = summary.as_csv(names, rows) if csv else summary.as_table(names, rows, is_plain=True)
    print(table, end="")


register_reading(app)
register_closing(app)
register_service(app)
register_pull(app)
