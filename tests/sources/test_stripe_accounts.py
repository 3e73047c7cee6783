"""However an account is pulled, once or in many steps, with kills between, the same rows are current."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dagster_project.settings import Settings
from dagster_project.sources import deliveries, stripe_pull
from dagster_project.sources.errors import PullError
from tests.sources.delivered import Rows, files, newest
from tests.sources.random_accounts import STEPS, Living
from tests.sources.stripe_server import KEY, serving


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


@pytest.mark.parametrize("seed", range(8))
def test_pulls_in_steps_with_kills_end_in_the_rows_of_one_pull(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    living = Living(seed)
    chaos = Chaos(seed, living, monkeypatch)
    ways = {
        name: Settings(home=tmp_path / name / "home", landing=tmp_path / name / "landing")
        for name in ("once", "steps", "kills")
    }

    def pull(name: str) -> stripe_pull.Report:
        # A pull takes a while: one that is made again after a kill does so later.
        living.now += 1
        at = float(living.now)
        return stripe_pull.pull(ways[name], now=lambda: at, wait=lambda _: None)

    with serving(living.account) as base:
        monkeypatch.setenv("STRIPE_API_KEY", KEY)
        monkeypatch.setenv("COUPON_LEDGER_STRIPE_API_BASE", base)
        for number in range(STEPS):
            living.step()
            pull("steps")
            if number % 2 or number == STEPS - 1:
                chaos.pull(lambda: pull("kills"))
        report = pull("once")
    expected = current(ways["once"].landing)
    assert expected["invoices"], "an account without bills proves nothing"
    assert expected["redemptions"]
    refused = {one.why.split(":")[0] for one in report.refused}
    assert refused <= {"its invoice in", "it takes 0"}, report.refused
    assert current(ways["steps"].landing) == expected
    assert current(ways["kills"].landing) == expected
    assert chaos.kills
    assert len(files(ways["steps"].landing)) > len(files(ways["once"].landing))
    assert not list(tmp_path.glob("*/landing/*/.*"))


def test_living_accounts_have_what_is_hard(tmp_path: Path) -> None:
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
