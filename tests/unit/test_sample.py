"""The sample generator: reproducible, realistic, billed by the rules except for the errors it declares.

Tests of dagster_project/sample and of the committed sample belong here. The strongest of them is that the
reference model finds exactly what `truth.json` lists: two independent readings of the rules agree.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dagster_project.feeds import Column, Feed, feeds
from dagster_project.sample import SampleSummary, generate, generate_sample
from dagster_project.sample.billing import Account, Bill, Redemption, set_window
from dagster_project.sample.deliver import COLUMNS, EXPORTED
from dagster_project.sample.mistakes import TYPES
from dagster_project.sample.moments import add_months, day_number, day_text, instant, instant_text
from dagster_project.sample.prices import PRICES, money_text, rounded_share
from dagster_project.sample.programs import Coupon, catalogue
from dagster_project.sample.schedule import Workspace, bills
from dagster_project.sample.showcase import MONTHS as SHOWCASE_MONTHS
from tests.reference.model import publish

CHECKOUT = Path(__file__).resolve().parents[2]
COMMITTED = CHECKOUT / "data/sample"
COUNTED = {"open", "paid", "uncollectible"}
NEW_FEEDS = ("credit_notes", "budgets")

Record = dict[str, Any]


# --- Reading a sample back, without any code of the product ------------------------------------


def read_file(path: Path) -> list[dict[str, str]]:
    """The records of a delivery as text, empty where null."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return [
            {name: "" if value is None else str(value) for name, value in row.items()}
            for row in parquet.read_table(path).to_pylist()
        ]
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    text = content.decode("utf-8-sig")
    if ".jsonl" in path.name:
        return [
            {name: "" if value is None else str(value) for name, value in json.loads(line).items()}
            for line in text.splitlines()
        ]
    return list(csv.DictReader(io.StringIO(text, newline="")))


def typed(column: Column, text: str | None) -> Any:
    """A value of the column's type, None if empty."""
    if not text:
        return None
    if column.type == "instant":
        return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
    if column.type == "date":
        return date.fromisoformat(text)
    if column.type in ("amount", "decimal"):
        return Decimal(text)
    if column.type == "whole":
        return int(text)
    if column.type == "boolean":
        return text == "true"
    return text


def key_of(feed: Feed, record: Record) -> str:
    """What identifies a record, in one word."""
    return "|".join(str(record[name]) for name in feed.key_names)


