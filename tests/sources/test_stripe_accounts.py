"""However an account is pulled, once or in many steps, with kills between, the same rows are current."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project.cli.run import refresh
from dagster_project.settings import Settings
from dagster_project.sources import deliveries, stripe_pull
from dagster_project.sources.errors import PullError
from tests.sources.delivered import Rows, files, newest
from tests.sources.random_accounts import STEPS, Living
from tests.sources.stripe_server import KEY, serving

ACCOUNTS = int(os.environ.get("LIVING_ACCOUNTS", "3"))
REFRESHED = int(os.environ.get("LIVING_ACCOUNTS_REFRESHED", "1"))
"""How many accounts are compared by rows, and how many by marts; more are tried by hand."""
UNTIL = date(2025, 4, 1)
KILLS = int(os.environ.get("LIVING_KILLS", "3"))
"""How often a process is killed."""
CANNOT_BE_SAID = ("different_lines", "base_above_list", "rounded_by_line")
"""Notes about bills that the feeds cannot say, so that a finding may follow."""
WHEN_AND_WHERE = frozenset({"delivery_id", "delivery_row", "updated_at"})
"""Columns that say which pull delivered a row."""


class Killed(BaseException):
    """Stands for a kill: nobody catches it."""


class Chaos:
    """Stops pulls where it hurts: at a request, before the files are renamed, and between them."""

    def __init__(self, seed: int, living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
        self.random = random.Random(seed)
        self.living = living
        self.monkeypatch = monkeypatch
        self.kills = 0

    def pull(self, pull: Callable[[], stripe_pull.Report]) -> None:
        for _ in range(self.random.randint(1, 3)):
            self.kills += 1
            with self.monkeypatch.context() as patched:
                self.random.choice([self.at_request, self.before_files, self.between_files])(
                    patched
                )
                try:
                    pull()
                except (Killed, PullError):
                    continue
                finally:
                    self.living.account.trouble = lambda *_: None
        pull()

    def at_request(self, patched: pytest.MonkeyPatch) -> None:
        left = self.random.randint(0, 14)

        def trouble(number: int, path: str) -> int | None:
            nonlocal left
            left -= 1
            return 500 if left < 0 else None

        self.living.account.trouble = trouble

    def before_files(self, patched: pytest.MonkeyPatch) -> None:
        def killed(*_: Any) -> None:
            raise Killed

        name = self.random.choice(["deliver", "_finish", "remove_leftovers"])
        patched.setattr(deliveries, name, killed)

    def between_files(self, patched: pytest.MonkeyPatch) -> None:
        left = self.random.randint(0, 5)
        rename = Path.replace

        def replace(path: Path, target: Path) -> Path:
            nonlocal left
            if path.name.endswith(".csv.part"):
                left -= 1
                if left < 0:
                    raise Killed
            return rename(path, target)

        patched.setattr(Path, "replace", replace)


def current(landing: Path) -> Rows:
    """The current rows without the instant of the pull that delivered them."""
    rows = newest(landing)
    for feed in rows.values():
        for row in feed.values():
            del row["updated_at"]
    return rows


class Ways:
    """One account pulled once, in steps, and in steps with kills between."""

    def __init__(self, seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.living = Living(seed)
        self.chaos = Chaos(seed, self.living, monkeypatch)
        self.settings = {
            name: Settings(home=folder / name / "home", landing=folder / name / "landing")
            for name in ("once", "steps", "kills")
        }

    def pull(self, name: str) -> stripe_pull.Report:
        # A pull takes a while: one that is made again after a kill does so later.
        self.living.now += 1
        at = float(self.living.now)
        return stripe_pull.pull(self.settings[name], now=lambda: at, wait=lambda _: None)

    def live(self) -> stripe_pull.Report:
        """Let the account live, pulled in each way; the report of the one pull at its end."""
        for number in range(STEPS):
            self.living.step()
            self.pull("steps")
            if number % 2 or number == STEPS - 1:
                self.chaos.pull(lambda: self.pull("kills"))
        return self.pull("once")


@pytest.fixture
def ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Ways]:
    made = Ways(request.param, tmp_path, monkeypatch)
    with serving(made.living.account) as base:
        monkeypatch.setenv("STRIPE_API_KEY", KEY)
        monkeypatch.setenv("COUPON_LEDGER_STRIPE_API_BASE", base)
        yield made


@pytest.mark.parametrize("ways", range(ACCOUNTS), indirect=True)
def test_pulls_in_steps_with_kills_end_in_the_rows_of_one_pull(ways: Ways, tmp_path: Path) -> None:
    report = ways.live()
    landings = {name: settings.landing for name, settings in ways.settings.items()}
    expected = current(landings["once"])
    assert expected["invoices"], "an account without bills proves nothing"
    assert expected["redemptions"]
    refused = {one.why.split(":")[0] for one in report.refused}
    assert refused <= {"its invoice in", "it takes 0"}, report.refused
    for name in ("steps", "kills"):
        found = current(landings[name])
        assert found == with_what_pulls_saw_before(ways.living, expected, found)
    assert ways.chaos.kills
    assert len(files(landings["steps"])) > len(files(landings["once"]))
    assert not list(tmp_path.glob("*/landing/*/.*"))


@pytest.mark.parametrize("ways", range(100, 100 + REFRESHED), indirect=True)
def test_pulls_in_steps_with_kills_end_in_the_marts_of_one_pull(ways: Ways) -> None:
    report = ways.live()
    once, kills = ways.settings["once"], ways.settings["kills"]
    deliver_what_pulls_saw_before(ways.living, once.landing, kills.landing)
    for settings in (once, kills):
        assert refresh(settings, UNTIL)
    assert differences(once, kills) == {}
    named = {one.id for one in report.notes if one.kind in CANNOT_BE_SAID}
    with duckdb.connect(str(once.current), read_only=True) as connection:
        found = connection.execute(
            "select finding_type, invoice_id, redemption_id, description"
            " from marts.fct_audit_findings"
        ).fetchall()
    assert [one for one in found if one[1] not in named] == []


@pytest.mark.parametrize("ways", [200], indirect=True)
def test_a_process_may_be_killed_at_any_moment(ways: Ways) -> None:
    for _ in range(STEPS):
        ways.living.step()
    killed = ways.settings["kills"]
    command = [
        *(sys.executable, "-m", "dagster_project.cli", "pull", "stripe"),
        *("--home", str(killed.home), "--landing", str(killed.landing)),
    ]

    def pull(seconds: float | None) -> int:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                return process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                return process.wait()

    began = time.monotonic()
    assert pull(None) == 0
    lasted = time.monotonic() - began
    for path in (killed.home, killed.landing):
        shutil.rmtree(path)
    found = [pull(lasted * ways.chaos.random.uniform(0.3, 1.1)) for _ in range(KILLS)]
    assert set(found) <= {0, -signal.SIGKILL}
    assert pull(None) == 0
    ways.pull("once")
    assert current(killed.landing) == current(ways.settings["once"].landing)


def with_what_pulls_saw_before(living: Living, once: Rows, found: Rows) -> Rows:
    """Return the rows of one pull with what only earlier pulls could see, and nothing else.

    That is a discount that left between two pulls, so that nothing in the account names it any more: no
    bill, no event, no subscription. It may have stood in for its customer's discount, so the redemptions
    of that customer follow from it. And it is a part of a discount that was needed until a bill was
    voided: what is delivered cannot be taken back, so it stays, never in force.
    """
    named = json.dumps(living.account.objects, default=str)
    redemptions = found["redemptions"]
    customers = {
        row["workspace_id"]
        for redemption, row in redemptions.items()
        if f'"{redemption.partition("~")[0]}"' not in named
    }
    never = {
        redemption: row
        for redemption, row in redemptions.items()
        if redemption not in once["redemptions"]
        and redemption.partition("~")[0] in once["redemptions"]
        and row.get("revoked_at") == row.get("starts_at", row["redeemed_at"])
    }
    kept, follow = (
        {key: row for key, row in rows.items() if (row["workspace_id"] in customers) is follows}
        for rows, follows in ((once["redemptions"], False), (redemptions, True))
    )
    return {**once, "redemptions": {**kept, **follow, **never}}


def deliver_what_pulls_saw_before(living: Living, once: Path, other: Path) -> None:
    """Give the landing of one pull the redemptions that only the pulls of another one could see."""
    (path,) = (once / "redemptions").iterdir()
    with path.open(encoding="utf-8", newline="") as file:
        columns = csv.DictReader(file).fieldnames or []
    rows = with_what_pulls_saw_before(living, newest(once), newest(other))["redemptions"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows.values())


def differences(one: Settings, other: Settings) -> dict[str, list[Any]]:
    """Rows that only one of two releases has, by mart; which pull delivered a row is left aside."""
    found = {}
    with duckdb.connect() as connection:
        for name, settings in (("one", one), ("other", other)):
            connection.execute(f"attach '{settings.current.resolve()}' as {name} (read_only)")
        marts = connection.execute(
            "select table_name, list(column_name order by column_index) from duckdb_columns()"
            " where database_name = 'one' and schema_name = 'marts' group by table_name"
        ).fetchall()
        assert len(marts) > 15
        for mart, columns in marts:
            compared = ", ".join(column for column in columns if column not in WHEN_AND_WHERE)
            left, right = (
                f"select {compared} from {side}.marts.{mart}" for side in ("one", "other")
            )
            rows = connection.execute(
                f"({left} except all {right}) union all ({right} except all {left})"
            ).fetchall()
            if rows:
                found[mart] = rows
    return found


def test_living_accounts_have_what_is_hard() -> None:
    seen: set[str] = set()
    for seed in range(8):
        living = Living(seed)
        for _ in range(STEPS):
            living.step()
        for one in living.of("invoices"):
            lines = one["lines"]["data"]
            seen.add(one["status"])
            seen |= {"negative"} if one["total"] < 0 else set()
            seen |= {"many lines"} if len(lines) > 10 else set()
            seen |= {"credit"} if any(line["pretax_credit_amounts"] for line in lines) else set()
            seen |= {"two discounts"} if len(one["total_discount_amounts"]) > 1 else set()
            seen |= {"item discount"} if any(line["discounts"] for line in lines) else set()
        seen |= {"deleted coupon"} if len(living.of("coupons")) < 4 else set()
        seen |= {"removed"} if living.of("events") else set()
        seen |= {note["status"] + " note" for note in living.of("credit_notes")}
    assert seen >= {
        *("draft", "open", "paid", "void", "uncollectible", "negative", "many lines", "credit"),
        *("two discounts", "item discount", "deleted coupon", "removed"),
        *("issued note", "void note"),
    }
