"""From a published number back to what was delivered: standing, proofs, changed terms, bills left out."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_project import releases
from dagster_project.answers import proof
from dagster_project.answers.asking import NotThere
from dagster_project.arrival import arrive
from dagster_project.arrival.archive import Archive
from dagster_project.arrival.delivered import rows_delivered
from dagster_project.arrival.report import ArrivalError
from tests.pipeline.conftest import SampleRun, in_process

NOW = datetime(2026, 4, 1, 5, 0, tzinfo=UTC)
PERSON = "usr_0042secret"

WORKSPACES = [
    {"workspace_id": name, "workspace_name": name, "owner_user_id": PERSON, "created_at": DAY, "updated_at": DAY}
    for DAY in ["2024-01-01T00:00:00Z"]
    for name in ("ws_one", "startup", "-odd?")
]  # fmt: skip


def coupon(coupon_id: str, updated: str = "2024-01-01", **terms: str) -> dict[str, str]:
    return {
        "coupon_id": coupon_id,
        "coupon_name": coupon_id,
        "program": "special",
        "duration": "forever",
        "currency": "USD",
        "updated_at": f"{updated}T00:00:00Z",
        **terms,
    }


def redemption(redemption_id: str, coupon_id: str, workspace_id: str) -> dict[str, str]:
    return {
        "redemption_id": redemption_id,
        "coupon_id": coupon_id,
        "workspace_id": workspace_id,
        "user_id": PERSON,
        "redeemed_at": "2025-01-01T00:00:00Z",
        "updated_at": "2025-01-01T00:00:00Z",
    }


def bill(
    invoice_id: str, start: str, end: str, listed: str, discount: str = "0", **more: str
) -> dict[str, str]:
    given = {
        "invoice_id": invoice_id,
        "workspace_id": "ws_one",
        "status": "paid",
        "plan": "team",
        "billing_interval": "month",
        "currency": "USD",
        "period_start": start,
        "period_end": end,
        "issued_at": f"{start}T09:00:00Z",
        "list_amount": listed,
        "discount_amount": discount,
        "credit_amount": "0",
        "tax_amount": "0",
        "updated_at": f"{start}T09:00:00Z",
        **more,
    }
    try:
        given["total_amount"] = str(Decimal(listed) - Decimal(discount))
    except ArithmeticError:
        given["total_amount"] = listed
    return given


def as_csv(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_lines(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_array(rows: list[dict[str, str]]) -> bytes:
    return json.dumps(rows, indent=1).encode()


def as_parquet(rows: list[dict[str, str]]) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    target = io.BytesIO()
    pq.write_table(table, target)
    return target.getvalue()


def packed(rows: list[dict[str, str]]) -> bytes:
    return gzip.compress(as_csv(rows))


def land(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


FIRST_BILLS = [
    bill("b-2", "2025-03-01", "2025-04-01", "999.00", "149.85", updated_at="2025-03-01T08:00:00Z"),
    bill("b-1", "2025-02-01", "2025-03-01", "200.00", "30.00"),
    bill("b-2", "2025-03-01", "2025-04-01", "240.00", "36.00"),
    bill("b-3", "2025-04-01", "2025-05-01", "160.00", "15.00", discountable_amount="100.00"),
    bill("b-void", "2025-02-02", "2025-03-02", "70.00", status="void"),
    bill("b-draft", "2025-02-03", "2025-03-03", "71.00", status="draft"),
    bill("b-later", "2025-07-01", "2025-08-01", "72.00"),
    bill("b-bad", "2025-02-05", "2025-03-05", "seventy"),
    bill("s-1", "2025-01-31", "2025-03-02", "80.00", "30.00", workspace_id="startup"),
]


# Ids a shell, a question in SQL or a reader may stumble over, a chain of derived follow-ups, and credit notes.
ODD_COUPONS = [
    coupon("ODD", discount_type="percent_off", percent_off="20", once_per="workspace"),
    coupon(
        *("HALF", "2024-01-01"),
        discount_type="percent_off",
        percent_off="50",
        duration="repeating",
        duration_months="1",
        follow_up_coupon_id="THIRD",
    ),
    coupon(
        *("THIRD", "2024-01-01"),
        discount_type="percent_off",
        percent_off="30",
        duration="repeating",
        duration_months="1",
        follow_up_coupon_id="TENTH",
    ),
    coupon(
        *("TENTH", "2024-01-01"),
        discount_type="percent_off",
        percent_off="10",
        duration="repeating",
        duration_months="1",
    ),
    coupon("SUB", discount_type="amount_off", amount_off="10.00", once_per="subscription"),
]
ODD_REDEMPTIONS = [
    redemption("r?3", "ODD", "-odd?"),
    redemption("b-1", "ODD", "startup"),
    redemption("chain", "HALF", "-odd?") | {"redeemed_at": "2025-04-20T00:00:00Z"},
    redemption("s-a", "SUB", "-odd?") | {"subscription_id": "sub_a"},
    redemption("s-b", "SUB", "-odd?")
    | {"subscription_id": "sub_b", "redeemed_at": "2025-01-02T00:00:00Z"},
    redemption("s-c", "SUB", "-odd?")
    | {"subscription_id": "sub_b", "redeemed_at": "2025-01-03T00:00:00Z"},
    redemption("to-come", "SUB", "-odd?") | {"redeemed_at": "2025-12-01T00:00:00Z"},
    redemption("r-bad", "SUB", "-odd?") | {"redeemed_at": "yesterday"},
]
ODD_BILLS = [
    bill("-q?1", "2025-03-05", "2025-04-05", "100.00", "20.00", workspace_id="-odd?"),
    bill("money-back", "2025-03-20", "2025-04-05", "-40.00", workspace_id="-odd?"),
    bill("chained", "2025-06-21", "2025-07-21", "100.00", "28.00", workspace_id="-odd?"),
]


def credit_note(name: str, of: str, amount: str, **more: str) -> dict[str, str]:
    return {
        "credit_note_id": name,
        "invoice_id": of,
        "status": "issued",
        "issued_at": "2025-05-01T00:00:00Z",
        "currency": "USD",
        "amount": amount,
        "updated_at": "2025-05-01T00:00:00Z",
        **more,
    }


CREDIT_NOTES = [
    credit_note("n-1", "b-3", "4.00"),
    credit_note("n-1", "b-3", "5.00", updated_at="2025-05-02T00:00:00Z", reason="goodwill"),
    credit_note("n-yen", "b-3", "7", currency="JPY"),
    credit_note("n-void", "b-void", "7.00"),
]


class Data:
    """A data home with two releases: the terms of a coupon changed between them."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.landing = folder / "landing"
        land(self.landing, "workspaces/w.csv", as_csv(WORKSPACES))
        land(
            self.landing,
            "coupons/c1.json",
            as_array(
                [
                    coupon("SAVE", discount_type="percent_off", percent_off="15"),
                    coupon(
                        "PER",
                        discount_type="amount_off",
                        amount_off="30.00",
                        amount_off_per="month",
                    ),
                    *ODD_COUPONS,
                ]
            ),
        )
        land(
            self.landing,
            "redemptions/r.csv.gz",
            packed(
                [
                    redemption("r-1", "SAVE", "ws_one"),
                    redemption("r-2", "PER", "startup"),
                    *ODD_REDEMPTIONS,
                ]
            ),
        )
        land(self.landing, "invoices/i1.jsonl", as_lines(FIRST_BILLS + ODD_BILLS))
        land(self.landing, "credit_notes/n.csv", as_csv(CREDIT_NOTES))
        self.first = self.run("2025-05-31")
        new = coupon("SAVE", "2025-06-10", discount_type="percent_off", percent_off="25")
        same = ODD_COUPONS[0]
        land(self.landing, "coupons/c2.parquet", as_parquet([new, same]))
        land(
            self.landing,
            "invoices/i2.csv",
            as_csv(
                [
                    bill("b-4", "2025-06-15", "2025-07-15", "300.00", "75.00"),
                    bill("b-1", "2025-02-01", "2025-03-01", "200.00", "30.00"),
                ]
            ),
        )
        self.strict = in_process(*self._arguments("2025-06-30"), "--strict")
        self.second = self.run("2025-06-30")

    def _arguments(self, as_of: str) -> tuple[str | Path, ...]:
        where = ("--landing", self.landing, "--home", self.home)
        return ("run", *where, "--as-of", as_of)

    def run(self, as_of: str) -> str:
        done = in_process(*self._arguments(as_of))
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def ask(self, *arguments: str | Path) -> Any:
        return in_process(arguments[0], "--home", self.home, *arguments[1:])

    def answer(self, *arguments: str | Path) -> str:
        done = self.ask(*arguments)
        assert done.returncode == 0, done.stderr
        return " ".join(done.stdout.split())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(tmp_path_factory.mktemp("lineage"))