class Sample:
    """A sample on disk: its truth, and its records in their latest version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.truth = json.loads((folder / "truth.json").read_text("utf-8"))
        self.rejected = {(row["file"], row["row_number"]) for row in self.truth["rejected_rows"]}
        self.versions: dict[str, list[Record]] = {name: [] for name in feeds()}
        self.latest: dict[str, dict[str, Record]] = {name: {} for name in feeds()}
        for name, feed in feeds().items():
            for path in sorted((folder / "landing" / name).glob("*")):
                for number, row in enumerate(read_file(path), start=1):
                    if (f"{name}/{path.name}", number) in self.rejected:
                        continue
                    record = {one.name: typed(one, row.get(one.name)) for one in feed.columns}
                    self.versions[name].append(record)
                    key = key_of(feed, record)
                    known = self.latest[name].get(key)
                    if known is None or record["updated_at"] > known["updated_at"]:
                        self.latest[name][key] = record

    @property
    def counted(self) -> dict[str, Record]:
        """The invoices that count (R1), by id."""
        invoices = self.latest["invoices"].items()
        return {key: one for key, one in invoices if one["status"] in COUNTED}

    @property
    def invoice_errors(self) -> list[dict[str, str]]:
        """The planted errors on invoices."""
        return [one for one in self.truth["errors"] if one["type"] in TYPES]


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[SampleSummary, Path]:
    folder = tmp_path_factory.mktemp("sample")
    return generate_sample(150, 30, 7, folder), folder


@pytest.fixture(scope="module")
def sample(generated: tuple[SampleSummary, Path]) -> Sample:
    return Sample(generated[1])


# --- Reproducible ------------------------------------------------------------------------------


def test_same_seed_gives_same_bytes_and_times_in_another_process(tmp_path: Path) -> None:
    code = (
        "import sys; from datetime import date; from pathlib import Path\n"
        "from dagster_project.sample import generate_sample\n"
        "foreign = {'yaml', 'duckdb', 'pyarrow', 'pandas', 'dagster', 'dbt'} & set(sys.modules)\n"
        "assert not foreign, foreign\n"
        "generate_sample(30, 7, 5, Path(sys.argv[1]))\n"
    )
    for name, hash_seed in (("one", "1"), ("two", "2")):
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name)],
            check=True,
            cwd=CHECKOUT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
        )
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    for path in (tmp_path / "one/landing").rglob("*.*"):
        twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.stat().st_mtime_ns == twin.stat().st_mtime_ns


def test_generating_again_into_the_same_folder_changes_nothing(tmp_path: Path) -> None:
    generate_sample(12, 4, 3, tmp_path)
    before = files_of(tmp_path)
    generate_sample(12, 4, 3, tmp_path)
    assert files_of(tmp_path) == before


def test_another_seed_gives_other_bytes(tmp_path: Path) -> None:
    generate_sample(20, 4, 1, tmp_path / "one")
    generate_sample(20, 4, 2, tmp_path / "two")
    one, two = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    assert (
        one["landing/invoices/invoices-2023h2.csv"] != two["landing/invoices/invoices-2023h2.csv"]
    )
    assert one["truth.json"] != two["truth.json"]


def test_committed_sample_is_what_the_generator_writes(
    generated: tuple[SampleSummary, Path],
) -> None:
    fresh, committed = generated[1], files_of(COMMITTED)
    del committed["README.md"]
    assert set(committed) == set(files_of(fresh))
    for name, content in committed.items():
        if name.endswith((".gz", ".parquet")):  # their bytes may differ between library versions
            assert read_file(COMMITTED / name) == read_file(fresh / name), name
        else:
            assert content == (fresh / name).read_bytes(), name


def test_committed_sample_is_small() -> None:
    assert sum(map(len, files_of(COMMITTED).values())) < 3_000_000


def test_readme_names_only_what_is_in_the_sample(sample: Sample) -> None:
    text = (COMMITTED / "README.md").read_text("utf-8")
    mentioned_workspaces = set(re.findall(r"ws_\d{5}", text))
    mentioned_invoices = set(re.findall(r"in_\d{5}_\d{3}", text))
    assert len(mentioned_workspaces) > 20
    assert mentioned_workspaces <= set(sample.latest["workspaces"])
    assert mentioned_invoices <= set(sample.latest["invoices"])


@pytest.mark.parametrize("seed", [7, 12])
def test_a_folder_with_another_sample_is_refused(tmp_path: Path, seed: int) -> None:
    (tmp_path / "landing/invoices").mkdir(parents=True)
    (tmp_path / "landing/invoices/mine.csv").write_text("invoice_id\n", "utf-8")
    with pytest.raises(FileExistsError, match=r"invoices/mine\.csv.*remove them"):
        generate_sample(3, 2, seed, tmp_path)
    assert not (tmp_path / "truth.json").exists()


@pytest.mark.parametrize(("workspaces", "months"), [(0, 1), (1, 0)])
def test_an_empty_sample_is_refused(tmp_path: Path, workspaces: int, months: int) -> None:
    with pytest.raises(ValueError, match="at least 1 workspace and 1 month"):
        generate_sample(workspaces, months, 1, tmp_path)


@pytest.mark.parametrize(("workspaces", "months"), [(1, 1), (3, 2), (40, 6)])
def test_a_tiny_sample_works(tmp_path: Path, workspaces: int, months: int) -> None:
    summary = generate_sample(workspaces, months, 1, tmp_path, date(2024, 2, 1))
    tiny = Sample(tmp_path)
    assert len(tiny.latest["workspaces"]) == summary.workspaces == workspaces
    assert (summary.credit_notes, summary.budgets) == (0, 0)  # too few months for the showcase
    assert summary.last_day == (date(2024, 2, 1) + timedelta(days=31 * months)).replace(
        day=1
    ) - timedelta(days=1)


# --- Prices and the calendar, by hand ----------------------------------------------------------


@pytest.mark.parametrize(
    ("mtus", "dollars"),
    [
        (0, "120.00"),
        (10_000, "120.00"),
        (10_001, "120.01"),  # 1.2 cents
        (10_042, "120.50"),  # 50.4 cents
        (10_125, "121.50"),
        (25_000, "300.00"),  # 15,000 × 0.012
        (25_001, "300.01"),  # 1.1 cents
        (100_000, "1125.00"),  # and 75,000 × 0.011
        (100_001, "1125.01"),
        (250_000, "2625.00"),  # and 150,000 × 0.010
    ],
)
def test_a_month_on_the_team_plan_costs(mtus: int, dollars: str) -> None:
    prices = PRICES["team", "USD"]
    assert money_text(prices.base + prices.overage(mtus), 2) == dollars


def test_yen_have_no_decimal_places() -> None:
    prices = PRICES["team", "JPY"]
    assert money_text(prices.base + prices.overage(10_003), 0) == "18005"  # 5.4 yen


def test_half_is_rounded_away_from_zero() -> None:
    assert [rounded_share(amount, 1, 2) for amount in (0, 1, 2, 3)] == [0, 1, 1, 2]


def test_months_clamp_to_the_end_and_count_from_the_start() -> None:
    start = instant(date(2024, 1, 31), 8)
    texts = [instant_text(add_months(start, months)) for months in (1, 2, 13, 24)]
    assert texts == [
        "2024-02-29T08:00:00Z",
        "2024-03-31T08:00:00Z",
        "2025-02-28T08:00:00Z",
        "2026-01-31T08:00:00Z",
    ]


def a_workspace(created: date, **changes: Any) -> Workspace:
    values: dict[str, Any] = {
        "number": 1,
        "workspace_id": "ws_00001",
        "workspace_name": "One",
        "owner_user_id": "usr_1",
        "created_at": instant(created, 9),
        "currency": "USD",
        "billing_interval": "month",
        "tax_rate": 0,
        "billing_second": 3600,
        "mtus": 20_000,
        "growth": 1.0,
        "season": 0,
    }
    return Workspace(**(values | changes))


def bills_of(workspace: Workspace, first: date, last: date) -> list[Bill]:
    return list(bills(workspace, day_number(first), day_number(last), Random(1)))


def test_first_bill_comes_the_day_after_the_trial_and_then_on_its_anniversaries() -> None:
    issued = bills_of(a_workspace(date(2024, 1, 17)), date(2024, 1, 1), date(2024, 5, 31))
    assert [instant_text(bill.issued_at)[:10] for bill in issued] == [
        "2024-01-31",
        "2024-02-29",
        "2024-03-31",
        "2024-04-30",
        "2024-05-31",
    ]
    assert (issued[0].list_amount, issued[0].mtus) == (120_00, None)
    for bill in issued[1:]:
        assert bill.mtus is not None
        assert bill.list_amount == 120_00 + PRICES["team", "USD"].overage(bill.mtus)


def test_a_year_is_billed_in_advance_and_its_overage_by_the_month() -> None:
    workspace = a_workspace(date(2024, 1, 1), billing_interval="year")
    issued = bills_of(workspace, date(2024, 1, 1), date(2025, 1, 31))
    yearly = [bill for bill in issued if bill.billing_interval == "year"]
    assert [(bill.list_amount, bill.months) for bill in yearly] == [(1440_00, 12)] * 2
    assert [day_text(bill.period_start) for bill in yearly] == ["2024-01-15", "2025-01-15"]
    monthly = [bill for bill in issued if bill.billing_interval == "month"]
    assert len(monthly) == 12
    assert all(
        bill.list_amount == PRICES["team", "USD"].overage(bill.mtus or 0) for bill in monthly
    )


def test_who_gives_notice_pays_the_last_period_by_the_day() -> None:
    workspace = a_workspace(
        date(2024, 1, 1), mtus=5_000, cancelled_on=day_number(date(2024, 3, 25))
    )
    issued = bills_of(workspace, date(2024, 1, 1), date(2024, 12, 31))
    assert [bill.list_amount for bill in issued] == [120_00, 120_00, 38_71]  # 10 of 31 days
    assert day_text(issued[-1].period_end) == "2024-03-25"


# --- The generator's own billing, on the examples of the rules ---------------------------------


def an_account(*pairs: tuple[Redemption, Coupon]) -> Account:
    for redemption, coupon in pairs:
        set_window(redemption, coupon)
    coupons = {coupon.coupon_id: coupon for _, coupon in pairs}
    return Account([redemption for redemption, _ in pairs], coupons)


def a_bill(issued: date, amount: int, number: int = 1) -> Bill:
    day = day_number(issued)
    moment = instant(issued)
    return Bill(f"in_{number}", "team", "month", "USD", day, day + 30, 1, amount, None, moment)


@pytest.mark.parametrize(("percent_first", "discount"), [(False, 28_00), (True, 30_00)])
def test_discounts_apply_each_to_what_the_ones_before_left(
    percent_first: bool, discount: int
) -> None:
    """The example of R6."""
    redeemed = instant(date(2024, 1, 1))
    account = an_account(
        (
            Redemption("r1", "ten", "ws", "u", redeemed, application_order=2),
            Coupon("ten", "", "special", "amount_off", amount_off=10_00, currency="USD"),
        ),
        (
            Redemption(
                "r2", "fifth", "ws", "u", redeemed + 1, application_order=1 if percent_first else 3
            ),
            Coupon("fifth", "", "special", "percent_off", percent_off=20_0000),
        ),
    )
    assert account.discount(a_bill(date(2024, 2, 1), 100_00)) == discount


def test_a_years_credit_is_drawn_eleven_times_and_the_rest_ends_with_it() -> None:
    """The example of R7: after eleven bills 14,000.00 are left, the next bill has a new year's."""
    coupon = next(
        one
        for one in catalogue(instant(date(2023, 7, 1)), instant(date(2026, 1, 1)), 1).final
        if one.coupon_id == "STARTUP-TEAM"
    )
    account = an_account(
        (Redemption("r1", coupon.coupon_id, "ws", "u", instant(date(2023, 3, 1))), coupon)
    )
    left = []
    for month in range(12):
        bill = a_bill(date(2023 + (month + 3) // 12, (month + 3) % 12 + 1, 1), 1_000_00, month)
        left.append(account.credit_available(bill))
        account.draw(bill, 1_000_00)
    assert left[:2] == [25_000_00, 24_000_00]
    assert left[10:] == [15_000_00, 25_000_00]


# --- Rich --------------------------------------------------------------------------------------


def test_columns_are_those_of_the_contract() -> None:
    assert {name: feed.column_names for name, feed in feeds().items()} == COLUMNS


def test_every_kind_of_coupon_occurs_and_is_redeemed(sample: Sample) -> None:
    coupons = sample.latest["coupons"]
    redeemed = {one["coupon_id"] for one in sample.latest["redemptions"].values()}
    used = [coupon for key, coupon in coupons.items() if key in redeemed]
    assert {one["program"] for one in used} == {
        "startup",
        "accelerator",
        "non_profit",
        "special",
    }
    assert {one["discount_type"] for one in used} == {"percent_off", "amount_off", "credit"}
    assert {one["duration"] for one in used} == {"once", "repeating", "forever"}
    assert {one["currency"] for one in used} == {None, "USD", "EUR", "GBP", "JPY"}
    assert any(one["max_redemptions"] for one in used)
    assert any(one["follow_up_coupon_id"] for one in used)
    assert any(one["applies_to_interval"] for one in used)
    assert {"team", "business"} <= {one["applies_to_plan"] for one in used}


def test_the_startup_program_is_as_the_rules_say(sample: Sample) -> None:
    startup = sample.latest["coupons"]["STARTUP-TEAM"]
    assert (startup["credit_amount"], startup["credit_period_months"]) == (Decimal(25_000), 12)
    assert (startup["credit_max_periods"], startup["applies_to_plan"]) == (2, "team")
    assert startup["requires_no_prior_coupon"] is True
    assert startup["redeem_by"] == datetime(2025, 1, 6, 23, 59, 59)


def test_every_kind_of_invoice_occurs(sample: Sample) -> None:
    invoices = sample.latest["invoices"].values()
    assert {one["status"] for one in invoices} == COUNTED | {"draft", "void"}
    assert {one["plan"] for one in invoices} == {"team", "business"}
    assert {one["billing_interval"] for one in invoices} == {"month", "year", "week", "once"}
    assert {one["interval_count"] for one in invoices} == {None, 3}
    assert any(one["list_amount"] < 0 for one in invoices)
    assert any(one["discountable_amount"] == 0 < one["list_amount"] for one in invoices)
    assert any(one["creditable_amount"] for one in invoices)
    assert {one["currency"] for one in invoices} == {"USD", "EUR", "GBP", "JPY"}
    assert any(one["tax_amount"] for one in invoices)
    assert any(not one["list_amount"] for one in invoices)
    assert any(key + "r" in sample.latest["invoices"] for key in sample.latest["invoices"])


def test_every_refusal_and_a_late_follow_up_occur(sample: Sample) -> None:
    assert {one["type"] for one in sample.truth["refused_redemptions"]} == {
        "unknown_coupon",
        "unknown_workspace",
        "redeemed_after_close",
        "duplicate_for_workspace",
        "duplicate_for_user",
        "prior_coupon",
        "over_redeemed",
    }
    assert "follow_up_not_immediate" in {one["type"] for one in sample.truth["errors"]}


def test_some_records_are_repeated_and_some_restated(sample: Sample) -> None:
    seen: dict[str, list[Record]] = {}
    for record in sample.versions["invoices"]:
        seen.setdefault(record["invoice_id"], []).append(record)
    repeated = [each for each in seen.values() if len(each) > 1]
    restated = [each for each in repeated if any(one["updated_at"] != each[0]["updated_at"]
                                                 for one in each)]  # fmt: skip
    assert len(repeated) - len(restated) > 100
    assert any(len({one["list_amount"] for one in each}) > 1 for each in restated)
    assert any({one["status"] for one in each} == {"open", "void"} for each in restated)
    for each in repeated:  # the same version is always the same record
        by_version = {one["updated_at"]: one for one in each}
        assert all(one == by_version[one["updated_at"]] for one in each)


def test_files_differ_as_the_contract_allows(generated: tuple[SampleSummary, Path]) -> None:
    landing = generated[1] / "landing"
    endings = {path.name.partition(".")[2] for path in landing.rglob("*.*")}
    assert endings == {"csv", "csv.gz", "jsonl", "jsonl.gz", "parquet"}
    headers = {
        path.relative_to(landing).as_posix(): tuple(read_file(path)[0])
        for path in landing.rglob("*.csv")
        if "showcase" not in path.name
    }
    orders = {name: EXPORTED[name.partition("/")[0]] for name in headers}
    assert any(
        header != orders[name] and set(header) == set(orders[name])
        for name, header in headers.items()
    )
    assert any(set(header) > set(orders[name]) for name, header in headers.items())
    assert any(path.read_bytes().startswith(b"\xef\xbb\xbf") for path in landing.rglob("*.csv"))


def test_nothing_is_issued_or_redeemed_after_the_last_day(sample: Sample) -> None:
    end = datetime.fromisoformat(sample.truth["last_day"]) + timedelta(days=1)
    assert max(one["issued_at"] for one in sample.versions["invoices"]) < end
    assert max(one["redeemed_at"] for one in sample.versions["redemptions"]) < end
    assert any(
        one["starts_at"] is not None and one["starts_at"] >= end
        for one in sample.versions["redemptions"]
    )


def test_a_large_sample_comes_in_few_csv_files(tmp_path: Path) -> None:
    summary = generate_sample(1_700, 12, 1, tmp_path)
    files = [path for path in (tmp_path / "landing").rglob("*.*") if path.is_file()]
    assert {path.suffix for path in files} == {".csv"}
    assert len(files) == summary.files < 20
    assert sum(len(read_file(path)) for path in files) == summary.rows


# --- The showcase ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def marts(sample: Sample) -> dict[str, list[Record]]:
    return marts_of(sample)


def shown(sample: Sample, scenario: str) -> list[Record]:
    """The invoices of the workspace that shows a scenario, in the order they were issued."""
    workspace_id = sample.truth["scenarios"][scenario]
    invoices = (
        one for one in sample.latest["invoices"].values() if one["workspace_id"] == workspace_id
    )
    return sorted(invoices, key=lambda one: (one["issued_at"], one["invoice_id"]))


def test_the_invented_workspaces_are_the_same_with_and_without_the_showcase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_sample(20, 20, 3, tmp_path / "with")
    monkeypatch.setattr(generate, "SHOWCASE_MONTHS", 21)
    generate_sample(20, 20, 3, tmp_path / "without")
    shows, does_not = files_of(tmp_path / "with"), files_of(tmp_path / "without")
    added = {name for name in shows if name not in does_not}
    assert {name.split("/")[1] for name in added} == set(feeds())
    assert all("showcase" in name or name.split("/")[1] in NEW_FEEDS for name in added)
    del does_not["truth.json"]
    assert {name: shows[name] for name in does_not} == does_not


def test_a_sample_one_month_too_short_for_the_showcase_has_none(tmp_path: Path) -> None:
    generate_sample(5, SHOWCASE_MONTHS - 1, 3, tmp_path)
    assert not any((tmp_path / "landing" / feed).exists() for feed in NEW_FEEDS)
    assert not list(tmp_path.rglob("*showcase*"))


def test_the_showcase_is_within_the_shortest_sample_that_has_it(tmp_path: Path) -> None:
    generate_sample(3, SHOWCASE_MONTHS, 3, tmp_path, date(2024, 2, 1))
    short = Sample(tmp_path)
    first = min(one["issued_at"] for one in short.latest["invoices"].values())
    assert first >= datetime(2024, 2, 1)
    assert Counter(findings_of(short)) == told_by(short)


def test_only_the_showcase_has_the_optional_columns(generated: tuple[SampleSummary, Path]) -> None:
    landing = generated[1] / "landing"
    for feed in ("coupons", "redemptions", "invoices"):
        later = set(COLUMNS[feed]) - set(EXPORTED[feed])
        assert later
        for path in (landing / feed).iterdir():
            assert later & set(read_file(path)[0]) == (later if "showcase" in path.name else set())


def test_two_subscriptions_of_a_workspace_have_the_same_coupon_and_the_third_pays_list(
    sample: Sample,
) -> None:
    by_subscription: dict[str, set[Decimal]] = {}
    for one in shown(sample, "several_subscriptions"):
        by_subscription.setdefault(one["subscription_id"], set()).add(one["discount_amount"])
    assert [sorted(each) for _, each in sorted(by_subscription.items())] == [
        [Decimal(0), Decimal("60.00")],
        [Decimal("120.00")],
        [Decimal(0)],
    ]


def test_a_coupon_leaves_prorations_alone(sample: Sample) -> None:
    [prorated, untouched] = [
        one
        for one in shown(sample, "part_discountable")
        if one["discountable_amount"] not in (None, one["list_amount"])
    ]
    assert (prorated["list_amount"], prorated["discount_amount"]) == (250, 75)
    assert (untouched["discountable_amount"], untouched["discount_amount"]) == (0, 0)


def test_credit_pays_usage_only(sample: Sample) -> None:
    billed = [
        (one["creditable_amount"], one["credit_amount"])
        for one in shown(sample, "usage_only_credit")
        if one["credit_amount"] or not one["creditable_amount"]
    ]
    assert billed == [(200, 200), (200, 200), (0, 0), (170, 170), (200, 30)]


def test_a_downgrade_gives_money_back_with_its_tax(sample: Sample) -> None:
    [back] = [one for one in shown(sample, "money_back") if one["list_amount"] < 0]
    assert (back["list_amount"], back["tax_amount"]) == (-210, Decimal("-16.80"))
    assert back["total_amount"] == Decimal("-226.80")


def test_credit_notes_stay_within_the_bill_but_one(
    sample: Sample, marts: dict[str, list[Record]]
) -> None:
    workspace_id = sample.truth["scenarios"]["credit_notes"]
    left = [
        one["billed_net_after_notes_amount"]
        for one in marts["fct_discounted_charges"]
        if one["workspace_id"] == workspace_id and one["credited_amount"]
    ]
    assert left == [Decimal("190.00"), Decimal("0.00"), Decimal("-25.00")]


def test_a_chain_has_three_links_of_one_promotion_on_record_or_not(
    sample: Sample, marts: dict[str, list[Record]]
) -> None:
    for scenario, derived in (
        ("chain_of_three", [False, True, True]),
        ("chain_with_a_link_on_record", [False, False, True]),
    ):
        workspace_id = sample.truth["scenarios"][scenario]
        links = sorted(
            (one for one in marts["dim_coupon_redemptions"] if one["workspace_id"] == workspace_id),
            key=lambda one: one["started_at"],
        )
        assert [one["coupon_id"] for one in links] == ["LADDER-60", "LADDER-40", "LADDER-20"]
        assert [one["is_derived"] for one in links] == derived
        assert {one["promotion_id"] for one in links} == {links[0]["redemption_id"]}


def test_a_coupon_has_one_bill_left_and_credit_is_queued(
    sample: Sample, marts: dict[str, list[Record]]
) -> None:
    of_workspace: dict[str, list[Record]] = {}
    for one in marts["dim_coupon_redemptions"]:
        of_workspace.setdefault(one["workspace_id"], []).append(one)
    [limited] = of_workspace[sample.truth["scenarios"]["one_bill_left"]]
    assert (limited["uses_left"], limited["status"]) == (1, "active")
    queued = of_workspace[sample.truth["scenarios"]["queued_grants"]]
    assert {one["coupon_id"]: one["credit_balance_amount"] for one in queued} == {
        "QUEUE-400": 0,
        "QUEUE-YEARLY": 800,
    }


# --- The truth ---------------------------------------------------------------------------------


def test_ids_in_the_truth_are_in_the_files(sample: Sample) -> None:
    invoices, redemptions = sample.counted, sample.latest["redemptions"]
    places = {
        "follow_up_not_immediate": redemptions,
        "coupon_terms_changed": sample.latest["coupons"],
        "credit_note_without_invoice": sample.latest["credit_notes"],
    }
    for error in sample.truth["errors"]:
        assert error["record_id"] in places.get(error["type"], invoices)
    assert all(one["record_id"] in redemptions for one in sample.truth["refused_redemptions"])
    assert set(sample.truth["scenarios"].values()) <= set(sample.latest["workspaces"])


def test_counts_in_the_truth_and_summary_are_those_of_the_files(
    sample: Sample, generated: tuple[SampleSummary, Path]
) -> None:
    summary, counts = generated[0], sample.truth["counts"]
    for feed in feeds():
        assert counts[feed] == getattr(summary, feed) == len(sample.latest[feed])
    assert counts["counted_invoices"] == summary.counted_invoices == len(sample.counted)
    assert summary.planted_errors == len(sample.invoice_errors)
    assert summary.refused_redemptions == len(sample.truth["refused_redemptions"])
    assert summary.last_day.isoformat() == sample.truth["last_day"] == "2025-12-31"


def test_about_one_and_a_half_percent_of_invoices_are_wrong_in_all_eight_ways(
    sample: Sample,
) -> None:
    errors = sample.invoice_errors
    assert 0.012 < len(errors) / len(sample.counted) < 0.018
    assert len({one["record_id"] for one in errors}) == len(errors)
    by_type = Counter(one["type"] for one in errors)
    assert set(by_type) == set(TYPES)
    assert max(by_type.values()) < len(errors) / 4
    for error in errors:
        least = Decimal(1) if error["currency"] == "JPY" else Decimal("0.01")
        assert abs(Decimal(error["billed_minus_correct"])) > least


def test_totals_add_up_except_where_planted(sample: Sample) -> None:
    wrong = {
        key
        for key, one in sample.latest["invoices"].items()
        if one["total_amount"]
        != one["list_amount"] - one["discount_amount"] - one["credit_amount"] + one["tax_amount"]
    }
    planted = [one for one in sample.invoice_errors if one["type"] == "invoice_does_not_add_up"]
    assert wrong == {one["record_id"] for one in planted}


def test_nothing_is_taken_off_beyond_the_list_amount(sample: Sample) -> None:
    for one in sample.versions["invoices"]:
        assert one["discount_amount"] + one["credit_amount"] <= max(one["list_amount"], 0)


def test_bad_rows_are_where_the_truth_says_and_concern_nothing_else(sample: Sample) -> None:
    assert {row["feed"] for row in sample.truth["rejected_rows"]} == {
        "workspaces",
        "redemptions",
        "invoices",
    }
    for row in sample.truth["rejected_rows"]:
        record = read_file(sample.folder / "landing" / row["file"])[row["row_number"] - 1]
        assert "_bad_" in record[feeds()[row["feed"]].key.name]
        assert row["reason_hint"]
    assert not any("_bad_" in key for records in sample.latest.values() for key in records)


def marts_of(sample: Sample) -> dict[str, list[Record]]:
    """The marts of the reference model, which gets every version of a coupon."""
    records = {name: list(of_feed.values()) for name, of_feed in sample.latest.items()}
    return publish(
        records | {"coupons": sample.versions["coupons"]},
        date.fromisoformat(sample.truth["last_day"]),
    )


def record_of(finding: Record) -> object:
    """The record a finding is about."""
    names = ("credit_note_id", "invoice_id", "redemption_id", "coupon_id")
    return next(finding[name] for name in names if finding[name] is not None)


def findings_of(sample: Sample) -> Iterator[tuple[object, object]]:
    for row in marts_of(sample)["fct_audit_findings"]:
        yield row["finding_type"], record_of(row)


def told_by(sample: Sample) -> Counter[tuple[object, object]]:
    told = sample.truth["errors"] + sample.truth["refused_redemptions"]
    return Counter((one["type"], one["record_id"]) for one in told)


def test_the_reference_model_finds_exactly_what_the_truth_lists(sample: Sample) -> None:
    assert Counter(findings_of(sample)) == told_by(sample)


@pytest.mark.parametrize(("seed", "start"), [(1, date(2023, 7, 1)), (2, date(2024, 2, 1))])
def test_so_it_does_for_other_seeds(tmp_path: Path, seed: int, start: date) -> None:
    generate_sample(200, 20, seed, tmp_path, start)
    other = Sample(tmp_path)
    assert Counter(findings_of(other)) == told_by(other)
