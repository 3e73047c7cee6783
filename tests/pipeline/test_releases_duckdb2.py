"""A release is the same for readers on DuckDB 1.5 and 2.0, whichever of the two wrote it.

The line that is locked runs the tests; the next one is installed in `.venv/duckdb-2` (`make
install-test`) and is used by processes of their own.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project import releases
from dagster_project.quoting import literal, quote
from dagster_project.releases import files
from dagster_project.releases.fingerprint import content_of
from dagster_project.settings import CHECKOUT
from tests.pipeline.conftest import (
    NOW,
    HandMade,
    SampleRun,
    coupon_ledger,
    in_process,
    needs,
    reading_commands,
    with_duckdb_2,
    without_duckdb,
)


@pytest.fixture(scope="module")
def next_line() -> dict[str, str]:
    """The environment in which Python finds DuckDB's next line."""
    needs(without_duckdb("2"))
    return with_duckdb_2()


def run(next_line: dict[str, str], script: str, *arguments: str | Path) -> Any:
    """Run a script with DuckDB's next line and return what it prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, **next_line},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def read_all(home: Path) -> dict[str, Any]:
    """Version of DuckDB, and count, fingerprint and columns of all that a release holds.

    Each table is read from the file through `current` and, if it is a mart, from the Parquet copy.
    """
    release_id = files.current_release(home)
    assert release_id is not None
    found: dict[str, Any] = {"duckdb": duckdb.__version__}
    with duckdb.connect(str(home / "current"), read_only=True) as connection:
        tables = connection.execute(
            "select schema_name, table_name from duckdb_tables() where not internal order by all"
        ).fetchall()
        relations = {
            f"{schema}.{table}": f"{quote(schema)}.{quote(table)}" for schema, table in tables
        }
        for file in sorted(files.parquet_dir(home, release_id).glob("*.parquet")):
            relations[file.name] = f"read_parquet({literal(str(file))})"
        for name, relation in relations.items():
            content = content_of(connection, relation)
            columns = [[column.name, column.type] for column in content.columns]
            found[name] = [content.rows, content.fingerprint, columns]
    return found


READ_ALL = """
import json, sys
from pathlib import Path
from tests.pipeline.test_releases_duckdb2 import read_all
print(json.dumps(read_all(Path(sys.argv[1]))))
"""

ANSWER = """
import json, sys
from tests.pipeline.conftest import in_process
answers = [in_process(*command) for command in json.loads(sys.argv[1])]
print(json.dumps([[one.returncode, one.stderr, one.stdout] for one in answers]))
"""

PUBLISH = """
import json, sys
from datetime import timedelta
from pathlib import Path
import duckdb
from dagster_project import releases
from tests.pipeline.conftest import NOW, HandMade
home = Path(sys.argv[1])
made = HandMade(home).write()
first = made.publish()
recognised = made.publish(NOW + timedelta(hours=1))
print(json.dumps({
    "duckdb": duckdb.__version__,
    "new": [first.is_new, recognised.is_new],
    "problems": releases.verify(home).problems,
}))
"""


class TestReading:
    """The sample's release, written by the line that is locked."""

    def test_every_table_has_the_same_content_on_both(
        self, sample_run: SampleRun, next_line: dict[str, str]
    ) -> None:
        here, there = read_all(sample_run.home), run(next_line, READ_ALL, sample_run.home)
        assert here.pop("duckdb").startswith("1.5.")
        assert there.pop("duckdb").startswith("2.")
        assert len([name for name in here if name.startswith("marts.")]) >= 13
        assert len([name for name in here if name.endswith(".parquet")]) >= 13
        assert there == here

    def test_commands_answer_the_same_on_both(
        self, sample_run: SampleRun, next_line: dict[str, str]
    ) -> None:
        with releases.open_release(sample_run.home) as connection:
            found = connection.execute(
                "select max(invoice_id) from marts.fct_discount_applications"
            ).fetchone()
        assert found is not None
        commands = [
            [*command, "--home", str(sample_run.home)]
            for command in [*reading_commands("export", "prove", "diff"), ("explain", found[0])]
        ]
        for command, there in zip(
            commands, run(next_line, ANSWER, json.dumps(commands)), strict=True
        ):
            assert there == [0, "", in_process(*command).stdout], command

    def test_export_and_diff_on_both(
        self, home: Path, tmp_path: Path, next_line: dict[str, str]
    ) -> None:
        made = HandMade(home).write()
        made.publish()
        made.charges = [("in_1", "USD", "1.00")]
        made.write().publish(NOW + timedelta(days=1))
        outs = (tmp_path / "here", tmp_path / "there")
        for out, environment in zip(outs, ({}, next_line), strict=True):
            done = coupon_ledger(
                "export", "--home", home, "--out", out, "--format", "csv", **environment
            )
            assert done.returncode == 0, done.stderr
        names = sorted(path.name for path in outs[0].iterdir())
        assert "fct_discounted_charges.csv" in names
        assert [(outs[1] / name).read_bytes() for name in names] == [
            (outs[0] / name).read_bytes() for name in names
        ]
        compared = ("diff", *files.release_ids(home), "--home", str(home))
        here, there = in_process(*compared), coupon_ledger(*compared, **next_line)
        assert "120.00  1.00  -119.00" in here.stdout
        assert there.stdout == here.stdout


class TestWriting:
    """A release written by the next line is read by the one that is locked."""

    def test_it_is_the_same_release(self, tmp_path: Path, next_line: dict[str, str]) -> None:
        here, there = tmp_path / "here", tmp_path / "there"
        HandMade(here).write().publish()
        told = run(next_line, PUBLISH, there)
        assert told["duckdb"].startswith("2.")
        assert (told["new"], told["problems"]) == ([True, False], [])
        assert releases.verify(there).problems == ()
        assert files.current_release(there) == files.current_release(here)
        found, expected = read_all(there), read_all(here)
        for of_the_writer in ("release.release",):
            del found[of_the_writer], expected[of_the_writer]
        assert found == expected

    def test_a_release_of_each_line_is_compared_and_pruned_by_the_other(
        self, tmp_path: Path, next_line: dict[str, str]
    ) -> None:
        run(next_line, PUBLISH, tmp_path)
        made = HandMade(tmp_path, [("in_1", "USD", "1.00")]).write()
        made.publish(NOW + timedelta(days=1))
        first, second = files.release_ids(tmp_path)
        (charges,) = releases.diff(tmp_path, first, second, "fct_discounted_charges")
        assert (charges.added, charges.gone, charges.changed) == (0, 1, 1)
        assert releases.restore(tmp_path, first, NOW) == first


def test_the_line_that_is_locked_is_1_5() -> None:
    assert importlib.metadata.version("duckdb").startswith("1.5.")
