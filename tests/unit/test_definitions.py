"""Dagster's definitions: every asset as a person would draw it, every check on the right asset.

`python -m tests.unit.test_definitions` writes the snapshot again.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_project.answers.freshness import mart_of
from dagster_project.definitions import load
from dagster_project.feeds import feeds
from dagster_project.refresh import dbt_build
from dagster_project.settings import CHECKOUT, Settings

SNAPSHOT = Path(__file__).with_name("definitions.txt")
LAYERS = ["deliveries", "raw", "staging", "intermediate", "marts", "release", "consumers"]


@cache
def project() -> dbt_build.Project:
    return dbt_build.prepare(Settings())


@cache
def definitions() -> dg.Definitions:
    return load(Settings(), project())


def specs() -> list[dg.AssetSpec]:
    return sorted(definitions().resolve_all_asset_specs(), key=lambda spec: spec.key)


def check_specs() -> list[dg.AssetCheckSpec]:
    graph = definitions().resolve_asset_graph()
    return [graph.get_check_spec(key) for key in sorted(graph.asset_check_keys)]


def data_tests() -> dict[str, Any]:
    nodes = project().manifest["nodes"].values()
    return {node["name"]: node for node in nodes if node["resource_type"] == "test"}


def snapshot() -> str:
    """Keys of assets and checks, jobs, schedules and sensors, one a line."""
    repository = definitions().get_repository_def()
    checks = [
        f"check {spec.asset_key.to_user_string()} {spec.name}" + (" blocking" * spec.blocking)
        for spec in check_specs()
    ]
    lines = [
        *(f"asset {spec.group_name} {spec.key.to_user_string()}" for spec in specs()),
        *checks,
        *(f"job {job.name}" for job in repository.get_all_jobs() if job.name[:2] != "__"),
        *(
            f"schedule {one.name} {one.cron_schedule} {one.execution_timezone}"
            f" {one.default_status.name}"
            for one in repository.schedule_defs
        ),
        *(f"sensor {one.name} {one.default_status.name}" for one in repository.sensor_defs),
    ]
    return "\n".join(sorted(lines)) + "\n"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.startswith("COUPON_LEDGER_"):
            monkeypatch.delenv(name)


def test_keys_checks_jobs_schedules_and_sensors_are_those_of_the_snapshot() -> None:
    assert snapshot() == SNAPSHOT.read_text("utf-8")


def test_every_asset_is_described_owned_classified_and_linked_to_its_code() -> None:
    for spec in specs():
        name = spec.key.to_user_string()
        assert spec.description, name
        assert spec.owners, name
        assert spec.kinds, name
        assert spec.group_name in LAYERS, name
        references = spec.metadata["dagster/code_references"].code_references
        assert references, name
        for reference in references:
            assert Path(reference.file_path).is_file(), name


def test_a_mart_or_a_delivery_shows_its_columns_before_any_run() -> None:
    for spec in specs():
        if spec.group_name in ("marts", "deliveries"):
            columns = spec.metadata["dagster/column_schema"].columns
            assert columns, spec.key
            assert all(column.description and column.type for column in columns), spec.key


def test_deliveries_lead_to_consumers_layer_by_layer() -> None:
    group = {spec.key: LAYERS.index(str(spec.group_name)) for spec in specs()}
    for spec in specs():
        above = [group[dep.asset_key] for dep in spec.deps]
        assert all(one <= group[spec.key] for one in above), spec.key
        is_source = spec.group_name == "deliveries"
        assert bool(above) != is_source or spec.key.path[-1] in (
            "iso_4217_currencies",
            "accepted_findings",
            # What the previous build left.
            *("int_redemptions_before", "int_invoices_credited_before"),
            "int_program_performance_before",
        ), spec.key
    for feed in feeds():
        raw = next(spec for spec in specs() if spec.key.path == ["billing", feed])
        assert [dep.asset_key.path for dep in raw.deps] == [["deliveries", feed]]


def test_every_data_test_is_a_check_of_a_table_it_reads_and_blocks_unless_it_only_warns() -> None:
    found = {spec.name: spec for spec in check_specs()}
    for name, node in data_tests().items():
        assert name in found, name
        read = {one.split(".")[-1] for one in node["depends_on"]["nodes"]}
        assert found[name].asset_key.path[-1] in read, name
        assert found[name].blocking == (node["config"]["severity"].lower() == "error"), name


def test_every_check_says_what_it_asserts_and_leads_to_its_code() -> None:
    for spec in check_specs():
        assert spec.description, spec.name
        assert spec.description.strip() != "", spec.name
        (reference, *_) = (spec.metadata or {})["dagster/code_references"].code_references
        assert Path(reference.file_path).is_file(), spec.name


def test_every_suite_is_a_check_of_its_feeds_raw_table() -> None:
    gates = {tuple(spec.asset_key.path) for spec in check_specs() if spec.name == "supplier_gate"}
    assert gates == {("billing", feed) for feed in feeds()}


def test_there_is_no_check_beside_those() -> None:
    expected = {*data_tests(), "supplier_gate"}
    expected |= {f"newest_{feed}_are_recent" for feed in Settings().late_after_days}
    assert {spec.name for spec in check_specs()} == expected


def test_the_age_of_data_is_checked_on_the_mart_that_shows_the_feed() -> None:
    for spec in check_specs():
        if spec.name.startswith("newest_"):
            feed = spec.name.removeprefix("newest_").removesuffix("_are_recent")
            assert spec.asset_key.path[-1] == mart_of(feed)
            assert not spec.blocking


def test_the_age_of_every_feed_but_budgets_can_be_checked() -> None:
    days = dict.fromkeys([feed for feed in feeds() if feed != "budgets"], 40)
    graph = load(Settings(late_after_days=days), project()).resolve_asset_graph()
    checked = {key.name for key in graph.asset_check_keys}
    assert checked >= {f"newest_{feed}_are_recent" for feed in days}


def test_marts_and_release_are_to_stay_fresh() -> None:
    for spec in specs():
        assert (spec.freshness_policy is not None) == (spec.group_name in ("marts", "release"))


def test_owners_can_be_set_by_group() -> None:
    loaded = load(Settings(owners={"marts": "controlling@example.com"}), project())
    owners = {
        spec.group_name: list(spec.owners)
        for spec in loaded.resolve_all_asset_specs()
        if spec.group_name != "consumers"
    }
    assert owners["marts"] == ["controlling@example.com"]
    assert owners["raw"] == ["team:data"]


def test_the_configuration_of_dagsters_storage_is_accepted_and_runs_one_at_a_time(
    tmp_path: Path,
) -> None:
    (tmp_path / "dagster.yaml").write_bytes(
        (CHECKOUT / "dagster_project" / "cli" / "dagster.yaml").read_bytes()
    )
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 1
        assert instance.run_launcher.supports_check_run_worker_health
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert not instance.run_retries_retry_on_asset_or_op_failure
        assert not instance.telemetry_enabled


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot(), "utf-8")
