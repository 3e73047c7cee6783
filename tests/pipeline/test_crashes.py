"""Killed, starved and polled: what is served stays whole, and the next healthy run recovers.

Bounded here; `python -m tests.crashes --kills 200` runs the kills at length.
"""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dagster_project import releases
from dagster_project.cli import app
from dagster_project.cli.run import refresh
from dagster_project.releases import files, publishing
from dagster_project.settings import CHECKOUT, Settings
from tests import crashes
from tests.pipeline.conftest import LAST_DAY, NOW, HandMade, SampleRun, in_process

KILLS = 20
SEED = 20260401


class TestKilled:
    """SIGKILL at any point loses nothing, and a rerun gives what an undisturbed run gives."""

    def test_a_refresh_killed_in_any_step(self, tmp_path: Path) -> None:
        hit = crashes.kill_many(tmp_path, KILLS, SEED)
        assert hit.total() == KILLS
        assert set(hit) == set(crashes.STEPS)

    def test_the_real_run_killed_again_and_again(
        self, sample_run: SampleRun, tmp_path: Path
    ) -> None:
        home = tmp_path / "home"
        served = HandMade(home).write().publish().release_id
        shutil.rmtree(home / "build")
        killed = 0
        for step, seconds in (
            ("arrival", 1.0),
            ("dbt_build", 2.0),
            ("release", 0.3),
        ):
            killed += crashes.kill_run(home, step, seconds)
            crashes.contents(home)
            now_served = files.current_release(home)
            assert now_served is not None and now_served >= served
            served = now_served
        assert killed >= 2, "a fast machine may end the last step first"
        rerun = in_process("run", "--home", home)
        assert rerun.returncode == 0, rerun.stderr
        undisturbed = crashes.contents(sample_run.home, ("marts",))
        assert crashes.contents(home, ("marts",)) == undisturbed
        assert not [*(home / "releases").glob("*.tmp"), *(home / "releases").glob("*.wal")]


def test_eight_reader_processes_see_whole_releases_that_never_go_back(tmp_path: Path) -> None:
    made = HandMade(tmp_path)

    def publish(number: int) -> str:
        made.charges = [(f"in_{n}", "USD", f"{number}.00") for n in range(10 * number)]
        return made.write().publish(NOW + timedelta(hours=number)).release_id

    publish(1)
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", crashes.POLL, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(crashes.READERS)
    ]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "reading\n"
        for number in range(2, 8):
            last = publish(number)
            releases.prune(tmp_path, 3, NOW)
    finally:
        (tmp_path / "stop").touch()
        told = [reader.communicate(timeout=60) for reader in readers]
    for reader, (out, err) in zip(readers, told, strict=True):
        assert reader.returncode == 0, err
        polls, seen = out.split()
        assert int(polls) > 1
        assert seen <= last
    kept = files.release_ids(tmp_path)
    assert len(kept) == 4, "the one that was read all the time is kept"


@contextmanager
def _disk(folder: Path, megabytes: int) -> Iterator[Path | None]:
    """A disk of so many MB, None if none may be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        yield None
        return
    try:
        yield folder
    finally:
        # A log of the run may still be open in this process.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(folder: Path, free: int = 0) -> Path:
    """A file that leaves so many bytes of a small disk."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        file.write(b"\1" * (shutil.disk_usage(folder).free - free))
        while not free:
            file.write(b"\1" * 4096)
    return ballast


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A disk of 16 MB, None if none may be mounted."""
    with _disk(tmp_path / "disk", 16) as folder:
        yield folder


@pytest.fixture
def others_folder() -> Iterator[Path]:
    """A folder that every user of the machine may reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def _unprivileged(home: Path | None = None, *others: Path) -> Iterator[None]:
    """Run this process with the rights of an ordinary user, because root is never refused anything.

    Args:
        home: A data home to own meanwhile.
        others: Paths in it that belong to somebody else.
    """
    if os.geteuid():
        yield
        return
    for name in ("getpass", "rich.console"):  # Python's own folder may be closed to others
        importlib.import_module(name)
    nobody = 65_534
    for path in [home, *home.rglob("*")] if home else []:
        if not any(path.is_relative_to(other) for other in others):
            os.chown(path, nobody, nobody, follow_symlinks=False)
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)


