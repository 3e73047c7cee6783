"""Releases of every version of the product open with this one, and say what they always said.

They were made from the deliveries in `tests/fixtures/releases/landing`, small enough to know by hand
what every command must answer: the rules, and hence the values, are the same in every version.
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import re
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner, Result

from dagster_project import releases
from dagster_project.cli import app
from dagster_project.releases import data_home, files
from tests.fixtures.releases import keep
from tests.pipeline.conftest import NOW, HandMade

VERSIONS = keep.versions()
WITHOUT_CLOSE = ["0.1.0-0436bcc"]
"""Kept before months could be closed, so without register and restatements."""
WITHOUT_OUTLOOK = ["0.1.0-0436bcc", "0.1.0", "0.2.0", "0.3.0", "0.4.0"]
"""Kept before there was an outlook, when everything whose window ends was listed."""


@pytest.fixture(scope="module", params=VERSIONS)
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data home kept of a version; no test changes it."""
    return keep.unpack(request.param, tmp_path_factory.mktemp("kept") / request.param)


def ask(home: Path, *arguments: str | Path) -> Result:
    """Run a command of this version."""
    command, *rest = map(str, arguments)
    return CliRunner().invoke(app, [command, "--home", str(home), *rest])


def told(home: Path, *arguments: str) -> Any:
    """The answer of a command as JSON."""
    answer = ask(home, *arguments, "--json")
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


def test_this_version_and_one_before_restatements_are_kept() -> None:
    assert importlib.metadata.version("coupon-ledger") in VERSIONS, (
        "python -m tests.fixtures.releases.keep"
    )
    assert set(WITHOUT_CLOSE) < set(WITHOUT_OUTLOOK) < set(VERSIONS)


def test_what_is_kept_is_small_and_never_replaced() -> None:
    assert sum(path.stat().st_size for path in keep.FOLDER.rglob("*")) < 2_000_000
    with pytest.raises(FileExistsError, match="never changes"):
        keep.keep(VERSIONS[0])


