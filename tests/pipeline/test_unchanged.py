"""A refresh that would find everything unchanged ends in a moment; if anything differs, it runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from dagster_project.arrival import arrive
from dagster_project.refresh import unchanged
from dagster_project.releases import files
from dagster_project.settings import Settings
from tests.pipeline.conftest import AS_OF, NOW, HandMade, in_process


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A data home with a release, and a landing folder with two files that arrived a while ago."""
    HandMade(tmp_path / "home").write().publish()
    landing = tmp_path / "landing"
    for name in ("invoices/a.csv", "coupons/b.csv"):
        path = landing / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
    archive = tmp_path / "home" / "archive"
    archive.mkdir(exist_ok=True)
    (archive / "one").write_text("kept")
    return Settings(home=tmp_path / "home", landing=landing)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is past the time in which a change could go unseen."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 60)


def after_a_refresh(settings: Settings) -> bool:
    """Remember the state as a refresh does, and ask at once."""
    unchanged.remember(settings, AS_OF, unchanged.landing_state(settings), "run")
    return unchanged.is_unchanged(settings, AS_OF)


def rewrite(path: Path, text: str) -> None:
    """Change a file and give it its times back, as a careless copy would."""
    status = path.stat()
    path.write_text(text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES: dict[str, Callable[[Settings], object]] = {
    "a file more": lambda s: (s.landing / "invoices" / "c.csv").write_text("c"),
    "a file less": lambda s: (s.landing / "invoices" / "a.csv").unlink(),
    "another name": lambda s: (s.landing / "invoices/a.csv").rename(s.landing / "invoices/z.csv"),
    "other bytes of the same size and time": lambda s: rewrite(
        s.landing / "invoices" / "a.csv", "INVOICES/A.CSV"
    ),
    "a manifest": lambda s: (s.landing / "invoices" / "a.csv.manifest.json").write_text("{}"),
    "something in the archive that was not loaded": lambda s: (s.archive / "two").write_text("2"),
    "an accepted finding": lambda s: s.accepted_findings_file.write_text("finding_id\n"),
    "a month closed": lambda s: files.closes_path(s.home).write_text("{}\n"),
    "a log beside the release": lambda s: _log_beside(s.home).write_text("log"),
    "a log beside what points to the release": lambda s: (s.home / "current.wal").write_text("log"),
    "a release that was cut": lambda s: os.truncate(_served(s.home), 100),
    "a Parquet copy that is gone": lambda s: next(
        files.parquet_dir(s.home, str(files.current_release(s.home))).iterdir()
    ).unlink(),
    "another release served": lambda s: (
        HandMade(s.home, [("in_9", "USD", "1.00")]).write().publish(NOW + timedelta(days=1))
    ),
    "the build thrown away": lambda s: (s.build / "unchanged").unlink(),
    "damage to what is remembered": lambda s: (s.build / "unchanged").write_bytes(b"\xff"),
}


def _served(home: Path) -> Path:
    return files.release_path(home, str(files.current_release(home)))


def _log_beside(home: Path) -> Path:
    path = _served(home)
    return path.with_name(path.name + ".wal")


@pytest.mark.usefixtures("later")
class TestTheState:
    """What counts as a change."""

    def test_nothing_has_changed_where_nothing_has(self, settings: Settings) -> None:
        assert after_a_refresh(settings)

    @pytest.mark.parametrize("change", CHANGES)
    def test_a_change_is_noticed(self, settings: Settings, change: str) -> None:
        assert after_a_refresh(settings)
        CHANGES[change](settings)
        assert not unchanged.is_unchanged(settings, AS_OF)

    def test_the_removal_of_a_release_that_shares_files_with_the_current_is_no_change(
        self, settings: Settings
    ) -> None:
        first = str(files.current_release(settings.home))
        made = HandMade(settings.home).write()
        for version in ("2+code", "3+code"):
            current = made.publish(NOW + timedelta(days=1), code_version=version).release_id
        shared = [
            path
            for path in files.parquet_dir(settings.home, current).glob("*.parquet")
            if path.stat().st_nlink > 1
        ]
        assert shared
        assert after_a_refresh(settings)
        for release_id in files.release_ids(settings.home):
            if release_id != current:
                shutil.rmtree(files.parquet_dir(settings.home, release_id))
        assert not files.release_path(settings.home, first).exists()
        assert unchanged.is_unchanged(settings, AS_OF)

    def test_another_day_engine_or_strictness_is_a_change(self, settings: Settings) -> None:
        assert after_a_refresh(settings)
        assert not unchanged.is_unchanged(settings, AS_OF + timedelta(days=1))
        for other in ({"engine": "spark"}, {"strict": True}):
            assert not unchanged.is_unchanged(settings.model_copy(update=other), AS_OF)

    def test_other_code_is_a_change(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        assert after_a_refresh(settings)
        (tmp_path / "models").mkdir()
        monkeypatch.setattr(unchanged, "DBT_PROJECT", tmp_path / "models")
        assert not unchanged.is_unchanged(settings, AS_OF)

    def test_a_file_that_came_while_the_refresh_ran_is_not_passed_over(
        self, settings: Settings
    ) -> None:
        before = unchanged.landing_state(settings)
        (settings.landing / "invoices" / "c.csv").write_text("c")
        unchanged.remember(settings, AS_OF, before, "run")
        assert not unchanged.is_unchanged(settings, AS_OF)


@pytest.mark.usefixtures("later")
class TestAFileRefusedForWantOfSpace:
    """No file shows that there is space again, so the next refresh tries."""

    FREE = shutil.disk_usage("/tmp")

    def arrived(
        self, settings: Settings, run_id: str, monkeypatch: pytest.MonkeyPatch, *, is_full: bool
    ) -> list[str]:
        """Let the landing folder arrive on a disk that is full or is not."""
        free = 1 if is_full else self.FREE.free
        monkeypatch.setattr(shutil, "disk_usage", lambda _: self.FREE._replace(free=free))
        reports = arrive(settings.landing, settings.home, run_id, NOW, with_gate=False)
        return [str(report.reason) for report in reports if report.verdict == "refused"]

    def is_over_in_a_moment(self, settings: Settings, run_id: str) -> bool:
        """Remember the run, and ask at once."""
        unchanged.remember(settings, AS_OF, unchanged.landing_state(settings), run_id)
        return unchanged.is_unchanged(settings, AS_OF)

    def test_is_tried_by_every_run_until_it_is_taken(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for run_id in ("first", "second"):
            refused = self.arrived(settings, run_id, monkeypatch, is_full=True)
            assert len(refused) == 2
            assert "more than can be copied to the disk of the data home" in refused[0]
            assert not self.is_over_in_a_moment(settings, run_id)
        (refusal, _) = self.arrived(settings, "third", monkeypatch, is_full=False)
        assert "missing required column" in refusal
        assert self.is_over_in_a_moment(settings, "third")


def test_files_so_young_that_a_change_could_go_unseen_are_not_remembered(
    settings: Settings,
) -> None:
    assert not after_a_refresh(settings)


def test_a_run_with_nothing_new_is_recognised_and_the_next_starts_neither_dagster_nor_dbt(
    own_home: Path,
) -> None:
    before = files.current_release(own_home)
    built = in_process("run", "--home", own_home)
    assert built.returncode == 0, built.stderr
    assert "0 models built" in built.stdout
    [told] = re.findall(
        r"(\d+) tests passed, (\d+) warned \((\d+) ran before, over the same rows\)", built.stdout
    )
    passed, warned, ran_before = map(int, told)
    assert ran_before == passed + warned
    assert "nothing has changed" in built.stdout
    script = (
        "import sys; from dagster_project.cli import app;"
        "app(sys.argv[1:], standalone_mode=False);"
        "print([name for name in ('dagster', 'dbt', 'great_expectations')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "--home", str(own_home)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "nothing has changed" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert files.release_ids(own_home) == [before]
