"""When runs start by themselves: the day of the tick, one run at a time, and what is reported instead."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest

from dagster_project.defs import automation
from dagster_project.defs.automation import JOB, run_config
from dagster_project.feeds import feeds
from dagster_project.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for feed in feeds():
        (tmp_path / "landing" / feed).mkdir(parents=True)
    return Settings(home=tmp_path / "home", landing=tmp_path / "landing", settle_seconds=0)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def schedule(settings: Settings, name: str) -> dg.ScheduleDefinition:
    found = automation.defs(settings).schedules or []
    return next(one for one in found if isinstance(one, dg.ScheduleDefinition) and one.name == name)


def sensor(settings: Settings, name: str) -> dg.SensorDefinition:
    return next(one for one in automation.defs(settings).sensors or [] if one.name == name)


def requests_at(settings: Settings, tick: datetime) -> list[dg.RunRequest]:
    context = dg.build_schedule_context(scheduled_execution_time=tick)
    return list(schedule(settings, "daily_refresh").evaluate_tick(context).run_requests or [])


@pytest.mark.parametrize(
    ("zone", "tick", "day"),
    [
        ("UTC", datetime(2026, 3, 2, 5, 0, tzinfo=UTC), date(2026, 3, 2)),
        ("Asia/Tokyo", datetime(2026, 3, 1, 20, 0, tzinfo=UTC), date(2026, 3, 2)),
        ("America/Los_Angeles", datetime(2026, 3, 3, 4, 0, tzinfo=UTC), date(2026, 3, 2)),
    ],
)
def test_the_schedule_takes_the_day_of_its_tick_in_its_zone(
    settings: Settings, zone: str, tick: datetime, day: date
) -> None:
    there = settings.model_copy(update={"schedule_timezone": zone})
    (request,) = requests_at(there, tick)
    assert request.run_config == run_config(there, day)


def test_each_tick_of_a_day_is_a_run_of_its_own_and_none_runs_twice(settings: Settings) -> None:
    keys = [
        requests_at(settings, datetime(2026, 3, 2, hour, 0, tzinfo=UTC))[0].run_key
        for hour in (5, 5, 17)
    ]
    assert keys[0] == keys[1] != keys[2]


def test_the_sample_is_refreshed_as_of_its_last_day(tmp_path: Path) -> None:
    of_sample = Settings(home=tmp_path)
    (request,) = requests_at(of_sample, datetime(2026, 3, 2, 5, 0, tzinfo=UTC))
    assert request.run_config["resources"]["refresh"]["config"]["as_of"] == "2025-12-31"


def look(
    settings: Settings, instance: dg.DagsterInstance, cursor: str | None = None
) -> dg._core.definitions.sensor_definition.SensorExecutionData:
    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    return sensor(settings, "new_deliveries").evaluate_tick(context)


def test_the_sensor_starts_one_run_for_all_that_is_new(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    assert not look(settings, instance).run_requests
    for name in ("a.csv", "b.csv", "c.csv.part"):
        (settings.landing / "coupons" / name).write_text("coupon_id\n", "utf-8")
    found = look(settings, instance)
    assert len(found.run_requests or []) == 1
    again = look(settings, instance, found.cursor)
    assert [one.run_key for one in again.run_requests or []] == [
        one.run_key for one in found.run_requests or []
    ]


def test_the_sensor_says_what_it_waits_for(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    (settings.landing / "coupons" / "a.csv").write_text("coupon_id\n", "utf-8")
    patient = settings.model_copy(update={"settle_seconds": 60})
    assert look(patient, instance).skip_message == "1 of 1 may still be written: coupons/a.csv"


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
def test_the_sensor_starts_nothing_while_a_refresh_is_on_its_way(
    settings: Settings, instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    (settings.landing / "coupons" / "a.csv").write_text("coupon_id\n", "utf-8")
    instance.add_run(dg.DagsterRun(job_name=JOB, run_id="1", status=status))
    found = look(settings, instance)
    assert not found.run_requests
    assert "under way" in str(found.skip_message)


def test_schedule_and_sensor_wait_to_be_turned_on_unless_a_setting_does(
    settings: Settings,
) -> None:
    for setting, expected in ((False, "STOPPED"), (True, "RUNNING")):
        chosen = settings.model_copy(update={"autostart": setting})
        assert schedule(chosen, "daily_refresh").default_status.name == expected
        assert sensor(chosen, "new_deliveries").default_status.name == expected
        assert sensor(chosen, "failed_runs").default_status.name == "RUNNING"


def test_only_a_run_whose_process_died_is_made_again_and_then_whole(settings: Settings) -> None:
    (job,) = automation.defs(settings).jobs or []
    tags = job.tags or {}
    assert tags["dagster/max_retries"] == "1"
    assert tags["dagster/retry_on_asset_or_op_failure"] == "false"
    assert tags["dagster/retry_strategy"] == "ALL_STEPS"
