"""Questions in SQL: what can be asked, what form the answer has, and what stops a question."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import openpyxl
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner, Result

from dagster_project.cli import app
from dagster_project.settings import CHECKOUT
from tests.pipeline.conftest import HandMade

CHARGES = [(f"in_{number:02}", "USD", f"{number}.00") for number in range(1, 13)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a release of a dozen charges, which no test changes."""
    made = HandMade(tmp_path_factory.mktemp("query"), [*CHARGES, ("=in", "EUR", "5.00")])
    made.write().publish()
    return made.home


def ask(home: Path, *arguments: str | Path, text: str = "", **environment: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(
        app, ["query", "--home", str(home), *map(str, arguments)], input=text, env=environment
    )


class TestQuestions:
    """Tables need no schema, and a question may come from anywhere."""

    @pytest.mark.parametrize(
        "sql",
        [
            "select count(*) as n from fct_discounted_charges",
            "select count(*) as n from marts.fct_discounted_charges;",
            "from (select count(*) as n from fct_discounted_charges) -- all of them",
        ],
    )
    def test_a_mart_is_found_with_and_without_its_schema(self, home: Path, sql: str) -> None:
        assert ask(home, sql, "--csv").stdout == "n\n13\n"

    def test_the_pedigree_is_found_too(self, home: Path) -> None:
        assert ask(home, "select count(*) as n from deliveries", "--csv").stdout == "n\n1\n"

    def test_show_tables_shows_the_marts(self, home: Path) -> None:
        assert "fct_discounted_charges" in ask(home, "show tables").stdout.splitlines()

    @pytest.mark.parametrize("strictness", ["strict", "surrogateescape"])
    def test_a_question_that_is_not_utf8_is_refused(self, home: Path, strictness: str) -> None:
        found = subprocess.run(
            [sys.executable, "-m", "dagster_project.cli", "query", "--home", home],
            input="select 'caf\xe9'".encode("latin-1"),
            env={**os.environ, "PYTHONIOENCODING": f"utf-8:{strictness}"},
            cwd=CHECKOUT,
            capture_output=True,
            check=False,
        )
        assert found.returncode == 2
        assert b"is not UTF-8" in found.stderr
        assert b"Traceback" not in found.stderr

    def test_closed_standard_input_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from dagster_project.cli.query import _question

        monkeypatch.setattr(sys, "stdin", None)
        with pytest.raises(typer.Exit) as ended:
            _question("-", None)
        assert ended.value.exit_code == 2
        assert _question(None, None) is None

    def test_it_is_read_from_a_file_and_from_standard_input(
        self, home: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "question.sql"
        file.write_text("select 'ä' as a;\n", "utf-8")
        told = [
            ask(home, "-f", file, "--csv"),
            ask(home, "-f", "-", "--csv", text="select 'ä' as a"),
            ask(home, "-", "--csv", text="select 'ä' as a"),
            ask(home, "--csv", text="select 'ä' as a"),
        ]
        assert [one.stdout for one in told] == ["a\nä\n"] * 4

    def test_a_pipe_that_says_nothing_is_no_question(self, home: Path) -> None:
        with subprocess.Popen(
            [sys.executable, "-m", "dagster_project.cli", "query", "--home", str(home)],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "Tables\n"

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (("-f", "/nowhere/q.sql"), "cannot be read (No such file or directory)"),
            (("select 1", "-f", "q.sql"), "Give a question or --file, not both."),
            (("select 1", "--describe", "dim_coupons"), "--describe or a question, not both"),
            (("--out", "x.csv"), "Give a question: --out writes its answer."),
            (("select 1", "--out", "x.txt"), "name a file that ends in .csv, .xlsx, .parquet"),
            (("select 1", "--out", "/nowhere/x.csv"), "cannot be written (No such file or"),
            (("select 1", "--raw"), "--raw goes with CSV"),
            (("select 1; select 2",), "this contains 2 statements"),
            (("",), "this contains none"),
        ],
    )
    def test_what_makes_no_sense_is_said(
        self, home: Path, arguments: tuple[str, ...], told: str
    ) -> None:
        answer = ask(home, *arguments)
        assert answer.exit_code == 2
        assert told in answer.stderr


class TestWhatThereIs:
    """Without a question: the tables; with --describe: one of them."""

    def test_the_tables_with_their_rows_and_what_a_row_is(self, home: Path) -> None:
        told = ask(home).stdout
        assert "    fct_discounted_charges            13\n      One row per counted" in told
        listed = json.loads(ask(home, "--json").stdout)["tables"]
        rows = {(one["schema_name"], one["table_name"]): one["row_count"] for one in listed}
        assert rows["marts", "fct_discounted_charges"] == 13
        assert rows["release", "deliveries"] == 1
        assert all(one["description"] for one in listed)

    @pytest.mark.parametrize("name", ["fct_discounted_charges", "marts.fct_discounted_charges"])
    def test_a_table_with_its_columns(self, home: Path, name: str) -> None:
        told = " ".join(ask(home, "--describe", name).stdout.split())
        assert "One row per counted invoice's charge. 13 rows; key: invoice_id" in told
        assert "list_amount decimal(18,2) It's the price. Per currency:" in told
        columns = json.loads(ask(home, "--describe", name, "--json").stdout)["columns"]
        assert columns[0]["column_name"] == "invoice_id"

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (("--describe", "dim_coupon"), "There is no table 'dim_coupon'. Did you mean dim_c"),
            (("from fct_discount_charges",), "Did you mean fct_discounted_charges?"),
            (("from delivery",), "Did you mean release.delivery_checks or release.deliveries?"),
            (("from nothing_like_it",), "Use one of: dim_coupons, fct_discounted_charges,"),
            (
                ("select list_amout from fct_discounted_charges",),
                "Did you mean list_amount (fct_discounted_charges)",
            ),
            (
                ("select c.list_amount from dim_coupons as c",),
                "Did you mean list_amount (fct_discounted_charges)",
            ),
        ],
    )
    def test_what_comes_near_a_name_that_does_not_exist(
        self, home: Path, arguments: tuple[str, ...], told: str
    ) -> None:
        answer = ask(home, *arguments)
        assert answer.exit_code == 2
        assert told in " ".join(answer.stderr.split())
        assert "\\n" not in answer.stderr


