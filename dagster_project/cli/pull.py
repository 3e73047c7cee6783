"""`pull`: fetch from a billing system into the landing folder, and report the result.

Exit codes: 0 success, 1 failure, 2 the request names something that does not exist or makes no sense.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.answers.as_json import as_json
from dagster_project.cli.options import (
    HomeOption,
    JsonOption,
    complain,
    explained,
    settings_from,
    wrong,
)

if TYPE_CHECKING:
    from dagster_project.settings import Settings
    from dagster_project.sources.stripe_outcome import Note
    from dagster_project.sources.stripe_pull import Report

LandingOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where the deliveries are written. [default: $COUPON_LEDGER_LANDING]",
    ),
]
WAIT_SECONDS = 3600
"""How long a pull that is ready to deliver waits for a refresh to end."""
MOST_SHOWN = 20

NOTES = {
    "end_is_a_bound": "Discounts whose end is known only as a bound",
    "different_lines": "Bills whose discounts act on different lines",
    "in_parts": "Discounts in several parts, since they do not act on every bill",
    "rounded_by_line": "Bills whose discounts are rounded on each line",
    "base_above_list": "Bills whose discounts act on more than the list amount",
    "discount_given_back": "Bills that give money back with a discount in it",
    "tax_in_the_price": "Bills with tax inside the prices",
    "customer_balance": "Bills that moved the customer balance",
    "shipping": "Bills with shipping",
    "credit_differs": "Bills whose credit differs from the grants' transactions",
    "limit_per_currency": "Coupons whose limit is counted for each currency",
    "deleted_coupon": "Deleted coupons whose products and further currencies are not known",
    "unknown_program": "Coupons whose program is not known",
    "workspace_from_bills": "Workspaces that Stripe no longer lists",
    "mtus": "Bills whose metered quantity is not a whole number",
    "gone": "Objects that Stripe no longer has",
    "not_there": "Objects that this account does not have",
    "not_expanded": "Contents that Stripe does not show",
}
"""The title of each kind of notes."""

pull = typer.Typer(
    help="Fetch from a billing system into the landing folder.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@pull.command(epilog="Example: coupon-ledger pull stripe --landing deliveries --probe")
def stripe(
    landing: LandingOption = None,
    home: HomeOption = None,
    everything: Annotated[
        bool,
        typer.Option("--everything", help="Read every invoice again, not only what may be new."),
    ] = False,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="Deliver nothing; check the mapping's assumptions about the account."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Fetch from a Stripe account, read-only.

    STRIPE_API_KEY holds its key.
    """
    from dagster_project.sources import stripe_probe, stripe_pull

    settings = settings_from(home, landing)
    if probe:
        with _explained():
            checks = stripe_probe.probe()
        if json:
            print(as_json([check.as_json() for check in checks]))
        else:
            print("\n".join(map(str, checks)))
        raise typer.Exit(1 if any(check.outcome == "differs" for check in checks) else 0)
    _must_be_writable(settings)
    with _explained():
        report = stripe_pull.pull(
            settings,
            everything=everything,
            told=_told,
            exclusively=refreshes_kept_out(settings, "pull stripe"),
        )
    if json:
        print(as_json(report.as_json()))
    else:
        print(_as_text(report))


@pull.command(epilog="Example: coupon-ledger pull postgres --sources lago --landing deliveries")
def postgres(
    sources: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A TOML file with a SELECT for each feed, or one that comes with the product:"
            " lago, fivetran_stripe. [default: $COUPON_LEDGER_POSTGRES_SOURCES]",
        ),
    ] = None,
    landing: LandingOption = None,
    home: HomeOption = None,
    everything: Annotated[
        bool,
        typer.Option("--everything", help="Ask for all rows, not only for changed ones."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Fetch from a Postgres database, read-only.

    PGHOST, PGDATABASE, PGUSER … name it, as for any client of Postgres.
    """
    from dagster_project.sources import postgres as source

    settings = settings_from(home, landing)
    named = sources or settings.postgres_sources
    if not named:
        wrong(
            "Name a file of SELECTs with --sources (or COUPON_LEDGER_POSTGRES_SOURCES), or one that"
            f" comes with the product: {', '.join(source.ready_made())}."
        )
    _must_be_writable(settings)
    with _explained():
        report = source.pull(
            settings,
            source.read_file(named),
            everything=everything,
            told=_told,
            exclusively=refreshes_kept_out(settings, "pull postgres"),
        )
    if json:
        print(as_json(report.as_json()))
    else:
        print("\n".join(_delivered(report.delivered, report.files)))


def refreshes_kept_out(
    settings: Settings, command: str
) -> Callable[[], AbstractContextManager[None]]:
    """Return the lock a pull holds while it delivers, so no refresh sees only part of a delivery.

    Args:
        settings: The data home.
        command: The command that holds the lock, for messages to others.
    """
    from dagster_project.releases.lock import one_writer

    return lambda: one_writer(settings.home, command, WAIT_SECONDS)


def _must_be_writable(settings: Settings) -> None:
    from dagster_project.releases.data_home import check_layout

    if settings.uses_sample:
        wrong(
            "The landing folder is the sample's, which must not change: name another one with"
            " --landing (or COUPON_LEDGER_LANDING)."
        )
    with _explained():
        check_layout(settings.home)
    if settings.landing.exists() and not settings.landing.is_dir():
        wrong(f"{settings.landing} is not a folder: name one with --landing.")


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what stopped a pull into its message and an exit code."""
    from dagster_project.sources.errors import PullError, SetUpWrong

    try:
        with explained():
            yield
    except PullError as error:
        complain(str(error))
        raise typer.Exit(2 if isinstance(error, SetUpWrong) else 1) from None


def _told(kind: str, count: int, is_done: bool) -> None:
    """Print one line for each kind of object, with a running count on a terminal."""
    line = f"{kind.replace('_', ' '):<28} {count:>10,}"
    if sys.stderr.isatty():
        print(f"\r{line}", end="\n" if is_done else "", file=sys.stderr, flush=True)
    elif is_done:
        print(line, file=sys.stderr, flush=True)


def _as_text(report: Report) -> str:
    lines = _delivered(report.delivered, report.files)
    if report.drafts:
        lines.append(f"Drafts, delivered once they are finalized: {report.drafts:,}")
    if report.refused:
        lines.append(f"Not delivered ({len(report.refused):,}):")
        lines += [f"  {one.feed} {one.id}: {one.why}" for one in report.refused[:MOST_SHOWN]]
        lines += _more(len(report.refused))
    for kind in dict.fromkeys(note.kind for note in report.notes):
        of_kind = [note for note in report.notes if note.kind == kind]
        lines.append(f"{NOTES.get(kind, kind)} ({len(of_kind):,}):")
        lines += _notes(of_kind)
    lines.append(f"All of it: pulls/stripe/{report.pull}/report.json in the data home.")
    return "\n".join(lines)


def _delivered(rows: Mapping[str, int], files: Sequence[str]) -> list[str]:
    if not rows:
        return ["Nothing to deliver: nothing has changed since the last pull."]
    counts = ", ".join(f"{feed} {count:,}" for feed, count in rows.items())
    return [f"Delivered: {counts}", *(f"  {file}" for file in files)]


def _notes(notes: Sequence[Note]) -> list[str]:
    return [f"  {note.id}: {note.text}" for note in notes[:MOST_SHOWN]] + _more(len(notes))


def _more(count: int) -> list[str]:
    return [f"  and {count - MOST_SHOWN:,} more"] if count > MOST_SHOWN else []
