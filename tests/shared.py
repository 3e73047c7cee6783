"""What takes long to make, made once for all workers of a test run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

__all__ = ["Shared", "compiled_folder", "shared"]


@dataclass(frozen=True)
class Shared:
    """Folders that every worker of this run sees.

    Attributes:
        root: Where the folders are; pytest removes it with its own.
    """

    root: Path

    def made(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return a folder that the first worker to ask has filled; the others wait, then read it.

        Args:
            name: Name of the folder.
            make: Fills an empty folder; no test changes its content.
        """
        folder = self.root / "shared" / name
        folder.parent.mkdir(exist_ok=True)
        finished = folder.with_name(f"{name}.finished")
        with FileLock(folder.with_name(f"{name}.lock")):
            if not finished.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                finished.touch()
        return folder


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """What the workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return Shared(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture(scope="session")
def compiled_folder(shared: Shared) -> Path:
    """Where the parsed and compiled project is stored, for `tests.dbt.compiled`."""
    return shared.made("compiled", lambda _: None)
