"""Starting Dagster, asking for alerts, and distinguishing live runs from dead ones."""

from __future__ import annotations

import json
import logging
import os
import signal
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
from dagster_project.cli import processes, service
from dagster_project.cli.processes import command_of
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
    umask = os.umask(0o022)  # which starting changes, for the process that it becomes
    yield calls
    os.umask(umask)


def test_dagster_is_started_on_this_machine_only_with_its_storage_in_the_data_home(
    started: list[Any], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    service.dev(landing=tmp_path / "landing", home=home, port=45678, only=None)
    ((program, arguments, environment),) = started
    assert program == sys.executable
    assert arguments[1:] == ["-m", "dagster_project.cli.processes", "web,daemon", "45678"]
    assert environment["DAGSTER_HOME"] == str(home / "dagster")
    assert environment["COUPON_LEDGER_HOME"] == str(home)
    assert environment["COUPON_LEDGER_LANDING"] == str(tmp_path / "landing")
    written = (home / "dagster" / "dagster.yaml").read_bytes()
    assert written == (CHECKOUT / "dagster_project" / "cli" / "dagster.yaml").read_bytes()
    # Created once, before web server and daemon could both do so.
    assert (home / "dagster" / "schedules" / "schedules.db").is_file()


def test_a_configuration_that_is_there_is_left_alone(started: list[Any], tmp_path: Path) -> None:
    storage = tmp_path / "home" / "dagster"
    storage.mkdir(parents=True)
    (storage / "dagster.yaml").write_text("telemetry: {enabled: false} # mine", "utf-8")
    service.dev(landing=tmp_path / "landing", home=tmp_path / "home", only="daemon")
    assert (storage / "dagster.yaml").read_text("utf-8").endswith("# mine")
    assert started[0][1][-2:] == ["daemon", "3000"]


def test_a_storage_elsewhere_is_used(
    started: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "elsewhere"))
    service.dev(landing=tmp_path / "landing", home=tmp_path / "home", only="daemon")
    assert started[0][2]["DAGSTER_HOME"] == str(tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "dagster.yaml").is_file()


def test_a_port_in_use_and_an_absent_landing_folder_are_reported(
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
    ("name", "module"), [("web", "dagster_project.web.dagster_ui"), ("daemon", "dagster._daemon")]
)
def test_web_server_and_daemon_are_programs_of_their_own(name: str, module: str) -> None:
    assert command_of(name, 45678)[1:3] == ["-m", module]


# What the tests of processes start instead of web server and daemon: a program that starts another one,
# prints both ids, and ends on SIGTERM or does not.
PARENT = """
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[2] + ".tmp", "w") as file:
    print(os.getpid(), child.pid, signal.getsignal(signal.SIGINT) == signal.SIG_IGN, file=file)
os.rename(sys.argv[2] + ".tmp", sys.argv[2])
if sys.argv[1] == "failing":
    while not os.path.exists(os.path.join(os.path.dirname(sys.argv[2]), "willing")):
        time.sleep(0.01)
    sys.exit(3)
time.sleep(600)
"""
WATCHER = """
import sys
from dagster_project.cli import processes
processes.PATIENCE_SECONDS = 1.0
folder, *kinds = sys.argv[1:]
sys.exit(
    processes.keep_running(
        {k: [sys.executable, "-c", PARENT, k, f"{folder}/{k}"] for k in kinds}
    )
)
""".replace("PARENT", repr(PARENT))


