"""Which Parquet types are exact text, and which refuse the file."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from dagster_project.arrival.parquet_worker import text_converter
from dagster_project.arrival.report import Refusal
from dagster_project.feeds import Column, feeds


def column(name: str) -> Column:
    """A column of invoices or coupons."""
    columns = (*feeds()["invoices"].columns, *feeds()["coupons"].columns)
    return next(found for found in columns if found.name == name)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("list_amount", pa.array([Decimal("120.00"), None]), ["120", None]),
        ("list_amount", pa.array([Decimal("-120.50")]), ["-120.5"]),
        ("list_amount", pa.array([Decimal("0.00000010")]), ["0.0000001"]),
        ("list_amount", pa.array([Decimal("100")], pa.decimal128(5, 0)), ["100"]),
        ("list_amount", pa.array([Decimal("120.50"), None], pa.decimal64(18, 2)), ["120.5", None]),
        ("percent_off", pa.array([Decimal("12.5"), None], pa.decimal32(7, 4)), ["12.5", None]),
        ("list_amount", pa.array([" 1e3 "]), [" 1e3 "]),
        ("percent_off", pa.array([20]), ["20"]),
        ("percent_off", pa.array([Decimal("12.5000")]), ["12.5"]),
        ("mtus", pa.array([10_000, None], pa.uint64()), ["10000", None]),
        ("invoice_id", pa.array([7]), ["7"]),
        ("requires_no_prior_coupon", pa.array([True, False, None]), ["true", "false", None]),
        ("period_start", pa.array([date(2026, 1, 31)]), ["2026-01-31"]),
        ("issued_at", pa.array([datetime(2026, 1, 1, 12)]), ["2026-01-01T12:00:00"]),
        ("issued_at", pa.array([1], pa.timestamp("ns")), ["1970-01-01T00:00:00.000000001"]),
        ("issued_at", pa.array([90], pa.timestamp("s", "+02:00")), ["1970-01-01T00:01:30Z"]),
        ("issued_at", pa.array([None], pa.timestamp("s", "UTC")), [None]),
        ("plan", pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        ("plan", pa.array(["a"], pa.large_string()), ["a"]),
        ("plan", pa.array([None, None]), [None, None]),
    ],
    ids=str,
)
def test_an_exact_type_becomes_the_text_of_a_csv_file(
    name: str, values: pa.Array, expected: list[str | None]
) -> None:
    assert text_converter(column(name), values.type)(values).to_pylist() == expected
    by_value = text_converter(column(name), values.type, by_value=True)
    assert by_value(values).to_pylist() == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("list_amount", pa.float64()),
        ("list_amount", pa.int64()),
        ("percent_off", pa.float32()),
        ("mtus", pa.float64()),
        ("mtus", pa.decimal128(5, 0)),
        ("mtus", pa.decimal32(5, 0)),
        ("plan", pa.bool_()),
        ("plan", pa.int64()),
        ("plan", pa.binary()),
        ("plan", pa.list_(pa.string())),
        ("invoice_id", pa.float64()),
        ("issued_at", pa.date32()),
        ("period_start", pa.timestamp("us")),
        ("requires_no_prior_coupon", pa.int8()),
        ("list_amount", pa.dictionary(pa.int32(), pa.float64())),
    ],
    ids=str,
)
def test_any_other_type_refuses_the_file(name: str, kind: pa.DataType) -> None:
    with pytest.raises(Refusal, match=f"column {name} has the Parquet type"):
        text_converter(column(name), kind)


def test_text_that_is_not_utf8_is_noticed() -> None:
    values = pa.array([b"\xff"]).view(pa.string())
    with pytest.raises(pa.ArrowInvalid):
        text_converter(column("plan"), values.type)(values)
