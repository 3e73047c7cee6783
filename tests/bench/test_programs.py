"""The programs compared give the same marts: each equals the reference model in every column."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings

from dagster_project.feeds import feeds
from dagster_project.product import DBT_PROJECT
from dagster_project.refresh import spark
from tests.bench import compare, measure
from tests.bench.plain import plain
from tests.bench.programs import pandas_program, polars_program
from tests.bench.programs.contract import INPUTS, LEFT_OUT, RESULTS, Program, source, target
from tests.pipeline.conftest import NOT_ON_SPARK, QUICK_SPARK, needs
from tests.reference import histories, model, rules
from tests.reference.agreement import differences

# Those that start fast enough to be tried on many histories; the others run as in the comparison.
LIGHT: dict[str, Program] = {"pandas": pandas_program.main, "polars": polars_program.main}
NO_JAVA = "" if spark.has_java() else f"{NOT_ON_SPARK}: there is no Java for the program on Spark."
DEFAULTS = {
    "amount_off_per": "invoice", "credit_max_periods": 1, "requires_no_prior_coupon": False,
    "once_per": "user", "interval_count": 1,
}  # fmt: skip
KINDS = {
    "instant": pa.timestamp("us"), "date": pa.date32(), "whole": pa.int64(), "boolean": pa.bool_(),
}  # fmt: skip


def write_inputs(records: histories.Records, inputs: Path) -> None:
    """Records as staging has them: typed, amounts in minor units, defaults filled in."""
    inputs.mkdir(parents=True, exist_ok=True)
    for feed in INPUTS:
        columns: dict[str, Any] = {}
        for column in feeds()[feed].columns:
            values = [record.get(column.name) for record in records[feed]]
            name, kind = column.name, KINDS.get(column.type, pa.string())
            if column.type == "amount":
                name, kind = name.replace("_amount", "") + "_minor", pa.int64()
                currencies = [str(record["currency"]) for record in records[feed]]
                values = [
                    None if value is None else rules.to_minor(value, currency)  # type: ignore[arg-type]
                    for value, currency in zip(values, currencies, strict=True)
                ]
            elif name == "percent_off":
                name, kind = "percent_off_e4", pa.int64()
                values = [None if value is None else int(value * 10_000) for value in values]  # type: ignore[operator]
            elif name in DEFAULTS:
                values = [DEFAULTS[name] if value is None else value for value in values]
            columns[name] = pa.array(values, kind)
        if "currency" in columns:
            columns["minor_per_major"] = pa.array(
                [
                    None if record.get("currency") is None
                    else rules.to_minor(Decimal(1), str(record["currency"]))
                    for record in records[feed]
                ],
                pa.int64(),
            )  # fmt: skip
        columns["delivery_sequence"] = pa.array([1] * len(records[feed]), pa.int64())
        columns["row_number"] = pa.array(range(1, len(records[feed]) + 1), pa.int64())
        pq.write_table(pa.table(columns), source(inputs, feed))


def run(program: Program, inputs: Path, outputs: Path) -> None:
    outputs.mkdir()
    program(inputs, outputs, histories.AS_OF)


def rows_of(outputs: Path, mart: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(target(outputs, mart)).to_pylist()
    return rows


def differing(outputs: Path, mart: str, expected: list[dict[str, object]]) -> list[str]:
    """What differs between a result and the reference model, of the columns that a result has."""
    return differences(mart, rows_of(outputs, mart), expected, LEFT_OUT.get(mart, ()))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def records(folder: Path) -> histories.Records:
    made = plain(histories.combine(histories.sample_worlds(700, seed=77)))
    write_inputs(made, folder / "inputs")
    return made


@pytest.fixture(scope="module")
def expected(records: histories.Records) -> dict[str, list[dict[str, object]]]:
    return model.publish(records, histories.AS_OF)


@pytest.fixture(scope="module", params=compare.PROGRAMS)
def outputs(request: pytest.FixtureRequest, records: histories.Records, folder: Path) -> Path:
    assert records
    name = str(request.param)
    if name in LIGHT:
        run(LIGHT[name], folder / "inputs", folder / name)
        return folder / name
    needs(NO_JAVA if name == "spark" else "")
    (folder / name).mkdir()
    arguments = (str(folder / "inputs"), str(folder / name), histories.AS_OF.isoformat())
    measure.run(
        [sys.executable, "-m", f"tests.bench.programs.{name}_program", *arguments],
        folder / f"{name}.log",
        {"COUPON_LEDGER_SPARK_CONF": json.dumps(QUICK_SPARK)},
    )
    return folder / name


@pytest.mark.parametrize("mart", RESULTS)
def test_a_program_equals_the_reference_model(
    outputs: Path, expected: dict[str, list[dict[str, object]]], mart: str
) -> None:
    assert expected[mart], "nothing to compare"
    found = differing(outputs, mart, expected[mart])
    assert not found, "\n".join(found[:20])


@pytest.mark.parametrize("program", LIGHT)
@settings(max_examples=30)
@given(records=histories.workspace_histories())
def test_a_program_equals_the_reference_model_on_any_history(
    program: str, records: histories.Records
) -> None:
    records = plain(records)
    with tempfile.TemporaryDirectory() as name:
        write_inputs(records, Path(name) / "inputs")
        run(LIGHT[program], Path(name) / "inputs", Path(name) / "outputs")
        published = model.publish(records, histories.AS_OF)
        for mart in RESULTS:
            found = differing(Path(name) / "outputs", mart, published[mart])
            assert not found, "\n".join(found[:20])


@pytest.mark.parametrize("program", LIGHT)
def test_amounts_whose_products_outgrow_64_bits_stay_exact(program: str, tmp_path: Path) -> None:
    published = assert_as_the_model(program, huge(), tmp_path)
    [_, varied, *_] = sorted(
        published["fct_percent_off_variance_monthly"], key=lambda row: str(row["variance_month"])
    )
    assert varied["bill_effect_amount"] and varied["rate_effect_amount"]
    assert all(published[mart] for mart in RESULTS)


def history(
    coupons: list[histories.Record],
    redemptions: list[histories.Record],
    invoices: list[histories.Record],
) -> histories.Records:
    """A history of one workspace; columns that its records leave out have usual values."""
    start, updated = datetime(2025, 3, 1), {"updated_at": datetime(2025, 6, 1)}
    coupon = dict.fromkeys(feeds()["coupons"].column_names) | updated | {
        "coupon_name": "C", "program": "special", "discount_type": "percent_off",
        "duration": "forever",
    }  # fmt: skip
    redemption = dict.fromkeys(feeds()["redemptions"].column_names) | updated | {
        "workspace_id": "w", "redeemed_at": start,
    }  # fmt: skip
    invoice = dict.fromkeys(feeds()["invoices"].column_names) | updated | {
        "workspace_id": "w", "status": "open", "plan": "team", "billing_interval": "month",
        "currency": "USD", "period_start": date(2025, 1, 1), "period_end": date(2025, 2, 1),
        "discount_amount": Decimal("0.00"), "credit_amount": Decimal("0.00"),
        "tax_amount": Decimal("0.00"),
    }  # fmt: skip
    return {
        "workspaces": [{"workspace_id": "w", "created_at": start, **updated}],
        "coupons": [{**coupon, **one} for one in coupons],
        "redemptions": [{**redemption, **one} for one in redemptions],
        "invoices": [
            {**invoice, "invoice_id": f"i{number}", "total_amount": one["list_amount"], **one}
            for number, one in enumerate(invoices, start=1)
        ],
        "credit_notes": [],
        "budgets": [],
    }


def huge() -> histories.Records:
    """Two bills near the largest amount there is, with a third off, then a tenth, and much credit."""
    turn = datetime(2025, 4, 1)
    return history(
        [
            {"coupon_id": "third", "percent_off": Decimal("33.3333"), "follow_up_coupon_id": "tenth"},
            {"coupon_id": "tenth", "percent_off": Decimal("10.0001")},
            {"coupon_id": "gift", "discount_type": "credit", "currency": "USD",
             "credit_amount": Decimal("9999999999999.99")},
        ],
        [
            {"redemption_id": "r1", "coupon_id": "third", "ends_at": turn},
            {"redemption_id": "r2", "coupon_id": "tenth", "starts_at": turn},
            {"redemption_id": "r3", "coupon_id": "gift", "ends_at": datetime(2026, 4, 1)},
        ],
        [
            {"issued_at": datetime(2025, 3, 5), "list_amount": Decimal("9999999999999.97")},
            {"issued_at": datetime(2025, 4, 5), "list_amount": Decimal("7777777777777.77")},
        ],
    )  # fmt: skip


def assert_as_the_model(
    program: str, records: histories.Records, folder: Path
) -> dict[str, list[dict[str, object]]]:
    """Run a program on a history, compare every mart, and return what the model publishes."""
    write_inputs(records, folder / "inputs")
    run(LIGHT[program], folder / "inputs", folder / "outputs")
    published = model.publish(records, histories.AS_OF)
    for mart in RESULTS:
        assert not differing(folder / "outputs", mart, published[mart])
    return published


@pytest.mark.parametrize("program", LIGHT)
def test_a_follow_up_of_two_belongs_to_the_one_at_whose_end_it_starts(
    program: str, tmp_path: Path
) -> None:
    turn = datetime(2025, 5, 1)
    records = history(
        [
            {"coupon_id": "a", "percent_off": Decimal(40), "follow_up_coupon_id": "c"},
            {"coupon_id": "b", "percent_off": Decimal(30), "follow_up_coupon_id": "c"},
            {"coupon_id": "c", "percent_off": Decimal(20)},
        ],
        [
            {"redemption_id": "r1", "coupon_id": "a", "ends_at": datetime(2025, 4, 1)},
            {"redemption_id": "r2", "coupon_id": "b", "ends_at": turn},
            {"redemption_id": "r3", "coupon_id": "c", "starts_at": turn},
        ],
        [
            {"issued_at": datetime(2025, month, 5), "list_amount": Decimal("150.00")}
            for month in (3, 4, 5)
        ],
    )
    published = assert_as_the_model(program, records, tmp_path)
    [_, _, may, _] = sorted(
        published["fct_percent_off_variance_monthly"], key=lambda row: str(row["variance_month"])
    )
    assert may["rate_effect_amount"] == Decimal("-15.00")
    assert may["start_effect_amount"] == 0


@pytest.mark.parametrize("program", LIGHT)
def test_an_amount_per_month_counts_the_whole_months_of_a_period(
    program: str, tmp_path: Path
) -> None:
    periods = {
        (date(2025, 1, 31), date(2025, 3, 2)): 1,
        (date(2025, 1, 31), date(2025, 2, 28)): 1,
        (date(2025, 1, 31), date(2025, 3, 30)): 1,
        (date(2025, 1, 31), date(2025, 3, 31)): 2,
        (date(2025, 1, 1), date(2025, 1, 31)): 1,
        (date(2025, 1, 1), date(2025, 4, 1)): 3,
    }
    records = history(
        [
            {
                "coupon_id": "a", "discount_type": "amount_off", "amount_off": Decimal("7.00"),
                "amount_off_per": "month", "currency": "USD",
            }
        ],
        [{"redemption_id": "r", "coupon_id": "a"}],
        [
            {
                "issued_at": datetime(2025, 3, 5), "list_amount": Decimal("150.00"),
                "period_start": start, "period_end": end,
            }
            for start, end in periods
        ],
    )  # fmt: skip
    published = assert_as_the_model(program, records, tmp_path)
    found = {
        str(row["invoice_id"]): row["discount_amount"]
        for row in published["fct_discount_applications"]
    }
    assert found == {
        f"i{number}": months * 7 for number, months in enumerate(periods.values(), start=1)
    }


def test_the_results_are_the_marts_as_dbt_promises_them() -> None:
    path = DBT_PROJECT / "models" / "marts" / "finance" / "_finance__models.yml"
    models = {model["name"]: model for model in yaml.safe_load(path.read_text("utf-8"))["models"]}
    promised = {
        mart: {
            column["name"]: column["data_type"].replace(", ", ",")
            for column in models[mart]["columns"]
            if column["name"] not in LEFT_OUT.get(mart, ())
        }
        for mart in RESULTS
    }
    assert {mart: list(columns.items()) for mart, columns in RESULTS.items()} == {
        mart: list(columns.items()) for mart, columns in promised.items()
    }
    for mart, columns in LEFT_OUT.items():
        assert columns <= {column["name"] for column in models[mart]["columns"]}
