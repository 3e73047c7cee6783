"""On data whose errors are known, the audit finds every one under its type, and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest

from dagster_project.arrival import arrive
from dagster_project.refresh import acceptances
from dagster_project.releases import open_release
from dagster_project.sample import generate_sample
from dagster_project.settings import CHECKOUT
from tests.dbt.compiled import CompiledModels
from tests.pipeline.conftest import SampleRun

MONTHS = 30
SEEDS = (101, 102)

Findings = set[tuple[str, str]]


def known(truth_file: Path) -> Findings:
    """Type and record of everything a truth file says is wrong."""
    truth = json.loads(truth_file.read_text("utf-8"))
    return {
        (entry["type"], entry["record_id"])
        for entry in [*truth["errors"], *truth["refused_redemptions"]]
    }


def found(connection: duckdb.DuckDBPyConnection) -> Findings:
    """Type and record of every finding."""
    rows = connection.execute(
        "select finding_type, coalesce(credit_note_id, invoice_id, redemption_id,"
        " coupon_id) from marts.fct_audit_findings"
    ).fetchall()
    assert len(set(rows)) == len(rows)
    return set(rows)


def test_the_release_of_the_sample_finds_exactly_what_was_planted(sample_run: SampleRun) -> None:
    expected = known(CHECKOUT / "data" / "sample" / "truth.json")
    with open_release(sample_run.home) as connection:
        assert found(connection) == expected
        rejected = connection.execute("select count(*) from release.rejected_rows").fetchone()
    truth = json.loads((CHECKOUT / "data" / "sample" / "truth.json").read_text("utf-8"))
    assert rejected == (len(truth["rejected_rows"]),)


@pytest.fixture(scope="module")
def compiled_for_samples(compiled_folder: Path) -> CompiledModels:
    return CompiledModels(compiled_folder, date(2025, 12, 31))


@pytest.mark.parametrize("seed", SEEDS)
def test_generated_errors_are_found_and_nothing_else_is(
    compiled_for_samples: CompiledModels, tmp_path: Path, seed: int
) -> None:
    generated = generate_sample(120, MONTHS, seed, tmp_path / "sample")
    assert generated.last_day == compiled_for_samples.as_of
    home = tmp_path / "home"
    reports = arrive(
        tmp_path / "sample" / "landing", home, "test", datetime(2026, 1, 1, tzinfo=UTC)
    )
    assert {report.verdict for report in reports} == {"loaded"}
    with duckdb.connect(str(home / "build" / "warehouse.duckdb")) as connection:
        acceptances.load(connection, home / "accepted_findings.csv")
        compiled_for_samples.build(connection)
        expected = known(tmp_path / "sample" / "truth.json")
        assert len(expected) > 30
        assert found(connection) == expected