class TestStanding:
    """The explanation of a bill begins with its file and row, and every other version can be found."""

    def test_explain_names_file_row_and_earlier_version(self, data: Data) -> None:
        told = data.answer("explain", "b-2")
        assert "Delivered in invoices/i1.jsonl, row 3, arrived" in told
        assert "Earlier version in invoices/i1.jsonl, row 1, arrived" in told
        assert "of 2025-03-01 08:00 UTC" in told

    def test_the_row_of_an_earlier_version_is_in_the_release(self, data: Data) -> None:
        with releases.open_release(data.home) as connection:
            found = connection.execute(
                "select feed, file_name, row_number, record_id from release.superseded_rows"
                " order by feed"
            ).fetchall()
        assert found == [
            ("coupons", "coupons/c1.json", 1, "SAVE"),
            ("credit_notes", "credit_notes/n.csv", 1, "n-1"),
            ("invoices", "invoices/i1.jsonl", 1, "b-2"),
        ]


class TestNotCounted:
    """Asking for a bill that does not count gives the reason."""

    @pytest.mark.parametrize(
        ("invoice_id", "said"),
        [
            ("b-void", "It is void, so it takes no discount, draws no credit"),
            ("b-draft", "It is a draft, so it takes no discount"),
            ("b-later", "It was issued 2025-07-01 09:00 UTC, after the as-of date 2025-06-30"),
        ],
    )
    def test_a_bill_on_record_says_why_and_where_it_stands(
        self, data: Data, invoice_id: str, said: str
    ) -> None:
        told = data.answer("explain", invoice_id)
        assert said in told
        assert "Delivered in invoices/i1.jsonl, row" in told
        others = {"It is void", "It is a draft", "after the as-of date"} - {said[:10], said[:13]}
        assert sum(other in told for other in others) <= 1

    def test_a_rejected_bill_says_where_and_why_and_names_no_other(self, data: Data) -> None:
        told = data.ask("explain", "b-bad")
        assert told.returncode == 2
        assert "'b-bad' was rejected (invoices/i1.jsonl, row 8): list_amount is not" in told.stderr
        assert "b-draft" not in told.stderr and "never delivered" not in told.stderr

    def test_a_bill_never_delivered_is_told_so_with_what_is_near(self, data: Data) -> None:
        told = data.ask("explain", "b-11")
        assert told.returncode == 2
        assert "'b-11' was never delivered" in told.stderr
        assert "Similar ids: b-1" in told.stderr


