"""`health` tells monitors whether release, last run, disk and daemon are in good order."""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat
from typer.testing import CliRunner

from dagster_project.alerts import occasions
from dagster_project.answers import health as module
from dagster_project.answers.health import DAEMON_SECONDS, health
from dagster_project.cli import app, service
from dagster_project.failures import Failure
from dagster_project.releases import data_home, files
from dagster_project.releases.errors import ReleaseError
from dagster_project.releases.lock import one_writer
from dagster_project.settings import Settings
from tests.pipeline.conftest import NOW, HandMade

HOUR = timedelta(hours=1)
DAY = date(2026, 3, 31)
Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture(autouse=True)
def _plenty_of_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = Usage(1000 * 10**9, 0, 400 * 10**9)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)  # type: ignore[attr-defined]
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


@pytest.fixture
def published(hand_made: HandMade) -> Path:
    """A data home whose release was published at `NOW`."""
    with one_writer(hand_made.home, "a test"):
        hand_made.publish(NOW)
    return hand_made.home


def problems(found: dict[str, Any]) -> dict[str, str]:
    assert found["is_healthy"] == (not found["problems"])
    return {one["about"]: one["problem"] for one in found["problems"]}


def test_a_fresh_release_is_healthy(published: Path) -> None:
    found = health(Settings(home=published), NOW + HOUR)
    assert problems(found) == {}
    assert found["release"]["release_id"] == files.current_release(published)
    assert found["release"]["as_of_date"] == "2026-03-31"
    assert found["release"]["age_hours"] == 1
    assert found["last_run"]["run_id"] is None
    assert found["disk"]["free_bytes"] == 400 * 10**9
    assert found["daemon"]["is_expected"] is False
    json.dumps(found)


@pytest.mark.parametrize(("hours", "is_told"), [(36, False), (36.02, True)])
def test_a_release_is_old_after_the_hours_of_the_setting(
    published: Path, hours: float, is_told: bool
) -> None:
    found = health(Settings(home=published), NOW + hours * HOUR)
    assert ("release" in problems(found)) == is_told
    assert found["release"]["is_ok"] == (not is_told)


def test_another_limit_may_be_given(published: Path) -> None:
    found = health(Settings(home=published), NOW + 3 * HOUR, max_age_hours=2)
    assert problems(found) == {
        "release": "The newest good refresh was 3.0 hours ago; 2 are allowed."
    }


def test_a_run_that_found_nothing_new_keeps_a_release_young(published: Path) -> None:
    settings = Settings(home=published)
    occasions.after_run(settings, "run-2", None, DAY, NOW + 40 * HOUR)
    found = health(settings, NOW + 41 * HOUR)
    assert problems(found) == {}
    assert found["release"]["age_hours"] == 1
    assert found["last_run"]["hours_ago"] == 1


def test_a_run_that_failed_is_told_without_values_until_one_ends_well(published: Path) -> None:
    settings = Settings(home=published)
    failure = Failure(("it cannot read 'ada@example.com'",))
    occasions.after_run(settings, "run-3", failure, DAY, NOW + HOUR)
    found = health(settings, NOW + 2 * HOUR)
    assert set(problems(found)) == {"last_run"}
    assert "it cannot read" in problems(found)["last_run"]
    assert "ada@example.com" not in json.dumps(found)
    assert "run-3.log" in found["problems"][0]["remedy"]
    occasions.after_run(settings, "run-4", None, DAY, NOW + 3 * HOUR)
    assert problems(health(settings, NOW + 4 * HOUR)) == {}


@pytest.mark.parametrize("content", ["", "garbage", "{}", '{"at": "yesterday"}'])
def test_a_record_of_the_last_run_that_says_nothing_is_not_taken_for_none(
    published: Path, content: str
) -> None:
    data_home.last_run_path(published).write_text(content, "utf-8")
    told = problems(health(Settings(home=published), NOW + HOUR))
    assert set(told) == {"last_run"}
    assert "last_run.json does not say how the last run ended" in told["last_run"]


def test_without_a_release_or_with_one_that_cannot_be_read_it_is_not_healthy(
    published: Path, tmp_path: Path
) -> None:
    nothing = health(Settings(home=tmp_path / "none"), NOW)
    assert problems(nothing) == {"release": "No release has been published."}
    link = published / "current"
    link.unlink()
    link.symlink_to("releases/gone.duckdb")
    assert "not a release" in problems(health(Settings(home=published), NOW))["release"]


@pytest.mark.parametrize(
    ("free_gb", "is_told"), [(5, False), (4.9, True)], ids=["just enough", "too little"]
)
def test_a_disk_that_is_nearly_full_is_told(
    published: Path, monkeypatch: pytest.MonkeyPatch, free_gb: float, is_told: bool
) -> None:
    usage = Usage(50 * 10**9, 0, int(free_gb * 10**9))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)  # type: ignore[attr-defined]
    assert ("disk" in problems(health(Settings(home=published), NOW))) == is_told


Alive = Callable[[datetime], None]


