"""This version beside an earlier commit: the same deliveries, in turns, as ratios.

Installing that commit and running both versions belong here; refresh.py compares a refresh with a floor.
Deliveries have the columns that both versions know. Processors' seconds are compared, because other work
on the machine changes them less than the time by the clock.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from dagster_project.releases import open_release
from dagster_project.settings import CHECKOUT, Settings
from tests.bench import machine, measure, refresh, store

REF = "b411622"
"""Version 0.4.0."""
FULL, MONTH, RESTATED, DAY = "full refresh", "one new month", "1% restated", "a day later"
SAMPLE, AGAIN = "sample, from nothing", "sample, `run --always`"
READING = (
    ("releases",),
    ("workspace", "{workspace}"),
    ("burndown",),
    ("variance",),
    ("findings",),
    ("expiring",),
    ("programs",),
    ("query", "select count(*) as charges from marts.fct_discounted_charges"),
)
"""The reading commands that both versions have."""
_PACKAGES = ("duckdb", "dbt-core", "dbt-duckdb", "dagster", "pyarrow", "great-expectations")


@dataclass(frozen=True)
class Version:
    """An installed version.

    Attributes:
        name: Its name in results.
        command: Its command `coupon-ledger`.
    """

    name: str
    command: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this measurement."""
    limits = Settings.model_fields
    parser.add_argument("--ref", default=REF, help="the commit to compare with")
    parser.add_argument("--invoices", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--only", choices=("large", "sample"), help="only the large deliveries, or only the sample"
    )
    parser.add_argument("--threads", type=int, default=limits["threads"].default)
    parser.add_argument("--memory-limit", default=limits["memory_limit"].default)


def main(options: argparse.Namespace) -> None:
    """Measure, print, keep."""
    here = Version("this", Path(sys.executable).with_name("coupon-ledger"))
    environment = {
        "COUPON_LEDGER_THREADS": str(options.threads),
        "COUPON_LEDGER_MEMORY_LIMIT": options.memory_limit,
    }
    before = installed(options.ref, store.FOLDER)
    facts = machine.described(_PACKAGES)
    runs: list[dict[str, Any]] = []
    for number in range(1, options.rounds + 1):
        print(f"round {number} of {options.rounds}", file=sys.stderr, flush=True)
        if options.only != "sample":
            runs += large([before, here], options.invoices, environment)
        if options.only != "large":
            landing = before.command.parents[2] / "data" / "sample" / "landing"
            runs += small([before, here], landing, environment)
    result = {
        **facts,
        "ref": options.ref,
        "asked_invoices": 0 if options.only == "sample" else options.invoices,
        "only": options.only or "",
        "threads": options.threads,
        "memory_limit": options.memory_limit,
        "rounds": options.rounds,
        "runs": runs,
    }
    print(told(result))
    print(f"Kept in {store.keep('against', result)}")


def installed(ref: str, folder: Path) -> Version:
    """Install a commit of this repository with the packages it locks, unless it is installed.

    Args:
        ref: The commit.
        folder: Where versions are kept, in `against/`.

    Raises:
        CalledProcessError: There is no such commit, or its packages cannot be installed.
    """
    commit = _output("git", "-C", str(CHECKOUT), "rev-parse", "--short=12", f"{ref}^{{commit}}")
    kept = folder / "against" / commit
    command = kept / ".venv" / "bin" / "coupon-ledger"
    if not (kept / ".installed").is_file():
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        _output("git", "clone", "--quiet", "--shared", "--no-checkout", str(CHECKOUT), str(kept))
        _output("git", "-C", str(kept), "checkout", "--quiet", commit)
        _output(sys.executable, "-m", "venv", str(kept / ".venv"))
        pip = [str(command.with_name("pip")), "install", "--quiet"]
        _output(*pip, "--requirement", str(kept / "requirements.lock"))
        _output(*pip, "--no-build-isolation", "--no-deps", "--editable", str(kept))
        (kept / ".installed").touch()
    return Version(ref, command)


def large(
    versions: Sequence[Version],
    invoices: int,
    environment: Mapping[str, str],
    folder: Path = store.FOLDER,
) -> list[dict[str, Any]]:
    """Refresh a large sample by each version, day after day, then read what it published.

    Args:
        versions: In turns, in this order.
        invoices: About how many invoices.
        environment: Threads and memory.
        folder: Where samples are kept and work is done.

    Returns:
        What each run took: version, scenario, seconds, cpu_seconds, peak_bytes.
    """
    sample = store.sample(invoices, hold_back=True, folder=folder)
    last = store.last_day(sample)
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    store.deliver(sample / "landing", work / "landing")
    runs = []
    for scenario, day in (
        (FULL, last.replace(day=1) - timedelta(days=1)),
        (MONTH, last),
        (RESTATED, last),
        (DAY, last + timedelta(days=1)),
    ):
        if scenario == MONTH:
            store.deliver(sample / "next", work / "landing")
        if scenario == RESTATED:
            refresh.restate(work / "landing", 1, work / "restated")
            store.deliver(work / "restated", work / "landing")
        for version in versions:
            options = ["--landing", str(work / "landing"), "--as-of", day.isoformat()]
            runs.append(_run(version, scenario, work / version.name, options, environment))
    for version in versions:
        runs += reading(version, work / version.name, environment)
    shutil.rmtree(work)
    return runs


