"""The comparison stops where results differ, and its numbers reach the page on speed."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.bench import chart, compare, readme
from tests.bench.programs.contract import RESULTS, target

KINDS: dict[str, Any] = {
    "string": ("text", pa.string()),
    "date": (date(2025, 6, 1), pa.date32()),
    "timestamp": (None, pa.timestamp("us")),
    "bigint": (7, pa.int64()),
    "boolean": (True, pa.bool_()),
    "decimal(18,2)": (Decimal("1.20"), pa.decimal128(18, 2)),
    "decimal(9,4)": (Decimal("20.0000"), pa.decimal128(9, 4)),
}


def leave_results(outputs: Path, **changed: Any) -> None:
    outputs.mkdir()
    for mart, columns in RESULTS.items():
        values = {name: KINDS[kind] for name, kind in columns.items()}
        table = pa.table(
            {name: pa.array([value] * 2, kind) for name, (value, kind) in values.items()}
        )
        if mart == "fct_credit_ledger":
            for name, value in changed.items():
                table = table.set_column(
                    table.schema.get_field_index(name), name, pa.array(value, table[name].type)
                )
        pq.write_table(table, target(outputs, mart))


def compare_two(one: Path, other: Path) -> None:
    compare.assert_equal(
        (one, compare.contents_of(one)), (other, compare.contents_of(other))
    )  # fmt: skip


def test_results_in_another_order_are_equal(tmp_path: Path) -> None:
    leave_results(tmp_path / "one", entry_id=["a", "b"], balance_amount=[1, 2])
    leave_results(tmp_path / "other", entry_id=["b", "a"], balance_amount=[2, 1])
    compare_two(tmp_path / "one", tmp_path / "other")


def test_a_cell_that_differs_is_shown_with_both_programs(tmp_path: Path) -> None:
    leave_results(tmp_path / "one", balance_amount=[1, 1])
    leave_results(tmp_path / "other", balance_amount=[1, Decimal("1.01")])
    with pytest.raises(AssertionError, match=r"(?s)fct_credit_ledger.*only one.*only other.*1\.01"):
        compare_two(tmp_path / "one", tmp_path / "other")


def test_equal_values_of_another_type_differ(tmp_path: Path) -> None:
    for name in ("one", "other"):
        leave_results(tmp_path / name)
    path = target(tmp_path / "other", "fct_discount_applications")
    table = pq.read_table(path)
    column = pc.cast(table["application_rank"], pa.int32())
    place = table.schema.get_field_index("application_rank")
    pq.write_table(table.set_column(place, "application_rank", column), path)
    with pytest.raises(AssertionError, match="application_rank INTEGER"):
        compare_two(tmp_path / "one", tmp_path / "other")


def result(**programs: Any) -> dict[str, Any]:
    return {
        "measured_at": "2026-01-01T00:00:00+00:00",
        "commit": "abc1234",
        "processor": "a processor",
        "cores": 2,
        "memory_gib": 23.5,
        "load_before": 0.1,
        "versions": {"Python": "3.11"},
        "invoices": 1_000_840,
        "asked_invoices": 1_000_000,
        "input_bytes": 5,
        "rounds": 3,
        "threads": 2,
        "memory_limit": "4GB",
        "result_rows": {"fct": 9},
        "equal": list(programs),
        "programs": programs,
    }


def took(seconds: float, gigabytes: float) -> dict[str, Any]:
    return {
        "seconds": [seconds],
        "median_seconds": seconds,
        "peak_bytes": int(gigabytes * 1e9),
    }


MEASURED = result(
    duckdb=took(10, 0.5),
    polars=took(5, 1),
    pandas={"failed": "held more than 20.0 GiB of memory and was ended"},
)


def test_a_program_that_needs_too_much_memory_is_reported_not_hidden() -> None:
    content = readme.compare_block([MEASURED])
    for shown in (content, compare.block(MEASURED), chart.drawn([MEASURED])):
        assert "pandas" in shown and "held more than 20.0 GiB of memory" in shown
    assert "| Polars | 5.0 | 0.50 | 1.00 GB |" in content


def test_the_chart_is_well_formed_and_in_proportion() -> None:
    drawn = ElementTree.fromstring(chart.drawn([MEASURED]))
    bars = [
        float(element.attrib["width"])
        for element in drawn
        if element.tag.endswith("rect") and element.attrib.get("x")
    ]
    seconds_of_duckdb, memory_of_duckdb, seconds_of_polars, memory_of_polars = bars
    assert seconds_of_duckdb == 2 * seconds_of_polars
    assert memory_of_polars == 2 * memory_of_duckdb


def test_the_newest_result_of_each_case_is_told() -> None:
    older = {**MEASURED, "commit": "old"}
    larger = {**MEASURED, "asked_invoices": 10_000_000}
    told = readme.newest([larger, older, MEASURED], "asked_invoices")
    assert [(each["asked_invoices"], each["commit"]) for each in told] == [
        (1_000_000, "abc1234"),
        (10_000_000, "abc1234"),
    ]


def test_only_what_is_between_the_markers_of_a_name_is_rewritten() -> None:
    start, end, other = "<!-- a:start -->", "<!-- a:end -->", "<!-- b:start -->\nb\n<!-- b:end -->"
    text = f"before\n{start}\nold\n{end}\n{other}\nafter\n"
    once = readme.with_block(text, "a", "new")
    assert once == f"before\n{start}\n\nnew\n\n{end}\n{other}\nafter\n"
    assert readme.with_block(once, "a", "new") == once
    for broken in ("", start, f"{end}{start}", text + text):
        with pytest.raises(ValueError, match="needs one"):
            readme.with_block(broken, "a", "new")


@pytest.mark.parametrize("name", readme.PAGES)
def test_the_page_of_a_block_has_a_place_for_it(name: str) -> None:
    text = readme.PAGES[name].read_text("utf-8")
    assert readme.with_block(text, name, "numbers") != text


def test_programs_are_told_how_much_of_the_machine_they_may_use() -> None:
    case = compare.Case(1, ("duckdb",), 1, 3, "5GB", 1)
    told = case.environment()
    assert {told["COUPON_LEDGER_THREADS"], told["POLARS_MAX_THREADS"]} == {"3"}
    assert told["COUPON_LEDGER_MEMORY_LIMIT"] == "5GB"


def test_every_program_compared_is_a_module() -> None:
    for name in compare.PROGRAMS:
        assert (Path(compare.__file__).parent / "programs" / f"{name}_program.py").is_file()