class TestExplained:
    """A bill says what coupons may act on, how many months counted, and what moved it."""

    def test_months_counted_and_the_part_coupons_act_on(self, data: Data) -> None:
        assert "1 month counted from 2025-01-31 to 2025-03-02, 30.00 USD each" in data.answer(
            "explain", "s-1"
        )
        assert "; coupons may act on 100.00 USD" in data.answer("explain", "b-3")

    def test_the_bridge_from_the_bill_before_adds_up(self, data: Data) -> None:
        found = json.loads(data.ask("explain", "b-3", "--json").stdout)
        steps = {row["about"]: Decimal(row["amount"]) for row in found["bridge"]}
        assert steps == {
            "price or usage": Decimal("-140.00"),
            "proration or other lines that no coupon acts on": Decimal("60.00"),
            "SAVE on another amount": Decimal("35.00"),
        }
        change = Decimal(found["invoice"]["net_amount"]) - Decimal(
            found["bill_before"]["net_amount"]
        )
        assert sum(steps.values()) == change

    def test_money_back_has_no_bill_before_to_compare_with(self, data: Data) -> None:
        told = data.answer("explain", "money-back")
        assert "money back; coupons and credit do not act on it" in told
        assert "the bill before" not in told
        assert json.loads(data.ask("explain", "money-back", "--json").stdout)["bridge"] == []

    def test_credit_notes_stand_beside_the_bill_each_with_its_row(self, data: Data) -> None:
        told = data.answer("explain", "b-3")
        assert "credit notes -5.00 net after credit notes 140.00" in told
        assert (
            "Credit note n-1 of 2025-05-01, 5.00 USD, goodwill Delivered in credit_notes/n.csv, row 2"
        ) in told
        assert "Earlier version in credit_notes/n.csv, row 1" in told
        assert "n-yen of 2025-05-01, 7 JPY: does not count, since it is in another currency" in told
        told = data.answer("explain", "b-void")
        assert "n-void of 2025-05-01, 7.00 USD: does not count, since the bill does not" in told

    def test_a_refusal_names_the_redemption_of_the_same_subscription(self, data: Data) -> None:
        told = data.answer("workspace", "--", "-odd?")
        assert "the subscription had redeemed this coupon before, on 2025-01-02 (s-b)" in told
        assert "s-c of coupon SUB on workspace -odd? is refused: the subscription had" in told

    def test_a_workspace_named_like_a_program_can_be_asked_for(self, data: Data) -> None:
        program = data.answer("burndown", "startup")
        assert "workspace startup" not in program
        assert "workspace startup" in data.answer("variance", "workspace:startup")
        assert data.ask("variance", "workspace:nobody").returncode == 2