@pytest.fixture
def alive(published: Path) -> Alive:
    """Lay out Dagster's storage, and return a function that records heartbeats of its daemon at an instant."""
    storage = published / "dagster"
    storage.mkdir()
    service._lay_out(storage)

    def sign(at: datetime) -> None:
        with dg.DagsterInstance.from_config(str(storage)) as instance:
            for name in instance.get_required_daemon_types():
                instance.add_daemon_heartbeat(DaemonHeartbeat(at.timestamp(), name, "one", []))

    return sign


def test_a_daemon_is_expected_where_dagster_was_started(published: Path, alive: Alive) -> None:
    settings = Settings(home=published)
    found = health(settings, NOW)
    assert problems(found) == {"daemon": "Dagster's daemon is not running (never seen)."}
    assert problems(health(settings, NOW, is_daemon_expected=False)) == {}
    alive(NOW)
    at_the_limit = health(settings, NOW + timedelta(seconds=DAEMON_SECONDS))
    assert problems(at_the_limit) == {}
    assert at_the_limit["daemon"]["last_seen_at"] == NOW.isoformat(timespec="seconds")
    silent = health(settings, NOW + timedelta(seconds=DAEMON_SECONDS + 1))
    assert "last seen" in problems(silent)["daemon"]


def test_a_daemon_can_be_expected_where_none_ever_ran(published: Path) -> None:
    found = health(Settings(home=published), NOW, is_daemon_expected=True)
    assert "no daemon has ever run" in problems(found)["daemon"]


def test_a_storage_that_cannot_be_opened_is_told_with_its_file(published: Path) -> None:
    (published / "dagster").mkdir()
    (published / "dagster" / "dagster.yaml").write_text("storage: {nothing: {}}", "utf-8")
    found = health(Settings(home=published), NOW)
    assert "cannot be read" in problems(found)["daemon"]
    assert "dagster.yaml" in found["problems"][0]["remedy"]


def test_the_command_exits_with_what_it_found(published: Path) -> None:
    ask = ["health", "--home", str(published)]
    hours = (datetime.now(UTC) - NOW) / HOUR
    well = CliRunner().invoke(app, [*ask, "--max-age-hours", str(abs(hours) + 1)])
    assert well.exit_code == 0, well.output
    assert [line.split()[0] for line in well.stdout.splitlines()] == [
        "release",
        "last",
        "disk",
        "daemon",
    ]
    full = CliRunner().invoke(app, [*ask, "--min-free-gb", "401", "--json"])
    assert full.exit_code == 1
    assert "disk" in problems(json.loads(full.stdout))
    absent = CliRunner().invoke(app, ["health", "--home", str(published / "no")])
    assert absent.exit_code == 2


class TestLayout:
    """A data home says which layout it has; one of a newer version is not touched."""

    def test_whoever_writes_notes_the_layout(self, published: Path) -> None:
        assert data_home.layout_of(published) == data_home.LAYOUT
        written = json.loads(data_home.layout_path(published).read_text("utf-8"))
        assert set(written) == {"layout", "written_by"}

    @pytest.mark.parametrize("command", ["releases", "verify", "health", "prune --keep 3"])
    def test_one_of_a_newer_version_is_refused_with_a_sentence(
        self, published: Path, command: str
    ) -> None:
        path = data_home.layout_path(published)
        newer = {"layout": data_home.LAYOUT + 1, "written_by": "9.1.0"}
        path.write_text(json.dumps(newer), "utf-8")
        before = sorted(one.name for one in published.rglob("*"))
        answer = CliRunner().invoke(app, [*command.split(), "--home", str(published)])
        assert answer.exit_code == 1
        assert "written by Coupon Ledger 9.1.0" in answer.stderr
        assert "Install 9.1.0 or newer" in answer.stderr
        assert json.loads(path.read_text("utf-8")) == newer
        assert sorted(one.name for one in published.rglob("*")) == before

    def test_a_refresh_of_a_newer_one_is_refused(self, hand_made: HandMade) -> None:
        path = data_home.layout_path(hand_made.home)
        path.write_text('{"layout": 99, "written_by": "9.1.0"}', "utf-8")
        with (
            pytest.raises(ReleaseError, match="has layout 99"),
            one_writer(hand_made.home, "a test"),
        ):
            hand_made.publish(NOW)
        assert files.release_ids(hand_made.home) == []

    @pytest.mark.parametrize("inside", ["", "/below"])
    @pytest.mark.parametrize("command", ["run", "releases", "health", "prune --keep 3"])
    def test_a_file_is_no_data_home(self, tmp_path: Path, command: str, inside: str) -> None:
        file = tmp_path / "file"
        file.write_text("mine", "utf-8")
        answer = CliRunner().invoke(app, [*command.split(), "--home", f"{file}{inside}"])
        assert answer.exit_code == (2 if command == "run" else 1)
        told = " ".join(answer.stderr.split())
        assert f"{file}{inside} is not a folder." in told
        assert "Name another data home with --home." in told
        assert "Errno" not in told
        assert file.read_text("utf-8") == "mine"

    @pytest.mark.parametrize("content", ["", "{}", '{"layout": "2"}', "[]", '{"layout": true}'])
    def test_one_that_does_not_say_is_refused_with_the_file(
        self, published: Path, content: str
    ) -> None:
        data_home.layout_path(published).write_text(content, "utf-8")
        with pytest.raises(ReleaseError, match=r"home\.json does not say which layout"):
            data_home.check_layout(published)
