"""New deliveries are noticed by their content, once they have stopped growing, and nothing else is."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dagster_project.arrival import arrive
from dagster_project.arrival.landing import unreadable
from dagster_project.arrival.noticing import TRIED_AGAIN_SECONDS, Memory, Noticed, notice

HEADER = "workspace_id,created_at,updated_at\n"
ROW = "ws_1,2026-01-01,2026-01-01\n"
SETTLE = 60
TAKEN = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    (tmp_path / "landing" / "workspaces").mkdir(parents=True)
    return tmp_path / "landing"


class Watcher:
    """Looks again and again, with a clock of its own, and remembers through text as a sensor does."""

    def __init__(self, landing: Path, home: Path) -> None:
        self.landing, self.home = landing, home
        self.now, self.remembered = 1_000_000.0, ""

    def look(self, after: float = 0, settle: int = SETTLE) -> Noticed:
        self.now += after
        memory = Memory.parse(self.remembered)
        found = notice(self.landing, self.home, settle, self.now, memory)
        self.remembered = str(found.memory)
        return found

    def take(self) -> None:
        """Do what a run does."""
        arrive(self.landing, self.home, "run", TAKEN, with_gate=False)


@pytest.fixture
def watcher(landing: Path, home: Path) -> Watcher:
    return Watcher(landing, home)


def deliver(landing: Path, name: str = "workspaces/a.csv", text: str = HEADER + ROW) -> Path:
    path = landing / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_nothing_is_new_in_an_empty_or_absent_folder(watcher: Watcher, landing: Path) -> None:
    assert watcher.look().new == ()
    shutil.rmtree(landing)
    assert watcher.look().new == ()


def test_a_file_waits_until_it_was_seen_unchanged_for_long_enough(
    watcher: Watcher, landing: Path
) -> None:
    deliver(landing)
    first = watcher.look()
    assert first.new == first.waiting == ("workspaces/a.csv",)
    assert watcher.look(after=SETTLE - 1).waiting
    assert not watcher.look(after=1).waiting


def test_a_file_that_grows_waits_again_and_so_do_those_beside_it(
    watcher: Watcher, landing: Path
) -> None:
    deliver(landing)
    watcher.look()
    deliver(landing, "workspaces/b.csv", HEADER)
    watcher.look(after=SETTLE)
    deliver(landing, "workspaces/b.csv", HEADER + ROW)
    assert watcher.look(after=SETTLE).waiting == ("workspaces/b.csv",)
    assert watcher.look(after=SETTLE).waiting == ()


@pytest.mark.parametrize("years", [-30, 30])
def test_times_of_another_clock_neither_hurry_nor_hold_a_file(
    watcher: Watcher, landing: Path, years: int
) -> None:
    path = deliver(landing)
    elsewhere = datetime.now(UTC).timestamp() + years * 365 * 86_400
    os.utime(path, (elsewhere, elsewhere))
    assert watcher.look().waiting
    assert not watcher.look(after=SETTLE).waiting


def test_part_files_and_manifests_are_not_deliveries(watcher: Watcher, landing: Path) -> None:
    deliver(landing, "workspaces/a.csv.part")
    deliver(landing, "workspaces/.hidden.csv")
    deliver(landing, "workspaces/a.csv.manifest.json", "{}")
    assert watcher.look(settle=0).new == ()


def test_what_a_run_took_is_not_new_whoever_started_it(watcher: Watcher, landing: Path) -> None:
    deliver(landing)
    assert watcher.look(settle=0).new
    watcher.take()
    assert watcher.look(settle=0).new == ()
    assert Memory.parse(watcher.remembered).settled


def test_the_same_content_is_not_new_under_other_times_or_another_name(
    watcher: Watcher, landing: Path
) -> None:
    path = deliver(landing)
    watcher.take()
    os.utime(path, (1, 1))
    deliver(landing, "workspaces/copy.csv")
    assert watcher.look(settle=0).new == ()


def test_the_same_bytes_for_another_feed_are_new(watcher: Watcher, landing: Path) -> None:
    deliver(landing)
    watcher.take()
    deliver(landing, "coupons/a.csv")
    assert watcher.look(settle=0).new == ("coupons/a.csv",)


def test_other_content_of_the_same_name_and_size_is_new(watcher: Watcher, landing: Path) -> None:
    deliver(landing)
    watcher.take()
    deliver(landing, text=HEADER + ROW.replace("ws_1", "ws_2"))
    assert watcher.look(settle=0).new == ("workspaces/a.csv",)


def test_a_refused_file_is_new_again_beside_another_manifest(
    watcher: Watcher, landing: Path
) -> None:
    deliver(landing)
    manifest = deliver(landing, "workspaces/a.csv.manifest.json", '{"rows": 2}')
    watcher.take()
    assert watcher.look(settle=0).new == ()
    manifest.write_text('{"rows": 1}', "utf-8")
    assert watcher.look(settle=0).new == ("workspaces/a.csv",)


def test_a_file_that_cannot_be_read_is_taken_once(watcher: Watcher, landing: Path) -> None:
    (landing / "workspaces" / "away.csv").symlink_to("/etc/hostname")
    assert watcher.look(settle=0).new == ("workspaces/away.csv",)
    watcher.take()
    assert watcher.look(settle=0).new == ()


@pytest.mark.parametrize(
    ("code", "seconds", "is_new"),
    [
        (errno.EIO, TRIED_AGAIN_SECONDS - 1, False),
        (errno.EIO, TRIED_AGAIN_SECONDS, True),
        (errno.EACCES, TRIED_AGAIN_SECONDS, False),
    ],
)
def test_a_file_that_a_disk_withheld_is_new_again_after_a_while(
    watcher: Watcher,
    landing: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    seconds: float,
    is_new: bool,
) -> None:
    path = deliver(landing)
    opened = os.open

    def withheld(name: str, *arguments: Any, **options: Any) -> int:
        if str(name) == str(path):
            raise OSError(code, os.strerror(code))
        return opened(name, *arguments, **options)

    watcher.now = TAKEN.timestamp()
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", withheld)
        watcher.take()
        assert watcher.look(settle=0).new == ()
        later = watcher.look(after=seconds, settle=0)
    assert later.new == (("workspaces/a.csv",) if is_new else ())
    watcher.take()
    assert watcher.look(settle=0).new == ()
    assert Memory.parse(watcher.remembered).settled


def test_a_file_is_new_once_it_may_be_read(watcher: Watcher, landing: Path) -> None:
    path = deliver(landing)
    refused = unreadable(PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("dagster_project.arrival.archive._open_landed", raising(refused))
        patched.setattr("dagster_project.arrival.noticing.sha256_of_landed", raising(refused))
        watcher.take()
        assert watcher.look(settle=0).new == ()
    path.chmod(0o600)
    assert watcher.look(settle=0).new == ("workspaces/a.csv",)


def raising(error: Exception) -> Callable[..., Any]:
    """A function that raises an error, whatever its arguments."""

    def function(*_: Any) -> Any:
        raise error

    return function


def test_the_state_distinguishes_sets_of_new_files(watcher: Watcher, landing: Path) -> None:
    deliver(landing)
    state = watcher.look(settle=0).state
    assert watcher.look(after=SETTLE, settle=0).state == state
    deliver(landing, "workspaces/b.csv", HEADER)
    assert watcher.look(settle=0).state != state


@pytest.mark.parametrize("text", ["", "never seen", "[]", '{"growing": {"a": 1}}'])
def test_a_memory_that_cannot_be_understood_starts_again_empty(text: str) -> None:
    assert Memory.parse(text) == Memory(growing={}) or Memory.parse(text) == Memory()
