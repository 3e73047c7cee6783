"""Pulls in Dagster: there only when named, before the deliveries, told when they fail or are late."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from dagster_project.alerts import occasions
from dagster_project.alerts.send import log_path
from dagster_project.definitions import load
from dagster_project.defs import automation, ingestion, pulling, resources
from dagster_project.refresh import dbt_build
from dagster_project.releases.errors import Busy
from dagster_project.settings import SAMPLE_LANDING, Settings
from dagster_project.sources import deliveries
from tests.sources.delivered import files
from tests.sources.stripe_objects import customer, invoice, price, subscription
from tests.sources.stripe_server import KEY, Account, serving

NOW = datetime(2026, 3, 2, 5, 0, tzinfo=UTC)


@pytest.fixture
def named(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", landing=tmp_path / "landing", pull_from=("stripe",))


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    served = Account(
        {
            "customers": [customer()],
            "subscriptions": [subscription()],
            "prices": [price()],
            "invoices": [invoice()],
        }
    )
    with serving(served) as base:
        monkeypatch.setenv("STRIPE_API_KEY", KEY)
        monkeypatch.setenv("COUPON_LEDGER_STRIPE_API_BASE", base)
        monkeypatch.setenv("COUPON_LEDGER_PULL_FROM", '["stripe"]')
        yield served


def run(settings: Settings, source: str = "stripe") -> dg.ExecuteInProcessResult:
    definitions = dg.Definitions.merge(pulling.defs(settings), resources.defs(settings))
    job = definitions.resolve_job_def(f"pull_{source}")
    with dg.DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(instance=instance, raise_on_error=False)


def told(settings: Settings) -> list[str]:
    lines = log_path(settings.home).read_text("utf-8").splitlines()
    return [json.loads(line)["kind"] for line in lines if "kind" in json.loads(line)]


def test_nothing_is_there_unless_it_is_named(tmp_path: Path) -> None:
    found = pulling.defs(Settings(home=tmp_path))
    assert not found.assets
    assert not found.schedules


def test_a_source_stands_before_the_deliveries_and_apart_from_the_refresh(named: Settings) -> None:
    project = dbt_build.prepare(named)
    definitions = load(named, project)
    graph = definitions.resolve_asset_graph()
    assert graph.get(ingestion.delivery_key("invoices")).parent_keys == {
        pulling.source_key("stripe")
    }
    refresh = definitions.resolve_job_def(automation.JOB)
    assert pulling.source_key("stripe") not in refresh.asset_layer.executable_asset_keys


def test_its_schedule_runs_and_it_has_a_freshness(named: Settings) -> None:
    found = pulling.defs(named)
    (schedule,) = found.schedules or []
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    (asset,) = found.assets or []
    assert isinstance(asset, dg.AssetsDefinition)
    (spec,) = list(asset.specs)
    assert spec.freshness_policy == dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=30))


def test_a_run_delivers_and_says_how_much(named: Settings, account: Account) -> None:
    result = run(named)
    assert result.success
    (made,) = result.asset_materializations_for_node("sources__stripe")
    assert made.metadata["rows"].value == 2
    assert {path.parent.name for path in files(named.landing)} == {"workspaces", "invoices"}
    assert deliveries.last_pull(named.home, "stripe") is not None


def test_a_run_of_postgres_delivers_and_one_that_fails_is_told(
    database: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sources.toml"
    file.write_text(
        '[workspaces]\nselect = "select id as workspace_id, at as created_at, at as updated_at from w"'
    )
    database("create table w as select 'w1' as id, timestamptz '2025-01-01' as at")
    monkeypatch.setenv("COUPON_LEDGER_POSTGRES_SOURCES", str(file))
    monkeypatch.setenv("COUPON_LEDGER_PULL_FROM", '["postgres"]')
    settings = Settings(home=tmp_path / "home", landing=tmp_path / "landing")
    result = run(settings, "postgres")
    assert result.success
    (made,) = result.asset_materializations_for_node("sources__postgres")
    assert made.metadata["rows_of_workspaces"].value == 1
    assert deliveries.last_pull(settings.home, "postgres") is not None
    database("alter table w rename column id to number")
    assert not run(settings, "postgres").success
    assert told(settings) == ["pull_failed"]
    assert len(files(settings.landing)) == 1


def test_a_pull_that_fails_is_told_once_and_told_when_it_works_again(
    named: Settings, account: Account
) -> None:
    account.forbidden = frozenset({"/v1/customers"})
    assert not run(named).success
    assert told(named) == ["pull_failed"]
    account.forbidden = frozenset()
    assert run(named).success
    assert told(named) == ["pull_failed", "pull_failed"], "the second says that it is over"


def test_a_pull_that_is_late_is_told(named: Settings) -> None:
    assert occasions.look(named, NOW) == [], "one that never worked is told of by its failures"
    deliveries.note_completed(named.home, "stripe", NOW - timedelta(hours=30))
    assert occasions.look(named, NOW) == []
    late = NOW + timedelta(minutes=1)
    (found,) = occasions.look(named, late)
    assert found.message.alert.kind == "pull_late"
    assert "stripe" in found.message.alert.happened
    deliveries.note_completed(named.home, "stripe", late)
    (over,) = occasions.look(named, late + timedelta(hours=1))
    assert over.message.status == "resolved"


def test_a_source_that_is_not_named_is_never_late(tmp_path: Path) -> None:
    unnamed = Settings(home=tmp_path)
    deliveries.note_completed(unnamed.home, "stripe", NOW - timedelta(days=90))
    assert occasions.look(unnamed, NOW) == []


def test_a_pull_delivers_nothing_while_a_refresh_runs(
    named: Settings, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "WAIT_SECONDS", 0)
    held: list[str] = []

    def refused(home: Path, command: str, wait_seconds: float) -> object:
        held.append(command)
        raise Busy("Another refresh is running.", "Wait for it to end.")

    with monkeypatch.context() as patched:
        patched.setattr(pulling, "one_writer", refused)
        assert not run(named).success
    assert held
    assert files(named.landing) == []
    assert run(named).success
    assert len(files(named.landing)) == 2


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"pull_from": ("stripe",), "landing": SAMPLE_LANDING}, "set landing too"),
        ({"pull_from": ("postgres",)}, "set postgres_sources too"),
    ],
)
def test_settings_of_pulls_must_make_sense(tmp_path: Path, given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Settings(**{"home": tmp_path / "home", "landing": tmp_path / "landing", **given})
