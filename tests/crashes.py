"""Kills refreshes with SIGKILL at random points and checks the current release, then and after a rerun.

The machinery belongs here; `tests/pipeline/test_crashes.py` uses it in a bounded form, and
`python -m tests.crashes --kills 200` runs it at length.

There are two kinds of victims: the steps of a refresh in a small process (real arrival, publication and
pruning around marts made from the raw tables by a few statements), which is cheap enough to be killed often,
and the real `coupon-ledger run`.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import duckdb

from dagster_project import releases
from dagster_project.arrival import arrive
from dagster_project.releases import candidate, files
from dagster_project.sample import generate_sample
from dagster_project.settings import CHECKOUT
from tests.pipeline.conftest import AS_OF, NOW, HandMade, write_lineage

STEPS = ("arrival", "build", "publish", "prune")
RUN_STEPS = ("arrival", "dbt_build", "release")
KEPT = 2
READERS = 8

# Children of a process that has everything imported and nothing opened.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["__main__", "tests.crashes"])

Contents = dict[tuple[str, str], tuple[int, str]]


class FromRaw(HandMade):
    """A build whose marts come from the raw tables, as dbt's do, but in a few statements."""

    def write_warehouse(self) -> None:
        """Make marts and pedigree again from what has arrived."""
        candidate.begin(self.candidate)
        with duckdb.connect(str(self.warehouse)) as connection:
            connection.execute(f"attach '{self.candidate}' as candidate")
            for schema in ("staging", "intermediate"):
                connection.execute(f"create schema if not exists {schema}")
            connection.execute(
                "create table candidate.marts.fct_discounted_charges as"
                " select invoice_id || '-' || copy as invoice_id, currency,"
                " try_cast(issued_at as timestamp) as issued_at,"
                " cast(date_trunc('month', try_cast(issued_at as timestamp)) as date)"
                " as billing_month, try_cast(mtus as bigint) as mtus,"
                " try_cast(list_amount as decimal(18, 2)) as list_amount,"
                " cast(0 as decimal(18, 2)) as discount_amount,"
                " cast(0 as decimal(18, 2)) as credit_amount,"
                " try_cast(list_amount as decimal(18, 2)) as net_amount,"
                " try_cast(list_amount as decimal(18, 2)) as billed_net_amount"
                " from (select * from raw.invoices qualify row_number() over (partition by"
                " invoice_id order by delivery_sequence desc, row_number desc) = 1)"
                " cross join range(30) as copies (copy)"
            )
            connection.execute(
                "create table candidate.marts.dim_coupons as"
                " select distinct coupon_id, true as is_open from raw.coupons"
                " where coupon_id is not null"
            )
            connection.execute(
                "create or replace table intermediate.int_deliveries_reconciled as"
                " select *, physical_rows as accepted_rows, 0::bigint as superseded_rows,"
                " 0::bigint as duplicate_rows, 0::bigint as rejected_rows from raw.deliveries"
            )
            connection.execute(
                "create or replace table staging.stg_billing__rejected_rows as"
                " select delivery_id, feed, file_name, 1::bigint as row_number, '' as reasons,"
                " '{}' as record from raw.deliveries where false"
            )
            write_lineage(connection)


def refresh(
    home: Path, landing: Path, as_of: date = AS_OF, told: Callable[[str], None] = lambda _: None
) -> str:
    """The steps of one refresh; reports each step as it begins, then `done`.

    Args:
        home: The data home.
        landing: The landing folder.
        as_of: Last day whose events count.
        told: Called with the name of each step.

    Returns:
        The id of the current release.
    """
    with releases.one_writer(home, "tests.crashes", wait_seconds=10):
        told("arrival")
        arrive(landing, home, "run", NOW, with_gate=False)
        told("build")
        made = FromRaw(home, as_of=as_of).write()
        told("publish")
        release_id = made.publish().release_id
        told("prune")
        releases.prune(home, KEPT, NOW)
        told("done")
    return release_id


def _victim(told: Connection, home: Path, landing: Path) -> None:
    refresh(home, landing, told=told.send)