class TestAnswers:
    """Every reading command, with the values that follow from the deliveries."""

    def test_workspace(self, kept: Path) -> None:
        found = told(kept, "workspace", "ws_1")
        assert found["as_of_date"] == "2026-04-30"
        assert [coupon["coupon_id"] for coupon in found["coupons"]] == ["HALF-YEAR"]
        assert found["next_event"]["next_event_at"] == "2027-01-01T00:00:00Z"
        (totals,) = found["bill_totals"]
        assert (totals["bills"], totals["list_amount"], totals["net_amount"]) == (
            4,
            "450.00",
            "225.00",
        )

    def test_explain(self, kept: Path) -> None:
        found = told(kept, "explain", "in_2_4")
        assert found["expected"] == {
            "list_amount": "80.00",
            "discount_amount": "0.00",
            "credit_amount": "60.00",
            "net_amount": "20.00",
        }
        assert [grant["grant_id"] for grant in found["grants"]] == ["rd_2#1"]

    def test_burndown(self, kept: Path) -> None:
        (usd,) = told(kept, "burndown", "ws_2")["currencies"]
        assert (usd["currency"], usd["granted_amount"], usd["drawn_amount"]) == (
            "USD",
            "300.00",
            "300.00",
        )

    def test_variance(self, kept: Path) -> None:
        (usd,) = told(kept, "variance")["currencies"]
        bridge = usd["bridge"]
        assert (bridge["bill_effect_amount"], bridge["start_effect_amount"]) == ("10.00", "50.00")

    def test_findings(self, kept: Path) -> None:
        found = told(kept, "findings")
        assert [one["finding_id"] for one in found["findings"]] == ["discount_after_expiry:in_3_4"]
        assert [
            (one["currency"], one["amount_at_stake"]) for one in found["totals_by_currency"]
        ] == [("EUR", "10.00")]
        assert told(kept, "findings", "--review", "open")["total"] == 1
        assert told(kept, "findings", "--review", "accepted")["total"] == 0

    def test_expiring(self, kept: Path) -> None:
        found = told(kept, "expiring")
        assert [
            (one["redemption_id"], one["ends_at"], one["run_rate_amount"])
            for one in found["expirations"]
        ] == [
            ("rd_1", "2027-01-01T00:00:00Z", "58.33"),
            # Its credit is used up: since there is an outlook, nothing of it is left to run out.
            *([("rd_2", "2027-01-01T00:00:00Z", "73.33")] if kept.name in WITHOUT_OUTLOOK else []),
        ]

    def test_programs(self, kept: Path) -> None:
        assert {
            (one["program"], one["currency"]): (one["discount_amount"], one["credit_amount"])
            for one in told(kept, "programs")["programs"]
        } == {
            ("non_profit", "EUR"): ("30.00", "0.00"),
            ("special", "USD"): ("225.00", "0.00"),
            ("startup", "USD"): ("0.00", "300.00"),
        }

    def test_query(self, kept: Path) -> None:
        sql = "select sum(list_amount) as list from marts.fct_discounted_charges group by currency"
        answer = ask(kept, "query", f"{sql} order by currency", "--csv")
        assert answer.stdout == "list\n200.00\n770.00\n"

    def test_export(self, kept: Path, tmp_path: Path) -> None:
        answer = ask(kept, "export", "--out", tmp_path, "--format", "csv")
        assert answer.exit_code == 0, answer.output
        text = (tmp_path / "fct_credit_ledger.csv").read_text("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text)))
        draws = [Decimal(row["amount"]) for row in rows if row["entry_type"] == "draw"]
        assert draws == [-80, -80, -80, -60]

    def test_deliveries_and_rejected_rows(self, kept: Path) -> None:
        assert "invoices/invoices-2026-04" in ask(kept, "deliveries").stdout
        assert "list_amount is missing" in ask(kept, "rejected").stdout


class TestReleases:
    """What is kept is listed, verified, compared, served and closed like any other."""

    def test_the_list_shows_both_with_totals(self, kept: Path) -> None:
        newer, older = releases.list_releases(kept)
        assert (newer.is_current, newer.problem, older.problem) == (True, "", "")
        assert (older.as_of_date, newer.as_of_date) == (date(2026, 3, 31), date(2026, 4, 30))
        assert newer.totals["USD"] == tuple(map(Decimal, ("770", "225", "300", "245")))
        assert older.totals["EUR"] == tuple(map(Decimal, ("150", "30", "0", "120")))
        assert re.search(r"^ +change +\+190\.00 ", ask(kept, "releases").stdout, re.MULTILINE)

    def test_both_are_sound(self, kept: Path) -> None:
        for release_id in files.release_ids(kept):
            answer = ask(kept, "verify", release_id)
            assert (answer.exit_code, "is sound" in answer.stdout) == (0, True), answer.output

    def test_one_is_equal_to_itself(self, kept: Path) -> None:
        (_, served) = files.release_ids(kept)
        assert "The marts are equal." in ask(kept, "diff", served, served).stdout

    def test_both_are_compared_down_to_the_cells(self, kept: Path) -> None:
        first, second = ids = files.release_ids(kept)
        (charges,) = releases.diff(kept, first, second, "fct_discounted_charges")
        assert (charges.added, charges.gone, charges.changed) == (3, 0, 1)
        shown = ask(kept, "diff", *ids, "--table", "fct_discounted_charges").stdout
        assert "in_1_3: list_amount 120.00 → 110.00" in shown

    def test_restatements_of_the_closed_month(self, kept: Path) -> None:
        sql = (
            "select record_key, closed_amount, current_amount, delta_amount, file_name"
            " from marts.fct_restatements where table_name = 'fct_discounted_charges'"
            " and column_name = 'list_amount'"
        )
        answer = ask(kept, "query", sql, "--csv")
        if kept.name in WITHOUT_CLOSE:
            assert answer.exit_code == 2
            assert "There is no table 'fct_restatements'" in answer.stderr
        else:
            (row,) = csv.DictReader(io.StringIO(answer.stdout))
            assert list(row.values()) == [
                "in_1_3",
                "120.00",
                "110.00",
                "-10.00",
                "invoices/invoices-2026-04.csv",
            ]

    def test_the_register_of_closed_months(self, kept: Path) -> None:
        shown = ask(kept, "closes").stdout
        if kept.name in WITHOUT_CLOSE:
            assert shown.startswith("No month has been closed")
        else:
            (first, _) = files.release_ids(kept)
            (closing,) = releases.register(kept)
            assert (closing.month_name, closing.by, closing.release_id) == ("2026-03", "Ada", first)
            assert "* 2026-03  closed" in shown

    def test_the_layout_is_that_of_its_version(self, kept: Path) -> None:
        version = tuple(map(int, kept.name.split("-")[0].split(".")))
        expected = 1 if version < (0, 5) else data_home.LAYOUT
        assert data_home.layout_of(kept) == expected
        data_home.check_layout(kept)

    @pytest.mark.parametrize("version", VERSIONS)
    def test_whoever_writes_first_carries_it_over_and_every_release_stays(
        self, version: str, tmp_path: Path
    ) -> None:
        home = keep.unpack(version, tmp_path / "home")
        before = files.release_ids(home)
        assert ask(home, "prune", "--keep", "9").exit_code == 0
        assert data_home.layout_of(home) == data_home.LAYOUT
        assert files.release_ids(home) == before
        for release_id in before:
            assert ask(home, "verify", release_id).exit_code == 0

    @pytest.mark.parametrize("version", VERSIONS)
    def test_it_is_restored_closes_a_month_and_is_published_over(
        self, version: str, tmp_path: Path
    ) -> None:
        home = keep.unpack(version, tmp_path / "home")
        first, second = files.release_ids(home)
        assert ask(home, "restore", first).exit_code == 0
        assert files.current_release(home) == first
        assert ask(home, "close", "2026-02", "--by", "Ada").exit_code == 0
        made = HandMade(home, [("in_1_2", "USD", "121.00")]).write()
        published = made.publish(NOW + timedelta(days=400))
        assert published.is_new and published.release_id > second
        with releases.open_release(home) as connection:
            found = connection.execute(
                "select record_key, closed_amount from marts.fct_restatements"
                " where closed_month = '2026-02-01' and column_name = 'list_amount'"
                " and table_name = 'fct_discounted_charges' order by all"
            ).fetchall()
        assert found == [
            ("in_1_2", Decimal("120.00")),
            ("in_2_2", Decimal("80.00")),
            ("in_3_2", Decimal("50.00")),
        ]
        answer = ask(home, "diff", second, published.release_id)
        assert answer.exit_code == 0, answer.output
        pruned = releases.prune(home, 1, NOW)
        assert pruned.spared[first].startswith("it closed")
        assert pruned.removed == (second,)
        left = {path.name.split(".")[0] for path in files.releases_dir(home).iterdir()}
        assert left == {first, published.release_id, "history"}


LACKING = {
    "workspace ws_1": "marts.dim_coupon_redemptions",
    "explain in_1_3": "marts.fct_discount_applications",
    "burndown": "marts.fct_credit_burndown_monthly",
    "variance": "marts.fct_percent_off_variance_monthly",
    "findings": "marts.fct_audit_findings",
    "expiring": "marts.fct_upcoming_expirations",
    "programs": "marts.fct_program_performance_monthly",
    "rejected": "release.rejected_rows",
    "deliveries": "release.deliveries",
}


@pytest.mark.parametrize("command", LACKING)
def test_a_release_without_what_a_command_needs_says_so(command: str, tmp_path: Path) -> None:
    home = keep.unpack(WITHOUT_CLOSE[0], tmp_path / "home")
    (_, served) = files.release_ids(home)
    path = files.release_path(home, served)
    path.chmod(0o600)
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"drop table {LACKING[command]}")
    answer = ask(home, *command.split())
    assert answer.exit_code == 1
    assert f"Release {served} made by version 0.1.0+" in answer.stderr
    assert LACKING[command].split(".")[1] in answer.stderr
    assert "coupon-ledger run" in answer.stderr
    assert "Catalog Error" not in answer.stderr
    assert "Traceback" not in answer.output
