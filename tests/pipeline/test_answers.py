"""The reading commands on the sample's release: what they say is what the marts hold, in 80 columns."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from dagster_project.answers import explain as charge
from dagster_project.answers import export
from dagster_project.answers.asking import of_plan
from dagster_project.answers.closes import month_to_close
from dagster_project.answers.cohorts import cohorts
from dagster_project.answers.credit import credit as credit_of
from dagster_project.answers.expiring import calendar
from dagster_project.answers.findings import GIVEN_TOO_LITTLE, GIVEN_TOO_MUCH, reviewed
from dagster_project.answers.glance import glance
from dagster_project.answers.month import month as month_of
from dagster_project.answers.outlook import outlook
from dagster_project.answers.summary import summary
from dagster_project.answers.values import amount
from dagster_project.answers.variance import variance
from dagster_project.answers.workspace import workspace
from dagster_project.cli import app, layout
from dagster_project.cli.close import tell_month
from dagster_project.cli.explain import tell as tell_charge
from dagster_project.dashboard.blocks import Chosen, Note, Tiles
from dagster_project.dashboard.pages import NO_CURRENCY, NOTHING_YET, PAGES
from dagster_project.dashboard.report import report
from dagster_project.releases import files as places
from dagster_project.releases import open_release
from tests.pipeline.conftest import SampleRun, coupon_ledger

WORKSPACES = [f"ws_{number:05}" for number in (1, 2, 3, 5, 14, 15, 16, 31, 41, 67, 71, 85, 87, 95)]
SECONDS = 3


@dataclass(frozen=True)
class Told:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        """Its JSON, numbers with a point as Decimal."""
        found = json.loads(self.out, parse_float=Decimal)
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True)
class Desk:
    """Where questions are asked of one data home."""

    home: Path

    def ask(self, *arguments: str | Path) -> Told:
        """Run a reading command in this process."""
        result = CliRunner().invoke(app, [*map(str, arguments), "--home", str(self.home)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Told(result.exit_code, result.stdout, result.stderr)

    def answer(self, *arguments: str | Path) -> str:
        """The text of an answer, which fits 80 columns."""
        told = self.ask(*arguments)
        assert (told.code, told.err) == (0, "")
        too_wide = [line for line in told.out.splitlines() if layout.width(line) > layout.WIDTH]
        assert too_wide == []
        return told.out

    def json(self, *arguments: str | Path) -> dict[str, Any]:
        """The same answer as JSON."""
        told = self.ask(*arguments, "--json")
        assert (told.code, told.err) == (0, "")
        return told.data

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Query the release itself."""
        with open_release(self.home) as connection:
            return connection.execute(sql, list(values)).fetchall()


@pytest.fixture(scope="session")
def desk(sample_run: SampleRun) -> Desk:
    """The desk of the sample's release."""
    assert sample_run.result.returncode == 0, sample_run.result.stderr
    return Desk(sample_run.home)