def contents(home: Path, schemas: tuple[str, ...] = ("marts", "release")) -> Contents:
    """Rows and fingerprint of every table of the current release, opened as a reader would.

    Raises:
        AssertionError: The current release is not whole, or not the one its name says.
    """
    with duckdb.connect(str(home / "current"), read_only=True) as connection:
        (release_id,) = connection.execute("select release_id from release.release").fetchall()[0]
        rows = connection.execute(
            "select table_schema, table_name, row_count, fingerprint from release.tables"
        ).fetchall()
    assert release_id == files.current_release(home)
    found = releases.verify(home)
    assert found.problems == (), found.problems
    return {(row[0], row[1]): (row[2], row[3]) for row in rows if row[0] in schemas}


@dataclass
class Victims:
    """A data home with some releases, a landing folder with further deliveries, and the result of a refresh.

    Attributes:
        folder: Where everything is stored.
        seconds: How long each step takes undisturbed.
    """

    folder: Path
    seed: int = 7
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Generate a sample and refresh once, undisturbed."""
        generate_sample(12, 8, self.seed, self.folder)
        earlier = self.folder / "earlier"
        shutil.copytree(self.landing, earlier)
        for file in sorted(earlier.glob("invoices/*"))[1:]:
            file.unlink()
        for days in (3, 2, 1):
            refresh(self.template, earlier, AS_OF - timedelta(days=days))
        self.before = contents(self.template)
        undisturbed = self.copied("undisturbed")
        moments: list[tuple[str, float]] = []
        refresh(
            undisturbed,
            self.landing,
            told=lambda step: moments.append((step, time.monotonic())),
        )
        for (step, began), (_, ended) in itertools.pairwise(moments):
            self.seconds[step] = ended - began
        self.after = contents(undisturbed)
        assert self.after != self.before

    @property
    def landing(self) -> Path:
        """The landing folder with all deliveries."""
        return self.folder / "landing"

    @property
    def template(self) -> Path:
        """The data home from which every victim starts."""
        return self.folder / "template"

    def copied(self, name: str) -> Path:
        """A copy of the template."""
        home = self.folder / name
        shutil.copytree(self.template, home, symlinks=True)
        return home

    def kill(self, home: Path, step: str, delay: float) -> bool:
        """Start a refresh in a process of its own and kill it in a step.

        Args:
            home: The data home.
            step: The step to kill it in.
            delay: Seconds after the step began.

        Returns:
            Whether it was still running.
        """
        ours, theirs = _FORKS.Pipe(duplex=False)
        process = _FORKS.Process(target=_victim, args=(theirs, home, self.landing))
        process.start()
        theirs.close()
        with contextlib.suppress(EOFError):
            while ours.recv() != step:
                pass
            time.sleep(delay)
        process.kill()
        process.join()
        ours.close()
        return process.exitcode == -signal.SIGKILL

    def trial(self, part: float, step: str, name: str) -> bool:
        """Kill one refresh in a step, and check that nothing is lost; then refresh again.

        Args:
            part: How much of the step has passed, from 0 to 1.
            step: The step.
            name: Name of the data home.

        Returns:
            Whether it was still running when it was killed.

        Raises:
            AssertionError: Something is not as it should be; the data home is left for inspection.
        """
        home = self.copied(name)
        killed = self.kill(home, step, part * self.seconds[step])
        left = contents(home)
        assert left in (self.before, self.after), "neither the old release nor the new one"
        refresh(home, self.landing)
        assert contents(home) == self.after, "a rerun gives something else"
        kept = files.release_ids(home)
        assert len(kept) == KEPT, kept
        assert releases.verify(home, kept[0]).problems == ()
        leftovers = [*home.rglob("*.tmp"), *home.rglob("*.wal")]
        assert leftovers == [], leftovers
        shutil.rmtree(home)
        return killed


def kill_many(folder: Path, kills: int, seed: int, *, is_shown: bool = False) -> Counter[str]:
    """Kill refreshes, in every step in turn, until a number of them were still running when killed.

    The moments are spread over each step: it is divided into as many parts as there are kills in it, with one
    kill in each.

    Args:
        folder: An empty folder to work in.
        kills: How many.
        seed: Seed of the random moments.
        is_shown: Whether progress is printed.

    Returns:
        Kills by step.
    """
    chance = random.Random(seed)
    victims = Victims(folder)
    hit: Counter[str] = Counter()
    parts = -(-kills // len(STEPS))
    trials = 0
    while hit.total() < kills:
        assert trials < 3 * kills + 10, f"most refreshes end before they are killed: {hit}"
        step, number = STEPS[trials % len(STEPS)], trials // len(STEPS)
        trials += 1
        moment = 0.9 * (number % parts + chance.random()) / parts
        hit[step] += victims.trial(moment, step, f"victim-{trials}")
        if is_shown:
            print(f"\r{hit.total()} of {kills} killed", end="", flush=True)
    return hit


def kill_run(home: Path, step: str, delay: float, *arguments: str) -> bool:
    """Start the real `coupon-ledger run` and kill it in a step.

    Args:
        home: The data home.
        step: `arrival`, `dbt_build` or `release`.
        delay: Seconds after the step began.
        arguments: Further arguments of the command.

    Returns:
        Whether it was still running.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COUPON_LEDGER_", "DAGSTER_"))
    }
    command = [sys.executable, "-m", "dagster_project.cli", "run", "--home", str(home), *arguments]
    before = ("prepare", *RUN_STEPS)[RUN_STEPS.index(step)]
    with subprocess.Popen(
        command, cwd=CHECKOUT, env=inherited, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.split()[:1] == [before]:
                time.sleep(delay)
                break
        process.send_signal(signal.SIGKILL)
    return process.returncode == -signal.SIGKILL


POLL = """
import os, sys, time
import duckdb
home = sys.argv[1]
long_lived = duckdb.connect(os.path.realpath(home + "/current"), read_only=True)
ask = (
    "select (select release_id from release.release), (select as_of_date from release.release),"
    " count(distinct list_amount), min(list_amount), count(*) from marts.fct_discounted_charges"
)
first = long_lived.execute(ask).fetchall()
last, polls = "", 0
print("reading", flush=True)
while not os.path.exists(home + "/stop"):
    with duckdb.connect(home + "/current", read_only=True) as connection:
        (found,) = connection.execute(ask).fetchall()
    assert found[2] == 1, f"mixed: {found}"
    assert int(found[3]) * 10 == found[4], f"mixed: {found}"
    assert found[0] >= last, f"{found[0]} after {last}"
    last, polls = found[0], polls + 1
    time.sleep(0.005)
assert long_lived.execute(ask).fetchall() == first
print(polls, last)
"""
"""A reader process that opens `current` again and again, and keeps one connection open all the time."""


def main() -> None:
    """Run at length."""
    parser = argparse.ArgumentParser(prog="python -m tests.crashes", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="refreshes to kill [200]")
    parser.add_argument("--runs", type=int, default=10, help="real runs to kill [10]")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments [1]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crashes-") as folder:
        hit = kill_many(Path(folder) / "steps", given.kills, given.seed, is_shown=True)
        print(f"\n{hit.total()} refreshes killed: {dict(hit)}; each rerun gave the same release")
        _kill_real_runs(Path(folder) / "runs", given.runs, random.Random(given.seed))


def _kill_real_runs(folder: Path, kills: int, chance: random.Random) -> None:
    generate_sample(12, 8, 7, folder)
    arguments = ("--landing", str(folder / "landing"), "--as-of", "2024-02-29")
    command = [sys.executable, "-m", "dagster_project.cli", "run", *arguments, "--home"]
    quiet = subprocess.DEVNULL
    undisturbed = folder / "undisturbed"
    subprocess.run([*command, undisturbed], cwd=CHECKOUT, check=True, stdout=quiet)
    expected = contents(undisturbed, ("marts",))
    killed = 0
    for number in range(kills):
        home = folder / f"home-{number}"
        HandMade(home).write().publish()
        shutil.rmtree(home / "build")
        step = RUN_STEPS[number % len(RUN_STEPS)]
        longest = {"arrival": 4.0, "dbt_build": 6.0, "release": 1.0}[step]
        killed += kill_run(home, step, chance.uniform(0, longest), *arguments)
        contents(home)
        subprocess.run([*command, home], cwd=CHECKOUT, check=True, stdout=quiet)
        assert contents(home, ("marts",)) == expected
        shutil.rmtree(home)
    print(f"{killed} of {kills} real runs killed before they ended; each rerun gave the same marts")


if __name__ == "__main__":
    globals()["__spec__"] = (
        None  # so that the children's parent imports this file once, and not each child
    )
    main()
