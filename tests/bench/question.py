"""What a what-if costs beside a refresh of the same invoices, in turns, by processors' seconds.

Here belongs measuring `coupon-ledger what-if` as a person starts it, about the coupon with the most redemptions
that takes off percent: the recorded release is copied, concerned workspaces are calculated, the answer is printed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from dagster_project.releases import open_release
from dagster_project.settings import Settings
from tests.bench import machine, measure, refresh, store


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
    kinds: tuple[str, ...] = ("refresh", "question")
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    cpu: dict[str, list[float]] = {kind: [] for kind in kinds}
    coupon = {}
    for _ in range(rounds):
        shutil.rmtree(work, ignore_errors=True)
        store.deliver(sample / "landing", work / "landing")
        home, day = work / "home", store.last_day(sample)
        runs = {"refresh": refresh.command(work / "landing", home, day, "duckdb")}
        _add(measure.run(runs["refresh"], work / "refresh.log"), seconds, cpu, "refresh")
        coupon = _coupon(home)
        asked = [
            *(sys.executable, "-m", "dagster_project.cli", "what-if", "--home", str(home)),
            *("--coupon", coupon["coupon_id"], "--set", "percent_off=7", "--name"),
        ]
        measure.run([*asked, "first"], work / "first.log")  # the first compiles the models
        _add(measure.run([*asked, "second"], work / "question.log"), seconds, cpu, "question")
    shutil.rmtree(work)
    limits = Settings.model_fields
    return {
        **facts,
        "asked_invoices": invoices,
        **coupon,
        "threads": limits["threads"].default,
        "memory_limit": limits["memory_limit"].default,
        "rounds": rounds,
        **{f"{kind}_seconds": measure.median(seconds[kind]) for kind in kinds},
        **{f"{kind}_cpu_seconds": measure.median(cpu[kind]) for kind in kinds},
    }


def block(result: dict[str, Any]) -> str:
    """A result for people."""
    part = result["question_cpu_seconds"] / result["refresh_cpu_seconds"]
    return "\n".join(
        [
            f"{result['asked_invoices']:,} invoices; what if {result['coupon_id']}, of"
            f" {result['coupon_workspaces']:,} of {result['workspaces']:,} workspaces, took off"
            f" another percentage; {measure.rounds_in_words(result['rounds'])}",
            machine.sentence(result),
            f"  processors' seconds: refresh {result['refresh_cpu_seconds']:.1f}, what-if"
            f" {result['question_cpu_seconds']:.1f}: {part:.3f}",
            f"  by the clock: refresh {result['refresh_seconds']:.1f}, what-if"
            f" {result['question_seconds']:.1f}",
        ]
    )


def _add(
    run: measure.Measured, seconds: dict[str, list[float]], cpu: dict[str, list[float]], kind: str
) -> None:
    seconds[kind].append(run.seconds)
    cpu[kind].append(run.cpu_seconds)


def _coupon(home: Path) -> dict[str, Any]:
    """The coupon to ask about, with how many workspaces it has and how many there are."""
    with open_release(home) as connection:
        [(coupon_id, of_coupon)] = connection.execute(
            "select coupon_id, count(distinct workspace_id) from marts.dim_coupon_redemptions"
            " where discount_type = 'percent_off' group by 1 order by 2 desc, 1 limit 1"
        ).fetchall()
        [(every,)] = connection.execute("select count(*) from marts.dim_workspaces").fetchall()
    return {"coupon_id": coupon_id, "coupon_workspaces": of_coupon, "workspaces": every}