class TestAnswers:
    """As wide as the terminal, or in a file."""

    SQL = "select * from fct_discounted_charges order by invoice_id limit 2"

    def test_a_row_wider_than_the_terminal_is_a_block(self, home: Path) -> None:
        told = ask(home, self.SQL, COLUMNS="80").stdout.splitlines()
        assert told[0].startswith("row 1 ---") and len(told[0]) == 80
        cells = [line.split() for line in told]
        assert ["invoice_id", "=in"] in cells
        assert ["list_amount", "5.00"] in cells

    def test_one_that_fits_is_a_line(self, home: Path) -> None:
        assert ask(home, self.SQL, COLUMNS="200").stdout.startswith("invoice_id  currency")
        assert ask(home, "select 1 as a, 2 as b", COLUMNS="80").stdout == "a  b\n1  2\n"

    def test_csv_says_what_it_neutralises(self, home: Path) -> None:
        sql = "select invoice_id, -1 as n, true as t from fct_discounted_charges where mtus is null"
        answer = ask(home, f"{sql} order by 1 limit 1", "--csv")
        assert answer.stdout == "invoice_id,n,t\n'=in,-1,true\n"
        assert "1 text that a spreadsheet would calculate begins with an apostrophe" in (
            answer.stderr
        )
        raw = ask(home, f"{sql} order by 1 limit 1", "--csv", "--raw")
        assert (raw.stdout, raw.stderr) == ("invoice_id,n,t\n=in,-1,true\n", "")

    def test_it_goes_to_a_file_whose_name_says_its_format(self, home: Path, tmp_path: Path) -> None:
        sql = "select invoice_id, list_amount from fct_discounted_charges order by invoice_id"
        for kind in ("csv", "xlsx", "parquet"):
            answer = ask(home, sql, "--out", tmp_path / f"answer.{kind}")
            assert answer.exit_code == 0, answer.output
            assert answer.stdout.startswith("13 rows to ")
        table = pq.read_table(tmp_path / "answer.parquet")
        assert table["list_amount"].to_pylist()[:2] == [Decimal("5.00"), Decimal("1.00")]
        sheet = openpyxl.load_workbook(tmp_path / "answer.xlsx")["query"]
        assert [cell.value for cell in sheet["A"]][:3] == ["invoice_id", "=in", "in_01"]
        lines = (tmp_path / "answer.csv").read_text("utf-8").splitlines()
        assert lines[:3] == ["invoice_id,list_amount", "'=in,5.00", "in_01,1.00"]
        assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".parquet", ".xlsx"]

    def test_what_parquet_cannot_hold_is_said(self, home: Path, tmp_path: Path) -> None:
        answer = ask(home, "select interval 1 day as lasts", "--out", tmp_path / "answer.parquet")
        assert answer.exit_code == 2
        assert "cast the column to varchar" in " ".join(answer.stderr.split())
        assert not list(tmp_path.iterdir())

    def test_after_such_a_failure_the_release_can_be_opened_again(
        self, home: Path, tmp_path: Path
    ) -> None:
        # In a process of its own without garbage collection: DuckDB would wait for a reader left open.
        out = tmp_path / "answer.parquet"
        code = (
            "import gc, sys; gc.disable(); from typer.testing import CliRunner;"
            " from dagster_project.cli import app; codes = [CliRunner().invoke(app, ['query', '--home',"
            f" {str(home)!r}, *one]).exit_code for one in (['select interval 1 day as lasts', '--out',"
            f" {str(out)!r}], ['select 1 as n'])]; print(codes)"
        )
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        assert told.stdout.strip() == "[2, 0]"