@pytest.fixture(scope="module")
def altered(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """The same release with what no supplier should send, an acceptance, and credit that runs out."""
    home = tmp_path_factory.mktemp("altered")
    release_id = places.current_release(desk.home)
    assert release_id is not None
    path = places.release_path(home, release_id)
    path.parent.mkdir(parents=True)
    shutil.copyfile(places.release_path(desk.home, release_id), path)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    with duckdb.connect(str(path)) as connection:
        for table, change in (
            ("dim_workspaces", f"workspace_name = '=[red]{HOSTILE}' where workspace_id='ws_00005'"),
            ("dim_workspaces", f"workspace_name = '@{LONG}' where workspace_id = 'ws_00001'"),
            ("dim_coupons", f"coupon_name = '{HOSTILE}' where coupon_id = 'SPRING-50'"),
            (
                "fct_discounted_charges",
                f"list_amount = {HUGE}, net_amount = {HUGE} where workspace_id = 'ws_00005'",
            ),
            (
                "fct_audit_findings",
                "review_status = 'accepted', accepted_reason = 'Goodwill', accepted_by = 'R. Roe',"
                " accepted_until = date '2026-03-31' where invoice_id = 'in_00014_022'",
            ),
            (
                "fct_credit_burndown_monthly",
                "grant_ends_at = '2026-03-15', run_rate_amount = 100.00,"
                " projected_exhaustion_date = '2026-09-30', projected_breakage_amount = 653.00"
                " where grant_id = 'rdm_000105#1' and burn_month = '2025-12-01'",
            ),
            (
                "dim_coupon_redemptions",
                "next_event = 'expiry', next_event_at = '2027-03-15', ends_at = '2027-03-15',"
                " ended_by = 'expiry' where redemption_id = 'rdm_000105'",
            ),
            (
                "fct_discounted_charges",
                "billed_credit_amount = 170, billed_net_amount = -50"
                " where invoice_id = 'in_00031_001'",
            ),
            (
                "fct_credit_draws",
                "billed_balance_before_amount = billed_balance_before_amount - 50"
                " where invoice_id = 'in_00031_002'",
            ),
        ):
            connection.execute(f"update marts.{table} set {change}")
        for table in ("dim_workspaces", "dim_coupon_redemptions", "fct_discounted_charges"):
            connection.execute(
                f"update marts.{table} set workspace_id = '{LONG}' where workspace_id = 'ws_00015'"
            )
    places.flip(home, release_id)
    return Desk(home)


HOSTILE = "\x1b[31m日本語\u202e\nx"
LONG = "長い名前" * 50
HUGE = "9999999999999999.99"


def text(value: Decimal | None, currency: str | None) -> str:
    return amount(value, currency)


class TestWorkspace:
    """What is, was and will be on an account."""

    @pytest.mark.parametrize("workspace_id", WORKSPACES)
    def test_every_redemption_and_the_last_twelve_bills_are_told(
        self, desk: Desk, workspace_id: str
    ) -> None:
        told = desk.answer("workspace", workspace_id)
        data = desk.json("workspace", workspace_id)
        redemptions = desk.rows(
            "select redemption_id, status, currency, discount_to_date_amount, credit_to_date_amount"
            " from marts.dim_coupon_redemptions where workspace_id = ?",
            workspace_id,
        )
        assert {one["redemption_id"] for one in data["coupons"]} == {row[0] for row in redemptions}
        for redemption_id, status, currency, discount, credit in redemptions:
            assert f"({redemption_id})" in told
            assert f"[{status}]" in told
            for given in (discount, credit):
                assert not given or text(given, currency) in told
        bills = desk.rows(
            "select invoice_id, currency, list_amount, discount_amount, credit_amount, net_amount,"
            " billed_net_amount from marts.fct_discounted_charges where workspace_id = ?"
            " order by issued_at desc, invoice_id desc limit 12",
            workspace_id,
        )
        assert [one["invoice_id"] for one in data["bills"]] == [row[0] for row in bills]
        lines = told.splitlines()
        for row in bills:
            (line,) = (one for one in lines if one[12:].lstrip().startswith(f"{row[0]} "))
            assert line.replace("!", "").split()[2:] == [text(one, row[1]) for one in row[2:]]

    def test_findings_are_told_in_full(self, desk: Desk) -> None:
        told = " ".join(desk.answer("workspace", "ws_00014").split())
        found = desk.rows(
            "select description from marts.fct_audit_findings where workspace_id = 'ws_00014'"
        )
        assert len(found) == 4
        assert "Open findings: 4" in told
        assert all(row[0] in told for row in found)

    def test_what_is_to_come_is_told(self, desk: Desk) -> None:
        assert "Coupons to come\n  ACCEL-20" in desk.answer("workspace", "ws_00085")
        assert "Next: NONPROFIT-USD ends with its eligibility on 2026-03-02." in desk.answer(
            "workspace", "ws_00087"
        )
        assert "Credit left: 900.00 USD." in desk.answer("workspace", "ws_00095")

    def test_a_grant_that_is_used_up_before_the_next_one_changes_bills(self, desk: Desk) -> None:
        told = " ".join(desk.answer("workspace", "ws_00165").split())
        why = "QUEUE-YEARLY has no credit left after the bill of 2026-06-05."
        assert (
            f"From 2026-06: 100.00 USD net (list 150.00, less 50.00 credit), 0.00 before: {why}"
            in told
        )
        assert f"From 2026-07: 150.00 USD net (list 150.00), 100.00 before: {why}" in told

    def test_credit_that_expired_is_not_called_used_up(self, desk: Desk) -> None:
        (data,) = desk.json("workspace", "ws_00031")["coupons"]
        assert data["forfeited_amount"] == "19024.20"
        told = " ".join(desk.answer("workspace", "ws_00048").split())
        assert "STARTUP-TEAM has no credit left: 19,708.83 USD expired unused on 2025-10-05" in told
        assert "drawn 5,291.17 USD, expired 19,708.83 USD" in told

    @pytest.mark.parametrize(
        ("named", "told", "event"),
        [("ACCEL-20", None, "expiry"), ("CREDIT-OPEN", False, None), ("NOWHERE", False, None)],
    )
    def test_only_another_coupon_on_record_can_follow(
        self, desk: Desk, tmp_path: Path, named: str, told: bool | None, event: str | None
    ) -> None:
        copy = shutil.copyfile(desk.home / "current", tmp_path / "altered.duckdb")
        with duckdb.connect(copy) as connection:
            connection.execute(
                f"update marts.dim_coupons set follow_up_coupon_id = '{named}'"
                " where coupon_id = 'CREDIT-OPEN'"
            )
            connection.execute(
                "update marts.dim_coupon_redemptions set status = 'exhausted', ended_by = 'expiry',"
                " ends_at = '2027-03-15', next_event = 'expiry', next_event_at = '2027-03-15'"
                " where redemption_id = 'rdm_000105'"
            )
            found = workspace(connection, "ws_00095")
        (coupon,) = (one for one in found["coupons"] if one["redemption_id"] == "rdm_000105")
        assert coupon["is_followed_up"] is told
        assert (found["next_event"] or {}).get("next_event") == event

    def test_a_refusal_names_what_it_met(self, desk: Desk) -> None:
        assert "the workspace had redeemed this coupon before, on" in " ".join(
            desk.answer("workspace", "ws_00069").split()
        )

    def test_a_workspace_not_on_record_but_billed_or_redeemed_is_told(self, desk: Desk) -> None:
        (found,) = desk.rows(
            "select min(workspace_id) from marts.dim_coupon_redemptions"
            " where refusal_reason = 'unknown_workspace'"
        )
        told = desk.answer("workspace", found[0])
        assert "No record of this workspace was delivered" in told
        assert "there is no such workspace" in told


class TestExplain:
    """Why a charge is what it is."""

    def test_its_steps_agree_with_the_marts(self, desk: Desk) -> None:
        with open_release(desk.home) as connection:
            invoices = connection.execute(
                "select invoice_id from marts.fct_discounted_charges order by hash(invoice_id)"
                " limit 250"
            ).fetchall()
            invoices += connection.execute(
                "select distinct invoice_id from marts.fct_audit_findings"
                " where invoice_id in (select invoice_id from marts.fct_discounted_charges)"
            ).fetchall()
            for (invoice_id,) in invoices:
                data = charge.explain(connection, invoice_id)
                _agrees(connection, data)
                lines = tell_charge(data).splitlines()
                assert [line for line in lines if layout.width(line) > layout.WIDTH] == []

    @pytest.mark.parametrize(
        ("invoice_id", "sentence"),
        [
            ("in_00005_007", "92.52 of discount (SPRING-20) is 370.09 USD before tax"),
            ("in_00005_007", "SPRING-50 gives nothing here: it ended 2024-01-24 17:28 UTC"),
            ("in_00003_013", "after the coupon closed on 2025-01-06"),
            ("in_00033_010", "it is for plan team only, and this bill is for business"),
            ("in_00011_006", "it is used up, on the first 3 bills: in_00011_001"),
            ("in_00014_022", "59.31 USD too little"),
            ("in_00016_015", "drew 170.88 USD of credit where 0.00 could be drawn"),
            ("in_00094_017", "the coupon closed on 2024-03-31; by its own dates it would"),
        ],
    )
    def test_it_answers_why_it_is_not_what_was_told(
        self, desk: Desk, invoice_id: str, sentence: str
    ) -> None:
        told = desk.answer("explain", invoice_id)
        _, _, closing = told.partition("Why is it not what I was told?")
        assert sentence in " ".join(closing.split())
        assert sentence in " ".join(desk.json("explain", invoice_id)["answer"])

    def test_a_total_that_is_not_the_sum_of_its_lines_shows_as_a_difference(
        self, desk: Desk
    ) -> None:
        told = desk.answer("explain", "in_00099_005").splitlines()
        (total,) = (line for line in told if line.startswith("  total, with that tax"))
        assert total.split()[-3:] == ["1,773.66", "1,887.14", "+113.48"]
        assert desk.json("explain", "in_00099_005")["billed"]["total_amount"] == "1887.14"

    def test_credit_drawn_beyond_the_bill_is_told_as_such(self, altered: Desk) -> None:
        told = " ".join(altered.answer("explain", "in_00031_001").split())
        assert (
            "-50.00 USD was billed, 50.00 USD less, because 170.00 USD of credit was drawn where"
            " the bill had 120.00 USD left after the billed discount; what the grants had left"
            " covered it, so the rules raise no finding for it (R9)."
        ) in told
        assert "earlier bills" not in told

    def test_earlier_bills_are_named_where_the_balance_as_billed_is_another(
        self, desk: Desk, altered: Desk
    ) -> None:
        told = " ".join(desk.answer("explain", "in_00050_016").split())
        assert "earlier bills drew another amount of credit than they should have" in told
        assert "589.65 USD was left as billed, 0.00 USD by the rules" in told
        (grant,) = altered.json("explain", "in_00031_002")["grants"]
        as_billed = Decimal(grant["balance_as_billed_amount"])
        assert Decimal(grant["balance_before_amount"]) - as_billed == Decimal("50.00")

    def test_stacked_coupons_are_told_in_their_order(self, desk: Desk) -> None:
        (invoice,) = desk.rows(
            "select invoice_id from marts.fct_discounted_charges"
            " where workspace_id = 'ws_00007' and billing_month = date '2024-01-01'"
        )
        data = desk.json("explain", invoice[0])
        assert [
            (one["base_amount"], one["discount_amount"], one["remaining_amount"])
            for one in data["discounts"]
        ] == [("145.90", "75.00", "70.90"), ("70.90", "14.18", "56.72")]

    def test_an_invoice_that_does_not_count_is_said_not_to(self, desk: Desk) -> None:
        told = " ".join(desk.answer("explain", "in_00011_003").split())
        assert "Invoice in_00011_003 does not count" in told
        assert "It is void, so it takes no discount, draws no credit" in told
        assert "in_00011_003r" not in told

    def test_an_invoice_that_was_rejected_is_said_to_be(self, desk: Desk) -> None:
        told = desk.ask("explain", "in_bad_1")
        assert told.code == 2
        assert "was rejected (invoices/invoices-2023h2.csv, row 178): list_amount" in told.err


def _agrees(connection: duckdb.DuckDBPyConnection, data: dict[str, Any]) -> None:
    invoice = data["invoice"]
    zero = Decimal(0)
    given = sum((row["discount_amount"] for row in data["discounts"]), zero)
    assert given == invoice["discount_amount"]
    applied = {row["redemption_id"]: row for row in data["discounts"]}
    for row in data["redemptions"]:
        if row["redemption_id"] in applied:
            assert row["is_covered"]
            assert row["base_amount"] == applied[row["redemption_id"]]["base_amount"]
        elif row["is_covered"] and row["discount_type"] != "credit":
            assert invoice["list_amount"] == given
    drawn = connection.execute(
        "select grant_id, -amount, balance_amount from marts.fct_credit_ledger"
        " where entry_type = 'draw' and invoice_id = ? order by grant_id",
        [invoice["invoice_id"]],
    ).fetchall()
    assert drawn == sorted(
        (grant["grant_id"], grant["drawn_amount"], grant["balance_after_amount"])
        for grant in data["grants"]
        if grant["drawn_amount"]
    )
    for grant in data["grants"]:
        assert grant["balance_before_amount"] - grant["drawn_amount"] >= 0
        assert grant["balance_after_amount"] == 0 or grant["remaining_amount"] == 0
    assert data["answer"]


class TestBurndown:
    """How credit is used up."""

    @pytest.mark.parametrize(
        "about", [(), ("ws_00001",), ("ws_00015",), ("startup",), ("special",)]
    )
    def test_each_month_leads_to_the_next_and_to_the_mart(
        self, desk: Desk, about: tuple[str, ...]
    ) -> None:
        told = desk.answer("burndown", *about, "--months", "100")
        for part in desk.json("burndown", *about, "--months", "100")["currencies"]:
            left = Decimal(part["opening_amount"])
            for month in part["months"]:
                assert Decimal(month["opening_amount"]) == left
                left += Decimal(month["granted_amount"])
                for name in ("drawn_amount", "expired_amount", "forfeited_amount"):
                    left -= Decimal(month[name])
                assert Decimal(month["closing_amount"]) == left
                assert text(left, part["currency"]) in told
            assert left == sum(Decimal(grant["balance_amount"]) for grant in part["grants_left"])

    def test_its_totals_are_those_of_the_ledger(self, desk: Desk) -> None:
        found = {
            part["currency"]: Decimal(part["drawn_amount"])
            for part in desk.json("burndown", "--months", "100")["currencies"]
        }
        assert found == dict(
            desk.rows(
                "select currency, -sum(amount) from marts.fct_credit_ledger"
                " where entry_type = 'draw' group by currency"
            )
        )


class TestVariance:
    """Why the value of percent-off coupons moved."""

    @pytest.mark.parametrize(
        "about",
        [
            (),
            ("--month", "2024-02"),
            ("ws_00005", "--month", "2024-02"),
            ("special",),
            ("ws_00093",),
        ],
    )
    def test_the_bridge_adds_up(self, desk: Desk, about: tuple[str, ...]) -> None:
        told = desk.answer("variance", *about)
        parts = desk.json("variance", *about)["currencies"]
        assert parts or about == ("ws_00093",)
        for part in parts:
            for bridge in (part["bridge"], *part["months"], *part["workspaces"]):
                effects = sum(
                    Decimal(bridge[f"{name}_effect_amount"])
                    for name in ("bill", "rate", "start", "end")
                )
                before = Decimal(bridge["previous_percent_off_amount"])
                assert effects == Decimal(bridge["delta_amount"])
                assert before + effects == Decimal(bridge["percent_off_amount"])
            lines = told.partition(f"\n{part['currency']}: from ")[2].splitlines()[1:7]
            shown = [Decimal(line.rstrip("█▓░ ").split()[-1].replace(",", "")) for line in lines]
            assert sum(shown[:-1]) == shown[-1]

    def test_the_example_of_the_sample(self, desk: Desk) -> None:
        bridge = desk.json("variance", "ws_00005", "--month", "2024-02")["currencies"][0]["bridge"]
        assert (bridge["delta_amount"], bridge["bill_effect_amount"]) == ("-202.09", "-63.31")
        assert bridge["rate_effect_amount"] == "-138.78"

    def test_a_month_in_which_nothing_moved_is_said_so(self, desk: Desk) -> None:
        told = desk.answer("variance", "ws_00001", "--month", "2024-02")
        assert "No percent-off discount changed here" in told


class TestLists:
    """Findings, expiring promotions, programs."""

    def test_a_bridge_by_month_is_a_table_in_80_columns(self, desk: Desk) -> None:
        lines = desk.answer("bridge").splitlines()
        assert max(map(len, lines)) <= 80
        begin = lines.index("USD, 3,560 bills, before tax")
        titles = [line.split() for line in lines[begin:] if line.startswith("  month")]
        assert titles == [
            ["month", "list", "%-off", "$-off", "credit", "net"],
            ["month", "net", "errors", "billed", "notes", "kept"],
        ]
        months = [line.split() for line in lines[begin:] if line.startswith("  2025-03 ")]
        assert months[0][-1] == months[1][1], "both tables have the net"

    def test_a_credit_note_that_does_not_count_has_its_reason(self, desk: Desk) -> None:
        found = desk.rows(
            "select description, case when charges.invoice_id is not null then"
            " 'which is in another currency.' when apart.invoice_id is not null then"
            " 'which does not count.' else 'which is unknown.' end"
            " from marts.fct_audit_findings as findings"
            " left join marts.fct_discounted_charges as charges using (invoice_id)"
            " left join release.invoices_not_counted as apart using (invoice_id)"
            " where finding_type = 'credit_note_without_invoice'"
        )
        assert len(found) == 2
        for description, reason in found:
            assert description.endswith(f", {reason}")

    def test_totals_of_findings_are_those_of_the_mart(self, desk: Desk) -> None:
        told = desk.answer("findings")
        for currency, number, stake in desk.rows(
            "select currency, count(*), sum(amount_at_stake)"
            " from marts.fct_audit_findings group by currency"
        ):
            line = [currency or "none", f"{number:,}", text(stake, currency)]
            assert line in [one.split() for one in told.splitlines()]

    def test_what_is_at_stake_is_unknown_where_no_finding_has_an_amount(self, desk: Desk) -> None:
        about = ("findings", "--type", "coupon_terms_changed")
        data = desk.json(*about)
        assert {row["amount_at_stake"] for row in data["totals_by_type"]} == {None}
        assert {row["currency"] for row in data["totals_by_currency"]} > {None}
        assert {row["amount_at_stake"] for row in data["totals_by_currency"]} == {None}
        assert "0.00" not in desk.answer(*about).partition("Findings by currency")[0]

    def test_amounts_in_sentences_are_written_as_everywhere(self, desk: Desk) -> None:
        found = desk.rows(
            "select description, amount_at_stake, currency from marts.fct_audit_findings"
            " where description similar to '.* too (much|little)\\.'"
        )
        assert {"JPY", "USD"} <= {currency for _, _, currency in found}
        for description, stake, currency in found:
            assert f": {text(stake, currency)} too" in description
        assert any("," in text(stake, currency) for _, stake, currency in found)

    def test_what_a_finding_did_to_its_bill_is_the_variance_of_the_bill(self, desk: Desk) -> None:
        """The effect is calculated from the finding alone, without the bill."""
        variances = {
            row[0]: row[1:]
            for row in desk.rows(
                "select finding_id, charges.discount_variance_amount, charges.credit_variance_amount"
                " from marts.fct_audit_findings inner join marts.fct_discounted_charges as charges"
                " using (invoice_id)"
            )
        }
        effects: dict[str, dict[str, Any]] = {}
        with open_release(desk.home) as connection:
            for (currency,) in desk.rows("select distinct currency from marts.fct_audit_findings"):
                data = reviewed(connection, currency or "none", 1_000)
                assert len(data["findings"]) == data["total"]
                effects |= {one["finding_id"]: one for one in data["findings"]}
        types = set()
        for finding_id, one in effects.items():
            kind, effect = one["finding_type"], one["effect_amount"]
            if kind in GIVEN_TOO_LITTLE + GIVEN_TOO_MUCH:
                assert effect == -variances[finding_id][kind.startswith("credit_")]
                types.add(kind)
            else:
                assert effect is None
        assert types == {*GIVEN_TOO_LITTLE, *GIVEN_TOO_MUCH}

    @pytest.mark.parametrize(
        ("column", "option", "value"),
        [
            ("finding_type", "--type", "under_discounted"),
            ("severity", "--severity", "warn"),
            ("workspace_id", "--workspace", "ws_00014"),
            ("review_status", "--review", "open"),
        ],
    )
    def test_filters_of_findings(self, desk: Desk, column: str, option: str, value: str) -> None:
        data = desk.json("findings", option, value, "--limit", "1000")
        (expected,) = desk.rows(
            f"select count(*) from marts.fct_audit_findings where {column} = ?", value
        )
        assert data["total"] == len(data["findings"]) == expected[0] > 0
        assert {row[column] for row in data["findings"]} == {value}

    def test_findings_of_a_month_are_those_that_a_close_counts(self, desk: Desk) -> None:
        months = [month for (month,) in desk.rows(
            "select distinct strftime(billing_month, '%Y-%m') from marts.fct_audit_findings"
            " inner join marts.fct_discounted_charges using (invoice_id)"
        )]  # fmt: skip
        assert len(months) > 5
        for month in months:
            about = ("findings", "--month", month, "--severity", "error", "--review", "open")
            with open_release(desk.home) as connection:
                counted = month_to_close(connection, date.fromisoformat(f"{month}-01"))
            assert desk.json(*about)["total"] == counted["open_errors"]
        listed = desk.json("findings", "--month", months[0])["findings"]
        told = desk.answer("findings", "--month", months[0])
        assert listed and all(one["finding_id"] in told for one in listed)

    def test_exported_findings_are_those_of_a_close_and_of_the_page(
        self, desk: Desk, tmp_path: Path
    ) -> None:
        months = desk.rows(
            "select distinct strftime(occurred_at, '%Y-%m') from marts.fct_audit_findings"
            " where finding_type = 'credited_beyond_bill'"
        )
        assert months
        for number, (month,) in enumerate(months):
            found = _exported(desk, tmp_path / f"{number}", "--month", month)
            assert found == {
                one["finding_id"]
                for one in desk.json("findings", "--month", month, "--limit", "1000")["findings"]
            }
        found = _exported(desk, tmp_path / "program", "--program", "startup")
        with open_release(desk.home) as connection:
            assert found == {
                one["finding_id"]
                for (currency,) in desk.rows("select distinct currency from marts.fct_audit_findings")
                for one in reviewed(connection, currency or "none", 1_000, program="startup")["findings"]
            }  # fmt: skip
        assert any(one.startswith("credit_") for one in found)

    def test_a_month_to_close_leads_to_what_was_kept(self, desk: Desk) -> None:
        (month, *kept) = desk.rows(
            "select bridge_month, currency, sum(credited_amount), sum(billed_net_after_notes_amount)"
            " from marts.fct_charge_bridge_monthly group by all having sum(credited_amount) > 0"
            " order by all limit 1"
        )[0]
        with open_release(desk.home) as connection:
            data = month_to_close(connection, month)
        (of_currency,) = [one for one in data["charges"] if one["currency"] == kept[0]]
        assert [of_currency[one] for one in ("credited_amount", "billed_net_after_notes_amount")] == kept[1:]  # fmt: skip
        assert f"-{text(kept[1], kept[0])}" in tell_month(data).partition("credit notes")[2]

    def test_an_accepted_finding_is_shown_as_such(self, altered: Desk) -> None:
        told = altered.answer("findings", "--review", "accepted")
        assert "Accepted by R. Roe until 2026-03-31: Goodwill" in told
        account = altered.answer("workspace", "ws_00014")
        assert "Open findings: 3" in account and "Findings accepted: 1" in account
        explained = " ".join(altered.answer("explain", "in_00014_022").split())
        assert "Accepted by R. Roe until 2026-03-31: Goodwill." in explained

    @pytest.mark.parametrize(
        ("arguments", "where"),
        [
            ((), "true"),
            (("--within-months", "2"), "runs_out_at < timestamp '2026-03-01'"),
            (("--program", "non_profit"), "program = 'non_profit'"),
        ],
    )
    def test_expiring_promotions(self, desk: Desk, arguments: tuple[str, ...], where: str) -> None:
        data = desk.json("expiring", *arguments)
        expected = desk.rows(
            "select redemption_id, workspace_id, coupon_id, currency, monthly_rise_amount"
            f" from marts.fct_upcoming_expirations where {where}"
            " order by runs_out_at, redemption_id"
        )
        assert expected
        assert [row["redemption_id"] for row in data["expirations"]] == [one[0] for one in expected]
        told = desk.answer("expiring", *arguments)
        for _, workspace_id, coupon_id, currency, rise in expected:
            (line,) = (
                one
                for one in told.splitlines()
                if f" {workspace_id} " in one and f" {coupon_id} " in one
            )
            assert text(rise, currency) in line
        totals = data["totals_by_currency"]
        assert sum(Decimal(row["monthly_rise_amount"]) for row in totals) == sum(
            one[4] or 0 for one in expected
        )

    def test_what_will_lapse_is_one_amount_in_every_answer(self, altered: Desk) -> None:
        with open_release(altered.home) as connection:
            (short,) = summary(connection)["credit_left"]
        (currency,) = (
            one for one in altered.json("burndown")["currencies"] if one["currency"] == "USD"
        )
        (running_out,) = altered.json("expiring", "--within-months", "3")["credit_running_out"]
        assert str(short["projected_breakage_amount"]) == "653.00"
        assert currency["projected_breakage_amount"] == "653.00"
        assert running_out["projected_breakage_amount"] == "653.00"

    @pytest.mark.parametrize(
        ("arguments", "is_told"),
        [
            ((), True),
            (("--within-months", "3"), True),
            (("--within-months", "2"), False),
            (("--program", "special"), True),
            (("--program", "startup"), False),
        ],
    )
    def test_credit_that_runs_out(
        self, altered: Desk, arguments: tuple[str, ...], is_told: bool
    ) -> None:
        data = altered.json("expiring", *arguments)["credit_running_out"]
        told = altered.answer("expiring", *arguments)
        altered_grants = [one for one in data if one["grant_id"] == "rdm_000105#1"]
        if not is_told:
            assert not altered_grants and "rdm_000105#1" not in told
            return
        (grant,) = altered_grants
        assert (grant["grant_id"], grant["runs_out_on"]) == ("rdm_000105#1", "2026-03-15")
        (line,) = (one for one in told.splitlines() if "rdm_000105#1" in one)
        assert line.split() == [
            *("2026-03-15", "ws_00095", "rdm_000105#1", "900.00", "653.00", "USD"),
            "–",
        ]

    def test_a_grant_lapses_before_its_redemption_ends(self, altered: Desk) -> None:
        told = " ".join(altered.answer("workspace", "ws_00095").split())
        assert "Next: CREDIT-OPEN has credit that lapses on 2026-03-15." in told
        assert "900.00 USD left, lapses on 2026-03-15 with about 653.00 left" in told
        (line,) = (
            one
            for one in altered.answer("burndown", "ws_00095").splitlines()
            if "rdm_000105#1" in one
        )
        assert line.split()[-2:] == ["2026-03-15", "653.00"]

    @pytest.mark.parametrize(
        ("arguments", "where"),
        [
            ((), "true"),
            (("--program", "special"), "program = 'special'"),
            (("--month", "2024-02"), "performance_month = date '2024-02-01'"),
            (
                ("--program", "startup", "--month", "2024-02"),
                "program = 'startup' and performance_month = date '2024-02-01'",
            ),
        ],
    )
    def test_totals_of_programs(self, desk: Desk, arguments: tuple[str, ...], where: str) -> None:
        told = desk.answer("programs", *arguments)
        data = desk.json("programs", *arguments)
        expected = desk.rows(
            "select currency, sum(discount_amount), sum(credit_amount)"
            f" from marts.fct_program_performance_monthly where {where} group by currency"
        )
        assert {
            row["currency"]: (Decimal(row["discount_amount"]), Decimal(row["credit_amount"]))
            for row in data["totals_by_currency"]
        } == {row[0]: row[1:] for row in expected}
        for currency, discount, credit in expected:
            assert text(discount, currency) in told and text(credit, currency) in told

    def test_the_discounts_of_a_cohort_are_those_applied_to_its_bills(self, desk: Desk) -> None:
        expected = desk.rows(
            """
            with started as (
                select workspace_id, program, min(started_at) as started_at
                from marts.dim_coupon_redemptions
                where is_honoured and (ends_at is null or started_at < ends_at)
                group by workspace_id, program
            ),
            of_bills as (
                select started.*, charges.currency, applied.discount_amount, charges.issued_at
                from marts.fct_discount_applications as applied
                inner join marts.fct_discounted_charges as charges using (invoice_id)
                inner join marts.dim_coupons as coupons using (coupon_id)
                inner join started using (workspace_id, program)
                where charges.issued_at >= started_at
            )
            select program, cast(date_trunc('quarter', started_at) as date), ages.age, currency,
                sum(discount_amount)
            from of_bills, (select unnest([3, 6, 12, 24]) as age) as ages
            where issued_at < started_at + to_months(ages.age)
            group by all having sum(discount_amount) <> 0
            """
        )
        mixed = desk.rows(
            "select workspace_id from marts.dim_coupon_redemptions where is_honoured"
            " group by workspace_id having count(distinct program) > 1"
        )
        assert len(expected) > 20 and mixed
        assert {
            (row["program"], row["start_quarter"], row["age_months"], part["currency"]): Decimal(
                part["discount_amount"]
            )
            for row in desk.json("cohorts")["cohorts"]
            for part in row["amounts"]
            if Decimal(part["discount_amount"])
        } == {(one[0], one[1].isoformat(), *one[2:4]): one[4] for one in expected}

    def test_cohorts_of_credit_are_those_of_all_programs_that_give_it(self, desk: Desk) -> None:
        gives = {
            one[0]
            for one in desk.rows(
                "select program from marts.dim_coupons where discount_type = 'credit'"
            )
        }
        with open_release(desk.home) as connection:
            of_all = cohorts(connection, None, None)["cohorts"]
            of_credit = cohorts(connection, None, None, is_of_credit=True)["cohorts"]
        assert of_credit == [
            {
                **row,
                "amounts": [
                    {name: value for name, value in one.items() if name != "discount_amount"}
                    for one in row["amounts"]
                ],
            }
            for row in of_all
            if row["program"] in gives
        ]
        assert 0 < len(of_credit) < len(of_all)
        assert {
            row["program"]
            for row in of_all
            for one in row["amounts"]
            if one["granted_amount"] or one["used_amount"] or one["lapsed_amount"]
        } == gives


class TestCurrencies:
    """A page shows one currency, whatever the others have."""

    def test_a_month_without_bills_in_a_currency_has_amounts_of_zero_beside_the_months_before(
        self, desk: Desk, tmp_path: Path
    ) -> None:
        path = _altered_file(
            desk.home,
            tmp_path,
            "delete from marts.fct_charge_bridge_monthly where currency = 'GBP'"
            " and bridge_month not between '2025-01-01' and '2025-10-01'",
        )
        with duckdb.connect(str(path), read_only=True) as connection:
            late = month_of(connection, "GBP", "2025-12")
            early = month_of(connection, "GBP", "2024-12")
            last = month_of(connection, "GBP")
        assert late["this"]["net_amount"] == late["before"]["net_amount"] == 0
        assert sum(row["net_amount"] for row in late["months"]) > 0
        assert (early["this"]["given_amount"], early["before"]) == (0, None)
        assert last["month"] == date(2025, 10, 1) and last["this"]["net_amount"] > 0

    def test_a_release_without_any_currency_says_so_and_still_lists_its_findings(
        self, desk: Desk, tmp_path: Path
    ) -> None:
        path = _altered_file(
            desk.home,
            tmp_path,
            "".join(
                f"delete from marts.{table}{where};"
                for table, where in (
                    *(("fct_discounted_charges", ""), ("fct_credit_burndown_monthly", "")),
                    *(("fct_upcoming_expirations", ""), ("fct_charge_bridge_monthly", "")),
                    ("fct_audit_findings", " where currency is not null"),
                )
            ),
        )
        with duckdb.connect(str(path), read_only=True) as connection:
            (findings,) = connection.execute(
                "select count(*) from marts.fct_audit_findings"
            ).fetchone() or (0,)
            shown = {
                name: PAGES[name][1](connection, Chosen(NO_CURRENCY)) for name in ("month", "trust")
            }
            text = report(connection)
        assert shown["month"] == [Note(NOTHING_YET)]
        tiles = shown["trust"][0]
        assert isinstance(tiles, Tiles)
        assert [(one.label, one.value) for one in tiles.tiles] == [("Open findings", str(findings))]
        assert NOTHING_YET in text and f">{findings}<" in text and "None" not in text

    def test_a_currency_with_findings_but_without_bills_can_be_chosen(
        self, desk: Desk, tmp_path: Path
    ) -> None:
        path = _altered_file(
            desk.home,
            tmp_path,
            "update marts.fct_audit_findings set currency = 'CHF'"
            " where finding_type = 'credit_note_without_invoice'",
        )
        with duckdb.connect(str(path), read_only=True) as connection:
            assert glance(connection)["currencies"] == ["USD", "EUR", "JPY", "GBP", "CHF"]
            for name in ("month", "credit", "percent-off", "ahead", "trust"):
                blocks = PAGES[name][1](connection, Chosen("CHF"))
                (tile,) = [
                    one.value
                    for block in blocks
                    if isinstance(block, Tiles)
                    for one in block.tiles
                    if one.label == "At stake"
                ] or [""]
                assert tile == ("99.00 CHF" if name == "trust" else "")

    def test_what_is_at_stake_is_unknown_where_no_open_finding_has_an_amount(
        self, desk: Desk, tmp_path: Path
    ) -> None:
        path = _altered_file(
            desk.home,
            tmp_path,
            "update marts.fct_audit_findings set amount_at_stake = null",
        )
        with duckdb.connect(str(path), read_only=True) as connection:
            for name in ("month", "trust"):
                tiles = [
                    one
                    for block in PAGES[name][1](connection, Chosen("USD"))
                    if isinstance(block, Tiles)
                    for one in block.tiles
                ]
                assert [one.value for one in tiles if one.label == "At stake"] == ["– USD"], name

    def test_no_month_before_the_first_is_shown(self, desk: Desk, tmp_path: Path) -> None:
        path = _altered_file(
            desk.home,
            tmp_path,
            "delete from marts.fct_percent_off_variance_monthly where variance_month < '2025-09-01'",
        )
        with duckdb.connect(str(path), read_only=True) as connection:
            for part in variance(connection, "all", "", None, 24)["currencies"]:
                assert part["months"][0]["month"] == date(2025, 9, 1)
                assert part["bridge"]["from_month"] == date(2025, 8, 1)

    def test_a_coupon_that_is_used_up_is_none_that_acts_now(self, desk: Desk) -> None:
        found = desk.rows(
            "select workspace_id, count(*) filter (where status = 'active'),"
            " count(*) filter (where status = 'exhausted') from marts.dim_coupon_redemptions"
            " group by workspace_id having bool_or(status = 'exhausted') limit 5"
        )
        assert found
        with open_release(desk.home) as connection:
            for workspace_id, active, used_up in found:
                tiles = [
                    one
                    for block in PAGES["account"][1](connection, Chosen("USD", id=workspace_id))
                    if isinstance(block, Tiles)
                    for one in block.tiles
                ]
                (tile,) = [one for one in tiles if one.label == "Coupons now"]
                assert (tile.value, tile.note) == (f"{active}", f"and {used_up} used up")

    def test_that_no_row_was_rejected_is_said_once(self, desk: Desk, tmp_path: Path) -> None:
        path = _altered_file(desk.home, tmp_path, "delete from release.rejected_rows")
        with duckdb.connect(str(path), read_only=True) as connection:
            assert report(connection).count("No row was rejected.") == 1

    def test_a_page_with_a_program_chosen_says_what_is_of_all_programs(self, desk: Desk) -> None:
        with open_release(desk.home) as connection:
            for name in ("month", "credit", "percent-off", "ahead", "trust"):
                blocks = PAGES[name][1](connection, Chosen("USD", program="special"))
                assert isinstance(blocks[0], Note) and "special" in blocks[0].text, name


def _exported(desk: Desk, folder: Path, *only: str) -> set[str]:
    """The ids of the findings that `export` writes."""
    desk.answer("export", "--out", str(folder), "--format", "csv", "--table", "fct_audit_findings", *only)  # fmt: skip
    with (folder / "fct_audit_findings.csv").open(encoding="utf-8-sig", newline="") as lines:
        return {row["finding_id"] for row in csv.DictReader(lines)}


def _altered_file(home: Path, folder: Path, change: str) -> Path:
    """A copy of the file of the release that a data home serves, changed by a statement."""
    release_id = places.current_release(home)
    assert release_id is not None
    path = folder / "coupon_ledger.duckdb"
    shutil.copyfile(places.release_path(home, release_id), path)
    with duckdb.connect(str(path)) as connection:
        connection.execute(change)
    return path


class TestPlans:
    """A workspace is on the plan of its last bill."""

    def test_what_plans_and_workspaces_without_bills_have_adds_up_to_all(self, desk: Desk) -> None:
        with open_release(desk.home) as connection:
            plans = glance(connection)["plans"]
            assert len(plans) > 1
            of_all, *of_plans = [_of_plan(connection, plan) for plan in (None, *plans)]
            (without,) = connection.execute(
                "select coalesce(sum(closing_amount), 0) from marts.fct_credit_burndown_monthly"
                " where currency = 'USD' and workspace_id not in"
                " (select workspace_id from marts.fct_discounted_charges)"
                " and burn_month = (select max(burn_month) from marts.fct_credit_burndown_monthly)"
            ).fetchone() or (None,)
        assert without > 0
        of_plans.append({"credit": without})
        for name, whole in of_all.items():
            assert sum(one.get(name, Decimal(0)) for one in of_plans) == whole != 0, name

    def test_a_workspace_counts_on_the_plan_of_its_last_bill_only(self, desk: Desk) -> None:
        (moved,) = desk.rows(
            "select workspace_id, first(plan order by issued_at), last(plan order by issued_at)"
            " from marts.fct_discounted_charges group by 1 having count(distinct plan) > 1"
            " order by 1 limit 1"
        )
        for plan in moved[1:]:
            found = desk.rows(
                f"select workspace_id from marts.dim_workspaces where {of_plan(plan)}"
            )
            assert ((moved[0],) in found) == (plan == moved[2])

    def test_of_bills_of_one_instant_the_one_with_the_last_id_decides(self) -> None:
        with duckdb.connect() as connection:
            connection.execute(
                "create schema marts; create table marts.fct_discounted_charges as from (values"
                " ('w', 'a', 1, 'in_9'), ('w', 'b', 2, 'in_1'), ('w', 'c', 2, 'in_2'), ('v', 'b', 2, 'in_3'))"
                " as charges (workspace_id, plan, issued_at, invoice_id)"
            )
            on = {
                plan: connection.sql(
                    "select distinct workspace_id from marts.fct_discounted_charges"
                    f" where {of_plan(plan)}"
                ).fetchall()
                for plan in "abc"
            }
        assert on == {"a": [], "b": [("v",)], "c": [("w",)]}

    def test_a_plan_may_have_any_name(self, desk: Desk) -> None:
        with open_release(desk.home) as connection:
            assert _of_plan(connection, "te?m's")["rise"] == 0


def _of_plan(connection: duckdb.DuckDBPyConnection, plan: str | None) -> dict[str, Decimal]:
    """Amounts in USD of the pages that show workspaces, by name."""
    bills = outlook(connection, "all", "", plan)["currencies"]
    ending = calendar(connection, "USD", None, plan)
    moved = variance(connection, "all", "", None, 24, plan)["currencies"]
    cohort = cohorts(connection, None, 3, plan)["cohorts"]
    return {
        "credit": credit_of(connection, "USD", None, plan)["closing_amount"],
        "rise": ending["monthly_rise_amount"],
        "behind": ending["behind_amount"],
        "net": sum(
            (one["totals_expected"]["net_amount"] for one in bills if one["currency"] == "USD"),
            Decimal(0),
        ),
        "percent-off": sum(
            (one["bridge"]["delta_amount"] for one in moved if one["currency"] == "USD"), Decimal(0)
        ),
        "used": sum(
            (
                part["used_amount"]
                for row in cohort
                for part in row["amounts"]
                if part["currency"] == "USD"
            ),
            Decimal(0),
        ),
    }


class TestExport:
    """Files for a spreadsheet or another system."""

    def test_a_workbook_holds_what_the_marts_hold(self, desk: Desk, tmp_path: Path) -> None:
        written = desk.json("export", "--out", tmp_path)["files"]
        book = openpyxl.load_workbook(written[0]["file"])
        tables = [
            row[0]
            for row in desk.rows(
                "select table_name from release.tables where table_schema = 'marts'"
            )
        ]
        assert book.sheetnames[0] == "summary"
        assert book.sheetnames[-1] == "data_dictionary"
        assert len(book.sheetnames) == len(tables) + 2
        for table in tables:
            names, *written = book[table[:31]].iter_rows(values_only=True)
            own = [name for name in names if (table, name) not in NAMED]
            found = [
                [cell for name, cell in zip(names, row, strict=True) if (table, name) not in NAMED]
                for row in written
            ]
            expected = desk.rows(f"select {', '.join(map(str, own))} from marts.{table}")
            assert len(found) == len(expected)
            for kept, row in zip(found, expected, strict=True):
                assert [_typed(one, like) for one, like in zip(kept, row, strict=True)] == list(row)

    def test_its_cells_are_typed_and_in_their_currency(self, desk: Desk, tmp_path: Path) -> None:
        path = desk.json("export", "--out", tmp_path, "--table", "fct_discounted_charges")
        sheet = openpyxl.load_workbook(path["files"][0]["file"])["fct_discounted_charges"]
        names = [cell.value for cell in sheet[1]]
        names_of = dict(desk.rows("select workspace_id, workspace_name from marts.dim_workspaces"))
        formats = set()
        for row in sheet.iter_rows(min_row=2):
            cells = dict(zip(names, row, strict=True))
            assert cells["list_amount"].data_type == "n"
            assert cells["issued_at"].data_type == cells["billing_month"].data_type == "d"
            formats.add((cells["currency"].value, cells["net_amount"].number_format))
            assert cells["workspace_name"].value == names_of[cells["workspace_id"].value]
        assert formats == {
            ("USD", "[$USD] #,##0.00"),
            ("EUR", "[$EUR] #,##0.00"),
            ("GBP", "[$GBP] #,##0.00"),
            ("JPY", "[$JPY] #,##0"),
        }

    def test_the_data_dictionary_describes_every_column(self, desk: Desk, tmp_path: Path) -> None:
        path = desk.json("export", "--out", tmp_path)["files"][0]["file"]
        names, *found = openpyxl.load_workbook(path)["data_dictionary"].iter_rows(values_only=True)
        assert names[1:] == (
            "table_name",
            "table_description",
            "column_name",
            "data_type",
            "description",
        )
        expected = desk.rows(
            "select table_name, column_name, comment from duckdb_columns()"
            " where schema_name = 'marts' order by table_name, column_index"
        )
        described = [(row[1], row[3], row[5]) for row in found]
        assert [one for one in described if one[:2] not in NAMED] == expected
        added = [one for one in described if one[:2] in NAMED]
        assert {one[:2] for one in added} == NAMED
        assert {one[2] for one in added} == {
            "Name of the workspace, from dim_workspaces; not in the mart itself."
        }
        assert all(row[2] and row[5] for row in found)

    def test_csv_and_parquet_hold_what_the_marts_hold(self, desk: Desk, tmp_path: Path) -> None:
        sql = "select * from marts.fct_credit_ledger"
        for kind in ("csv", "parquet"):
            desk.answer(
                "export", "--format", kind, "--table", "fct_credit_ledger", "--out", tmp_path
            )
        with (tmp_path / "fct_credit_ledger.csv").open(encoding="utf-8", newline="") as file:
            _, *found = csv.reader(file)
        assert found == [
            ["" if value is None else str(value) for value in row] for row in desk.rows(sql)
        ]
        table = pq.read_table(tmp_path / "fct_credit_ledger.parquet")
        assert [tuple(row.values()) for row in table.to_pylist()] == desk.rows(sql)
        assert str(table.schema.field("amount").type) == "decimal128(18, 2)"
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "data_dictionary.csv",
            "data_dictionary.parquet",
            "fct_credit_ledger.csv",
            "fct_credit_ledger.parquet",
        ]

    def test_text_like_a_formula_stays_text(self, altered: Desk, tmp_path: Path) -> None:
        path = altered.json("export", "--out", tmp_path, "--table", "dim_workspaces")
        sheet = openpyxl.load_workbook(path["files"][0]["file"])["dim_workspaces"]
        cells = {row[0].value: row[1] for row in sheet.iter_rows(min_row=2)}
        assert all(cell.data_type == "s" for cell in cells.values() if cell.value is not None)
        assert str(cells["ws_00005"].value).startswith("=[red]")
        assert cells["ws_00005"].quotePrefix and cells["ws_00001"].quotePrefix
        as_csv = ("export", "--format", "csv", "--out", tmp_path, "--table", "dim_workspaces")
        told = " ".join(altered.answer(*as_csv).split())
        assert (
            "2 texts that a spreadsheet would calculate begin with an apostrophe:"
            " workspace_name (2). --raw leaves them unchanged." in told
        )
        with (tmp_path / "dim_workspaces.csv").open(encoding="utf-8", newline="") as file:
            names = {row["workspace_id"]: row["workspace_name"] for row in csv.DictReader(file)}
        assert names["ws_00005"].startswith("'=[red]")
        assert names["ws_00001"].startswith("'@")
        assert names["ws_00002"][0].isalnum()
        assert "apostrophe" not in altered.answer(*as_csv, "--raw")
        with (tmp_path / "dim_workspaces.csv").open(encoding="utf-8", newline="") as file:
            names = {row["workspace_id"]: row["workspace_name"] for row in csv.DictReader(file)}
        assert names["ws_00005"].startswith("=[red]")

    def test_amounts_of_more_digits_than_a_spreadsheet_keeps_are_text_with_a_note(
        self, altered: Desk, tmp_path: Path
    ) -> None:
        path = altered.json("export", "--out", tmp_path)["files"][0]["file"]
        book = openpyxl.load_workbook(path)
        sheet = book["fct_discounted_charges"]
        head = {cell.value: cell for cell in sheet[1]}
        column = head["list_amount"].column
        assert column is not None
        long = [row[column - 1] for row in sheet.iter_rows(min_row=2) if row[1].value == "ws_00005"]
        assert {(cell.value, cell.data_type) for cell in long} == {(HUGE, "s")}
        assert f"{len(long)} numbers of this column have more than 15 digits" in str(
            head["list_amount"].comment
        )
        assert head["tax_amount"].comment is None
        notes = [row[0] for row in book["summary"].iter_rows(values_only=True) if row[0]]
        assert any("fct_discounted_charges, list_amount" in str(note) for note in notes)

    @pytest.mark.parametrize(
        ("option", "value", "condition"),
        [
            ("--month", "2025-06", "billing_month = date '2025-06-01'"),
            ("--workspace", "ws_00014", "workspace_id = 'ws_00014'"),
            (
                "--program",
                "startup",
                "invoice_id in (select invoice_id from marts.fct_discount_applications inner join"
                " marts.dim_coupons using (coupon_id) where program = 'startup' union select"
                " invoice_id from marts.fct_credit_ledger inner join marts.dim_coupons using"
                " (coupon_id) where program = 'startup')",
            ),
        ],
    )
    def test_a_part_holds_its_rows_and_a_summary_of_them(
        self, desk: Desk, tmp_path: Path, option: str, value: str, condition: str
    ) -> None:
        data = desk.json("export", "--out", tmp_path, option, value)
        book = openpyxl.load_workbook(data["files"][0]["file"])
        expected = desk.rows(
            "select invoice_id, currency, list_amount from marts.fct_discounted_charges"
            f" where {condition}"
        )
        names, *found = book["fct_discounted_charges"].iter_rows(values_only=True)
        invoices = [row[names.index("invoice_id")] for row in found]
        assert sorted(map(str, invoices)) == sorted(row[0] for row in expected)
        assert (
            0 < len(expected) < desk.rows("select count(*) from marts.fct_discounted_charges")[0][0]
        )
        lines = list(book["summary"].iter_rows(values_only=True))
        begin = [line[0] for line in lines].index(
            "From list to what was billed and kept, all bills exported"
        ) + 2
        for currency in sorted({row[1] for row in expected}):
            line = lines[begin]
            begin += 1
            assert (line[0], Decimal(str(line[2])).quantize(Decimal("0.01"))) == (
                currency,
                sum(row[2] for row in expected if row[1] == currency),
            )
        for name in data["left_out"]:
            assert name[:31] not in book.sheetnames

    @pytest.mark.parametrize("only", [(), ("--month", "2025-03"), ("--workspace", "ws_00155")])
    def test_the_summary_leads_from_list_to_what_was_kept(
        self, desk: Desk, tmp_path: Path, only: tuple[str, ...]
    ) -> None:
        data = desk.json("export", "--out", tmp_path, *only)
        book = openpyxl.load_workbook(data["files"][0]["file"])
        lines = list(book["summary"].iter_rows(values_only=True))
        begin = [line[0] for line in lines].index(
            "From list to what was billed and kept, all bills exported"
        )
        names = [name for name in lines[begin + 1] if name is not None]
        assert names[-3:] == ["billed net", "credit notes", "kept"]
        where = {
            (): "true",
            ("--month", "2025-03"): "billing_month = '2025-03-01'",
            ("--workspace", "ws_00155"): "workspace_id = 'ws_00155'",
        }[only]
        expected = desk.rows(
            "select currency, count(*), sum(list_amount), -sum(percent_off_amount),"
            " -sum(amount_off_amount), -sum(credit_amount), sum(net_amount),"
            " sum(billed_net_amount - net_amount), sum(billed_net_amount), -sum(credited_amount),"
            f" sum(billed_net_after_notes_amount) from marts.fct_discounted_charges where {where}"
            " group by currency order by currency"
        )
        found = [line[: len(names)] for line in lines[begin + 2 : begin + 2 + len(expected)]]
        assert [
            (code, bills, *(Decimal(str(one)).quantize(Decimal("0.01")) for one in amounts))
            for code, bills, *amounts in found
        ] == expected
        assert any(row[9] for row in expected), "a credit note is among them"

    @pytest.mark.parametrize("month", [None, "2025-11"])
    def test_the_summary_says_what_is_left_of_credit_but_not_of_one_month(
        self, desk: Desk, tmp_path: Path, month: str | None
    ) -> None:
        only = () if month is None else ("--month", month)
        data = desk.json("export", "--out", tmp_path, "--table", "fct_credit_ledger", *only)
        sheet = openpyxl.load_workbook(data["files"][0]["file"])["summary"]
        left = {
            row[0]: Decimal(str(row[3]))
            for row in sheet.iter_rows(values_only=True)
            if row[1] == "left"
        }
        balances = desk.rows(
            "select currency, coalesce(sum(closing_amount) filter (where burn_month = '2025-12-01'), 0)"
            " from marts.fct_credit_burndown_monthly group by currency"
        )
        assert left == ({} if month else dict(balances)) and balances

    def test_a_part_of_one_workspace_has_nothing_of_another(
        self, desk: Desk, tmp_path: Path
    ) -> None:
        data = desk.json("export", "--out", tmp_path, "--workspace", "ws_00014")
        text = "".join(
            str(row)
            for sheet in openpyxl.load_workbook(data["files"][0]["file"])
            for row in sheet.iter_rows(values_only=True)
        )
        ids = [row[0] for row in desk.rows("select workspace_id from marts.dim_workspaces")]
        assert [one for one in ids if f"'{one}'" in text] == ["ws_00014"]
        assert "dim_coupons" in data["left_out"]

    def test_the_answer_to_a_question_is_a_sheet(self, desk: Desk, tmp_path: Path) -> None:
        sql = "select currency, count(*) as bills from fct_discounted_charges group by all order by 1;"
        data = desk.json("export", "--out", tmp_path, "--sql", sql)
        book = openpyxl.load_workbook(data["files"][0]["file"])
        assert book.sheetnames == ["summary", "query"]
        _, *found = book["query"].iter_rows(values_only=True)
        assert [tuple(row) for row in found] == desk.rows(
            "select currency, count(*) from marts.fct_discounted_charges group by all order by 1"
        )

    @pytest.mark.parametrize(
        ("command", "most"),
        [
            ("export --table fct_discounted_charges --out .", 100),
            ("query 'from fct_discounted_charges' --max-rows 0 --out bills.parquet", 50),
        ],
    )
    def test_memory_does_not_grow_with_rows(
        self, large: tuple[Path, Path], command: str, most: int, tmp_path: Path
    ) -> None:
        arguments = [*shlex.split(command), "--home"]
        few, many = (_peak(tmp_path, *arguments, str(home)) for home in large)
        # DuckDB's cache of the file is bounded, but the few rows do not fill it.
        assert many - few < most, f"{few} MiB for an eighth of the rows, {many} MiB for all"

    def test_rows_of_a_part_stay_in_order(
        self, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for size, month in ((400, ()), (7, ("--month", "2025-11"))):
            monkeypatch.setattr(export, "_PART", size)
            data = desk.json(
                "export", "--out", tmp_path, "--table", "fct_discounted_charges", *month
            )
            book = openpyxl.load_workbook(data["files"][0]["file"])
            found = [row[0].value for row in book["fct_discounted_charges"].iter_rows(min_row=2)]
            where = "billing_month = '2025-11-01'" if month else "true"
            assert found == [
                row[0]
                for row in desk.rows(
                    "select invoice_id from marts.fct_discounted_charges"
                    f" where {where} order by invoice_id"
                )
            ]
            assert len(found) > 5 * size

    def test_numbers_are_untouched(self, desk: Desk, tmp_path: Path) -> None:
        desk.answer("export", "--format", "csv", "--out", tmp_path, "--table", "fct_credit_ledger")
        assert "'" not in (tmp_path / "fct_credit_ledger.csv").read_text("utf-8")


@pytest.fixture(scope="module")
def large(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sample's release with its bills five times and forty times, each time with other ids."""
    release_id = places.current_release(desk.home)
    assert release_id is not None
    homes = []
    for times in (5, 40):
        home = tmp_path_factory.mktemp("large")
        path = places.release_path(home, release_id)
        path.parent.mkdir(parents=True)
        shutil.copyfile(places.release_path(desk.home, release_id), path)
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        with duckdb.connect(str(path)) as connection:
            connection.execute(
                "create or replace table marts.fct_discounted_charges as"
                " select bills.* replace (left(md5(invoice_id || time), 12) || invoice_id as invoice_id)"
                f" from marts.fct_discounted_charges as bills cross join range({times}) as many (time)"
                " order by invoice_id"
            )
        places.flip(home, release_id)
        homes.append(home)
    return homes[0], homes[1]


def _peak(folder: Path, *arguments: str) -> int:
    """The most memory that a command takes, run in a folder, in MiB."""
    # Not the figure of `wait4`, which includes the memory of this process when it starts the other.
    measured = (
        "import re, sys; from pathlib import Path; from dagster_project.cli import app;"
        " app(sys.argv[1:], standalone_mode=False);"
        r" print(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1])"
    )
    told = subprocess.run(
        [sys.executable, "-c", measured, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(told.stdout.split()[-1]) // 1024


NAMED = {
    (table, "workspace_name")
    for table in (
        *("dim_coupon_redemptions", "fct_audit_findings", "fct_credit_burndown_monthly"),
        *("fct_credit_ledger", "fct_discount_applications", "fct_discounted_charges"),
        *("fct_percent_off_variance_monthly", "fct_promotion_retention"),
        *("fct_upcoming_expirations", "fct_bill_outlook_monthly", "fct_credit_draws"),
        "fct_credit_notes",
    )
}
"""Columns that a workbook has beside those of the marts."""


def _typed(value: object, like: object) -> object:
    """A cell as read back, in the type it was written from."""
    if isinstance(like, Decimal):
        assert isinstance(value, int | float)
        return Decimal(str(value)).quantize(Decimal(1).scaleb(int(like.as_tuple().exponent)))
    if isinstance(value, datetime):
        if isinstance(like, datetime):
            # A workbook counts days in binary: to the millisecond.
            return like if abs(value - like).total_seconds() < 0.001 else value
        if isinstance(like, date):
            return value.date()
    return value


class TestHostileText:
    """Names are untrusted: they are shown, never obeyed."""

    @pytest.mark.parametrize(
        "arguments",
        [
            ("workspace", "ws_00005"),
            ("workspace", "ws_00001"),
            ("workspace", LONG),
            ("explain", "in_00005_007"),
            ("burndown", LONG),
            ("burndown",),
            ("variance", "ws_00005"),
            ("findings",),
            ("expiring",),
            ("programs",),
        ],
    )
    def test_control_characters_are_escaped_and_lines_fit(
        self, altered: Desk, arguments: tuple[str, ...]
    ) -> None:
        told = altered.answer(*arguments)
        assert all(sign.isprintable() or sign == "\n" for sign in told)
        assert altered.ask(*arguments, "--json").out.isascii()

    def test_names_are_shown_as_they_are_but_for_control_characters(self, altered: Desk) -> None:
        told = altered.answer("workspace", "ws_00005")
        assert r"=[red]\x1b[31m日本語\u202e\nx" in told
        assert f"{Decimal(HUGE):,}" in told

    def test_wrong_names_are_escaped_in_messages(self, desk: Desk) -> None:
        told = desk.ask("workspace", "a\x1b[31m")
        assert told.code == 2 and "\x1b" not in told.err


class TestWrongQuestions:
    """What does not exist: exit code 2, with similar names."""

    @pytest.mark.parametrize(
        ("arguments", "hint"),
        [
            (("workspace", "ws_0005"), "ws_00005"),
            (("workspace", "WS_00005"), "ws_00005"),
            (("workspace", "Orchard Commerce"), "That is the name of ws_00005"),
            (("workspace", "in_00005_007"), "coupon-ledger explain in_00005_007"),
            (("workspace", "rdm_000004"), "coupon-ledger workspace ws_00005"),
            (("explain", "in_00005_07"), "in_00005_007"),
            (("explain", "ws_00005"), "coupon-ledger workspace ws_00005"),
            (("explain", "in_00105"), "Similar ids: in_00105_001, in_00105_002, in_00105_003"),
            (("explain", "IN_00105_01"), "Similar ids: in_00105_001, in_00105_010, in_00105_011"),
            (("explain", "rdm_000004"), "a redemption of ws_00005: coupon-ledger workspace ws_0"),
            (
                ("workspace", "in_00105"),
                "Invoice ids that begin with it: in_00105_001, in_00105_002",
            ),
            (("burndown", "in_00105"), "coupon-ledger explain in_00105_001"),
            (("burndown", "startups"), "Did you mean startup"),
            (("variance", "ws_0005"), "ws_00005"),
            (("variance", "--month", "2024-2"), "Did you mean 2024-02"),
            (("variance", "--month", "2031-01"), "from 2023-07 to 2025-12"),
            (("programs", "--month", "soon"), "give one as YYYY-MM"),
            (("programs", "--program", "nonprofit"), "Did you mean non_profit"),
            (("expiring", "--program", "x"), "accelerator, non_profit, special, startup"),
            (("expiring", "--within-months", "13"), "--within-months"),
            (("findings", "--type", "over_discount"), "Did you mean over_discounted"),
            (("findings", "--severity", "errors"), "Did you mean error"),
            (("findings", "--review", "closed"), "open, accepted"),
            (("findings", "--workspace", "ws_0014"), "ws_00014"),
            (("export", "--out", "out", "--table", "dim_coupon"), "Did you mean dim_coupons"),
            (("export", "--out", "out", "--format", "xls"), "Did you mean xlsx"),
            (("findings", "--release", "nope"), "There is no release 'nope'"),
        ],
    )
    def test_a_wrong_name_meets_its_near_matches(
        self, desk: Desk, arguments: tuple[str, ...], hint: str
    ) -> None:
        told = desk.ask(*arguments)
        assert (told.code, told.out) == (2, "")
        assert hint in told.err

    @pytest.mark.parametrize("command", ["burndown", "variance", "findings", "programs"])
    def test_a_missing_release_is_said_to_be_missing(self, tmp_path: Path, command: str) -> None:
        told = Desk(tmp_path).ask(command)
        assert told.code == 2
        assert "No release has been published" in told.err
        assert "coupon-ledger run" in told.err

    def test_a_folder_that_cannot_be_written_to_is_said(self, desk: Desk, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_text("in the way")
        told = desk.ask("export", "--out", file)
        assert told.code == 2
        assert "name another folder with --out" in told.err


def test_any_kept_release_can_be_asked(desk: Desk) -> None:
    release_id = places.current_release(desk.home)
    assert release_id is not None
    assert desk.answer("findings", "--release", release_id) == desk.answer("findings")


@pytest.mark.parametrize(
    "arguments",
    [
        ("workspace", "ws_00014"),
        ("explain", "in_00014_022"),
        ("burndown",),
        ("variance", "--month", "2024-02"),
        ("findings",),
        ("expiring",),
        ("programs",),
    ],
)
def test_an_answer_comes_at_once(desk: Desk, arguments: tuple[str, ...]) -> None:
    began = time.perf_counter()
    result = coupon_ledger(*arguments, "--home", desk.home)
    taken = time.perf_counter() - began
    assert result.returncode == 0, result.stderr
    assert taken < SECONDS


def test_an_answer_does_not_load_what_it_does_not_need(desk: Desk) -> None:
    script = (
        "import sys; from dagster_project.cli import app\n"
        f"app(['workspace', 'ws_00014', '--home', {str(desk.home)!r}], standalone_mode=False)\n"
        "sys.exit(str(sorted({'pandas', 'dagster', 'dbt', 'openpyxl'} & set(sys.modules))))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert result.stderr.strip() == "[]"


def test_a_terminal_without_blocks_gets_plain_signs(desk: Desk) -> None:
    result = coupon_ledger("burndown", "--home", desk.home, PYTHONIOENCODING="ascii")
    assert result.returncode == 0, result.stderr
    assert result.stdout.isascii() and "####" in result.stdout
