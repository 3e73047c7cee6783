"""The wheel runs without the checkout: it brings the dbt project and the sample, and writes only into data homes."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from dagster_project.settings import CHECKOUT


@dataclass(frozen=True)
class Installed:
    """The wheel in an environment of its own, the package read-only.

    Attributes:
        wheel: The wheel.
        environment: The folder of the environment.
        user: The folder used as the user's home folder.
    """

    wheel: Path
    environment: Path
    user: Path

    def call(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the installed program, as a user without settings."""
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return subprocess.run(
            [self.environment / "bin" / "coupon-ledger", *arguments],
            cwd=self.user,
            env={**inherited, "HOME": str(self.user), "PYTHONIOENCODING": "utf-8", **settings},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=300,
        )

    @property
    def packages(self) -> Path:
        """Where the environment has its packages."""
        (found,) = (self.environment / "lib").glob("python*/site-packages")
        return found

    def content(self) -> dict[str, tuple[int, int]]:
        """Size and time of change of everything in the environment's packages."""
        return {
            path.relative_to(self.packages).as_posix(): (status.st_size, status.st_mtime_ns)
            for path in self.packages.rglob("*")
            for status in [path.lstat()]
        }


def pip(*arguments: str | Path) -> None:
    """Run pip of this environment, without a network."""
    command: Sequence[str | Path] = [sys.executable, "-m", "pip", *arguments]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    done = subprocess.run([*command, *quiet], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The wheel, built without a network and installed where the checkout is not on the path."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, CHECKOUT)
    (wheel,) = folder.glob("coupon_ledger-*.whl")
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip("--python", environment / "bin" / "python", "install", wheel)
    (folder / "user").mkdir()
    made = Installed(wheel, environment, folder / "user")
    # The libraries are those of the lock, which this environment has; a path file in a folder that is
    # itself named by one is not read, so the checkout stays out.
    (made.packages / "locked.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    folders = [path for path in made.packages.rglob("*") if path.is_dir()]
    for path in (made.packages, *folders):
        path.chmod(0o555)
    yield made
    for path in (made.packages, *folders):
        path.chmod(0o755)


def test_the_wheel_holds_what_git_knows_of_the_product(installed: Installed) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "dagster_project", "expectations", "dbt", "data/sample"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    inside = "dagster_project/_project"
    expected = {
        name.replace("data/sample/", f"{inside}/sample/").replace("dbt/", f"{inside}/dbt/", 1)
        if name.startswith(("dbt/", "data/"))
        else name
        for name in listed
        if (CHECKOUT / name).exists()
    }
    names = zipfile.ZipFile(installed.wheel).namelist()
    found = {name for name in names if ".dist-info/" not in name}
    assert found >= expected
    left_over = ("/target/", "/logs/", "/home/", "__pycache__", ".pyc", ".duckdb")
    assert not [name for name in found if any(part in name for part in left_over)]


def test_it_refreshes_the_sample_and_answers_and_writes_only_into_the_data_home(
    installed: Installed,
) -> None:
    before = installed.content()
    run = installed.call("run")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "as of 2025-12-31" in run.stdout
    home = installed.user / ".local" / "share" / "coupon-ledger"
    assert (home / "current").is_symlink()
    charge = installed.call("explain", "in_00001_005")
    assert charge.returncode == 0, charge.stdout + charge.stderr
    assert "in_00001_005" in charge.stdout
    counted = installed.call(
        "query", "select count(*) as n from marts.fct_discounted_charges", "--csv"
    )
    assert counted.returncode == 0, counted.stderr
    assert int(counted.stdout.splitlines()[1]) > 4_000
    assert installed.content() == before
    assert [path.name for path in installed.user.iterdir()] == [".local"]


def test_no_module_comes_from_the_checkout(installed: Installed) -> None:
    code = (
        "import dagster_project, expectations, sys; from dagster_project import product;"
        " print(dagster_project.__file__, expectations.__file__, product.DBT_PROJECT, *sys.path)"
    )
    python = installed.environment / "bin" / "python"
    told = subprocess.run(
        [python, "-c", code], cwd=installed.user, capture_output=True, text=True, check=True
    ).stdout.split()
    assert all(Path(one).is_relative_to(installed.packages) for one in told[:3]), told
    assert str(CHECKOUT) not in told[3:]


def test_the_data_home_follows_the_users_folder_for_data(installed: Installed) -> None:
    elsewhere = installed.user / ".local" / "elsewhere"
    missing = installed.call("releases", XDG_DATA_HOME=str(elsewhere))
    assert missing.returncode == 2
    assert str(elsewhere / "coupon-ledger") in missing.stderr
