"""Which Parquet types have an exact text, and for which a file is refused; and how its rows are stored."""

from __future__ import annotations

import subprocess
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_project.arrival import parquet_worker, rows, supplier_gate, warehouse
from dagster_project.arrival.parquet_files import ParquetFile, prepare_parquets
from dagster_project.arrival.parquet_worker import (
    NotValues,
    read_parquet,
    text_converter,
    value_converter,
    value_converters,
)
from dagster_project.arrival.report import ArrivalError, Limits, Refusal
from dagster_project.arrival.rows import Prepared
from dagster_project.feeds import Column, feeds


def column(name: str) -> Column:
    """A column of any feed."""
    columns = [column for feed in feeds().values() for column in feed.columns]
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
        ("plan", pa.array([b"caf\xc3\xa9", None]), ["café", None]),
        ("list_amount", pa.array([120.5, 0.1, -3.0, None]), ["120.5", "0.1", "-3.0", None]),
        ("list_amount", pa.array([0.1 + 0.2, 1e-05]), ["0.30000000000000004", "0.00001"]),
        (
            "list_amount",
            pa.array([2.0**46, float("nan")]),
            ["7.036874e+13", "nan"],
        ),
        ("list_amount", pa.array([70368744177663.98]), ["70368744177663.98"]),
        ("percent_off", pa.array([33.3333]), ["33.3333"]),
        ("mtus", pa.array([1000.0, None, 0.5]), ["1000", None, "0.5"]),
        ("mtus", pa.array([2.0**53 - 1, 2.0**53]), ["9007199254740991", "9.007199e+15"]),
        ("mtus", pa.array([2.0**24 - 1, 2.0**24], pa.float32()), ["16777215", "1.677722e+07"]),
        ("mtus", pa.array([Decimal("1000.00"), Decimal("1.50")]), ["1000", "1.5"]),
        ("invoice_id", pa.array([Decimal("70000001")], pa.decimal128(38, 0)), ["70000001"]),
        ("requires_no_prior_coupon", pa.array([1, 0, None], pa.int8()), ["1", "0", None]),
        ("issued_at", pa.array([date(2026, 1, 31)]), ["2026-01-31"]),
        ("period_start", pa.array([datetime(2026, 1, 31)]), ["2026-01-31T00:00:00"]),
        ("period_start", pa.array([datetime(2026, 1, 31, 0, 0, 1)]), ["2026-01-31T00:00:01"]),
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
        ("list_amount", pa.float32()),
        ("list_amount", pa.int64()),
        ("owner_user_id", pa.float64()),
        ("percent_off", pa.float32()),
        ("mtus", pa.bool_()),
        ("plan", pa.bool_()),
        ("plan", pa.int64()),
        ("plan", pa.list_(pa.string())),
        ("invoice_id", pa.float64()),
        ("invoice_id", pa.decimal128(20, 2)),
        ("issued_at", pa.int64()),
        ("issued_at", pa.float64()),
        ("period_start", pa.timestamp("us", "UTC")),
        ("requires_no_prior_coupon", pa.float64()),
        ("list_amount", pa.dictionary(pa.int32(), pa.float32())),
    ],
    ids=str,
)
def test_any_other_type_refuses_the_file(name: str, kind: pa.DataType) -> None:
    with pytest.raises(Refusal, match=f"column {name} has the Parquet type"):
        text_converter(column(name), kind)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("list_amount", pa.array([Decimal("120.50"), None]), [12_050, None]),
        ("list_amount", pa.array([Decimal("-7")], pa.decimal128(5, 0)), [-700]),
        ("list_amount", pa.array([Decimal("0.5")], pa.decimal64(18, 2)), [50]),
        ("list_amount", pa.array([Decimal("9999999999999.990")]), [999_999_999_999_999]),
        ("total_amount", pa.array([Decimal("-99999999999999.99")]), [-9_999_999_999_999_999]),
        ("list_amount", pa.array([None, None]), [None, None]),
        ("percent_off", pa.array([Decimal("12.5")], pa.decimal256(40, 9)), [125_000]),
        ("mtus", pa.array([10_000, None], pa.uint64()), [10_000, None]),
        ("mtus", pa.array([10**18 - 1, 1 - 10**18]), [10**18 - 1, 1 - 10**18]),
        ("mtus", pa.array([1000.0, None, -0.0]), [1000, None, 0]),
        ("mtus", pa.array([2.0**53 - 1]), [2**53 - 1]),
        ("requires_no_prior_coupon", pa.array([True, None]), [True, None]),
        ("period_start", pa.array([date(1, 1, 1), None]), [date(1, 1, 1), None]),
        ("period_start", pa.array([date(9999, 12, 31)], pa.date64()), [date(9999, 12, 31)]),
        (
            "issued_at",
            pa.array([90], pa.timestamp("s", "+02:00")),
            [datetime(1970, 1, 1, 0, 1, 30)],
        ),
        ("issued_at", pa.array([1_000], pa.timestamp("ns")), [datetime(1970, 1, 1, 0, 0, 0, 1)]),
        ("issued_at", pa.array([datetime(9999, 12, 31, 23)]), [datetime(9999, 12, 31, 23)]),
    ],
    ids=str,
)
def test_a_value_of_its_columns_type_is_landed_as_it_is_typed(
    name: str, values: pa.Array, expected: list[object]
) -> None:
    assert value_converter(column(name), values.type)(values).to_pylist() == expected


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("list_amount", pa.array([Decimal("0.001")])),
        ("list_amount", pa.array([Decimal("10000000000000.00")])),
        ("total_amount", pa.array([Decimal("100000000000000.00")])),
        ("list_amount", pa.array([Decimal(10) ** 30], pa.decimal128(38, 2))),
        ("list_amount", pa.array([120.5])),
        ("list_amount", pa.array(["120.50"])),
        ("percent_off", pa.array([Decimal("0.00001")])),
        ("percent_off", pa.array([Decimal(10) ** 9])),
        ("mtus", pa.array([10**18])),
        ("mtus", pa.array([2**64 - 1], pa.uint64())),
        ("mtus", pa.array([0.5])),
        ("mtus", pa.array([float("nan")])),
        ("mtus", pa.array([2.0**53])),
        ("mtus", pa.array([2.0**24], pa.float32())),
        ("requires_no_prior_coupon", pa.array([1])),
        ("period_start", pa.array([-719_163], pa.int32()).cast(pa.date32())),
        ("period_start", pa.array([2_932_897], pa.int32()).cast(pa.date32())),
        ("period_start", pa.array([datetime(2026, 1, 31)])),
        ("issued_at", pa.array([1], pa.timestamp("ns"))),
        ("issued_at", pa.array([2**62], pa.timestamp("s"))),
        ("issued_at", pa.array([-62_135_596_801], pa.timestamp("s", "UTC"))),
        ("issued_at", pa.array([253_402_300_800], pa.timestamp("s", "UTC"))),
        ("issued_at", pa.array([date(2026, 1, 31)])),
        ("issued_at", pa.array(["2026-01-31"]).dictionary_encode()),
    ],
    ids=str,
)
def test_a_value_whose_text_has_to_be_judged_is_landed_as_text(name: str, values: pa.Array) -> None:
    with pytest.raises(NotValues):
        value_converter(column(name), values.type)(values)


