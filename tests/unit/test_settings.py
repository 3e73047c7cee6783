"""Settings come from arguments, else the environment, else defaults; paths follow from them."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from dagster_project import settings as module
from dagster_project.settings import (
    CHECKOUT,
    SAMPLE_LANDING,
    Settings,
    checked_as_of,
    default_as_of,
)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "LANDING", "AS_OF", "THREADS", "MEMORY_LIMIT"):
        monkeypatch.delenv(f"COUPON_LEDGER_{name}", raising=False)


def test_the_default_is_the_sample_and_a_home_in_the_checkout() -> None:
    settings = Settings()
    assert settings.home == CHECKOUT / "data" / "home"
    assert settings.landing == SAMPLE_LANDING
    assert settings.uses_sample


def test_an_installed_package_keeps_data_in_the_users_folder_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "IS_INSTALLED", True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert Settings().home == tmp_path / "data" / "coupon-ledger"
    for ignored in ("relative/folder", ""):  # as the XDG specification demands
        monkeypatch.setenv("XDG_DATA_HOME", ignored)
        assert Settings().home == tmp_path / ".local" / "share" / "coupon-ledger"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert Settings().home == tmp_path / ".local" / "share" / "coupon-ledger"


@pytest.mark.parametrize(
    ("name", "text", "like"),
    [
        ("HOLIDAYS", "2026-12-25", '["2026-12-25"]'),
        ("OWNERS", "", '{"marts": "team:finance"}'),
        ("LATE_AFTER_DAYS", "40", "Input should be a valid"),
        ("WEB_ADDRESSES", "https://ledger.test", '["https://ledger.example.com"]'),
        ("SPARK_CONF", "a=b", '{"spark.executor.memory": "4g"}'),
        ("PULL_FROM", "stripe", '["stripe"]'),
        ("FEED_TIME_ZONE", '{"invoices": ', '{"invoices": "Europe/Berlin"}'),
        ("MEMORY_LIMIT", "4gb", "'4gb' is not a size: write it like 4GB"),
        ("QUERY_MEMORY", "lots", "'lots' is not a size: write it like 4GB"),
        ("SPARK_THRIFT", "spark", "'spark' is no address: write it as HOST:PORT"),
    ],
)
def test_a_setting_of_another_form_says_which_form_it_has(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, like: str
) -> None:
    monkeypatch.setenv(f"COUPON_LEDGER_{name}", text)
    with pytest.raises(ValidationError) as caught:
        Settings()
    (problem,) = caught.value.errors()
    assert problem["loc"][0] == name.lower()
    assert like in problem["msg"]


def test_the_environment_sets_what_no_argument_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COUPON_LEDGER_HOME", str(tmp_path / "a"))
    monkeypatch.setenv("COUPON_LEDGER_AS_OF", "2026-02-28")
    monkeypatch.setenv("COUPON_LEDGER_THREADS", "8")
    assert Settings().home == tmp_path / "a"
    assert Settings().as_of == date(2026, 2, 28)
    assert Settings().threads == 8
    assert Settings(home=tmp_path / "b").home == tmp_path / "b"


def test_every_path_is_in_the_home(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    paths = [
        settings.archive,
        settings.build,
        settings.warehouse,
        settings.candidate,
        settings.scratch,
        settings.current,
        settings.logs,
    ]
    assert all(path.is_relative_to(settings.home) for path in paths)
    assert settings.warehouse.name == "warehouse.duckdb"


def test_relative_paths_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings(home=Path("h")).home == tmp_path / "h"


def test_dbt_gets_the_paths_and_limits(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, threads=3, memory_limit="1GB")
    assert settings.dbt_environment() == {
        "COUPON_LEDGER_WAREHOUSE": str(tmp_path / "build" / "warehouse.duckdb"),
        "COUPON_LEDGER_CANDIDATE": str(tmp_path / "build" / "candidate.duckdb"),
        "COUPON_LEDGER_THREADS": "3",
        "COUPON_LEDGER_MEMORY_LIMIT": "1GB",
    }


@pytest.mark.parametrize("limit", ["much", "4 GB'; drop table x", "-1GB", ""])
def test_a_malformed_memory_limit_is_refused(limit: str) -> None:
    with pytest.raises(ValidationError, match="memory_limit"):
        Settings(memory_limit=limit)


@pytest.mark.parametrize("below", [".", "home"])
def test_the_home_may_not_be_in_the_landing_folder(tmp_path: Path, below: str) -> None:
    with pytest.raises(ValidationError, match="only read"):
        Settings(home=tmp_path / below, landing=tmp_path)


@pytest.mark.parametrize("sign", ["?", "#"])
def test_a_home_that_duckdb_or_dbt_cannot_name_is_refused_at_once(
    tmp_path: Path, sign: str
) -> None:
    with pytest.raises(ValidationError, match=rf"q\{sign}x/home has a \{sign}.*choose another"):
        Settings(home=tmp_path / f"q{sign}x" / "home")


def test_the_landing_folder_may_be_in_the_home(tmp_path: Path) -> None:
    assert Settings(home=tmp_path, landing=tmp_path / "landing").home == tmp_path


def test_the_day_is_the_given_one_else_the_samples_last_else_today(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    today = date(2026, 11, 23)
    (tmp_path / "truth.json").write_text(json.dumps({"last_day": "2025-12-31"}), "utf-8")
    monkeypatch.setattr(module, "SAMPLE", tmp_path)
    assert default_as_of(Settings(as_of=date(2026, 1, 1)), today) == date(2026, 1, 1)
    assert default_as_of(Settings(), today) == date(2025, 12, 31)
    assert default_as_of(Settings(landing=tmp_path), today) == today


def test_a_sample_without_a_last_day_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "SAMPLE", tmp_path)
    with pytest.raises(ValueError, match="give --as-of"):
        default_as_of(Settings(), date(2026, 11, 23))


@pytest.mark.parametrize("day", ["1970-01-01", "2026-02-28", "9990-12-31"])
def test_a_day_that_can_be_calculated_is_taken(day: str) -> None:
    assert checked_as_of(day) == Settings(as_of=date.fromisoformat(day)).as_of


@pytest.mark.parametrize("day", ["0001-01-01", "1969-12-31", "9991-01-01", "9999-12-31"])
def test_a_day_without_a_future_or_long_before_any_bill_is_refused(day: str) -> None:
    for asked in (checked_as_of, lambda day: Settings(as_of=date.fromisoformat(day))):
        with pytest.raises(ValueError, match="give a day from 1970-01-01 to 9990-12-31; the bills"):
            asked(day)


@pytest.mark.parametrize("text", ["", "2026-02-29", "10000-01-01", "28.2.2026", "today"])
def test_for_what_is_not_a_day_the_form_is_given(text: str) -> None:
    with pytest.raises(ValueError, match="give a day as YYYY-MM-DD"):
        checked_as_of(text)
