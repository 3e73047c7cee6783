"""What readers on other lines of DuckDB see of a release, opened by the name that tools store.

Each line reads in a process of its own and through DuckDB alone, as a BI tool would: 1.4, which some
drivers still bring, 1.5, which is locked, and 2.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project.releases import files
from tests.fixtures.releases import keep
from tests.pipeline.conftest import DUCKDB_LINES, NOW, HandMade, SampleRun, needs, without_duckdb

CATALOG = {"1.4": "current", "1.5": "coupon_ledger", "2": "coupon_ledger"}
"""The catalog's name by line: 1.4 takes the name of the link, later lines that of the file it leads to."""

READ = """
import json, sys
import duckdb

connection = duckdb.connect(sys.argv[1], read_only=True)
def ask(sql):
    return connection.execute(sql).fetchall()
catalog = ask("select current_catalog()")[0][0]
tables = [name for (name,) in ask(
    "select table_name from duckdb_tables() where schema_name = 'marts' order by all"
)]
print(json.dumps({
    "duckdb": duckdb.__version__,
    "catalog": catalog,
    "release": ask("select release_id from release.release")[0][0],
    "rows": {
        name: ask(f"select count(*) from {catalog}.marts.{name}")[0][0] for name in tables
    },
    "in parquet": {
        name: ask(f"select count(*) from read_parquet('{sys.argv[2]}/{name}.parquet')")[0][0]
        for name in tables
    },
    "sums": [list(map(str, row)) for row in ask(
        "select currency, sum(list_amount), sum(net_amount), max(list_amount)"
        " from marts.fct_discounted_charges group by currency order by currency"
    )],
    "comments": ask(
        "select table_name, column_name, comment from duckdb_columns()"
        " where schema_name = 'marts' order by all"
    ),
}))
"""


def read(line: str, home: Path) -> dict[str, Any]:
    """What a line of DuckDB reads through `current` and from the Parquet copies."""
    release_id = files.current_release(home)
    assert release_id is not None
    done = subprocess.run(
        [sys.executable, "-c", READ, home / "current", files.parquet_dir(home, release_id)],
        env={**os.environ, "PYTHONPATH": str(DUCKDB_LINES.get(line, ""))},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found.pop("duckdb").startswith(f"{line}.")
    return found


@pytest.fixture(params=["1.4", "1.5", "2"])
def line(request: pytest.FixtureRequest) -> str:
    """A line of DuckDB that can be used here."""
    needs(without_duckdb(request.param))
    return str(request.param)


def test_every_line_reads_the_same_release(sample_run: SampleRun, line: str) -> None:
    found, expected = read(line, sample_run.home), read("1.5", sample_run.home)
    del found["catalog"], expected["catalog"]
    assert found == expected
    assert len(found["rows"]) >= 13
    assert found["rows"] == found["in parquet"]
    assert min(len(comment or "") for *_, comment in found["comments"]) > 5


def test_the_catalog_keeps_its_name_from_one_release_to_the_next(home: Path, line: str) -> None:
    made = HandMade(home).write()
    made.publish()
    before = read(line, home)
    made.charges = [("in_1", "USD", "1.00")]
    made.write().publish(NOW + timedelta(days=1))
    after = read(line, home)
    assert before["release"] != after["release"]
    assert before["catalog"] == after["catalog"] == CATALOG[line]


def test_a_release_written_over_one_of_version_0_4_has_the_constant_name(
    tmp_path: Path, line: str
) -> None:
    home = keep.unpack("0.4.0", tmp_path / "home")
    (_, earlier) = files.release_ids(home)
    assert files.release_path(home, earlier).name == f"{earlier}.duckdb"
    HandMade(home).write().publish(NOW + timedelta(days=400))
    assert read(line, home)["catalog"] == CATALOG[line]


def test_a_tool_that_opens_read_write_by_default_is_refused() -> None:
    with tempfile.TemporaryDirectory() as folder:  # unlike pytest's own, open to another user
        home = Path(folder)
        published = HandMade(home).write().publish()
        before = published.path.read_bytes()
        with _a_user_who_owns(home), pytest.raises(duckdb.IOException, match="Permission denied"):
            duckdb.connect(str(home / "current"))
        with (
            _a_user_who_owns(home),
            duckdb.connect(str(home / "current"), read_only=True) as reader,
        ):
            assert reader.execute("select count(*) from marts.dim_coupons").fetchone() == (1,)
        assert published.path.read_bytes() == before


@contextmanager
def _a_user_who_owns(home: Path) -> Iterator[None]:
    """Run this process with the rights of an ordinary user, because root is never refused anything."""
    if os.geteuid():
        yield
        return
    nobody = 65_534
    for path in [home, *home.rglob("*")]:
        os.chown(path, nobody, nobody, follow_symlinks=False)
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)