def test_instants_of_one_file_have_a_time_zone_all_or_none() -> None:
    zones = {"UTC": "values", None: "local_values"}
    names = [column.name for column in feeds()["workspaces"].columns if column.type == "instant"]
    for zone, form in zones.items():
        schema = pa.schema([(name, pa.timestamp("us", zone)) for name in names])
        assert value_converters(feeds()["workspaces"], schema)[1] == form
    mixed = pa.schema(
        [(name, pa.timestamp("us", zone)) for name, zone in zip(names, zones, strict=True)]
    )
    with pytest.raises(NotValues):
        value_converters(feeds()["workspaces"], mixed)


def test_text_that_is_not_utf8_is_noticed() -> None:
    values = pa.array([b"\xff"]).view(pa.string())
    with pytest.raises(pa.ArrowInvalid):
        text_converter(column("plan"), values.type)(values)


@pytest.mark.parametrize("group_rows", [1, 7, 40, 100, 249, 1000])
def test_the_rows_are_stored_in_order_whatever_the_row_groups_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_rows: int
) -> None:
    monkeypatch.setattr(parquet_worker, "GROUP_ROWS", 100)
    table = redemptions(1000)
    stored = tmp_path / "rows"
    pq.write_table(table, tmp_path / "file", row_group_size=group_rows)
    answer = read_parquet(tmp_path / "file", feeds()["redemptions"], Limits(), stored)
    found = pq.read_table(stored)
    assert answer["rows"] == 1000
    assert found["row_number"].to_pylist() == list(range(1, 1001))
    for name in ("redemption_id", "channel", "redeemed_at"):
        expected = table[name] if name != "redeemed_at" else table[name].cast(pa.timestamp("us"))
        assert found[name].to_pylist() == expected.to_pylist()
    groups = pq.ParquetFile(stored).metadata
    sizes = [groups.row_group(place).num_rows for place in range(groups.num_row_groups)]
    assert min(sizes[:-1]) >= 50
    assert max(sizes) <= 150


