from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project.cli.run import Terminal
from dagster_project.sample.scale import LargeFormat, generate_large_sample
from tests.bench import floor, measure, refresh
from tests.bench.programs.contract import RESULTS

HOLDS = "import subprocess, sys, time; held = b'x' * int(sys.argv[1]);"


def test_peak_memory_counts_what_child_processes_hold(tmp_path: Path) -> None:
    child = f"{HOLDS} time.sleep(1)"
    parent = f"{HOLDS} subprocess.run([sys.executable, '-c', {child!r}, sys.argv[1]], check=True)"
    alone = measure.run([sys.executable, "-c", child, "100000000"], tmp_path / "alone.log")
    both = measure.run([sys.executable, "-c", parent, "100000000"], tmp_path / "both.log")
    assert 100e6 < alone.peak_bytes < 190e6
    assert 200e6 < both.peak_bytes < 380e6
    assert alone.seconds > 1


def test_a_run_that_fails_shows_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(measure.RunFailed, match=r"(?s)status 3.*out of luck"):
        measure.run(
            [sys.executable, "-c", "print('out of luck'); raise SystemExit(3)"], tmp_path / "log"
        )


def test_a_run_that_holds_too_much_is_ended(tmp_path: Path) -> None:
    with pytest.raises(measure.MemoryExceeded, match=r"more than 0\.1 GiB"):
        measure.run(
            [sys.executable, "-c", f"{HOLDS} time.sleep(60)", "200000000"],
            tmp_path / "log",
            most_bytes=107_374_182,
        )


def test_steps_are_read_from_what_a_refresh_prints(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    for step in ("prepare", "dbt_build"):
        terminal.started(step)
        terminal.finished(step, "48 models built, 57 tests passed")
    printed = "Coupon Ledger, as of 2025-12-31\n" + capsys.readouterr().out + "\nSeconds: 1.0\n"
    assert set(refresh.step_seconds(printed)) == {"prepare", "dbt_build"}


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_the_floor_publishes_the_invoice_mart_s_columns_of_every_row(
    file_format: LargeFormat, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate_large_sample(300, 4, 1, tmp_path / "sample", file_format=file_format)
    floor.main(tmp_path / "sample" / "landing", tmp_path / "work", "2", "1GB")
    assert '"publish"' in capsys.readouterr().out
    with duckdb.connect(str(tmp_path / "work" / "published.duckdb"), read_only=True) as connection:
        columns = connection.execute("describe mart").fetchall()
        [delivered] = _invoices(connection, tmp_path / "sample" / "landing", "count(*)")
        assert connection.execute("select count(*) from mart").fetchall() == [delivered]
    assert {name: kind.lower() for name, kind, *_ in columns} == {
        name: kind.replace("string", "varchar") for name, kind in RESULTS[floor.MART].items()
    }


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_restated_invoices_come_later_and_cost_one_more(
    file_format: LargeFormat, tmp_path: Path
) -> None:
    generate_large_sample(2_000, 8, 1, tmp_path / "sample", file_format=file_format)
    landing = tmp_path / "sample" / "landing"
    restated = refresh.restate(landing, 20, tmp_path / "restated")
    with duckdb.connect() as connection:
        columns = "invoice_id, cast(list_amount as decimal(18, 2)), cast(updated_at as timestamptz)"
        before = {
            row[0]: row
            for row in sorted(_invoices(connection, landing, columns), key=lambda r: r[2])
        }
        after = _invoices(connection, tmp_path / "restated", columns)
        currencies = dict(_invoices(connection, tmp_path / "restated", "currency, invoice_id"))
    assert len(after) == restated
    assert 0.1 < restated / len(before) < 0.3
    assert "JPY" in currencies and "USD" in currencies
    newest = max(row[2] for row in before.values())
    for invoice_id, list_amount, updated_at in after:
        assert list_amount == before[invoice_id][1] + 1
        assert updated_at > newest


def _invoices(
    connection: duckdb.DuckDBPyConnection, landing: Path, columns: str
) -> list[tuple[Any, ...]]:
    [kind] = {path.suffix[1:] for path in (landing / "invoices").iterdir()}
    options = ", all_varchar = true, header = true" if kind == "csv" else ""
    files = landing / "invoices" / f"*.{kind}"
    return connection.execute(
        f"select {columns} from read_{kind}('{files}', union_by_name = true{options})"
    ).fetchall()
