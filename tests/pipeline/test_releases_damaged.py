"""A damaged release: every command that reads says so, and what to do, and none shows wrong numbers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dagster_project.cli import app
from dagster_project.releases import files
from tests.pipeline.conftest import SampleRun

COMMANDS = (
    ("workspace", "ws_00014"),
    ("explain", "in_00014_022"),
    ("burndown",),
    ("variance",),
    ("findings",),
    ("expiring",),
    ("programs",),
    ("deliveries",),
    ("rejected",),
    ("query", "select sum(net_amount) from fct_discounted_charges"),
    ("query", "selec 1"),
    ("query",),
    ("query", "--describe", "dim_coupons"),
    ("export", "--out", "OUT"),
    ("export", "--out", "OUT", "--format", "csv"),
    ("export", "--out", "OUT", "--format", "parquet"),
    ("export", "--out", "OUT", "--sql", "from dim_coupons"),
    ("verify",),
    ("diff", "ID", "ID"),
    ("close", "2025-06", "--by", "Ada"),
    ("restore", "ID"),
)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _headless(path: Path) -> None:
    path.write_bytes(b"\0" * 4096 * 3 + path.read_bytes()[4096 * 3 :])


def _no_database(path: Path) -> None:
    path.write_bytes(b"no database")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _rotten(path: Path) -> None:
    """Change a byte in every block except the headers."""
    content = bytearray(path.read_bytes())
    for place in range(4096 * 3 + 500, len(content), 4096):
        content[place] ^= 0xFF
    path.write_bytes(content)


@pytest.fixture
def home(sample_run: SampleRun, tmp_path: Path) -> Path:
    """A home with the sample's release alone."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copytree(sample_run.home / "releases", home / "releases")
    release_id = files.current_release(sample_run.home)
    assert release_id is not None
    files.flip(home, release_id)
    files.release_path(home, release_id).chmod(0o600)
    return home


@pytest.mark.parametrize("damage", [_cut, _headless, _no_database, _empty, _rotten])
def test_every_command_says_that_it_is_damaged_and_what_to_do(
    home: Path, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    release_id = files.current_release(home)
    assert release_id is not None
    damage(files.release_path(home, release_id))
    out = tmp_path / "out"
    for command, *arguments in COMMANDS:
        given = {"OUT": str(out), "ID": release_id}
        asked = [command, *(given.get(one, one) for one in arguments), "--home", str(home)]
        told = CliRunner().invoke(app, asked)
        assert told.exit_code == 1, (asked, told.output)
        assert "coupon-ledger restore ID" in " ".join(told.output.split()), asked
        assert "Traceback" not in told.output
    assert not [path for path in out.rglob("*") if path.is_file()], "a file of a damaged release"


def test_the_list_says_which_is_damaged(home: Path) -> None:
    release_id = files.current_release(home)
    assert release_id is not None
    _no_database(files.release_path(home, release_id))
    told = CliRunner().invoke(app, ["releases", "--home", str(home)])
    assert f"* {release_id}  DAMAGED" in told.stdout
    assert told.exit_code == 1
    assert "coupon-ledger restore ID" in told.stderr
