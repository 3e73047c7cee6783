"""What the tests of sources share: a Postgres that is started once, and settings of a data home."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dagster_project.settings import Settings
from tests.pipeline.conftest import needs
from tests.sources import postgres_server


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", landing=tmp_path / "landing")


@pytest.fixture(scope="session")
def postgres() -> Iterator[dict[str, str]]:
    needs(postgres_server.missing())
    folder = Path(tempfile.mkdtemp(prefix="coupon-ledger-postgres-"))
    folder.chmod(0o755)
    try:
        with postgres_server.running(folder) as variables:
            yield variables
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def replica(postgres: dict[str, str]) -> Iterator[str]:
    """The port of a replica of the Postgres as it is now."""
    folder = Path(tempfile.mkdtemp(prefix="coupon-ledger-replica-"))
    folder.chmod(0o755)
    try:
        with postgres_server.replica_of(postgres["PGPORT"], folder) as port:
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(
    postgres: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], None]]:
    """A database of its own, named by the environment; runs statements in it."""
    import psycopg

    for name, value in postgres.items():
        monkeypatch.setenv(name, value)
    name = f"db_{abs(hash(request.node.nodeid)) % 10**12}"
    with psycopg.connect(autocommit=True) as connection:
        connection.execute(f"create database {name}")
    monkeypatch.setenv("PGDATABASE", name)

    def run(statements: str) -> None:
        with psycopg.connect(autocommit=True) as connection:
            connection.execute(statements)

    yield run
    with psycopg.connect(autocommit=True, dbname="postgres") as connection:
        connection.execute(f"drop database {name} with (force)")
