"""Starting Dagster, asking for alerts, and telling the living from the dead."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import typer

from dagster_project import run_launcher
from dagster_project.cli import service
from dagster_project.cli.service import arguments_of
from dagster_project.defs import resources
from dagster_project.run_launcher import WatchedRunLauncher, is_alive, show_alive
from dagster_project.settings import CHECKOUT, Settings
from tests.receivers import SECRET


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Any]]:
    """What would have been started: program, arguments and environment."""
    calls: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    (tmp_path / "landing").mkdir()
    yield calls


def test_dagster_is_started_on_this_machine_only_with_its_storage_in_the_data_home(
    started: list[Any], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    service.dev(landing=tmp_path / "landing", home=home, port=45678, only=None)
    ((program, arguments, environment),) = started
    assert program == sys.executable
    assert "127.0.0.1 -p 45678" in " ".join(arguments)
    assert environment["DAGSTER_HOME"] == str(home / "dagster")
    assert environment["COUPON_LEDGER_HOME"] == str(home)
    assert environment["COUPON_LEDGER_LANDING"] == str(tmp_path / "landing")
    written = (home / "dagster" / "dagster.yaml").read_bytes()
    assert written == (CHECKOUT / "dagster_project" / "cli" / "dagster.yaml").read_bytes()
    # Made once, before web server and daemon could both do so.
    assert (home / "dagster" / "schedules" / "schedules.db").is_file()


def test_a_configuration_that_is_there_is_left_alone(started: list[Any], tmp_path: Path) -> None:
    storage = tmp_path / "home" / "dagster"
    storage.mkdir(parents=True)
    (storage / "dagster.yaml").write_text("telemetry: {enabled: false} # mine", "utf-8")
    service.dev(landing=tmp_path / "landing", home=tmp_path / "home", only="daemon")
    assert (storage / "dagster.yaml").read_text("utf-8").endswith("# mine")
    assert "dagster._daemon" in started[0][1]


def test_a_storage_elsewhere_is_used(
    started: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "elsewhere"))
    service.dev(landing=tmp_path / "landing", home=tmp_path / "home", only="daemon")
    assert started[0][2]["DAGSTER_HOME"] == str(tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "dagster.yaml").is_file()


def test_a_port_in_use_and_an_absent_landing_folder_are_told(
    started: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(typer.Exit) as caught:
            service.dev(landing=tmp_path / "landing", home=tmp_path / "home", port=port)
    assert caught.value.exit_code == 2
    assert f"Port {port} cannot be used" in capsys.readouterr().err
    with pytest.raises(typer.Exit):
        service.dev(landing=tmp_path / "none", home=tmp_path / "home", only="daemon")
    assert "name one with --landing" in capsys.readouterr().err
    assert not started


@pytest.mark.parametrize(
    ("only", "module"), [("web", "dagster_webserver"), ("daemon", "dagster._daemon")]
)
def test_web_server_and_daemon_can_be_started_apart(only: Any, module: str) -> None:
    arguments = arguments_of(only, 3000)
    assert arguments[1:3] == ["-m", module]
    assert arguments[-2:] == ["-m", "dagster_project.definitions"]


def test_a_test_of_the_alerts_says_what_is_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COUPON_LEDGER_ALERT_WEBHOOK_URL", raising=False)
    with pytest.raises(typer.Exit) as caught:
        service.alerts(home=tmp_path, test=True)
    assert caught.value.exit_code == 0
    assert "COUPON_LEDGER_ALERT_WEBHOOK_URL" in capsys.readouterr().out
    monkeypatch.setenv("COUPON_LEDGER_ALERT_WEBHOOK_URL", f"http://127.0.0.1:9/{SECRET}")
    with pytest.raises(typer.Exit) as caught:
        service.alerts(home=tmp_path, test=True)
    assert caught.value.exit_code == 1
    printed = capsys.readouterr()
    assert "webhook  FAILED" in printed.out
    assert SECRET not in printed.out + printed.err
    service.alerts(home=tmp_path, limit=1)
    assert "Test: This is a test" in capsys.readouterr().out
    service.alerts(home=tmp_path, limit=1, json=True)
    assert len(json.loads(capsys.readouterr().out)["last"]) == 1


HOLDER = """
import sys
from pathlib import Path
from dagster_project.run_launcher import show_alive
show_alive(Path(sys.argv[1]), "run")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_run_is_alive_until_its_process_is_killed(tmp_path: Path) -> None:
    assert not is_alive(tmp_path, "run")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert is_alive(tmp_path, "run")
        process.kill()
        process.wait()
    assert not is_alive(tmp_path, "run")


