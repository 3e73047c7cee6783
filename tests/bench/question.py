"""What a what-if costs beside a refresh of the same invoices, in turns, by processors' seconds.

Measuring `coupon-ledger what-if` as a person starts it belongs here, about two coupons: the percent-off coupon
and the credit coupon with the most workspaces. The recorded release is copied, the workspaces concerned are
calculated, and the answer is printed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dagster_project.releases import open_release
from dagster_project.settings import Settings
from tests.bench import machine, measure, refresh, store

ASKED = {"percent_off": "percent_off=7", "credit": "credit_amount=77"}
"""The term that is changed, by the coupon's discount type."""
WORDS = {"percent_off": "percentage", "credit": "credit"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this measurement."""
    parser.add_argument("--invoices", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)


def main(options: argparse.Namespace) -> None:
    """Measure, print, keep."""
    result = measured(options.invoices, options.rounds)
    print(block(result))
    print(f"Kept in {store.keep('question', result)}")


def measured(invoices: int, rounds: int, folder: Path = store.FOLDER) -> dict[str, Any]:
    """Measure and return the record of it.

    Args:
        invoices: About how many.
        rounds: How often each is run, in turns.
        folder: Where samples are kept.

    Raises:
        RunFailed: A run failed.
    """
    facts = machine.described(("duckdb", "dbt-core", "dbt-duckdb", "dagster"))
    sample = store.sample(invoices, folder=folder)
    work = folder / "work"
    kinds: tuple[str, ...] = ("refresh", *ASKED)
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    cpu: dict[str, list[float]] = {kind: [] for kind in kinds}
    coupons: dict[str, tuple[str, int]] = {}
    for _ in range(rounds):
        shutil.rmtree(work, ignore_errors=True)
        store.deliver(sample / "landing", work / "landing")
        home, day = work / "home", store.last_day(sample)
        started = refresh.command(work / "landing", home, day, "duckdb")
        _add(measure.run(started, work / "refresh.log"), seconds, cpu, "refresh")
        coupons, workspaces = _coupons(home)
        asked = [sys.executable, "-m", "dagster_project.cli", "what-if", "--home", str(home)]
        for kind, (coupon_id, _) in coupons.items():
            asked_of = [*asked, "--coupon", coupon_id, "--set", ASKED[kind], "--name"]
            if kind == next(iter(coupons)):  # the first question compiles the models
                measure.run([*asked_of, "first"], work / "first.log")
            _add(measure.run([*asked_of, kind], work / f"{kind}.log"), seconds, cpu, kind)
    shutil.rmtree(work)
    limits = Settings.model_fields
    return {
        **facts,
        "asked_invoices": invoices,
        "workspaces": workspaces,
        "threads": limits["threads"].default,
        "memory_limit": limits["memory_limit"].default,
        "rounds": rounds,
        "refresh_seconds": measure.median(seconds["refresh"]),
        "refresh_cpu_seconds": measure.median(cpu["refresh"]),
        "questions": [
            {
                "discount_type": kind,
                "coupon_id": coupon_id,
                "coupon_workspaces": of_coupon,
                "seconds": measure.median(seconds[kind]),
                "cpu_seconds": measure.median(cpu[kind]),
            }
            for kind, (coupon_id, of_coupon) in coupons.items()
        ],
    }


def block(result: dict[str, Any]) -> str:
    """A result for people."""
    lines = [
        f"{result['asked_invoices']:,} invoices, {measure.rounds_in_words(result['rounds'])};"
        f" refresh {result['refresh_cpu_seconds']:.1f} CPU seconds,"
        f" {result['refresh_seconds']:.1f} by the clock",
        machine.sentence(result),
    ]
    for one in result["questions"]:
        part = one["cpu_seconds"] / result["refresh_cpu_seconds"]
        lines.append(
            f"  what-if {one['coupon_id']} ({one['discount_type']}), of"
            f" {one['coupon_workspaces']:,} of {result['workspaces']:,} workspaces:"
            f" {one['cpu_seconds']:.1f} CPU seconds, {part:.3f} of the refresh;"
            f" {one['seconds']:.1f} by the clock"
        )
    return "\n".join(lines)


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Results for the page on speed, with where they were measured."""
    rows = [
        f"| {result['asked_invoices']:,} | {WORDS[one['discount_type']]}"
        f" | {100 * one['coupon_workspaces'] / result['workspaces']:.0f}%"
        f" | {result['refresh_cpu_seconds']:.1f} | {one['cpu_seconds']:.1f}"
        f" | {one['cpu_seconds'] / result['refresh_cpu_seconds']:.2f} |"
        for result in results
        for one in result["questions"]
    ]
    return "\n".join(
        [
            "| invoices | terms of the coupon that change | of the workspaces"
            " | refresh, CPU seconds | what-if | part |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "Measured on:",
            "",
            *(
                f"- {result['asked_invoices']:,}: {machine.sentence(dict(result))}"
                for result in results
            ),
        ]
    )


def _add(
    run: measure.Measured, seconds: dict[str, list[float]], cpu: dict[str, list[float]], kind: str
) -> None:
    seconds[kind].append(run.seconds)
    cpu[kind].append(run.cpu_seconds)


def _coupons(home: Path) -> tuple[dict[str, tuple[str, int]], int]:
    """The coupons to ask about by discount type, each with its number of workspaces; and the number of all."""
    with open_release(home) as connection:
        found = connection.execute(
            "select discount_type, coupon_id, count(distinct workspace_id) as workspaces"
            " from marts.dim_coupon_redemptions group by discount_type, coupon_id"
            " qualify row_number() over (partition by discount_type order by workspaces desc, coupon_id) = 1"
        ).fetchall()
        [(every,)] = connection.execute("select count(*) from marts.dim_workspaces").fetchall()
    largest = {kind: (coupon_id, of_coupon) for kind, coupon_id, of_coupon in found}
    return {kind: largest[kind] for kind in ASKED}, every
