"""Names from deliveries, and of who closed a month, never reach a terminal unescaped.

A name may hold what a terminal obeys (escape sequences), what reorders text (bidirectional overrides),
or the end of a line, after which a forged line could follow. No command may print any.
"""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from dagster_project.sample import generate_sample
from dagster_project.settings import CHECKOUT
from tests.pipeline.conftest import in_process

FORGED = "FORGED"
HOSTILE = f"\x1b]0;title\x07\x1b[31m\u202e\u2066\x9b2J\r\n{FORGED}\u200b<script>alert(1)</script>&"
IN_A_FILE_NAME = HOSTILE.replace("/", "_")
# Control characters in an id reject its row; these do not.
UNSEEN = "\u202e\u2066\u2028\u200b<b>&"
WORKSPACE, INVOICE = f"ws_{UNSEEN}1", f"in_{UNSEEN}1"
Command = Callable[..., "subprocess.CompletedProcess[str]"]


def changed(path: Path, change: Callable[[dict[str, str]], None]) -> None:
    """Change each row of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        change(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), "utf-8", newline="")


def made_hostile(landing: Path) -> None:
    """Give harmful names to files, a workspace, an invoice and coupons, and put them into bad values."""
    (invoices, *_) = sorted((landing / "invoices").glob("*.csv"))
    with invoices.open(encoding="utf-8", newline="") as file:
        first = next(csv.DictReader(file))
    renamed = {first["workspace_id"]: WORKSPACE, first["invoice_id"]: INVOICE}

    def change(row: dict[str, str]) -> None:
        for column, value in row.items():
            row[column] = renamed.get(value, value)
        if "coupon_name" in row:
            row["coupon_name"] = HOSTILE
        if "percent_off" in row and row["coupon_id"] == "ACCEL-20":
            row["percent_off"] = HOSTILE

    for path in landing.rglob("*.csv"):
        changed(path, change)
    for path in landing.rglob("*.jsonl"):
        text = path.read_text("utf-8")
        path.write_text(text.replace(f'"{first["workspace_id"]}"', json.dumps(WORKSPACE)), "utf-8")
    invoices.rename(invoices.with_name(f"invoices {IN_A_FILE_NAME}.csv"))
    refused = landing / "coupons" / f"refused {IN_A_FILE_NAME}.csv"
    refused.write_text(f'coupon_id,"{HOSTILE}"\nx,y\n', "utf-8", newline="")


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The command line on a data home to which a hostile supplier delivered."""
    folder = tmp_path_factory.mktemp("hostile")
    generate_sample(6, 8, 1, folder / "sample")
    made_hostile(folder / "sample" / "landing")

    def entered(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return in_process(*arguments, "--home", folder / "home")

    ran = entered("run", "--landing", folder / "sample" / "landing", "--as-of", "2024-02-29")
    assert ran.returncode == 0, ran.stderr
    assert_harmless(ran)
    return entered


def assert_harmless(answer: subprocess.CompletedProcess[str]) -> None:
    for text in (answer.stdout, answer.stderr):
        raw = {sign for sign in text if not sign.isprintable() and sign != "\n"}
        assert raw == set(), text
        assert f"\n{FORGED}" not in text, text


READING = [
    ["deliveries"],
    ["rejected"],
    ["releases"],
    ["verify"],
    ["workspace", WORKSPACE],
    ["workspace", "ws"],
    ["explain", INVOICE],
    ["explain", "in"],
    ["findings"],
    ["findings", "--workspace", WORKSPACE],
    ["findings", "--workspace", HOSTILE],
    ["burndown"],
    ["burndown", WORKSPACE],
    ["burndown", HOSTILE],
    ["variance"],
    ["variance", WORKSPACE],
    ["variance", "--month", HOSTILE],
    ["expiring"],
    ["programs"],
    ["programs", "--program", HOSTILE],
    ["programs", "--budget"],
    ["outlook"],
    ["outlook", WORKSPACE],
    ["outlook", HOSTILE],
    ["bridge", "--by", "plan"],
    ["bridge", "--month", HOSTILE],
    ["top"],
    ["cohorts", "--program", HOSTILE],
    ["what-if", "--name", HOSTILE, "--coupon", HOSTILE, "--set", HOSTILE],
    ["what-if", "--name", "x", "--coupon", HOSTILE, "--set", "percent_off=5"],
    ["what-if", "--name", "x", HOSTILE],
    ["rejected", "--feed", HOSTILE],
    ["rejected", "--delivery", HOSTILE],
    ["query", "select * from marts.dim_coupons"],
    ["query", "select file_name, refusal_reason from release.deliveries"],
    ["query", f"select '{HOSTILE}' as \"{HOSTILE}\""],
    ["query", f"select {HOSTILE}"],
    ["verify", HOSTILE],
    ["restore", HOSTILE],
    ["diff", HOSTILE],
    ["alerts"],
    ["run", "--landing", HOSTILE],
    ["run", "--as-of", HOSTILE],
    ["run", "--known-at", HOSTILE],
    ["close", HOSTILE, "--by", HOSTILE],
    ["export", "--out", "x", "--format", HOSTILE],
    [HOSTILE],
    [f"--{HOSTILE}"],
]


@pytest.mark.parametrize("arguments", READING, ids=lambda one: ascii(" ".join(one))[1:24])
def test_no_command_prints_a_name_as_it_is(command: Command, arguments: list[str]) -> None:
    if arguments[0].startswith(("\x1b", "--")):
        assert_harmless(in_process(*arguments))
        return
    assert_harmless(command(*arguments))
    if arguments[0] not in ("run", "close", "export", "restore", "verify", "diff"):
        machine = command(*arguments, "--json")
        assert_harmless(machine)
        if not machine.returncode:
            json.loads(machine.stdout)


def test_the_names_were_there_to_be_printed(command: Command) -> None:
    assert "\\x1b[31m\\u202e" in command("deliveries").stdout
    assert "\\x1b[31m\\u202e" in command("rejected").stdout
    for answer in (command("workspace", WORKSPACE), command("explain", INVOICE)):
        assert answer.returncode == 0, answer.stderr
        assert "_\\u202e\\u2066\\u2028\\u200b<b>&1" in answer.stdout


def test_who_closed_a_month_and_why_it_was_reopened_are_escaped(command: Command) -> None:
    why = ("--with-open-findings", "--reason", HOSTILE)
    closed = command("close", "2023-09", "--by", HOSTILE, *why)
    assert closed.returncode == 0, closed.stderr
    reopened = command("reopen", "2023-09", "--by", HOSTILE, "--reason", HOSTILE)
    listed = command("closes")
    for answer in (closed, reopened, listed):
        assert_harmless(answer)
        assert "\\x1b[31m" in answer.stdout


def test_csv_for_a_program_is_exact_and_on_a_terminal_escaped(command: Command) -> None:
    made = command("deliveries").args
    home = made[made.index("--home") + 1]
    arguments = [
        *(sys.executable, "-m", "dagster_project.cli", "query", "--csv", "--home", home),
        "select max(coupon_name) as name from marts.dim_coupons",
    ]
    piped = subprocess.run(arguments, cwd=CHECKOUT, capture_output=True, check=True).stdout
    rows = list(csv.reader(io.StringIO(piped.decode("utf-8"), newline="")))
    assert rows[1] == [HOSTILE]
    shown, terminal = pty.openpty()
    subprocess.run(arguments, cwd=CHECKOUT, stdout=terminal, check=True)
    os.close(terminal)
    with os.fdopen(shown, "rb") as file:
        told = file.read1(65536).decode("utf-8")
    assert "\\x1b[31m\\u202e" in told
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(told)


def test_what_is_kept_and_sent_holds_no_such_character(command: Command, tmp_path: Path) -> None:
    made = command("deliveries").args
    home = Path(made[made.index("--home") + 1])
    logs = [path.read_text("utf-8") for path in (home / "logs").glob("*")]
    assert len(logs) >= 2
    for text in logs:
        assert not {sign for sign in text if not sign.isprintable() and sign != "\n"}
    page = tmp_path / "page.html"
    assert command("deliveries", "--page", page).returncode == 0
    html = page.read_text("utf-8")
    assert FORGED in html
    assert "<script" not in html
    assert not {sign for sign in html if not sign.isprintable() and sign != "\n"}


def test_the_release_itself_keeps_the_names_as_they_were_delivered(command: Command) -> None:
    made = command("deliveries").args
    home = Path(made[made.index("--home") + 1])
    with duckdb.connect(str(home / "current"), read_only=True) as release:
        found = release.execute("select distinct coupon_name from marts.dim_coupons").fetchall()
    assert (HOSTILE,) in found