class TestChangedTerms:
    """A change of a coupon's terms is reported with its effect, and stops a strict run."""

    said = (
        "SAVE: percentage 15% → 25%, by the version of 2025-06-10 (coupons/c2.parquet, row 1);"
        " since release {} it gives 54.00 USD more on 3 bills."
    )

    def test_run_and_findings_say_what_changed_and_what_differs(self, data: Data) -> None:
        first, _ = releases.release_ids(data.home)
        assert "Changed terms" not in data.first
        assert self.said.format(first) in " ".join(data.second.split())
        assert self.said.format(first) in data.answer("findings")

    def test_explain_says_so_beside_a_bill_of_the_old_terms_and_no_other(self, data: Data) -> None:
        told = data.answer("explain", "b-1")
        assert "percentage 15% → 25% by the version of 2025-06-10" in told
        assert "Billing made a mistake" not in told
        assert "→ 25%" not in data.answer("explain", "b-4")

    def test_the_workspace_says_so_beside_the_coupon_and_only_there(self, data: Data) -> None:
        told = data.answer("workspace", "ws_one")
        assert (
            "terms changed: percentage 15% → 25% by the version of 2025-06-10 (coupons/c2.parquet,"
            " row 1)"
        ) in told
        assert told.count("terms changed") == 1
        found = json.loads(data.ask("workspace", "startup", "--json").stdout)
        assert [row["terms_changed"] for row in found["coupons"]] == [[], []]

    def test_a_copy_of_a_version_is_no_version(self, data: Data) -> None:
        with releases.open_release(data.home) as connection:
            found = connection.execute(
                "select versions.coupon_id, version_number, is_current,"
                " versions.delivery_id = coupons.delivery_id"
                " and versions.delivery_row = coupons.delivery_row"
                " from release.coupon_versions as versions"
                " inner join marts.dim_coupons as coupons using (coupon_id)"
                " where coupon_id in ('ODD', 'SAVE') order by all"
            ).fetchall()
        assert found == [("ODD", 1, True, True), ("SAVE", 1, False, False), ("SAVE", 2, True, True)]

    def test_a_strict_run_refuses_it(self, data: Data) -> None:
        assert data.strict.returncode == 1
        assert "coupon_terms_changed" in data.strict.stderr
        assert len(releases.release_ids(data.home)) == 2

    def test_an_alert_was_given_once(self, data: Data) -> None:
        told = data.answer("alerts", "--limit", "50")
        assert told.count("The terms of a coupon were changed") == 1
        assert "terms of coupons have changed, since" in told