def small(
    versions: Sequence[Version],
    landing: Path,
    environment: Mapping[str, str],
    folder: Path = store.FOLDER,
) -> list[dict[str, Any]]:
    """Refresh a committed sample by each version, from nothing and once more.

    Args:
        versions: In turns, in this order.
        landing: The sample's deliveries, which all versions can read.
        environment: Threads and memory.
        folder: Where work is done.

    Returns:
        As `large` does.
    """
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    options = [
        "--landing",
        str(landing),
        "--as-of",
        store.last_day(landing.parent).isoformat(),
        "--always",
    ]
    runs = [
        _run(version, scenario, work / version.name, options, environment)
        for scenario in (SAMPLE, AGAIN)
        for version in versions
    ]
    shutil.rmtree(work)
    return runs


def reading(
    version: Version, home: Path, environment: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Run every command that reads.

    Args:
        version: The version whose commands to run.
        home: A data home that it has refreshed.
        environment: Threads and memory.

    Yields:
        What each command took, as in the result of `large`.
    """
    with open_release(home) as connection:
        [row] = connection.execute("select min(workspace_id) from marts.dim_workspaces").fetchall()
    for words in READING:
        arguments = [word.format(workspace=row[0]) for word in words]
        taken = measure.run(
            [str(version.command), *arguments, "--home", str(home)],
            home.parent / f"{version.name}-reading.log",
            environment,
            folder=home.parent,
        )
        yield _record(version, f"`{words[0]}`", taken)


def told(result: Mapping[str, Any]) -> str:
    """A result for people."""
    lines = [
        f"This version beside {result['ref']}, {result['asked_invoices']:,} invoices;"
        f" {result['threads']} threads, DuckDB's memory limit {result['memory_limit']};"
        f" {measure.rounds_in_words(result['rounds'])}",
        machine.sentence(dict(result)),
        f"  {'':<26} {'CPU, s':>15} {'ratio':>6} {'by the clock, s':>17} {'ratio':>6} {'peak':>9}",
    ]
    for row in compared(result):
        lines.append(
            f"  {row.scenario:<26} {row.before_cpu:>7.1f} {row.cpu:>7.1f} {row.cpu_ratio:>6.2f}"
            f" {row.before_seconds:>8.1f} {row.seconds:>8.1f} {row.seconds_ratio:>6.2f}"
            f" {row.peak_bytes / 1e9:>6.2f} GB"
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class Row:
    """A scenario of both versions, medians of its runs.

    Attributes:
        scenario: Its name.
        before_cpu: Processors' seconds of the earlier version.
        cpu: The same of this one.
        before_seconds: Seconds by the clock of the earlier version.
        seconds: The same of this one.
        peak_bytes: Memory of this one.
    """

    scenario: str
    before_cpu: float
    cpu: float
    before_seconds: float
    seconds: float
    peak_bytes: int

    @property
    def cpu_ratio(self) -> float:
        """This version's processors' seconds divided by the earlier one's."""
        return self.cpu / self.before_cpu

    @property
    def seconds_ratio(self) -> float:
        """This version's time by the clock divided by the earlier one's."""
        return self.seconds / self.before_seconds


def compared(result: Mapping[str, Any]) -> Iterator[Row]:
    """Every scenario that both versions ran, in the order they were run in."""
    found: dict[str, dict[bool, list[Mapping[str, Any]]]] = {}
    for run in result["runs"]:
        found.setdefault(run["scenario"], {}).setdefault(run["version"] == "this", []).append(run)
    for scenario, runs in found.items():
        if set(runs) == {False, True}:
            before_cpu, cpu = (_median(runs[here], "cpu_seconds") for here in (False, True))
            before_seconds, seconds = (_median(runs[here], "seconds") for here in (False, True))
            peak = max(int(run["peak_bytes"]) for run in runs[True])
            yield Row(scenario, before_cpu, cpu, before_seconds, seconds, peak)


def _median(runs: Sequence[Mapping[str, Any]], value: str) -> float:
    return measure.median([run[value] for run in runs])


def _run(
    version: Version, scenario: str, home: Path, options: list[str], environment: Mapping[str, str]
) -> dict[str, Any]:
    print(f"  {scenario}: {version.name}", file=sys.stderr, flush=True)
    taken = measure.run(
        [str(version.command), "run", "--home", str(home), *options],
        home.parent / f"{version.name}.log",
        environment,
        folder=home.parent,  # in this checkout, its child processes would import this version
    )
    return {
        **_record(version, scenario, taken),
        "steps": refresh.step_seconds(taken.output),
    }


def _record(version: Version, scenario: str, taken: measure.Measured) -> dict[str, Any]:
    return {
        "version": version.name,
        "scenario": scenario,
        "seconds": round(taken.seconds, 2),
        "cpu_seconds": round(taken.cpu_seconds, 2),
        "peak_bytes": taken.peak_bytes,
    }


def _output(*arguments: str) -> str:
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.strip()
