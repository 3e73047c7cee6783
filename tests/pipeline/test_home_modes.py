"""Who may read what a run writes: DuckDB, dbt, Dagster and the Parquet worker under any umask."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
import pytest

from dagster_project.sample import generate_sample
from tests.pipeline.conftest import in_process


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sample with one file as Parquet."""
    folder = tmp_path_factory.mktemp("sample")
    generate_sample(6, 6, 1, folder)
    (path, *_) = sorted((folder / "landing" / "coupons").glob("*.csv"))
    text = pyarrow.csv.ConvertOptions(strings_can_be_null=True)
    table = pyarrow.csv.read_csv(path, convert_options=text)
    columns = [column.cast("string") for column in table.columns]
    pyarrow.parquet.write_table(
        pyarrow.table(dict(zip(table.column_names, columns, strict=True))),
        path.with_suffix(".parquet"),
    )
    path.unlink()
    return folder / "landing"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=oct)
def test_a_run_leaves_nothing_open_to_others_and_the_release_open_to_its_group(
    landing: Path, tmp_path: Path, umask: int
) -> None:
    home = tmp_path / "above" / "home"
    was = os.umask(umask)
    try:
        run = in_process("run", "--as-of", "2026-01-31", "--home", home, "--landing", landing)
    finally:
        os.umask(was)
    assert run.returncode == 0, run.stderr
    private = [home / name for name in ("archive", "build", "logs", "alerts")]
    inside = [path for folder in private for path in (folder, *folder.rglob("*"))]
    assert any(path.suffix == ".duckdb" for path in inside), "DuckDB's own file"
    assert any(path.suffix == ".sql" for path in inside), "dbt's own file"
    assert [path for path in inside if mode(path) & 0o077] == []
    open_to_group = [home, home / "releases", *(home / "releases").rglob("*")]
    for path in open_to_group:
        assert mode(path) & 0o007 == 0, path
        assert mode(path) & 0o050 == (0o050 if path.is_dir() else 0o040), path