@pytest.mark.parametrize(
    "encoding", ["PLAIN", "RLE_DICTIONARY", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"]
)
def test_texts_are_read_whatever_their_encoding(tmp_path: Path, encoding: str) -> None:
    table, is_dictionary = redemptions(100), encoding == "RLE_DICTIONARY"
    pq.write_table(
        table,
        tmp_path / "file",
        use_dictionary=is_dictionary,
        column_encoding=None if is_dictionary else {"channel": encoding, "coupon_id": encoding},
        row_group_size=40,
    )
    assert encoding in pq.ParquetFile(tmp_path / "file").metadata.row_group(0).column(3).encodings
    read_parquet(tmp_path / "file", feeds()["redemptions"], Limits(), tmp_path / "rows")
    found = pq.read_table(tmp_path / "rows")
    for name in ("channel", "coupon_id"):
        assert found[name].to_pylist() == table[name].to_pylist()


def test_what_arrow_does_not_read_must_be_written_differently(tmp_path: Path) -> None:
    table = redemptions(2)
    place = table.column_names.index("channel")
    table = table.set_column(place, "channel", table["channel"].dictionary_encode())
    file = ParquetFile(tmp_path / "file", tmp_path / "rows")
    pq.write_table(
        table, file.path, use_dictionary=False, column_encoding={"channel": "DELTA_BYTE_ARRAY"}
    )
    (refused,) = prepare_parquets([file], feeds()["redemptions"], Limits())
    assert isinstance(refused, Refusal)
    assert "Not yet implemented" in refused.reason
    assert refused.remedy == parquet_worker.PLAIN_REMEDY


@pytest.mark.parametrize("group_rows", [1, 7, 1000])
def test_the_gate_finds_in_the_sample_of_a_file_what_it_would_find_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_rows: int
) -> None:
    monkeypatch.setattr(rows, "WHOLE_ROWS", 200)
    monkeypatch.setattr(rows, "SAMPLE_ROWS", 90)
    feed, raw = feeds()["redemptions"], warehouse.RawRows(tmp_path)
    stored, sample = raw.place(feed.name, 7, "values"), tmp_path / "sample"
    stored.parent.mkdir(parents=True)
    pq.write_table(redemptions(1000), tmp_path / "file", row_group_size=group_rows)
    answer = read_parquet(tmp_path / "file", feed, Limits(), stored, sample_path=sample)
    assert answer["form"] == "values"
    read = rows.Prepared(rows.OwnParquet(stored, "values", sample), 1000)
    step = rows.sample_step(1000)
    looked_at = supplier_gate._looked_at(feed, [warehouse.Batch(7, read)], raw, step)
    whole = warehouse.landed_relation(feed, [stored])
    with duckdb.connect() as connection:
        some = connection.execute(f"from {looked_at} order by row_number").fetchall()
        all_of_them = f"from {whole} where row_number % {step} = 0 order by row_number"
        assert some == connection.execute(all_of_them).fetchall()
    assert len(some) == 1000 // step


def redemptions(number: int) -> pa.Table:
    """Redemptions with a column of few values, some of them missing."""
    at = pa.array(
        [datetime(2026, 1, 1) + timedelta(minutes=one) for one in range(number)],
        pa.timestamp("us", "UTC"),
    )
    channels = [("support", None, "partner")[one % 3] for one in range(number)]
    ids = {
        name: [f"{name}_{one}" for one in range(number)]
        for name in ("redemption_id", "coupon_id", "workspace_id")
    }
    return pa.table({**ids, "channel": channels, "redeemed_at": at, "updated_at": at})


@pytest.fixture
def files(tmp_path: Path) -> list[ParquetFile]:
    """Two files with one workspace each, and where their rows are written."""
    found = []
    for number in range(2):
        day = "2026-01-01"
        table = {"workspace_id": [f"ws_{number}"], "created_at": [day], "updated_at": [day]}
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table(table), path)
        (tmp_path / f"work-{number}").mkdir()
        found.append(ParquetFile(path, tmp_path / f"work-{number}" / "rows"))
    return found


class TestTime:
    """A reader of Parquet files that takes too long."""

    @pytest.fixture(autouse=True)
    def readers(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The files that readers begin before they take too long; the next reader reads."""
        begun: list[str] = []
        real = subprocess.run

        def run(*arguments: Any, **options: Any) -> Any:
            if not begun:
                return real(*arguments, **options)
            if answer := begun.pop():
                Path(answer).write_text("{}", "utf-8")
            raise subprocess.TimeoutExpired("reader", 1)

        monkeypatch.setattr(subprocess, "run", run)
        return begun

    def test_the_file_that_it_has_begun_is_refused_and_the_others_are_read(
        self, files: list[ParquetFile], readers: list[str]
    ) -> None:
        readers.append(str(files[0].answer_path))
        first, second = prepare_parquets(files, feeds()["workspaces"], Limits(parquet_seconds=60))
        assert isinstance(first, Refusal)
        assert first.reason == "reading it took more than 60 seconds"
        assert isinstance(second, Prepared)
        assert second.physical_rows == 1

    def test_one_that_begins_nothing_is_not_waited_for_again(
        self, files: list[ParquetFile], readers: list[str]
    ) -> None:
        readers.append("")
        with pytest.raises(ArrivalError, match="did not start within 1 seconds; run again"):
            prepare_parquets(files, feeds()["workspaces"], Limits(parquet_seconds=1))