def in_file(path: Path, file_name: str, row: int) -> dict[str, Any]:
    """A row of an archived file, read without the product."""
    content = path.read_bytes()
    if file_name.endswith(".gz"):
        content = gzip.decompress(content)
    if ".csv" in file_name:
        return list(csv.DictReader(io.StringIO(content.decode())))[row - 1]
    if file_name.endswith(".parquet"):
        found: dict[str, Any] = pq.read_table(io.BytesIO(content)).to_pylist()[row - 1]
        return found
    text = content.decode()
    rows = json.loads(text) if text.startswith("[") else [*map(json.loads, text.splitlines())]
    return dict(rows[row - 1])


class TestProved:
    """A proof has the rows as delivered, and a total is the sum of what it lists."""

    @pytest.mark.parametrize(
        "wanted",
        [
            *("b-2", "r-1", "b-void", "s-1", "b-3", "chained", "chain~follow-up~follow-up"),
            *("-q?1", "r?3", "invoice:b-1", "redemption:b-1", "s-c"),
        ],
    )
    def test_each_raw_row_is_in_the_archived_file_at_that_row(
        self, data: Data, tmp_path: Path, wanted: str
    ) -> None:
        data.answer("prove", "--out", tmp_path / "proof", "--", wanted)
        found = json.loads((tmp_path / "proof" / "proof.json").read_text("utf-8"))
        assert found["raw_rows"]
        for row in found["raw_rows"]:
            path = data.home / "archive" / row["sha256"][:2] / row["sha256"]
            delivered = in_file(path, row["file_name"], row["row_number"])
            shown = row["row_as_delivered"]
            personal = {"user_id", "owner_user_id"}
            assert {name: value for name, value in shown.items() if name not in personal} == {
                name: value
                for name, value in delivered.items()
                if value not in (None, "") and name not in personal
            }
        for file in (tmp_path / "proof").iterdir():
            assert PERSON not in file.read_text("utf-8")

    def test_a_bill_comes_with_all_versions_terms_and_a_verified_release(
        self, data: Data, tmp_path: Path
    ) -> None:
        data.answer("prove", "b-2", "--out", tmp_path / "proof")
        found = json.loads((tmp_path / "proof" / "proof.json").read_text("utf-8"))
        assert [
            (row["feed"], row["record_id"], row["version"], row["file_name"], row["row_number"])
            for row in found["raw_rows"]
        ] == [
            ("invoices", "b-2", "current", "invoices/i1.jsonl", 3),
            ("invoices", "b-2", "superseded", "invoices/i1.jsonl", 1),
            ("redemptions", "r-1", "current", "redemptions/r.csv.gz", 1),
            ("coupons", "SAVE", "earlier", "coupons/c1.json", 1),
            ("coupons", "SAVE", "current", "coupons/c2.parquet", 1),
        ]
        assert found["verification"]["is_sound"] is True
        assert found["release"]["content_hash"] in (tmp_path / "proof/proof.txt").read_text("utf-8")

    def test_a_total_is_the_sum_of_the_rows_listed(self, data: Data, tmp_path: Path) -> None:
        arguments = ("fct_discounted_charges", "2025-02", "net_amount")
        data.answer("prove", *arguments, "--out", tmp_path / "proof")
        with (tmp_path / "proof" / "rows.csv").open(encoding="utf-8") as file:
            listed = list(csv.DictReader(file))
        total = sum(Decimal(row["net_amount"]) for row in listed)
        found = json.loads((tmp_path / "proof" / "proof.json").read_text("utf-8"))
        assert [(row["currency"], Decimal(row["total"])) for row in found["totals"]] == [
            ("USD", total)
        ]
        assert total == Decimal("150.00")
        assert listed[0]["file_name"] == "invoices/i1.jsonl"

    def test_a_derived_redemption_rests_on_the_one_on_record_and_every_coupon_of_its_chain(
        self, data: Data, tmp_path: Path
    ) -> None:
        data.answer("prove", "chained", "--out", tmp_path / "bill")
        data.answer("prove", "chain~follow-up~follow-up", "--out", tmp_path / "redemption")
        for folder in ("bill", "redemption"):
            found = json.loads((tmp_path / folder / "proof.json").read_text("utf-8"))
            rests_on = {(row["feed"], row["record_id"]) for row in found["raw_rows"]}
            assert {
                ("redemptions", "chain"),
                *(("coupons", name) for name in ("HALF", "THIRD", "TENTH")),
                ("invoices", "chained"),
            } <= rests_on
        told = " ".join((tmp_path / "redemption" / "proof.txt").read_text("utf-8").split())
        assert "Derived: it follows chain~follow-up, which expired" in told

    def test_the_proof_of_a_bill_has_its_credit_notes_with_their_versions(
        self, data: Data, tmp_path: Path
    ) -> None:
        data.answer("prove", "b-3", "--out", tmp_path / "proof")
        found = json.loads((tmp_path / "proof" / "proof.json").read_text("utf-8"))
        assert [
            (row["record_id"], row["row_number"], row["version"])
            for row in found["raw_rows"]
            if row["feed"] == "credit_notes"
        ] == [("n-1", 2, "current"), ("n-1", 1, "superseded"), ("n-yen", 3, "current")]

    def test_a_refused_redemption_says_what_it_met_and_is_not_said_to_be_in_force(
        self, data: Data, tmp_path: Path
    ) -> None:
        data.answer("prove", "s-c", "--out", tmp_path / "proof")
        told = " ".join((tmp_path / "proof" / "proof.txt").read_text("utf-8").split())
        assert (
            "Refused: the subscription had redeemed this coupon before, on 2025-01-02 (s-b)" in told
        )
        assert "By its own dates it would be in force from 2025-01-03 00:00 UTC, no end" in told

    def test_an_id_that_is_a_bill_and_a_redemption_is_asked_for_by_its_kind(
        self, data: Data, tmp_path: Path
    ) -> None:
        told = data.ask("prove", "b-1", "--out", tmp_path / "proof")
        assert told.returncode == 2
        assert "ask for invoice:b-1 or redemption:b-1" in told.stderr
        data.answer("prove", "redemption:b-1", "--out", tmp_path / "proof")
        found = json.loads((tmp_path / "proof" / "proof.json").read_text("utf-8"))
        assert (found["kind"], found["redemption"]["coupon_id"]) == ("redemption", "ODD")

    def test_every_total_of_every_mart_with_months_is_the_sum_of_its_rows(
        self, sample_run: SampleRun
    ) -> None:
        checked, without = 0, 0
        with releases.open_release(sample_run.home) as connection:
            for mart in proof.MONTH_OF:
                with pytest.raises(NotThere) as no_column:
                    proof.of_total(connection, mart, "2025-01", "none")
                for column in no_column.value.known:
                    with pytest.raises(NotThere) as no_month:
                        proof.of_total(connection, mart, "1900-01", column)
                    months = no_month.value.known
                    for month in {*months[:1], *months[len(months) // 2 :: 9], *months[-1:]}:
                        found = proof.of_total(connection, mart, month, column)
                        totals = {row["currency"]: row["total"] for row in found["totals"]}
                        assert totals == found["listed_totals"], (mart, month, column)
                        assert sum(row["rows"] for row in found["totals"]) == len(found["listed"])
                        checked += sum(total is not None for total in totals.values())
                        without += sum(total is None for total in totals.values())
        assert checked > 300
        assert without > 10, "a month in which a column has no amounts is among them"

    def test_the_total_of_a_column_without_amounts_is_none_at_all(
        self, sample_run: SampleRun, tmp_path: Path
    ) -> None:
        wanted = ("fct_program_budget_monthly", "2023-07", "budget_amount")
        out, home = tmp_path / "proof", sample_run.home
        done = in_process("prove", *wanted, "--out", out, "--home", home)
        assert done.returncode == 0, done.stderr
        (usd,) = (
            line.split()
            for line in (out / "proof.txt").read_text("utf-8").splitlines()
            if line.startswith("  USD")
        )
        assert usd[2:] == ["–", "–"]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("nobody",), "is neither an invoice on record nor a redemption made by 2025-06-30"),
            (("to-come",), "nor a redemption made by 2025-06-30, the as-of date"),
            (("b-bad",), "Invoice 'b-bad' was rejected (invoices/i1.jsonl, row 8)"),
            (("r-bad",), "Redemption 'r-bad' was rejected (redemptions/r.csv.gz, row 10)"),
            (("n-yen",), "It is a credit note of b-3: coupon-ledger explain b-3"),
            (("startup",), "It is a workspace: coupon-ledger workspace startup"),
            (("fct_discounted_charges", "2019-01", "net_amount"), "There is no month"),
            (("fct_discounted_charges", "2025-02", "mtus"), "There is no amount of"),
            (("dim_coupons", "2025-02", "amount_off"), "There is no mart with months"),
            (("b-1", "2025-02"), "Give an invoice, a redemption, or a mart"),
            (("b-2", "--release", "what-if/less"), "A what-if is an assumption and proves nothing"),
        ],
    )
    def test_what_cannot_be_proved_says_why_and_writes_nothing(
        self, data: Data, tmp_path: Path, arguments: tuple[str, ...], said: str
    ) -> None:
        told = data.ask("prove", *arguments, "--out", tmp_path / "proof")
        assert told.returncode == 2
        assert said in told.stderr
        assert not (tmp_path / "proof").exists()

    def test_a_workspace_that_looks_like_an_option_is_suggested_so_that_it_can_be_typed(
        self, data: Data, tmp_path: Path
    ) -> None:
        told = data.ask("prove", "--out", tmp_path / "proof", "--", "-odd?")
        assert "coupon-ledger workspace -- '-odd?'" in told.stderr

    def test_a_folder_that_is_not_empty_is_left_alone(self, data: Data, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("kept", "utf-8")
        told = data.ask("prove", "b-1", "--out", tmp_path)
        assert (told.returncode, [file.name for file in tmp_path.iterdir()]) == (2, ["mine.txt"])


class TestDelivered:
    """Rows are read again from archived bytes of every format, and only from those bytes."""

    @pytest.mark.parametrize(
        ("name", "write"),
        [
            ("a.csv", as_csv),
            ("a.csv.gz", packed),
            ("a.jsonl", as_lines),
            ("a.json", as_array),
            ("a.parquet", as_parquet),
        ],
    )
    def test_a_row_is_that_of_the_file(
        self, tmp_path: Path, name: str, write: Callable[[list[dict[str, str]]], bytes]
    ) -> None:
        rows = [redemption(f"r-{n}", f"C{n}", "w") for n in range(1, 6)]
        land(tmp_path / "landing", f"redemptions/{name}", write(rows))
        (report,) = arrive(tmp_path / "landing", tmp_path / "home", "run", NOW, with_gate=False)
        archive = Archive(tmp_path / "home" / "archive", tmp_path / "home" / "build" / "tmp")
        (tmp_path / "work").mkdir()
        found = rows_delivered(archive, str(report.delivery_id), {2, 5}, tmp_path / "work")
        assert found == {number: {**rows[number - 1], "user_id": "[removed]"} for number in (2, 5)}

    def test_a_delivery_that_the_archive_does_not_have_is_named(self, tmp_path: Path) -> None:
        archive = Archive(tmp_path / "archive", tmp_path / "tmp")
        with pytest.raises(ArrivalError, match=r"abc.* is missing; restore the archive"):
            rows_delivered(archive, "abc", {1}, tmp_path / "work")

    def test_other_bytes_are_no_proof(self, tmp_path: Path) -> None:
        land(tmp_path / "landing", "redemptions/a.csv", as_csv([redemption("r-1", "C", "w")]))
        (report,) = arrive(tmp_path / "landing", tmp_path / "home", "run", NOW, with_gate=False)
        archive = Archive(tmp_path / "home" / "archive", tmp_path / "home" / "build" / "tmp")
        path = archive.bytes_path(str(report.delivery_id))
        path.chmod(0o600)
        path.write_bytes(path.read_bytes().replace(b"r-1", b"r-2"))
        (tmp_path / "work").mkdir()
        with pytest.raises(ArrivalError, match="changed since it was archived"):
            rows_delivered(archive, str(report.delivery_id), {1}, tmp_path / "work")