def test_the_marks_of_runs_long_dead_are_removed(tmp_path: Path) -> None:
    runs = tmp_path / "build" / "runs"
    runs.mkdir(parents=True)
    for name, age in (("old", 2 * 86_400), ("new", 60)):
        (runs / f"{name}.lock").touch()
        then = time.time() - age
        os.utime(runs / f"{name}.lock", (then, then))
    show_alive(tmp_path, "mine")
    assert sorted(path.stem for path in runs.iterdir()) == ["mine", "new"]


@pytest.mark.parametrize(
    ("is_held", "was_held", "seconds_ago", "expected"),
    [
        (True, True, 9_999, "RUNNING"),
        (False, False, 5, "RUNNING"),  # it has only just begun
        (False, False, run_launcher.GRACE_SECONDS + 5, "FAILED"),
        (False, True, 5, "FAILED"),
    ],
)
def test_a_run_counts_as_dead_when_it_no_longer_holds_its_lock(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_held: bool,
    was_held: bool,
    seconds_ago: float,
    expected: str,
) -> None:
    run_id = f"run-{is_held}-{was_held}-{seconds_ago}"
    if is_held:
        show_alive(tmp_path, run_id)
    elif was_held:
        (tmp_path / "build" / "runs").mkdir(parents=True)
        (tmp_path / "build" / "runs" / f"{run_id}.lock").touch()
    config = {"resources": {"refresh": {"config": {"home": str(tmp_path)}}}}
    run = dg.DagsterRun(job_name="refresh", run_id=run_id, run_config=config)
    with dg.DagsterInstance.ephemeral() as instance:
        launcher = WatchedRunLauncher()
        launcher.register_instance(instance)
        stats = type("Stats", (), {"start_time": time.time() - seconds_ago})
        monkeypatch.setattr(instance, "get_run_stats", lambda _: stats)
        assert launcher.check_run_worker_health(run).status.name == expected


def said(logger: logging.Logger, text: str, **meta: Any) -> None:
    record = logger.makeRecord(logger.name, logging.INFO, "f", 1, text, (), None)
    record.dagster_meta = {"orig_message": text, "step_key": "arrival", "run_id": "r", **meta}
    logger.handle(record)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_run_log_has_a_line_for_what_each_step_said_and_none_of_dagsters_own(
    tmp_path: Path, log_format: str
) -> None:
    config = {"folder": str(tmp_path), "format": log_format}
    context = dg.build_init_logger_context(logger_config=config)
    logger = resources.run_log.logger_fn(context)
    event = type("Event", (), {"event_type_value": "STEP_START"})
    said(logger, "two files,\n1 new, 0.3 s")
    said(logger, "Started execution of step", dagster_event=event)
    for handler in list(logger.handlers):
        handler.close()
        logger.removeHandler(handler)
    (path,) = tmp_path.glob("*.log")
    (line,) = path.read_text("utf-8").splitlines()
    if log_format == "text":
        assert line.endswith("INFO    arrival: two files, 1 new, 0.3 s")
        return
    entry = json.loads(line)
    assert entry.pop("at").endswith("+00:00")
    assert entry == {
        "level": "info",
        "run_id": "r",
        "step": "arrival",
        "message": "two files, 1 new, 0.3 s",
    }


def test_settings_of_the_service_are_checked() -> None:
    with pytest.raises(ValueError, match="no time zone 'Mars/Base'"):
        Settings(schedule_timezone="Mars/Base")
    with pytest.raises(ValueError, match="no group 'mart'"):
        Settings(owners={"mart": "team:finance"})
    with pytest.raises(ValueError, match="neither team:NAME nor"):
        Settings(owners={"marts": "finance"})
    with pytest.raises(ValueError, match="no feed 'bills'"):
        Settings(late_after_days={"bills": 3})
