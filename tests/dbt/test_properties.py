"""What must hold whatever the history: agreement with the model, and what may not matter.

These run the compiled models in memory, so that Hypothesis can look for a counter-example and shrink it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.dbt.compiled import CompiledModels
from tests.reference import histories, model
from tests.reference.agreement import KEYS, differences

Marts = dict[str, list[dict[str, object]]]

slowly = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)
many_worlds = st.lists(histories.workspace_histories(), min_size=1, max_size=25)


def all_differences(found: Marts, expected: Marts) -> list[str]:
    """Every difference between two sets of marts, one line each."""
    return [line for name in KEYS for line in differences(name, found[name], expected[name])]


@slowly
@given(worlds=many_worlds)
def test_the_marts_equal_the_model(
    compiled: CompiledModels, worlds: list[histories.Records]
) -> None:
    records = histories.combine(worlds)
    found = compiled.run([histories.as_deliveries(records)])
    assert all_differences(found, model.publish(records, compiled.as_of)) == []


@pytest.mark.parametrize(
    "as_of", [date(2024, 2, 29), date(2025, 1, 30), date(2025, 5, 31), date(2027, 3, 14)]
)
def test_the_marts_equal_the_model_on_any_day(tmp_path: Path, as_of: date) -> None:
    on_that_day = CompiledModels(tmp_path, as_of)
    records = histories.combine(histories.sample_worlds(300, seed=as_of.toordinal()))
    found = on_that_day.run([histories.as_deliveries(records)])
    assert all_differences(found, model.publish(records, as_of)) == []


@pytest.fixture(scope="module")
def some_records() -> histories.Records:
    return histories.combine(histories.sample_worlds(150, seed=11))


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
    assert all_differences(compiled.run(files), some_marts) == []


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
    assert all_differences(compiled.run([delivery, outdated, delivery]), some_marts) == []


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

        records = {feed: [r for r in rows if is_in(r)] for feed, rows in together.items()}
        return compiled.run([histories.as_deliveries(records)])

    low, high = part(lambda world: world <= 40), part(lambda world: world > 40)
    union = {name: low[name] + high[name] for name in KEYS}
    whole = compiled.run([histories.as_deliveries(together)])
    # Programs are added up over workspaces, so their rows are not disjoint.
    per_workspace = [name for name in KEYS if name != "fct_program_performance_monthly"]
    assert [
        line for name in per_workspace for line in differences(name, whole[name], union[name])
    ] == []


def test_amounts_scale_where_nothing_is_rounded(
    compiled: CompiledModels, some_records: histories.Records
) -> None:
    factor = 7
    amounts = {
        "amount_off",
        "credit_amount",
        "list_amount",
        "discount_amount",
        "tax_amount",
        "total_amount",
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
                        copy[name] = min(whole, Decimal(10**6)) * 10**4 * by
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
