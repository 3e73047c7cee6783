"""The service as it runs by itself: a real web server and daemon, files that arrive, and what goes wrong.

One story in the order in which it happens, because starting Dagster takes most of the time. Every wait
has a generous deadline and no fixed pause.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from dagster_project.sample import generate_sample
from dagster_project.settings import CHECKOUT
from tests.pipeline import live
from tests.pipeline.conftest import coupon_ledger, view_models
from tests.pipeline.live import Run, Service
from tests.receivers import SECRET, Mailbox, Webhook, kind_of, receivers, settings_of, text_of

SENSOR, SCHEDULE = "new_deliveries", "daily_refresh"
NEVER = "0 0 29 2 *"  # except on the 29th of February
KILLED = "its process died"


def other_zone() -> str:
    """A zone whose date differs from that in UTC, and will for some time."""
    return "Etc/GMT-14" if datetime.now(UTC).hour >= 11 else "Etc/GMT+12"


class Story:
    """The service, what was sent to the receivers, and what was delivered."""

    def __init__(self, service: Service, webhook: Webhook, mailbox: Mailbox, sample: Path) -> None:
        self.service, self.webhook, self.mailbox, self.sample = service, webhook, mailbox, sample

    def deliver(self, file_name: str, text: str) -> None:
        """Put a file into the landing folder as a careful supplier does."""
        path = self.service.landing / file_name
        path.parent.mkdir(exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(text, "utf-8")
        part.rename(path)

    def coupon_file(self, name: str) -> str:
        """A file of one coupon that no file had before."""
        (known,) = self.service.landing.glob("coupons/coupons-2023-07-01.csv")
        with known.open(encoding="utf-8", newline="") as file:
            row = next(csv.DictReader(file))
        row |= {"coupon_id": f"cpn_{name}", "coupon_name": f"Coupon {name}"}
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerow(row)
        return text.getvalue()

    def sensor_runs(self) -> list[Run]:
        """The runs that the sensor started, retries among them."""
        return [run for run in self.service.runs() if run.started_by == SENSOR]

    def wait_for_run(self, number: int) -> Run:
        """Wait until the sensor's run of this number, from 1, has ended."""

        def ended() -> Run | None:
            runs = self.sensor_runs()
            return runs[number - 1] if len(runs) >= number and runs[number - 1].has_ended else None

        return self.service.wait_for(f"run {number} of the sensor has ended", ended, 240)

    def wait_for_writer(self, number: int) -> tuple[Run, int]:
        """Wait until the sensor's run of this number writes; return the run and its process."""

        def writes() -> tuple[Run, int] | None:
            runs = self.sensor_runs()
            if len(runs) < number:
                return None
            pid = self.service.writer(runs[number - 1].run_id)
            return (runs[number - 1], pid) if pid else None

        return self.service.wait_for(f"run {number} of the sensor writes", writes, 240)

    def alert(self, kind: str, told: Callable[[str], bool]) -> str:
        """Wait for an alert by web hook and mail; they say the same."""

        def mailed() -> str | None:
            texts = [text_of(mail) for mail in self.mailbox.messages if kind_of(mail) == kind]
            return next((text for text in texts if told(text)), None)

        def posted() -> bool:
            texts = [str(body["text"]) for body in self.webhook.bodies]
            return any(text.splitlines()[0] == mail.splitlines()[0] for text in texts)

        mail = self.service.wait_for(f"a mail about {kind}", mailed, 120)
        self.service.wait_for(f"the same about {kind} by web hook", posted, 30)
        return mail

    def skipped_since(self, instant: float, reason: str) -> None:
        """Wait for a tick of the sensor after an instant that was skipped for a reason."""

        def skipped() -> bool:
            ticks = self.service.ticks("Sensor", SENSOR, instant)
            return any(tick["skipReason"] == reason for tick in ticks)

        self.service.wait_for(f"the sensor says: {reason}", skipped, 120)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The service over a small sample that has not been delivered yet."""
    folder = tmp_path_factory.mktemp("live")
    generate_sample(8, 8, 1, folder / "sample")
    with receivers() as (webhook, mailbox):
        settings = {
            **settings_of(webhook, mailbox),
            "alert_quiet_minutes": "0",
            "sensor_seconds": "3",
            "settle_seconds": "2",
            "schedule_cron": NEVER,
            "schedule_timezone": other_zone(),
            "log_format": "json",
        }
        with Service(folder / "service", settings) as service:
            service.start("web")
            service.start("daemon")
            service.wait_until_ready()
            service.wait_until_looked("failed_runs", "finished_runs")
            service.turn_on("Sensor", SENSOR)
            service.turn_on("Schedule", SCHEDULE)
            yield Story(service, webhook, mailbox, folder / "sample" / "landing")


class TestByItself:
    """Each test goes on where the one before ended."""

    def test_many_files_start_one_run_and_a_bad_one_is_refused_and_told(self, story: Story) -> None:
        service = story.service
        shutil.copytree(story.sample, service.landing, dirs_exist_ok=True)
        story.deliver("coupons/late.csv", "coupon_id,owner\nc1,someone@example.com\n")
        (service.landing / "coupons" / "half.csv.part").write_text("coupon_id", "utf-8")

        run = story.wait_for_run(1)
        assert run.status == "SUCCESS"
        assert len(story.sensor_runs()) == 1
        assert service.served() is not None
        with duckdb.connect(str(service.home / "current"), read_only=True) as release:
            files = release.execute("select file_name, verdict from release.deliveries").fetchall()
        assert len(files) == len([*story.sample.rglob("*.*")]) + 1
        assert ("coupons/late.csv", "refused") in files

        told = story.alert("file_refused", lambda text: "late.csv" in text)
        assert "What it means: Its rows are in no release; the release of" in told
        assert f"coupon-ledger deliveries --home {service.home}" in told
        assert "someone@" not in told
        story.alert("new_findings", lambda text: "of severity error" in text)
        story.alert("data_late", lambda text: "invoices: the newest record is of" in text)

    def test_every_check_was_made_and_what_it_found_is_shown(self, story: Story) -> None:
        (run,) = story.sensor_runs()
        checks = {(check.asset, check.name): check for check in story.service.checks(run.run_id)}
        refused = checks["billing/coupons", "supplier_gate"]
        assert (refused.passed, refused.severity) == (False, "ERROR")
        assert checks["billing/invoices", "supplier_gate"].severity in ("WARN", "ERROR")
        late = checks["marts/fct_discounted_charges", "newest_invoices_are_recent"]
        assert (late.passed, late.severity) == (False, "WARN")
        failed = {name for (_, name), check in checks.items() if not check.passed}
        assert all(
            check.passed or check.severity == "WARN" or check.name == "supplier_gate"
            for check in checks.values()
        ), failed
        assert set(story.service.defined_checks()) == set(checks)

    def test_every_table_shows_its_columns_rows_and_delivery_files(self, story: Story) -> None:
        built = story.service.materializations()
        assert len(built) > 50
        for key, labels in built.items():
            wanted = {"dagster/column_schema", "deliveries", "delivery_files"}
            assert wanted <= labels, key
        # A view that would have to be calculated is not counted, nor what nobody delivered.
        uncounted = {key for key, labels in built.items() if "dagster/row_count" not in labels}
        names = {key.split("/")[-1] for key in uncounted}
        assert names - {"credit_notes", "budgets"} == view_models()

    def test_nothing_new_starts_no_run(self, story: Story) -> None:
        landing = story.service.landing
        began = time.time()
        known = next(landing.glob("coupons/coupons-*.csv"))
        known.touch()
        shutil.copy(known, landing / "coupons" / "the-same-again.csv")
        story.skipped_since(began + 1, "Nothing new.")
        assert len(story.sensor_runs()) == 1

    def test_a_failing_data_test_keeps_the_release_and_is_told(self, story: Story) -> None:
        service = story.service
        before = service.served()
        with duckdb.connect(str(service.home / "build" / "warehouse.duckdb")) as warehouse:
            warehouse.execute(
                "update raw.deliveries set physical_rows = physical_rows + 1"
                " where delivery_sequence = 1"
            )
        story.deliver("coupons/one.csv", story.coupon_file("one"))
        run = story.wait_for_run(2)
        assert run.status == "FAILURE"
        assert service.served() == before
        checks = {check.name: check for check in service.checks(run.run_id)}
        failed = checks["assert_every_row_accounted_for"]
        assert (failed.passed, failed.severity) == (False, "ERROR")
        told = story.alert("release_refused", lambda text: "assert_every_row" in text)
        assert f"({before}) is still current" in told
        # A failed run would fail again, so it is not retried. Dagster says so a moment later.
        is_tried_again = service.wait_for(
            "it is said whether the run is tried again",
            lambda: story.sensor_runs()[1].tags.get("dagster/will_retry"),
        )
        assert is_tried_again == "false"
        rebuilt = coupon_ledger("rebuild", "--home", service.home)
        assert rebuilt.returncode == 0, rebuilt.stderr

    def test_a_killed_run_is_told_and_made_again(self, story: Story) -> None:
        service = story.service
        story.deliver("coupons/two.csv", story.coupon_file("two"))
        story.deliver("coupons/late.csv", story.coupon_file("late"))
        killed, process = story.wait_for_writer(3)
        busy = coupon_ledger(
            "run", "--home", service.home, "--landing", service.landing, "--as-of", "2026-01-31"
        )
        assert busy.returncode == 1
        assert f"Dagster run {killed.run_id}, started by {SENSOR}" in " ".join(busy.stderr.split())
        live.kill(process)
        told = story.alert("run_failed", lambda text: KILLED in text)
        assert killed.run_id in told
        assert "it is started again automatically" in told
        again = story.wait_for_run(4)
        assert again.status == "SUCCESS"
        assert again.tags["dagster/parent_run_id"] == killed.run_id
        for kind in ("run_failed", "release_refused", "file_refused"):
            story.alert(kind, lambda text: text.startswith("Resolved: "))

    def test_a_daemon_that_dies_with_its_run_catches_up_once(self, story: Story) -> None:
        service = story.service
        story.deliver("coupons/three.csv", story.coupon_file("three"))
        lost, _ = story.wait_for_writer(5)
        service.kill("daemon", everything=True)
        by_hand = coupon_ledger("run", "--home", service.home, "--landing", service.landing)
        assert by_hand.returncode == 0, by_hand.stderr
        served = service.served()

        # The daemon comes back with a schedule whose last two ticks it did not see.
        missed = datetime.now(ZoneInfo(service.settings["schedule_timezone"])).replace(
            second=0, microsecond=0
        )
        minutes = f"{(missed - timedelta(minutes=1)).minute},{missed.minute}"
        cron = f"{minutes} {missed.hour} {missed.day} {missed.month} *"
        service.settings["schedule_cron"] = cron
        service.start("daemon")

        told = story.alert("run_failed", lambda text: KILLED in text and lost.run_id in text)
        assert f"({served}) is still current" in told
        assert "it is started again automatically" in told
        assert story.wait_for_run(6).tags["dagster/parent_run_id"] == lost.run_id

        def made_up_for() -> list[Run] | None:
            runs = [run for run in service.runs() if run.started_by == SCHEDULE]
            return runs if runs and all(run.has_ended for run in service.runs()) else None

        (scheduled,) = service.wait_for("the tick is made up for", made_up_for, 240)
        assert scheduled.status == "SUCCESS"
        assert scheduled.as_of == missed.date().isoformat()
        assert scheduled.as_of != missed.astimezone(UTC).date().isoformat()
        (tick,) = [one for one in service.ticks("Schedule", SCHEDULE) if one["runIds"]]
        assert tick["timestamp"] == missed.timestamp()

    def test_two_runs_never_overlapped(self, story: Story) -> None:
        spans = sorted((run.began, run.ended) for run in story.service.runs() if run.began)
        assert len(spans) >= 6
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))

    def test_run_logs_are_one_line_per_step_with_counts_and_seconds(self, story: Story) -> None:
        (run, *_) = story.sensor_runs()
        path = story.service.home / "logs" / f"{run.run_id}.log"
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        assert [line["step"] for line in lines] == ["arrival", "dbt_build", "data_age", "release"]
        assert {line["run_id"] for line in lines} == {run.run_id}
        whole = len([*story.sample.rglob("*.*")])
        assert lines[0]["message"].startswith(f"{whole + 1} files, {whole} new with ")
        assert all(line["message"].endswith(" s") for line in lines)

    def test_what_the_service_wrote_is_open_to_its_owner_only(self, story: Story) -> None:
        home = story.service.home
        private = [home / name for name in ("archive", "build", "logs", "alerts", "dagster")]
        written = [path for folder in private for path in (folder, *folder.rglob("*"))]
        assert len(written) > 100
        made_by_the_test = home / "dagster" / "dagster.yaml"
        open_to_others = []
        for path in written:
            with suppress(FileNotFoundError):  # SQLite's log goes when its last reader leaves
                if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077:
                    open_to_others.append(path)
        assert [path for path in open_to_others if path != made_by_the_test] == []

    def test_no_secret_and_no_personal_data_is_kept_or_sent(self, story: Story) -> None:
        hidden = [SECRET.encode(), b"someone@example.com", *people(story.sample)]
        assert len(hidden) > 10
        for name, content in kept_and_sent(story):
            for value in hidden:
                assert value not in content, f"{value!r} is in {name}"


def test_web_server_daemon_and_code_servers_end_with_the_service(tmp_path: Path) -> None:
    """Started as by `nohup` or a script, where SIGINT is ignored, the service ends on SIGTERM.

    How it ends is the same for every signal; `tests/unit/test_service_commands.py` sends each.
    """
    ignored = [signal.SIGHUP, signal.SIGINT]
    with Service(tmp_path / "service") as service:
        with (tmp_path / "service" / "dev.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dagster_project.cli", "dev", "--port", str(service.port)],
                cwd=CHECKOUT,
                env=service.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: [signal.signal(one, signal.SIG_IGN) for one in ignored],
            )
        try:
            service.wait_until_ready()
            below = live.descendants(process.pid)
            programs = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in below]
            for part in (b"dagster_ui", b"dagster._daemon", b"grpc"):
                assert any(part in program for program in programs), programs
            process.terminate()
            assert process.wait(60) == 0, service.last_words()
            running = {int(path.name) for path in Path("/proc").glob("[0-9]*")}
            assert not {pid for pid in running.intersection(below) if not is_zombie(pid)}
        finally:
            for pid in [process.pid, *live.descendants(process.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()


def is_zombie(pid: int) -> bool:
    """Whether a process has ended and only waits to be asked for its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def people(sample: Path) -> set[bytes]:
    """The personal ids that were delivered."""
    found: set[bytes] = set()
    for path in sample.rglob("*.*"):
        found |= set(re.findall(rb"usr_[0-9a-f]+", path.read_bytes()))
    return found


def kept_and_sent(story: Story) -> Iterator[tuple[str, Any]]:
    """Everything that is kept of runs, and everything that was sent."""
    home = story.service.home
    for folder in (home / "dagster", home / "logs", home / "alerts"):
        for path in folder.rglob("*"):
            with suppress(FileNotFoundError):  # as above
                if path.is_file():
                    yield str(path), path.read_bytes()
    for path in story.service.folder.glob("*.log"):
        yield str(path), path.read_bytes()
    yield "web hook", json.dumps(story.webhook.bodies).encode()
    yield "mail", "\n".join(text_of(mail) for mail in story.mailbox.messages).encode()