def is_running(pid: int) -> bool:
    """Whether a process is running; one that has ended but was not waited for is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def watched(folder: Path, kinds: list[str], ignored: set[int]) -> tuple[Any, list[int], set[str]]:
    """The process that watches, the ids of all that it started, and which of them ignore SIGINT."""
    process = subprocess.Popen(
        [sys.executable, "-c", WATCHER, str(folder), *kinds],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stderr=subprocess.PIPE,
        text=True,
        # Not inherited: a process in the background ignores SIGINT, and Dagster then ignores SIGTERM.
        preexec_fn=lambda: [
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        ],
    )
    files = [folder / kind for kind in kinds]
    wait_until(lambda: all(file.exists() for file in files))
    told = [file.read_text().split() for file in files]
    return process, [int(pid) for line in told for pid in line[:2]], {line[2] for line in told}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_service_with_everything_it_started(number: int, tmp_path: Path) -> None:
    process, pids, _ = watched(tmp_path, ["willing", "stubborn"], set())
    assert all(map(is_running, pids)) and len(pids) == 4
    process.send_signal(number)
    assert process.wait(20) == 0
    wait_until(lambda: not any(map(is_running, pids)))


def test_a_service_that_was_started_with_signals_ignored_ends_on_sigterm(tmp_path: Path) -> None:
    ignored = {int(signal.SIGINT), int(signal.SIGHUP)}
    process, pids, ignoring = watched(tmp_path, ["willing", "stubborn"], ignored)
    assert ignoring == {"False"}, "Dagster's own end by SIGINT would have no effect"
    for number in ignored:
        process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    assert all(map(is_running, pids))
    process.terminate()
    assert process.wait(20) == 0
    wait_until(lambda: not any(map(is_running, pids)))


def test_if_one_process_ends_by_itself_the_other_is_ended_and_that_is_reported(
    tmp_path: Path,
) -> None:
    process, pids, _ = watched(tmp_path, ["willing", "failing"], set())
    assert process.wait(20) == 1
    assert "failing ended by itself, exit code 3" in process.stderr.read()
    wait_until(lambda: not any(map(is_running, pids)))


def test_what_a_killed_service_had_started_is_told_to_end(tmp_path: Path) -> None:
    process, pids, _ = watched(tmp_path, ["willing"], set())
    process.kill()
    process.wait()
    wait_until(lambda: not is_running(pids[0]))
    os.kill(pids[1], signal.SIGKILL)  # unlike Dagster, the program does not pass the signal on


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


@pytest.mark.parametrize(
    ("line", "is_coloured", "expected"),
    [
        (b"\x1b[32m10:00\x1b[0m - dagster - \x1b[34mINFO\x1b[0m - up\n", False, b"10:00 - dagster - INFO - up\n"),
        (b"\x1b[31mred\x1b[0m\n", True, b"\x1b[31mred\x1b[0m\n"),
        (b"\x1b[34mWARNING\x1b[0m - No cursor for event type T.RUN, ignoring older events\n", True, b""),
        (b"WARNING - The disk is nearly full\n", False, b"WARNING - The disk is nearly full\n"),
        (b"\xff no text\n", False, b"\xff no text\n"),
    ],
)  # fmt: skip
def test_what_the_service_writes_into_a_file_has_no_colours(
    line: bytes, is_coloured: bool, expected: bytes
) -> None:
    assert processes.shown(line, is_coloured=is_coloured) == expected


def test_the_lines_of_both_processes_reach_the_file_until_the_end() -> None:
    code = "import sys; print('\\033[32mout\\033[0m'); print('\\033[31merr', file=sys.stderr)"
    script = (
        "import sys; from dagster_project.cli.processes import keep_running;"
        f" sys.exit(keep_running({{'one': [sys.executable, '-c', {code!r}]}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout == b"out\n"
    assert done.stderr.startswith((b"err\n", b"one ended by itself"))
    assert b"err\n" in done.stderr and b"\x1b" not in done.stderr


def test_a_data_home_of_a_newer_version_is_not_served(
    started: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "home.json").write_text('{"layout": 99, "written_by": "9.1.0"}', "utf-8")
    with pytest.raises(typer.Exit) as caught:
        service.dev(landing=tmp_path / "landing", home=home, only="daemon")
    assert caught.value.exit_code == 1
    assert "Install 9.1.0 or newer" in capsys.readouterr().err
    assert not started
    assert not (home / "dagster").exists()


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


def test_a_run_that_takes_its_lock_while_it_is_asked_about_is_not_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"resources": {"refresh": {"config": {"home": str(tmp_path)}}}}
    run = dg.DagsterRun(job_name="refresh", run_id="just-begun", run_config=config)
    with dg.DagsterInstance.ephemeral() as instance:
        launcher = WatchedRunLauncher()
        launcher.register_instance(instance)

        def begins(run_id: str) -> Any:
            show_alive(tmp_path, run_id)
            return type("Stats", (), {"start_time": time.time() - 5})

        monkeypatch.setattr(instance, "get_run_stats", begins)
        assert launcher.check_run_worker_health(run).status.name == "RUNNING"
        assert launcher.check_run_worker_health(run).status.name == "RUNNING"
    assert [path.name for path in (tmp_path / "build" / "runs").iterdir()] == ["just-begun.lock"]


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
    with pytest.raises(ValueError, match="age of budgets"):
        Settings(late_after_days={"budgets": 3})


@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01", "tomorrow"])
def test_a_run_of_dagster_for_a_day_that_cannot_be_calculated_is_refused(day: str) -> None:
    with pytest.raises(ValueError, match="give a day"):
        resources.Refresh(home="home", landing="landing", as_of=day)
    assert resources.Refresh(home="home", landing="landing", as_of="2026-02-28").settings.as_of


@pytest.mark.parametrize(
    "asked", [["--as-of", "9999-12-31"], ["--known-at", "9999-12-31T00:00:00"]]
)
def test_a_run_for_a_day_that_cannot_be_calculated_is_refused_at_once(
    tmp_path: Path, asked: list[str]
) -> None:
    from typer.testing import CliRunner

    from dagster_project.cli.app import app

    home = tmp_path / "home"
    (home / "archive").mkdir(parents=True)
    (tmp_path / "landing").mkdir()
    at = [] if "--known-at" in asked else ["--landing", str(tmp_path / "landing")]
    answer = CliRunner().invoke(app, ["run", "--home", str(home), *at, *asked])
    assert answer.exit_code == 2
    assert f"{asked[0]} {asked[1]}: give a day from 1970-01-01 to 9990-12-31" in answer.output
    assert [path.name for path in home.iterdir()] == ["archive"]