class TestLimits:
    """A question stops at a limit, and the message says which one and how to allow more."""

    ENDLESS = "select count(*) from range(100000000000) as a (n) where n % 7 = 3"

    @pytest.mark.parametrize("where", ["option", "setting"])
    def test_time(self, home: Path, where: str, tmp_path: Path) -> None:
        given = ("--max-seconds", "0.3") if where == "option" else ()
        setting = {} if given else {"COUPON_LEDGER_QUERY_SECONDS": "0.3"}
        for more in ((), ("--out", tmp_path / "x.csv")):
            answer = ask(home, self.ENDLESS, *given, *more, **setting)
            assert answer.exit_code == 1
            assert "stopped after 0.3 seconds" in answer.stderr
            assert "--max-seconds" in answer.stderr and answer.stdout == ""
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("where", ["option", "setting"])
    def test_memory(self, home: Path, where: str) -> None:
        given = ("--max-memory", "40MB") if where == "option" else ()
        setting = {} if given else {"COUPON_LEDGER_QUERY_MEMORY": "40MB"}
        sql = "select count(distinct hash(n)) from range(50000000) as a (n)"
        answer = ask(home, sql, *given, **setting)
        assert answer.exit_code == 1
        assert "needs more memory than 40MB" in answer.stderr
        assert "--max-memory" in answer.stderr

    @pytest.mark.parametrize("most", [11, 12, 13, 14, 0])
    def test_rows(self, home: Path, most: int, tmp_path: Path) -> None:
        sql = "select invoice_id from fct_discounted_charges"
        answer = ask(home, sql, "--csv", "--max-rows", str(most))
        shown = min(most or 13, 13)
        is_whole = shown == 13
        assert len(answer.stdout.splitlines()) == shown + 1
        assert answer.exit_code == (0 if is_whole else 1)
        assert ("these are the first" in answer.stderr) == (not is_whole)
        told = ask(home, sql, "--json", "--max-rows", str(most))
        assert json.loads(told.stdout)["is_whole"] == is_whole
        file = tmp_path / "answer.parquet"
        written = ask(home, sql, "--out", file, "--max-rows", str(most))
        assert (written.exit_code, file.exists()) == (0 if is_whole else 1, is_whole)
        assert ("nothing was written" in written.stderr) == (not is_whole)

    def test_rows_by_setting(self, home: Path) -> None:
        sql = "select invoice_id from fct_discounted_charges"
        answer = ask(home, sql, "--csv", COUPON_LEDGER_QUERY_ROWS="5")
        assert len(answer.stdout.splitlines()) == 6
        assert "these are the first 5" in answer.stderr

    @pytest.mark.parametrize(
        ("option", "value"),
        [("--max-memory", "much"), ("--max-rows", "-1"), ("--max-seconds", "-1")],
    )
    def test_a_limit_that_makes_no_sense_is_refused(
        self, home: Path, option: str, value: str
    ) -> None:
        answer = ask(home, "select 1", option, value)
        assert answer.exit_code == 2
        assert option in answer.stderr
