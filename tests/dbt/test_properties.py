"""What must hold for every history: agreement with the reference model, and independence of what must not matter.

These run the compiled models in memory, so that Hypothesis can look for a counter-example and shrink it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.dbt.compiled import CompiledModels
from tests.dbt.test_staging import VALID
from tests.reference import histories, model
from tests.reference.agreement import PROVENANCE, all_differences, differences

Marts = dict[str, list[dict[str, object]]]

slowly = settings(
    max_examples=12,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)
# These marts sum over workspaces, so the rows of disjoint workspaces are not disjoint.
ADDED_UP = {
    "fct_program_performance_monthly",
    "fct_program_budget_monthly",
    "fct_charge_bridge_monthly",
}

many_worlds = st.lists(histories.workspace_histories(), min_size=1, max_size=25)


@slowly
@given(worlds=many_worlds)
def test_the_marts_equal_the_model(
    compiled: CompiledModels, worlds: list[histories.Records]
) -> None:
    records = histories.combine(worlds)
    found = compiled.run([histories.as_deliveries(records)])
    expected = model.publish(histories.delivered(records), compiled.as_of)
    assert all_differences(found, expected) == []


@pytest.mark.parametrize(
    "as_of", [date(2024, 2, 29), date(2025, 1, 30), date(2025, 5, 31), date(2027, 3, 14)]
)
def test_the_marts_equal_the_model_on_any_day(compiled_folder: Path, as_of: date) -> None:
    on_that_day = CompiledModels(compiled_folder, as_of)
    records = histories.combine(histories.sample_worlds(300, seed=as_of.toordinal()))
    found = on_that_day.run([histories.as_deliveries(records)])
    assert all_differences(found, model.publish(records, as_of)) == []


# For other as-of dates, records are moved to before them, and to where days begin.
@pytest.mark.parametrize(
    ("zone", "as_of", "moved"),
    [
        ("Asia/Kathmandu", histories.AS_OF, timedelta()),
        ("Australia/Eucla", histories.AS_OF, timedelta()),
        ("America/St_Johns", histories.AS_OF, timedelta()),
        ("Europe/Berlin", histories.AS_OF, timedelta()),
        # The calendar of Apia skips 30 December 2011, at 10 o'clock UTC on that day.
        ("Pacific/Apia", date(2011, 12, 29), timedelta(days=-4931, hours=10)),
        ("Pacific/Apia", date(2011, 12, 30), timedelta(days=-4931, hours=10)),
        ("Pacific/Apia", date(2011, 12, 31), timedelta(days=-4930, hours=10)),
        ("Pacific/Kiritimati", date(1994, 12, 30), timedelta(days=-11140, hours=10)),
    ],
)
def test_the_marts_equal_the_model_in_any_time_zone(
    compiled_folder: Path, zone: str, as_of: date, moved: timedelta
) -> None:
    there = CompiledModels(compiled_folder, as_of, zone)
    worlds = histories.sample_worlds(200, seed=len(zone) + as_of.day)
    records = histories.moved(histories.combine(worlds), moved)
    found = there.run([histories.as_deliveries(records)])
    assert found["fct_discounted_charges"]
    assert all_differences(found, model.publish(records, as_of, zone)) == []


@pytest.fixture(scope="module")
def some_records() -> histories.Records:
    return histories.without_ties(histories.combine(histories.sample_worlds(150, seed=11)))


@pytest.fixture(scope="module")
def some_marts(compiled: CompiledModels, some_records: histories.Records) -> Marts:
    return compiled.run([histories.as_deliveries(some_records)])


def test_the_order_of_files_rows_and_columns_does_not_matter(
    compiled: CompiledModels, some_records: histories.Records, some_marts: Marts
) -> None:
    random = Random(5)
    files: list[dict[str, list[dict[str, str]]]] = [{}, {}, {}]
    for feed, rows in histories.as_deliveries(some_records).items():
        for row in random.sample(rows, len(rows)):
            columns = random.sample(list(row), len(row))
            random.choice(files).setdefault(feed, []).append({name: row[name] for name in columns})
    assert all_differences(compiled.run(files), some_marts, PROVENANCE) == []


def test_older_versions_and_copies_change_nothing(
    compiled: CompiledModels, some_records: histories.Records, some_marts: Marts
) -> None:
    delivery = histories.as_deliveries(some_records)
    outdated = {
        feed: [{**row, "updated_at": "1999-01-01T00:00:00Z"} for row in rows]
        for feed, rows in delivery.items()
    }
    for row in outdated["invoices"]:
        row["status"] = "void"
    for row in outdated["redemptions"]:
        row["revoked_at"] = row["redeemed_at"]
    for row in outdated["credit_notes"]:
        row["status"] = "void"
    for row in outdated["budgets"]:
        row["amount"] = "1"
    # For a coupon with several versions, a further older one would be a further change of its terms.
    of_coupon = Counter(row["coupon_id"] for row in outdated["coupons"])
    outdated["coupons"] = [row for row in outdated["coupons"] if of_coupon[row["coupon_id"]] == 1]
    found = compiled.run([delivery, outdated, delivery])
    assert all_differences(found, some_marts, PROVENANCE) == []


def test_a_workspace_without_activity_changes_nothing_else(
    compiled: CompiledModels, some_records: histories.Records, some_marts: Marts
) -> None:
    quiet = dict(some_records["workspaces"][0], workspace_id="quiet")
    found = compiled.run(
        [
            histories.as_deliveries(
                {**some_records, "workspaces": [*some_records["workspaces"], quiet]}
            )
        ]
    )
    found["dim_workspaces"] = [
        row for row in found["dim_workspaces"] if row["workspace_id"] != "quiet"
    ]
    assert all_differences(found, some_marts) == []


def test_two_disjoint_data_sets_give_the_union(compiled: CompiledModels) -> None:
    worlds = histories.sample_worlds(80, seed=23)
    together = histories.combine(worlds)

    def part(belongs: Callable[[int], bool]) -> Marts:
        def is_in(record: dict[str, object]) -> bool:
            first = next(str(value) for name, value in record.items() if name.endswith("_id"))
            return belongs(int(first[1:5]))

        # A budget does not belong to a workspace.
        records = {
            feed: [record for record in rows if is_in(record)]
            for feed, rows in together.items()
            if feed != "budgets"
        }
        return compiled.run([histories.as_deliveries(records)])

    low, high = part(lambda world: world <= 40), part(lambda world: world > 40)
    union = {name: low[name] + high[name] for name in low}
    whole = compiled.run([histories.as_deliveries(together)])
    assert [
        line
        for name in union
        if name not in ADDED_UP
        for line in differences(name, whole[name], union[name], PROVENANCE)
    ] == []


def test_amounts_scale_where_nothing_is_rounded(
    compiled: CompiledModels, some_records: histories.Records
) -> None:
    factor = 7
    amounts = {
        "amount_off",
        "credit_amount",
        "list_amount",
        "discountable_amount",
        "creditable_amount",
        "discount_amount",
        "tax_amount",
        "total_amount",
        "amount",
    }

    def scaled(by: int) -> Marts:
        records: histories.Records = {}
        for feed, rows in some_records.items():
            records[feed] = []
            for row in rows:
                copy = dict(row)
                # A whole percentage of whole hundreds of minor units is never rounded.
                if copy.get("percent_off") is not None:
                    copy["percent_off"] = Decimal(max(1, int(Decimal(str(copy["percent_off"])))))
                for name in amounts & copy.keys():
                    if copy[name] is not None:
                        whole = Decimal(str(copy[name])).quantize(Decimal(1))
                        whole = max(min(whole, Decimal(10**6)), Decimal(-(10**6)))
                        copy[name] = (whole or Decimal(copy[name] != 0)) * 10**4 * by
                records[feed].append(copy)
        return compiled.run([histories.as_deliveries(records)])

    once, often = scaled(1), scaled(factor)
    columns = (
        "list_amount",
        "discount_amount",
        "credit_amount",
        "net_amount",
        "credit_variance_amount",
    )

    def charges(marts: Marts, by: int) -> dict[object, list[object]]:
        return {
            row["invoice_id"]: [Decimal(str(row[column])) * by for column in columns]
            for row in marts["fct_discounted_charges"]
        }

    assert once["fct_discounted_charges"]
    assert charges(often, 1) == charges(once, factor)


@pytest.mark.parametrize("interval", ["month", "year", "day", "week"])
def test_a_bill_of_the_longest_interval_stops_nothing(compiled_folder: Path, interval: str) -> None:
    bill = {**VALID["invoices"], "billing_interval": interval, "interval_count": "9" * 18}
    delivery = {
        "workspaces": [VALID["workspaces"]],
        "coupons": [{**VALID["coupons"], "duration": "repeating", "duration_months": "12"}],
        "redemptions": [VALID["redemptions"]],
        "invoices": [{**bill, "discount_amount": "24.00", "total_amount": "96.00"}],
    }
    marts = CompiledModels(compiled_folder, date(2025, 1, 20)).run([delivery])
    [charge] = marts["fct_discounted_charges"]
    assert charge["interval_count"] == 10**18 - 1
