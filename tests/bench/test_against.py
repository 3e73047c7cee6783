"""This version beside another: run in turns on the same deliveries, reported as ratios."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench import against, measure, readme


def version(name: str, folder: Path, work: int) -> against.Version:
    """A version whose command records its arguments, and works a while."""
    command = folder / name
    command.write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        f"with open({str(folder / 'asked')!r}, 'a') as asked:\n"
        f"    print(json.dumps([{name!r}, *sys.argv[1:]]), file=asked)\n"
        f"sum(range({work}))\n"
        "print('  dbt_build 1.5 s  built')\n",
        "utf-8",
    )
    command.chmod(0o755)
    return against.Version(name, command)


def taken(name: str, scenario: str, seconds: float, peak: int = 10**9) -> dict[str, Any]:
    return {
        "version": name, "scenario": scenario, "seconds": seconds, "cpu_seconds": 2 * seconds,
        "peak_bytes": peak,
    }  # fmt: skip


def result(*runs: dict[str, Any]) -> dict[str, Any]:
    return {
        "ref": "b411622", "asked_invoices": 1_000_000, "only": "", "threads": 2,
        "memory_limit": "4GB", "rounds": 1, "runs": list(runs), "versions": {"Python": "3.11"},
        "cores": 2, "processor": "x", "memory_gib": 8, "commit": "c", "load_before": 0,
        "measured_at": "now",
    }  # fmt: skip


def test_both_versions_refresh_the_same_sample_in_turns_and_the_busier_one_costs_more(
    tmp_path: Path,
) -> None:
    landing = tmp_path / "sample" / "landing"
    landing.mkdir(parents=True)
    (landing.parent / "truth.json").write_text('{"last_day": "2025-12-31"}', "utf-8")
    versions = [version("before", tmp_path, 20_000_000), version("this", tmp_path, 1)]
    runs = against.small(versions, landing, {}, tmp_path)
    asked = [json.loads(line) for line in (tmp_path / "asked").read_text("utf-8").splitlines()]
    assert [name for name, *_ in asked] == ["before", "this", "before", "this"]
    assert all("2025-12-31" in words and str(landing) in words for words in asked)
    assert [run["steps"] for run in runs] == [{"dbt_build": 1.5}] * 4
    rows = list(against.compared(result(*runs)))
    assert [row.scenario for row in rows] == [against.SAMPLE, against.AGAIN]
    assert all(row.cpu_ratio < 0.8 for row in rows)


def test_a_ratio_is_this_version_s_median_in_parts_of_the_earlier_one_s() -> None:
    runs = [taken("b411622", "full refresh", seconds) for seconds in (8.0, 10.0, 30.0)]
    runs += [taken("this", "full refresh", seconds, 2 * 10**9) for seconds in (1.0, 4.0, 5.0)]
    [row] = against.compared(result(*runs, taken("this", "`programs`", 1.0)))
    assert (row.cpu_ratio, row.seconds_ratio, row.peak_bytes) == (0.4, 0.4, 2 * 10**9)
    assert "full refresh" in against.told(result(*runs))


def test_ratios_reach_the_page_on_speed() -> None:
    runs = taken("b411622", "a day later", 8.0), taken("this", "a day later", 2.0)
    block = readme.beside_block([result(*runs)])
    assert "| a day later | 16.0 | 4.0 | 0.25 | 0.25 | 1.00 GB |" in block


def test_seconds_of_processors_count_what_a_child_works(tmp_path: Path) -> None:
    child = "sum(range(20_000_000))"
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    )
    idle = measure.run([sys.executable, "-c", "pass"], tmp_path / "idle.log")
    busy = measure.run([sys.executable, "-c", parent], tmp_path / "busy.log")
    assert busy.cpu_seconds > 2 * idle.cpu_seconds


def test_a_commit_that_is_not_there_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        against.installed("no-such-commit", tmp_path)
    assert not (tmp_path / "against").exists()
