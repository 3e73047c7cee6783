"""The folders of a data home: who may read them, whatever the umask and whatever existed before."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_project.home import make_private, writing


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """The umask of the process."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_new_data_home_is_for_its_owner_and_a_group_of_readers(
    umask: int, tmp_path: Path
) -> None:
    home = tmp_path / "above" / "home"
    with writing(home) as closed:
        (home / "build" / "tmp").mkdir(parents=True)
        (home / "build" / "tmp" / "spilled").touch()
    assert closed == []
    for path in (home.parent, home, home / "releases"):
        assert mode(path) == "0o750"
    for path in (home / "build", home / "build" / "tmp"):
        assert mode(path) == "0o700"
    assert mode(home / "build" / "tmp" / "spilled") == "0o600"
    assert os.umask(umask) == umask, "what is written later is written as before"


def test_a_private_folder_made_on_its_own_is_no_obstacle_to_readers(
    umask: int, tmp_path: Path
) -> None:
    make_private(tmp_path / "home" / "logs")
    assert mode(tmp_path / "home") == "0o750"
    assert mode(tmp_path / "home" / "logs") == "0o700"


def test_private_folders_of_an_earlier_version_are_closed_and_named(tmp_path: Path) -> None:
    for name in ("archive", "build", "logs", "releases"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o755)
    (tmp_path / "build").chmod(0o700)
    tmp_path.chmod(0o755)
    with writing(tmp_path) as closed:
        assert closed == ["archive", "logs"]
    assert [mode(tmp_path / name) for name in ("archive", "build", "logs")] == ["0o700"] * 3
    # The data home and its releases stay as open as a person made them.
    assert mode(tmp_path) == mode(tmp_path / "releases") == "0o755"
    with writing(tmp_path) as closed:
        assert closed == []


def test_a_data_home_that_was_closed_by_hand_is_not_opened(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(0o700)
    (home / "releases").mkdir(0o700)
    with writing(home):
        pass
    assert mode(home) == mode(home / "releases") == "0o700"
