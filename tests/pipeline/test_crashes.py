"""Killed, starved and polled: what is served stays whole, and the next healthy run recovers.

Bounded here; `python -m tests.crashes --kills 200` runs the kills at length.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from dagster_project import releases
from dagster_project.releases import layout, publishing
from dagster_project.settings import CHECKOUT
from tests import crashes
from tests.pipeline.conftest import NOW, HandMade, SampleRun, coupon_ledger

KILLS = 40
SEED = 20260401


class TestKilled:
    """SIGKILL at a random point loses nothing, and a rerun gives what an undisturbed run gives."""

    def test_a_refresh_killed_in_any_step(self, tmp_path: Path) -> None:
        hit = crashes.kill_many(tmp_path, KILLS, SEED)
        assert hit.total() == KILLS
        assert set(hit) == set(crashes.STEPS)

    def test_the_real_run_killed_again_and_again(
        self, sample_run: SampleRun, tmp_path: Path
    ) -> None:
        chance = random.Random(SEED)
        home = tmp_path / "home"
        served = HandMade(home).write().publish().release_id
        shutil.rmtree(home / "build")
        killed = 0
        for step, longest in (
            ("arrival", 2.0),
            ("arrival", 4.0),
            ("dbt_build", 2.0),
            ("dbt_build", 5.0),
            ("release", 0.4),
            ("release", 0.8),
        ):
            killed += crashes.kill_run(home, step, chance.uniform(0, longest))
            crashes.contents(home)
            now_served = layout.current_release(home)
            assert now_served is not None and now_served >= served
            served = now_served
        assert killed >= 4
        rerun = coupon_ledger("run", "--home", home)
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
        for number in range(2, 12):
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
    kept = layout.release_ids(tmp_path)
    assert len(kept) == 4, "the one that was read all the time is kept"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A disk of 16 MB, None where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
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
        subprocess.run(["umount", str(folder)], check=True)


def _refuse(number: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


class TestDisk:
    """A disk that does not take the release: the old one is served, and it is said what to do."""

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
                free = shutil.disk_usage(small_disk).free
                ballast.write_bytes(b"\1" * (free - 300_000))
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

    def test_a_folder_whose_permission_was_lost(
        self, made: HandMade, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = crashes.contents(made.home)
        folder = layout.releases_dir(made.home)
        with monkeypatch.context() as patch:
            if os.geteuid() == 0:  # root may write anywhere
                patch.setattr(publishing, "_write", _refuse(errno.EACCES))
            folder.chmod(0o500)
            with pytest.raises(releases.ReleaseError, match="cannot be written"):
                made.publish()
            assert crashes.contents(made.home) == before
            folder.chmod(0o700)
        assert made.publish().is_new


class TestDamagedBuild:
    """What the writer works in may be damaged: it is a cache, the next refresh makes it again."""

    @pytest.fixture(scope="class")
    def victims(self, tmp_path_factory: pytest.TempPathFactory) -> crashes.Victims:
        """A home with releases and a landing folder with more."""
        return crashes.Victims(tmp_path_factory.mktemp("victims"))

    def test_a_build_damaged_before_publication_is_not_published(self, hand_made: HandMade) -> None:
        hand_made.publish()
        before = crashes.contents(hand_made.home)
        hand_made.charges = [("in_1", "USD", "1.00")]
        hand_made.write()
        warehouse = hand_made.home / "build" / "warehouse.duckdb"
        content = bytearray(warehouse.read_bytes())
        content[12288:] = os.urandom(len(content) - 12288)
        warehouse.write_bytes(content)
        with pytest.raises(releases.ReleaseError) as error:
            hand_made.publish()
        assert "made anew" in error.value.remedy
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