def _refuse(number: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


class TestDisk:
    """A disk has no room for the release: the old one is served, and the message says what to do."""

    @pytest.fixture
    def made(self, small_disk: Path | None, tmp_path: Path) -> HandMade:
        """A home with one release, and a build with more, on the small disk if there is one."""
        made = HandMade((small_disk or tmp_path) / "home").write()
        made.publish()
        made.charges = [("in_1", "USD", "1.00")]
        return made.write()

    def test_a_full_disk(
        self, made: HandMade, small_disk: Path | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = crashes.contents(made.home)
        with monkeypatch.context() as patch:
            ballast = made.home / "ballast"
            if small_disk is None:
                patch.setattr(publishing, "_write_parquet", _refuse(errno.ENOSPC))
            else:
                ballast = _fill(small_disk, 300_000)
            with pytest.raises(releases.ReleaseError, match="is full") as error:
                made.publish()
            assert "prune" in error.value.remedy
            assert crashes.contents(made.home) == before
            ballast.unlink(missing_ok=True)
        assert made.publish().is_new
        assert crashes.contents(made.home) != before

    def test_a_disk_that_may_not_be_written(
        self, made: HandMade, small_disk: Path | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = crashes.contents(made.home)
        with monkeypatch.context() as patch:
            if small_disk is None:
                patch.setattr(publishing, "_write", _refuse(errno.EROFS))
            else:
                subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
            with pytest.raises(releases.ReleaseError, match="cannot be written") as error:
                made.publish()
            assert "right to write" in error.value.remedy
            assert crashes.contents(made.home) == before
            if small_disk is not None:
                subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
        assert made.publish().is_new

    def test_pruning_frees_a_disk_that_is_full_to_the_last_byte(
        self, made: HandMade, small_disk: Path | None
    ) -> None:
        if small_disk is None:
            pytest.skip("no disk may be mounted here")
        first = files.current_release(made.home)
        second = made.publish().release_id
        history = files.history_path(made.home)
        lacks = -history.stat().st_size % os.statvfs(small_disk).f_frsize
        with history.open("a", encoding="utf-8") as file:  # its last block is full too
            file.write("{}" + " " * (lacks - 3) + "\n")
        _fill(small_disk)
        pruned = releases.prune(made.home, 1, NOW)
        assert pruned.removed == (first,)
        assert files.release_ids(made.home) == [second]
        last = files.read_history(made.home)[-1]
        assert (last["event"], last["release_id"]) == ("pruned", first)

    def test_a_folder_whose_permission_was_lost(self, others_folder: Path) -> None:
        made = HandMade(others_folder / "home").write()
        made.publish()
        made.charges = [("in_1", "USD", "1.00")]
        made.write()
        before = crashes.contents(made.home)
        folder = files.releases_dir(made.home)
        folder.chmod(0o555)
        with (
            _unprivileged(made.home, folder),
            pytest.raises(releases.ReleaseError, match="cannot be written") as error,
        ):
            made.publish()
        assert "right to write" in error.value.remedy
        assert crashes.contents(made.home) == before
        folder.chmod(0o755)
        assert made.publish().is_new

    @pytest.mark.parametrize("command", ["prune", "restore", "close", "reopen"])
    def test_a_home_that_may_not_be_written_changes_by_no_command(
        self, others_folder: Path, command: str
    ) -> None:
        home = others_folder / "home"
        made = HandMade(home).write()
        first = made.publish().release_id
        releases.close(home, date(2026, 3, 1), by="Ada", now=NOW)
        made.charges = [("in_1", "USD", "1.00")]
        second = made.write().publish().release_id
        if command == "close":
            releases.reopen(home, date(2026, 3, 1), by="Ada", now=NOW, reason="to close it again")
        register = releases.register(home)
        arguments = {
            "prune": ("--keep", "1"),
            "restore": (first,),
            "close": ("2026-03", "--by", "Ada"),
            "reopen": ("2026-03", "--by", "Ada", "--reason", "why not"),
        }[command]
        with _unprivileged():
            told = CliRunner().invoke(app, [command, *arguments, "--home", str(home)])
        assert told.exit_code == 1
        assert "cannot be written" in told.stderr and "right to write" in told.stderr
        assert files.current_release(home) == second
        assert files.release_ids(home) == [first, second]
        assert releases.register(home) == register


class TestDiskOfARun:
    """The same for a whole run: one message, no traceback, and the next healthy run recovers."""

    @pytest.fixture
    def home(self, sample_run: SampleRun, tmp_path: Path) -> Iterator[Path]:
        """The sample's data home on a disk of its own, with room for another run."""
        with _disk(tmp_path / "disk", 96) as folder:
            if folder is None:
                pytest.skip("no disk may be mounted here")
            shutil.copytree(sample_run.home, folder / "home", symlinks=True)
            yield folder / "home"

    def test_a_full_disk(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = crashes.contents(home)
        as_of = LAST_DAY + timedelta(days=1)
        for free in (0, 200_000, 3_000_000, 6_000_000):  # in arrival, while dbt builds, at its end
            ballast = _fill(home.parent, free)
            assert not refresh(Settings(home=home), as_of)
            told = capsys.readouterr()
            said = " ".join(told.err.split())
            assert "No space left" in said or "is full" in said
            assert "What to do: Free space (`coupon-ledger prune" in said
            assert "is still current" in said
            assert "Traceback" not in told.err and "Logging error" not in told.err
            assert len(told.err.splitlines()) < 40
            ballast.unlink()
            assert crashes.contents(home) == before
        assert refresh(Settings(home=home), as_of)
        assert crashes.contents(home) != before

    def test_a_disk_that_may_not_be_written(
        self, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = crashes.contents(home)
        subprocess.run(["mount", "-o", "remount,ro", str(home.parent)], check=True)
        assert not refresh(Settings(home=home), LAST_DAY)
        said = " ".join(capsys.readouterr().err.split())
        assert f"{home} cannot be written" in said
        assert "What to do: Give this user the right to write" in said
        assert "More in" not in said, "there is no log to read"
        assert crashes.contents(home) == before
        subprocess.run(["mount", "-o", "remount,rw", str(home.parent)], check=True)
        assert refresh(Settings(home=home), LAST_DAY)


class TestDamagedBuild:
    """The build may be damaged: it is a cache, which the next refresh makes again."""

    @pytest.fixture(scope="class")
    def victims(self, tmp_path_factory: pytest.TempPathFactory) -> crashes.Victims:
        """A home with releases and a landing folder with more."""
        return crashes.Victims(tmp_path_factory.mktemp("victims"))

    def test_a_build_damaged_before_publication_is_not_published(self, hand_made: HandMade) -> None:
        hand_made.publish()
        before = crashes.contents(hand_made.home)
        hand_made.charges = [("in_1", "USD", "1.00")]
        hand_made.write()
        damaged = hand_made.candidate
        content = bytearray(damaged.read_bytes())
        content[12288:] = os.urandom(len(content) - 12288)
        damaged.write_bytes(content)
        with pytest.raises(releases.ReleaseError) as error:
            hand_made.publish()
        assert "rebuilt" in error.value.remedy
        assert crashes.contents(hand_made.home) == before
        hand_made.write().publish()
        with releases.open_release(hand_made.home) as connection:
            total = connection.execute(
                "select sum(list_amount) from marts.fct_discounted_charges"
            ).fetchall()
        assert total == [(Decimal("1.00"),)]

    @pytest.mark.parametrize("what", ["cut", "random", "a stale log", "gone"])
    def test_a_refresh_recovers_by_itself(self, victims: crashes.Victims, what: str) -> None:
        home = victims.copied(f"home-{what}")
        warehouse = home / "build" / "warehouse.duckdb"
        content = warehouse.read_bytes()
        if what == "cut":
            warehouse.write_bytes(content[: len(content) // 2])
        elif what == "random":
            warehouse.write_bytes(os.urandom(len(content)))
        elif what == "a stale log":
            warehouse.with_name(warehouse.name + ".wal").write_bytes(os.urandom(5000))
        else:
            shutil.rmtree(home / "build")
        crashes.refresh(home, victims.landing)
        assert crashes.contents(home) == victims.after


def test_the_kills_can_be_run_at_length() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "tests.crashes", "--help"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--kills" in shown.stdout
