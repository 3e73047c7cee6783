"""Files in a landing folder become rows of the raw tables: every format, every pollution, any order.

Tests that go through `arrive` with real files belong here. What a single reader does with odd bytes is
tested in tests/unit.
"""

from __future__ import annotations

import csv
import errno
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_project.arrival import (
    ArrivalError,
    DeliveryReport,
    Limits,
    arrive,
    rebuild,
    warehouse,
)
from dagster_project.arrival.archive import Archive
from dagster_project.arrival.delivered import rows_delivered
from dagster_project.arrival.json_lines import prepare_json
from dagster_project.arrival.landing import left_alone
from dagster_project.arrival.report import Refusal
from dagster_project.feeds import feeds

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
CHECKOUT = Path(__file__).resolve().parents[2]
INVOICE = {
    "invoice_id": "in_1",
    "workspace_id": "ws_1",
    "status": "paid",
    "plan": "team",
    "billing_interval": "month",
    "currency": "USD",
    "period_start": "2026-01-01",
    "period_end": "2026-02-01",
    "issued_at": "2026-01-01T00:00:00Z",
    "list_amount": "120.00",
    "discount_amount": "12.00",
    "credit_amount": "0.00",
    "tax_amount": "0.00",
    "total_amount": "108.00",
    "mtus": "10000",
    "updated_at": "2026-01-01T06:00:00Z",
}
INVOICES = [name for name in feeds()["invoices"].column_names if name in INVOICE]
WORKSPACE = {
    "workspace_id": "ws_1",
    "workspace_name": "Acme",
    "owner_user_id": "user_secret",
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}


def invoice(number: int, **changes: str) -> dict[str, str]:
    """A valid invoice."""
    return INVOICE | {"invoice_id": f"in_{number}"} | changes


def csv_bytes(rows: list[dict[str, str]], line_end: str = "\n") -> bytes:
    """Rows as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator=line_end)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def jsonl_bytes(rows: list[dict[str, str]]) -> bytes:
    """Rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


class Home:
    """A landing folder and a data home of one test."""

    def __init__(self, folder: Path) -> None:
        self.landing = folder / "landing"
        self.path = folder / "home"
        self.landing.mkdir(parents=True)
        self.clock = 1_700_000_000

    def land(self, name: str, content: bytes, at: int | None = None) -> Path:
        """Drop a file; each is a second younger than the one before unless `at` is given."""
        path = self.landing / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.clock += 1
        os.utime(path, (at or self.clock, at or self.clock))
        return path

    def arrive(self, run_id: str = "run", **options: Any) -> list[DeliveryReport]:
        """Run arrival, without the gate unless asked for."""
        return arrive(self.landing, self.path, run_id, NOW, **{"with_gate": False} | options)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Query the warehouse."""
        with duckdb.connect(str(self.path / "build/warehouse.duckdb"), read_only=True) as con:
            return con.execute(statement).fetchall()

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        """All raw tables, in order."""
        tables = [*feeds(), "malformed_rows", "deliveries", "gate_results"]
        return {table: self.rows(f"from raw.{table} order by all") for table in tables}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty landing folder and data home."""
    return Home(tmp_path)


def test_a_csv_file_is_loaded_with_its_order_and_recorded(home: Home) -> None:
    content = csv_bytes([invoice(number) for number in (3, 1, 2)])
    home.land("invoices/a.csv", content, at=1_700_000_000)
    (report,) = home.arrive("run-7")
    assert (report.verdict, report.physical_rows, report.loaded_rows) == ("loaded", 3, 3)
    assert home.rows("select row_number, invoice_id, list_amount from raw.invoices") == [
        (1, "in_3", "120.00"),
        (2, "in_1", "120.00"),
        (3, "in_2", "120.00"),
    ]
    sha256 = hashlib.sha256(content).hexdigest()
    assert home.rows("select * exclude (unknown_columns) from raw.deliveries") == [
        (
            1,
            sha256,
            "invoices",
            "invoices/a.csv",
            sha256,
            len(content),
            datetime(2023, 11, 14, 22, 13, 20),
            datetime(2026, 11, 23, 12, 0),
            "run-7",
            3,
            0,
            "loaded",
            None,
            None,
        )
    ]
    assert (home.path / "archive" / sha256[:2] / sha256).read_bytes() == content


def test_what_is_archived_is_durable_before_it_is_loaded(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reaches the disk, in its order, a name that is given as well as a content."""
    content = csv_bytes([invoice(1)])
    home.land("invoices/a.csv", content)
    sha256 = hashlib.sha256(content).hexdigest()
    happened: list[str] = []
    sync, replace = os.fsync, os.replace

    def told(what: str, path: Path | str) -> None:
        happened.append(f"{what} {Path(path).relative_to(home.path)}".replace(sha256, "SHA256"))

    def synced(descriptor: int) -> None:
        told("sync", os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    def replaced(source: Path, target: Path) -> None:
        told("name", target)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    home.arrive()
    folder = f"archive/{sha256[:2]}"
    record = ["sync build/tmp/SHA256.json", f"name {folder}/SHA256.json", f"sync {folder}"]
    assert happened == [
        "sync build/tmp/incoming",
        "sync archive",
        f"name {folder}/SHA256",
        f"sync {folder}",
        *record,  # that it came
        "name build/raw/invoices/000000001.parquet",
        "sync build/raw/invoices/000000001.parquet",
        *record,  # what became of it
    ]


def test_all_raw_tables_exist_when_nothing_has_landed(home: Home) -> None:
    assert home.arrive() == []
    assert all(rows == [] for rows in home.everything().values())


def parquet_of_invoices(path: Path) -> None:
    """Three invoices with Parquet's own types."""
    instant = datetime(2026, 1, 1, tzinfo=UTC)
    money = pa.decimal128(18, 2)
    columns: dict[str, Any] = {name: [INVOICE[name]] * 3 for name in INVOICES}
    columns |= {
        "invoice_id": ["in_1", "in_2", "in_3"],
        "plan": pa.array(["team"] * 3).dictionary_encode(),
        "period_start": [date(2026, 1, 1)] * 3,
        "period_end": [date(2026, 2, 1)] * 3,
        "issued_at": pa.array([instant] * 3, pa.timestamp("us", "UTC")),
        "updated_at": pa.array([instant.replace(hour=6, tzinfo=None)] * 3, pa.timestamp("ns")),
        "mtus": pa.array([10000] * 3, pa.int32()),
        "surprise": [1.5] * 3,
    }
    for name in INVOICES:
        if name.endswith("_amount"):
            columns[name] = pa.array([Decimal(INVOICE[name])] * 3, money)
    pq.write_table(pa.table(columns), path)


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    rows = [invoice(number) for number in (1, 2, 3)]
    parquet = tmp_path / "invoices.parquet"
    parquet_of_invoices(parquet)
    shuffled = [dict(reversed(row.items())) | {"extra": "x"} for row in rows]
    numbers = [
        json.dumps({**row, "list_amount": "@", "mtus": 10000}).replace('"@"', "120.00")
        for row in rows
    ]
    deliveries = {
        "a.csv": csv_bytes(rows),
        "a.csv.gz": gzip.compress(csv_bytes(rows)),
        "crlf.csv": csv_bytes(rows, "\r\n"),
        "bom.csv": b"\xef\xbb\xbf" + csv_bytes(rows),
        "shuffled.CSV": csv_bytes(shuffled),
        "mixed.csv": csv_bytes(rows).replace(b"\n", b"\r", 1).replace(b"\n", b"\r\n", 1),
        "no-last-line-end.csv": csv_bytes(rows).rstrip(b"\n"),
        "quoted.csv": csv_bytes(rows).replace(b"team", b'"team"'),
        "a.jsonl": jsonl_bytes(rows),
        "a.jsonl.gz": gzip.compress(jsonl_bytes(shuffled)),
        "numbers.jsonl": "\n".join(numbers).encode(),
        "a.parquet": parquet.read_bytes(),
    }
    found = {}
    for name, content in deliveries.items():
        home = Home(tmp_path / name)
        home.land(f"invoices/{name}", content)
        (report,) = home.arrive()
        assert (report.verdict, report.reason, report.loaded_rows) == ("loaded", None, 3), name
        found[name] = home.rows(
            f"select row_number, {', '.join(INVOICES)} from raw.invoices order by 1"
        )
    amounts = [index + 1 for index, name in enumerate(INVOICES) if name.endswith("_amount")]
    instants = [index + 1 for index, name in enumerate(INVOICES) if name.endswith("_at")]
    for row in found["a.parquet"]:
        assert [Decimal(row[at]) for at in amounts] == [
            Decimal(found["a.csv"][0][at]) for at in amounts
        ]
        assert [row[at].removesuffix("Z") + "Z" for at in instants] == [
            found["a.csv"][0][at] for at in instants
        ]
    exact = set(range(len(INVOICES) + 1)) - {*amounts, *instants}
    found["a.parquet"] = [
        tuple(value if at in exact else found["a.csv"][0][at] for at, value in enumerate(row))
        for row in found["a.parquet"]
    ]
    for name, loaded in found.items():
        assert loaded == found["a.csv"], name


@dataclass(frozen=True)
class Pollution:
    """A change of a valid file, and what must become of it.

    Attributes:
        name: What it is.
        change: Turns the bytes of three valid invoices, in_1 to in_3, into the delivered file.
        loaded: Numbers of the rows that are loaded; None if the file is refused.
        malformed: Reason by number of each malformed row.
        blank: Blank lines.
        values: Values by row number and column that must be loaded exactly.
        refused: Part of the reason of the refusal.
        extension: Of the file.
    """

    name: str
    change: Callable[[bytes], bytes]
    loaded: tuple[int, ...] | None = (1, 2, 3)
    malformed: tuple[tuple[int, str], ...] = ()
    blank: int = 0
    values: tuple[tuple[int, str, str | None], ...] = ()
    refused: str = ""
    extension: str = "csv"


def lines(content: bytes) -> list[bytes]:
    """The lines of a file, with their ends."""
    return content.splitlines(keepends=True)


def in_row(number: int, old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Change one thing in one row."""

    def change(content: bytes) -> bytes:
        parts = lines(content)
        assert old in parts[number]
        parts[number] = parts[number].replace(old, new, 1)
        return b"".join(parts)

    return change


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Change one thing everywhere."""
    return lambda content: content.replace(old, new)


def value(column: str, text: str | bytes) -> dict[str, Any]:
    """Row 2 with another value in one column, which must be loaded as it stands."""
    raw = text if isinstance(text, bytes) else text.encode()
    return {
        "name": f"{column} is {raw[:24]!r}",
        "change": in_row(2, INVOICE[column].encode(), raw),
        "values": ((2, column, raw.decode()),),
    }


def in_other_text(encoding: str, content: bytes) -> bytes:
    """The same text in another encoding."""
    return content.decode().encode(encoding)


def below_excels_line(line: bytes, content: bytes) -> bytes:
    """The same file with the separator that its first line, for Excel, names."""
    return line + content.replace(b",", line[-3:-2])


def zipped(content: bytes, name: str = "a.csv") -> bytes:
    """A ZIP archive of one file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def named_twice(content: bytes) -> bytes:
    """The same file with one name for two columns, so that another is missing."""
    return content.replace(b",updated_at", b",plan", 1)


BIG = "x" * 1_000_000
WIDE = b"," + b",".join(b"c%d" % number for number in range(10_000))

POLLUTIONS = [
    Pollution("nothing", lambda content: content),
    *(
        Pollution(**value("list_amount", text))
        for text in ("1e3", "١٢", "NaN", "-0.00", " 7.00 ", "$120", "0120.00", "1_000", "+1.00")
    ),
    *(
        Pollution(**value("plan", text))
        for text in (
            "=1+1",
            "@SUM(A1)",
            "'; drop table raw.invoices; --",
            "{{ config() }}",
            "NULL",
            "null",
            "# no comment",
            "te\tam",
            "te\x00am",
            "te\u2028am",
            "te\x0bam\x85",
            "\ufeffteam",
            "te\\am",
            "it's",
            " ",
            "日本語 🎉",
            BIG,
        )
    ),
    Pollution("BOM", lambda content: b"\xef\xbb\xbf" + content),
    Pollution("CRLF", replaced(b"\n", b"\r\n")),
    Pollution("CR", replaced(b"\n", b"\r")),
    Pollution("CR CR LF", replaced(b"\n", b"\r\r\n"), blank=4),
    Pollution("one CRLF", in_row(2, b"\n", b"\r\n")),
    Pollution("lone CR ends a row", in_row(2, b"\n", b"\r")),
    Pollution("blank lines", in_row(2, b"\n", b"\n\n\r\n"), blank=2),
    Pollution("blank line first", lambda content: b"\n" + content, blank=1),
    Pollution("blank lines last", lambda content: content + b"\n\n", blank=2),
    Pollution("no last line end", lambda content: content[:-1]),
    Pollution(
        "row of commas only",
        lambda content: content + b"," * (len(INVOICES) - 1) + b"\n",
        loaded=(1, 2, 3, 4),
        values=((4, "invoice_id", None), (4, "updated_at", None)),
    ),
    Pollution("empty value", in_row(2, b"10000", b""), values=((2, "mtus", None),)),
    Pollution("quoted empty value", in_row(2, b"10000", b'""'), values=((2, "mtus", None),)),
    Pollution("comma in quotes", in_row(2, b"team", b'"te,am"'), values=((2, "plan", "te,am"),)),
    Pollution(
        "line end in quotes", in_row(2, b"team", b'"te\nam"'), values=((2, "plan", "te\nam"),)
    ),
    Pollution(
        "CRLF in quotes", in_row(2, b"team", b'"te\r\nam"'), values=((2, "plan", "te\r\nam"),)
    ),
    Pollution("doubled quote", in_row(2, b"team", b'"te""am"'), values=((2, "plan", 'te"am'),)),
    Pollution("null mark", in_row(2, b"team", b"\\N"), values=((2, "plan", None),)),
    Pollution("quoted null mark", in_row(2, b"team", b'"\\N"'), values=((2, "plan", "\\N"),)),
    Pollution(
        "bare quote",
        in_row(2, b"team", b'te"am'),
        loaded=(1, 3),
        malformed=((2, "a quote inside a value that does not begin with one"),),
    ),
    Pollution(
        "space before quote",
        in_row(2, b"team", b' "t"'),
        loaded=(1, 3),
        malformed=((2, "a quote inside a value that does not begin with one"),),
    ),
    Pollution(
        "quote escaped by a backslash",
        in_row(2, b"team", b'"te\\"am"'),
        None,
        refused="line 3: text after a closing quote, its quotes are escaped by backslashes",
    ),
    Pollution(
        "a row broken in its plan",
        in_row(2, b"team,", b"te\ncauses,and,more,"),
        loaded=(1, 4),
        malformed=((2, "4 fields where the header has 16"), (3, "15 fields")),
    ),
    Pollution("pipes", replaced(b",", b"|"), None, refused="has pipes and no comma"),
    *(
        Pollution(f"separated by {separator!r}", replaced(b",", separator), None, refused=told)
        for separator, told in {
            b"^": "the header has '^' and no comma",
            b"||": "the header has '||' and no comma",
            b" ": "the header has ' ' and no comma",
            b"\x1f": r"the header has '\x1f' and no comma",
            "þ".encode(): "the header has 'þ' and no comma",
        }.items()
    ),
    *(
        Pollution(
            f"Excel's line {line!r}",
            partial(below_excels_line, line),
            None,
            refused=f"its first line is {line.decode().strip()!r}, which names the separator for Excel",
        )
        for line in (b"sep=,\r\n", b"sep=;\r\n", b"SEP=|\r\n")
    ),
    Pollution(
        "lines above the header",
        lambda content: b"Invoices of 2026, as of 1 May\n\n" + content,
        None,
        refused="the header is in line 3",
    ),
    Pollution(
        "each line in quotes",
        lambda content: b"".join(b'"' + line[:-1] + b'"\n' for line in lines(content)),
        None,
        refused="the whole header is in one pair of quotes",
    ),
    Pollution(
        "a column missing and one twice",
        named_twice,
        None,
        refused="missing required column updated_at; header has 'plan' more than once",
    ),
    Pollution(
        "values escaped by backslashes beside null marks",
        lambda c: in_row(3, b"team", b"\\N")(in_row(2, b"team", b'"C:\\\\temp"')(c)),
        None,
        refused="line 3: its values are escaped by backslashes",
    ),
    Pollution(
        "a line break escaped by a backslash beside null marks",
        lambda c: in_row(3, b"10000", b"\\N")(in_row(2, b"team", b'"te\\\nam"')(c)),
        None,
        refused="line 3: its values are escaped by backslashes",
    ),
    Pollution(
        "a path beside null marks",
        lambda c: in_row(3, b"team", b"\\N")(in_row(2, b"team", b"C:\\temp\\new")(c)),
        values=((2, "plan", "C:\\temp\\new"), (3, "plan", None)),
    ),
    Pollution(
        "a path of a network beside null marks",
        lambda c: in_row(3, b"team", b"\\N")(in_row(2, b"team", b"\\\\server\\x")(c)),
        values=((2, "plan", "\\\\server\\x"), (3, "plan", None)),
    ),
    Pollution(
        "doubled backslashes without a null mark",
        in_row(2, b"team", b"C:\\\\temp"),
        values=((2, "plan", "C:\\\\temp"),),
    ),
    Pollution("header in quotes", in_row(0, b"plan", b'"plan"')),
    Pollution(
        "one field too many",
        in_row(2, b"team", b"te,am"),
        loaded=(1, 3),
        malformed=((2, "17 fields where the header has 16"),),
    ),
    Pollution(
        "one field too few",
        in_row(3, b"team,", b""),
        loaded=(1, 2),
        malformed=((3, "15 fields where the header has 16"),),
    ),
    Pollution(
        "cut in its last line",
        lambda content: content[:-40],
        loaded=(1, 2),
        malformed=((3, "fields where the header has 16"),),
    ),
    Pollution(
        "line of spaces",
        in_row(2, b"\n", b"\n   \n"),
        loaded=(1, 2, 4),
        malformed=((3, "1 fields where the header has 16"),),
    ),
    Pollution(
        "text after a closing quote",
        in_row(2, b"team", b'"te"am'),
        loaded=(1, 3),
        malformed=((2, "text after a closing quote"),),
    ),
    Pollution(
        "every row too long",
        lambda content: lines(content)[0] + b"".join(b"x," + row for row in lines(content)[1:]),
        loaded=(),
        malformed=tuple((number, "17 fields") for number in (1, 2, 3)),
    ),
    Pollution(
        "10,000 unknown columns",
        lambda content: b"\n".join(
            row + (WIDE if at == 0 else b"," * 10_000) for at, row in enumerate(content.split())
        ),
    ),
    Pollution("header only", lambda content: lines(content)[0], loaded=()),
    Pollution("header only, no line end", lambda content: lines(content)[0][:-1], loaded=()),
    Pollution("optional column missing", replaced(b"mtus", b"mtu")),
    Pollution(
        "columns beyond the limit", replaced(b"mtus", b"m" + WIDE * 3), None, refused="30016"
    ),
    Pollution("unterminated quote", in_row(2, b"team", b'"team'), None, refused="not closed"),
    Pollution("unterminated last quote", in_row(3, b"team", b'"team'), None, refused="not closed"),
    Pollution(
        "quote closed in another row",
        lambda content: in_row(3, b"team", b'"t"')(in_row(2, b"team", b'"team')(content)),
        None,
        refused="line 3 (row 2) is not closed",
    ),
    Pollution("Latin-1", in_row(2, b"team", b"t\xe9am"), None, refused="byte 0xe9 at position"),
    *(
        Pollution(kind, partial(in_other_text, kind), None, refused="is text in UTF-16")
        for kind in ("utf-16", "utf-16-le", "utf-16-be")
    ),
    Pollution("nothing but NUL", lambda c: b"\0" * len(c), None, refused="nothing but NUL bytes"),
    Pollution(
        "a pointer of Git LFS",
        lambda _: b"version https://git-lfs.github.com/spec/v1\nsize 1\n",
        None,
        refused="a pointer of Git LFS",
    ),
    Pollution(
        "cut inside a character", lambda content: content + b"\xe6\x97", None, refused="UTF-8"
    ),
    Pollution("overlong UTF-8", in_row(2, b"team", b"\xc0\xaf"), None, refused="not UTF-8"),
    Pollution("surrogate in UTF-8", in_row(2, b"team", b"\xed\xa0\x80"), None, refused="not UTF-8"),
    Pollution("missing column", replaced(b"plan", b"plam"), None, refused="'plam' looks like plan"),
    Pollution("column twice", replaced(b"mtus", b"plan"), None, refused="'plan' more than once"),
    Pollution(
        "unknown column twice", replaced(b"mtus", b"a,a"), None, refused="'a' more than once"
    ),
    Pollution("header in capitals", lambda c: c.upper(), None, refused="missing required column"),
    Pollution("semicolons", replaced(b",", b";"), None, refused="has semicolons and no comma"),
    Pollution("tabs", replaced(b",", b"\t"), None, refused="has tabs and no comma"),
    Pollution("no header", lambda c: b"".join(lines(c)[1:]), None, refused="has no header"),
    Pollution("empty", lambda _: b"", None, refused="empty"),
    Pollution("only a BOM", lambda _: b"\xef\xbb\xbf", None, refused="no header"),
    Pollution("only blank lines", lambda _: b"\n\r\n\n", None, refused="only blank lines"),
    Pollution("bad header quote", in_row(0, b"plan", b'"plan"x'), None, refused="header"),
    Pollution("a gzip file", gzip.compress, None, refused="named .csv and is a gzip file"),
    Pollution(
        "a Parquet file",
        lambda _: b"PAR1\x15\xffPAR1",
        None,
        refused="named .csv and is a Parquet file",
    ),
    Pollution(
        "a Parquet file as gzip",
        lambda _: b"PAR1\x15\xffPAR1",
        None,
        refused="named .csv.gz and is a Parquet file",
        extension="csv.gz",
    ),
    Pollution("a column named as Parquet begins", lambda c: b"PAR1," + c.replace(b"\n", b"\n,", 3)),
    Pollution("gzip", gzip.compress, extension="csv.gz"),
    Pollution(
        "gzip in two parts",
        lambda content: gzip.compress(content[:100]) + gzip.compress(content[100:]),
        extension="csv.gz",
    ),
    Pollution("no gzip", lambda c: c, None, refused="is plain text", extension="csv.gz"),
    Pollution(
        "no gzip and no text",
        lambda c: b"\xff\0" + c,
        None,
        refused="gzip file is damaged",
        extension="csv.gz",
    ),
    Pollution("empty gzip", lambda _: b"", None, refused="empty", extension="csv.gz"),
    Pollution(
        "gzip cut short",
        lambda content: gzip.compress(content)[:-5],
        None,
        refused="cut short",
        extension="csv.gz",
    ),
    Pollution(
        "gzip with a wrong checksum",
        lambda content: gzip.compress(content)[:-8] + b"\0\0\0\0" + gzip.compress(content)[-4:],
        None,
        refused="damaged",
        extension="csv.gz",
    ),
    Pollution(
        "gzip followed by rubbish",
        lambda content: gzip.compress(content) + b"rubbish",
        None,
        refused="damaged",
        extension="csv.gz",
    ),
    Pollution(
        "gzip bomb",
        lambda content: gzip.compress(content + b"\n" * 80_000_000),
        None,
        refused="unpack to more than",
        extension="csv.gz",
    ),
    Pollution(
        "gzip in gzip",
        lambda content: gzip.compress(gzip.compress(content)),
        None,
        refused="the gzip file holds a gzip file",
        extension="csv.gz",
    ),
    Pollution(
        "ZIP in gzip",
        lambda content: gzip.compress(zipped(content)),
        None,
        refused="the gzip file holds a ZIP archive",
        extension="csv.gz",
    ),
    Pollution("ZIP", zipped, None, refused="is named .csv and is a ZIP archive"),
    Pollution(
        "a sheet named as CSV",
        lambda content: zipped(content, "[Content_Types].xml"),
        None,
        refused="is named .csv and is a spreadsheet",
    ),
    Pollution("spreadsheet", zipped, None, refused="unknown extension .xlsx", extension="xlsx"),
]


@pytest.mark.parametrize("pollution", POLLUTIONS, ids=lambda pollution: pollution.name)
def test_a_polluted_file_is_taken_exactly_or_refused_for_the_right_reason(
    home: Home, pollution: Pollution
) -> None:
    content = csv_bytes([invoice(number) for number in (1, 2, 3)])
    home.land(f"invoices/a.{pollution.extension}", pollution.change(content))
    (report,) = home.arrive()
    rows = home.rows(
        f"select delivery_sequence, row_number, {', '.join(INVOICES)} from raw.invoices"
        " order by row_number"
    )
    if pollution.loaded is None:
        assert report.verdict == "refused"
        assert pollution.refused in str(report.reason)
        assert report.remedy
        assert rows == []
        assert home.rows("select verdict, file_name from raw.deliveries") == [
            ("refused", report.file_name)
        ]
        return
    assert (report.verdict, report.reason) == ("loaded", None)
    assert tuple(row[1] for row in rows) == pollution.loaded
    by_number = {row[1]: dict(zip(INVOICES, row[2:], strict=True)) for row in rows}
    for number, column, expected in pollution.values:
        assert by_number[number][column] == expected
    malformed = home.rows("select row_number, reason from raw.malformed_rows order by all")
    assert len(malformed) == len(pollution.malformed) == report.malformed_rows
    for (number, reason), (expected_number, expected) in zip(
        malformed, pollution.malformed, strict=True
    ):
        assert (number, expected in reason) == (expected_number, True), reason
    assert report.blank_rows == pollution.blank
    assert report.physical_rows == len(rows) + len(malformed)
    assert home.rows("select physical_rows, blank_rows from raw.deliveries") == [
        (report.physical_rows, pollution.blank)
    ]
    changed = {(number, column) for number, column, _ in pollution.values}
    ids = [row["invoice_id"] for number, row in by_number.items() if number < 4]
    is_shifted = pollution.name in ("line of spaces", "a row broken in its plan")
    if (4, "invoice_id") not in changed and not is_shifted:
        assert ids == [f"in_{number}" for number in pollution.loaded]


JSON_LINES: list[tuple[bytes, str | None, str | None]] = [
    (b'"plan": 12.50', None, "12.50"),
    (b'"plan": 1E400', None, "1E400"),
    (b'"plan": -0.00', None, "-0.00"),
    (b'"plan": 123456789012345678901234567890', None, "123456789012345678901234567890"),
    (b'"plan": true', None, "true"),
    (b'"plan": null', None, None),
    (b'"plan": ""', None, None),
    (b'"plan": "te\\u0000am"', None, "te\0am"),
    (b'"plan": "\\ud83c\\udf89"', None, "🎉"),
    (b'"plan": "a\xe2\x80\xa8b"', None, "a\u2028b"),
    (b'"plam": "team"', None, None),
    (b'"plan": ["team"]', "'plan' holds a nested value", None),
    (b'"plan": {"a": 1}', "'plan' holds a nested value", None),
    (b'"plan": NaN', "not JSON", None),
    (b'"plan": 012', "not JSON", None),
    (b'"plan": "te\tam"', "not JSON", None),
    (b'"plan": team', "not JSON", None),
    (b'"plan": "\\ud83c"', "surrogate", None),
    (b'"plan": "a", "plan": "b"', "'plan' occurs twice", None),
    (b'"plan": ' + b"[" * 100_000, "nested too deeply", None),
    (b'"deep": ' + b"[" * 100_000 + b"]" * 100_000, "nested too deeply", None),
    (b'"plan": "team", "tags": ["a", {"b": [1, null]}]', None, "team"),
    (b'"plan": "team", "of": {"plan": "other"}', None, "team"),
]


@pytest.mark.parametrize(("text", "reason", "plan"), JSON_LINES, ids=lambda part: str(part)[:30])
def test_a_line_of_json_is_taken_exactly_or_set_apart(
    home: Home, text: bytes, reason: str | None, plan: str | None
) -> None:
    good = jsonl_bytes([invoice(1)])
    home.land("invoices/a.jsonl", good + b"\n" + good.replace(b'"plan": "team"', text) + good)
    (report,) = home.arrive()
    assert (report.verdict, report.blank_rows, report.physical_rows) == ("loaded", 1, 3)
    malformed = home.rows("select row_number, reason from raw.malformed_rows")
    if reason is None:
        assert malformed == []
        assert home.rows("select plan from raw.invoices where row_number = 2") == [(plan,)]
    else:
        assert [(number, reason in found) for number, found in malformed] == [(2, True)]
        assert home.rows("select row_number from raw.invoices order by 1") == [(1,), (3,)]


def test_a_comma_after_a_line_of_json_is_named(home: Home) -> None:
    lines = [jsonl_bytes([invoice(number)]).rstrip() for number in (1, 2, 3)]
    home.land("invoices/a.jsonl", b" , \n".join(lines) + b"\n")
    home.arrive()
    malformed = home.rows("select row_number, reason from raw.malformed_rows order by all")
    assert [(number, "a comma ends the line" in reason) for number, reason in malformed] == [
        (1, True),
        (2, True),
    ]
    assert home.rows("select row_number from raw.invoices") == [(3,)]


@pytest.mark.parametrize(
    "line", ['{"program",', '"startup",', "[1],", "null,", "{},,", '{"program":"startup,', "{},{},"]
)
def test_a_comma_is_not_named_where_leaving_it_out_makes_no_row(home: Home, line: str) -> None:
    home.land("invoices/a.jsonl", f"{jsonl_bytes([invoice(1)]).decode()}{line}\n".encode())
    home.arrive()
    [(number, reason)] = home.rows("select row_number, reason from raw.malformed_rows")
    assert number == 2
    assert "a comma ends the line" not in reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({name: {"0": text} for name, text in INVOICE.items()}, "has columns, not rows"),
        ({"columns": list(INVOICE), "data": [list(INVOICE.values())]}, "may be in its 'columns'"),
        ({"has_more": False, "data": [INVOICE]}, "the rows may be in its 'data'"),
        ({"0": INVOICE}, "the rows may be in its '0'"),
        ({"usr_1": INVOICE, "usr_2": INVOICE}, "each under a key of its own"),
        ([list(INVOICE.values())], "its rows are arrays"),
    ],
    ids=lambda part: str(part)[:30],
)
def test_json_of_another_shape_is_refused_with_how_to_write_it(
    home: Home, content: object, reason: str
) -> None:
    home.land("invoices/a.json", json.dumps(content).encode())
    (report,) = home.arrive()
    assert (report.verdict, reason in str(report.reason)) == ("refused", True), report
    assert 'to_json(orient="records", lines=True)' in str(report.remedy)


def test_a_first_line_of_another_shape_is_set_apart_where_rows_follow(home: Home) -> None:
    home.land("invoices/a.jsonl", b'{"schema": {"v": 1}}\n' + jsonl_bytes([invoice(1)]))
    (report,) = home.arrive()
    assert (report.verdict, report.physical_rows, report.loaded_rows) == ("loaded", 2, 2)


def test_lines_of_json_may_end_in_carriage_returns_alone(home: Home) -> None:
    rows = [invoice(1), invoice(2)]
    home.land("invoices/a.jsonl", jsonl_bytes(rows).replace(b"\n", b"\r"))
    (report,) = home.arrive()
    assert (report.loaded_rows, report.malformed_rows) == (2, 0)


def test_csv_named_as_json_is_refused_as_what_it_is(home: Home) -> None:
    home.land("invoices/a.jsonl", csv_bytes([invoice(1)]))
    (report,) = home.arrive()
    assert report.reason == "it is named .jsonl and is text with commas"


def test_a_column_the_feed_does_not_have_may_be_nested_and_is_recorded(home: Home) -> None:
    nested = jsonl_bytes([invoice(1)]).replace(b"{", b'{"tags": {"a": ["b"]}, ', 1)
    home.land("invoices/a.jsonl", nested + jsonl_bytes([invoice(2)]))
    (report,) = home.arrive()
    assert (report.loaded_rows, report.malformed_rows) == (2, 0)
    assert home.rows("select unknown_columns from raw.deliveries") == [("tags",)]


def test_json_lines_are_refused_where_the_whole_file_is_wrong(home: Home) -> None:
    home.land("invoices/array.jsonl", b"\n\n")
    home.land("invoices/empty.jsonl", b"")
    home.land("invoices/no-plan.jsonl", jsonl_bytes([invoice(1)]).replace(b'"plan"', b'"plam"'))
    reasons = [report.reason or "" for report in home.arrive()]
    assert [("blank" in reasons[0]), ("empty" in reasons[1])] == [True, True]
    assert "missing required column plan ('plam' looks like plan)" in reasons[2]


@pytest.mark.parametrize(
    ("name", "content", "remedy"),
    [
        ("a.jsonl", b"", "deliver it again, complete"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0), "deliver at least one record"),
        ("a.csv", b"", "deliver it again, complete and with its header"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "deliver it with its header"),
        ("a.csv", b"a;b;c\n1;2;3\n", "a comma as the separator, in the header and in every row"),
        ("a.csv", gzip.compress(b"a,b\n", mtime=0), "with the extension .csv.gz, or unpacked"),
        ("a.jsonl", gzip.compress(b"{}\n", mtime=0), "with the extension .jsonl.gz, or unpacked"),
        ("a.csv", b"PAR1\x15\xffPAR1", "with the extension .parquet"),
        ("a.csv.gz", b"a,b\n", "with the extension .csv, or pack it with gzip"),
        ("a.jsonl.gz", b"{}\n", "with the extension .jsonl, or pack it with gzip"),
    ],
    ids=lambda part: str(part)[:40],
)
def test_a_refusal_says_what_to_do(home: Home, name: str, content: bytes, remedy: str) -> None:
    home.land(f"invoices/{name}", content)
    (report,) = home.arrive()
    assert report.verdict == "refused"
    assert str(report.remedy).endswith(remedy)


def test_only_a_csv_file_is_told_of_its_header(home: Home) -> None:
    rows = [{name: text for name, text in INVOICE.items() if name != "plan"}]
    table = invoices_table(plan=None)
    for name, content in {
        "a.jsonl": jsonl_bytes(rows),
        "b.parquet": parquet_bytes(table),
        "c.csv": csv_bytes(rows),
    }.items():
        home.land(f"invoices/{name}", content)
    reports = home.arrive()
    assert {report.reason for report in reports} == {"missing required column plan"}
    assert ["header" in str(report.remedy) for report in reports] == [False, False, True]


def test_a_gzip_file_cut_short_is_told_with_the_bytes_it_unpacks_to(home: Home) -> None:
    content = csv_bytes([invoice(number) for number in range(5_000)])
    packed = gzip.compress(content)
    home.land("invoices/a.csv.gz", packed[: len(packed) // 2])
    (report,) = home.arrive()
    found = re.fullmatch("gzip file is cut short after ([0-9]+) unpacked bytes", str(report.reason))
    assert found
    assert 10_000 < int(found[1]) < len(content)


def invoices_table(**columns: Any) -> pa.Table:
    """One invoice as Arrow, some columns replaced; None removes one."""
    values = {name: pa.array([INVOICE[name]]) for name in INVOICES} | columns
    return pa.table({name: column for name, column in values.items() if column is not None})


def parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    """An Arrow table as Parquet."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


WHOLE_PARQUET = parquet_bytes(invoices_table())
PARQUETS: list[tuple[str, bytes, str]] = [
    (
        "two wrong types",
        parquet_bytes(invoices_table(list_amount=pa.array([150]), invoice_id=pa.array([7.0]))),
        "column invoice_id has the Parquet type double; column list_amount has the Parquet type int64",
    ),
    ("column missing", parquet_bytes(invoices_table(plan=None)), "missing required column plan"),
    ("cut short", WHOLE_PARQUET[:-10], "unreadable Parquet"),
    ("only its magic", b"PAR1PAR1", "unreadable Parquet"),
    ("rubbish", b"\xff" * 5_000, "unreadable Parquet"),
    ("a CSV file", csv_bytes([INVOICE]), "is named .parquet and is text with commas"),
    ("Avro", b"Obj\x01" + WHOLE_PARQUET, "is named .parquet and is an Avro file"),
    (
        "text that is not UTF-8",
        parquet_bytes(invoices_table(plan=pa.array([b"t\xe9am"]))),
        "column plan cannot be read in rows 1 to 1",
    ),
    ("damaged pages", WHOLE_PARQUET[:4] + b"\xff" * 400 + WHOLE_PARQUET[404:], "unreadable"),
    ("empty", b"", "empty"),
]


def test_parquet_that_is_not_exact_text_is_refused_and_the_others_go_on(home: Home) -> None:
    for name, content, _ in PARQUETS:
        home.land(f"invoices/{name}.parquet", content)
    home.land("invoices/z.csv", csv_bytes([INVOICE]))
    *refused, loaded = home.arrive()
    for report, (name, _, reason) in zip(refused, PARQUETS, strict=True):
        assert report.verdict == "refused", name
        assert reason in str(report.reason), name
    assert loaded.verdict == "loaded"


def test_parquet_values_are_exact(home: Home) -> None:
    table = invoices_table(
        list_amount=pa.array([Decimal("5000.0000")], pa.decimal128(18, 4)),
        tax_amount=pa.array([Decimal("0E-10")], pa.decimal128(38, 10)),
        total_amount=pa.array([Decimal("-0.0000010")], pa.decimal128(18, 7)),
        mtus=pa.array([None], pa.null()),
        plan=pa.array([""], pa.large_string()),
        issued_at=pa.array([1_500_000], pa.timestamp("us", "America/New_York")),
        period_start=pa.array([0], pa.date64()),
    )
    home.land("invoices/a.parquet", parquet_bytes(table))
    (report,) = home.arrive()
    assert (report.verdict, report.reason) == ("loaded", None)
    assert home.rows(
        "select list_amount, tax_amount, total_amount, mtus, plan, issued_at, period_start "
        "from raw.invoices"
    ) == [("5000", "0", "-0.000001", None, None, "1970-01-01T00:00:01.5Z", "1970-01-01")]


def typed_invoices(zone: str | None) -> pa.Table:
    """Two invoices with the types of their columns; instants without a time zone for None."""
    instants = pa.array([1_500_000, None], pa.timestamp("us", zone))
    table = invoices_table(
        **{name: pa.array([date(2026, 1, 1)] * 2) for name in ("period_start", "period_end")},
        **{
            name: pa.array([Decimal("-0.50"), None], pa.decimal128(18, 2))
            for name in INVOICES
            if name.endswith("_amount")
        },
        issued_at=instants,
        updated_at=instants,
        mtus=pa.array([7, None], pa.uint32()),
        **{name: pa.array([INVOICE[name]] * 2) for name in ("workspace_id", "status", "plan")},
        **{name: pa.array([INVOICE[name]] * 2) for name in ("billing_interval", "currency")},
        invoice_id=pa.array(["in_1", "in_2"]),
    )
    return table.select(INVOICES)


def stored(home: Home) -> list[str]:
    """The files of rows, by their path in the folder of their feed, without the types of values."""
    folder = home.path / "build/raw/invoices"
    paths = (str(path.relative_to(folder)) for path in folder.rglob("*.parquet"))
    return sorted(re.sub("-[0-9a-f]{8}/", "/", path) for path in paths)


def test_parquet_of_the_contracts_types_is_stored_as_values_and_shown_as_text(home: Home) -> None:
    home.land("invoices/a.parquet", parquet_bytes(typed_invoices("UTC")))
    home.land("invoices/b.parquet", parquet_bytes(typed_invoices(None)))
    home.land("invoices/c.parquet", WHOLE_PARQUET)
    home.land("invoices/d.csv", csv_bytes([INVOICE]))
    reports = home.arrive()
    assert [report.verdict for report in reports] == ["loaded"] * 4
    assert stored(home) == [
        *("000000003.parquet", "000000004.parquet"),
        *("local_values/000000002.parquet", "values/000000001.parquet"),
    ]
    for delivery, instant in ((1, "1970-01-01T00:00:01.5Z"), (2, "1970-01-01T00:00:01.5")):
        shown = home.rows(
            "select list_amount, mtus, period_start, issued_at, plan from raw.invoices"
            f" where delivery_sequence = {delivery} order by row_number"
        )
        assert shown == [
            ("-0.5", "7", "2026-01-01", instant, "team"),
            (None, None, "2026-01-01", None, "team"),
        ]
        found = rows_delivered(
            Archive(home.path / "archive", home.path / "build/tmp"),
            str(reports[delivery - 1].delivery_id),
            {1},
            new_folder(home.path / f"work-{delivery}"),
        )
        assert (found[1]["list_amount"], found[1]["issued_at"]) == ("-0.5", instant)
    landed = home.rows(
        "select distinct list_amount, list_amount_value, is_local from landed.invoices"
    )
    assert sorted(landed, key=str) == [
        ("120.00", None, False), (None, -50, False), (None, -50, True),
        (None, None, False), (None, None, True),
    ]  # fmt: skip
    notes = dict(home.rows("select delivery_sequence, notes from raw.deliveries"))
    assert notes == {
        1: None, 3: None, 4: None,
        2: "issued_at: 1 instant without an offset; updated_at: 1 instant without an offset",
    }  # fmt: skip


def new_folder(path: Path) -> Path:
    """Make a folder."""
    path.mkdir()
    return path


def test_the_gate_says_the_same_of_values_as_of_their_text(home: Home, tmp_path: Path) -> None:
    table = typed_invoices("UTC").slice(0, 1)
    other = Home(tmp_path / "text")
    home.land("invoices/a.parquet", parquet_bytes(pa.concat_tables([table] * 30)))
    home.arrive(with_gate=True)
    assert stored(home) == ["values/000000001.parquet"]
    texts = home.rows(f"select {', '.join(INVOICES)} from raw.invoices")
    rows = [{name: text or "" for name, text in zip(INVOICES, row, strict=True)} for row in texts]
    other.land("invoices/a.csv", csv_bytes(rows))
    other.arrive(with_gate=True)
    results = "select check_name, passed, observed from raw.gate_results order by all"
    assert home.rows(results) == other.rows(results)
    assert ("list_amount_is_readable", True, "0 of 30 rows") in home.rows(results)


def test_the_text_that_an_earlier_version_stored_stays(home: Home) -> None:
    home.land("invoices/a.parquet", parquet_bytes(typed_invoices("UTC")))
    home.arrive()
    before = home.everything()
    texts = home.path / "build/raw/invoices/000000001.parquet"
    with duckdb.connect(str(home.path / "build/warehouse.duckdb")) as connection:
        columns = ", ".join(["row_number", *feeds()["invoices"].column_names])
        connection.execute(f"copy (select {columns} from raw.invoices) to '{texts}'")
        connection.execute("drop schema landed cascade")
    [values] = texts.parent.glob("values-*/000000001.parquet")
    values.unlink()
    home.land("invoices/b.parquet", parquet_bytes(typed_invoices(None)))
    home.arrive()
    assert stored(home) == ["000000001.parquet", "local_values/000000002.parquet"]
    rows = "from raw.invoices where delivery_sequence = 1 order by all"
    assert home.rows(rows) == before["invoices"]
    amounts = home.rows(
        "select list_amount, list_amount_value from landed.invoices"
        " where row_number = 1 order by delivery_sequence"
    )
    assert amounts == [("-0.5", None), (None, -50)]
    rebuild(home.path)
    assert stored(home) == ["local_values/000000002.parquet", "values/000000001.parquet"]
    assert home.rows(rows) == before["invoices"]


def test_values_are_stored_again_where_the_contract_changes_the_type_of_a_column(
    home: Home,
) -> None:
    home.land("invoices/a.parquet", parquet_bytes(typed_invoices("UTC")))
    home.arrive()
    before = home.everything()
    [folder] = (home.path / "build/raw/invoices").iterdir()
    folder.rename(folder.with_name("values-0badcafe"))
    assert [report.verdict for report in home.arrive()] == ["loaded", "known"]
    assert home.everything() == before
    assert list((home.path / "build/raw/invoices").iterdir()) == [folder]


@pytest.mark.parametrize("money", [pa.decimal32(9, 2), pa.decimal64(18, 2)], ids=str)
def test_parquet_decimals_may_be_short(home: Home, money: pa.DataType) -> None:
    table = invoices_table(list_amount=pa.array([Decimal("120.50")], money))
    home.land("invoices/a.parquet", parquet_bytes(table))
    (report,) = home.arrive()
    assert (report.verdict, report.reason) == ("loaded", None)
    assert home.rows("select list_amount from raw.invoices") == [("120.5",)]


def test_a_parquet_reader_that_dies_takes_nothing_with_it(home: Home) -> None:
    home.land("invoices/a.parquet", WHOLE_PARQUET)
    home.land("invoices/b.csv", csv_bytes([INVOICE]))
    first, second = home.arrive(limits=Limits(parquet_memory_bytes=64 * 1024 * 1024))
    assert first.verdict == "refused"
    assert "memory" in str(first.reason) or "its reader ended" in str(first.reason)
    assert second.verdict == "loaded"


def test_a_parquet_bomb_is_refused(home: Home) -> None:
    table = pa.table({**{name: [INVOICE[name]] * 400_000 for name in INVOICES}})
    home.land("invoices/a.parquet", parquet_bytes(table, compression="zstd"))
    (report,) = home.arrive(limits=Limits(unpacked_bytes=1_000_000))
    assert "unpacks to more than" in str(report.reason)


def test_personal_data_is_removed_from_malformed_rows(home: Home) -> None:
    content = csv_bytes([WORKSPACE, WORKSPACE, WORKSPACE, WORKSPACE])
    parts = lines(content)
    parts[1] = parts[1].replace(b"Acme", b"Ac,me")
    parts[2] = parts[2].replace(b"Acme,", b"")
    parts[3] = parts[3].replace(b"Acme", b'"Ac"me')
    parts[4] = parts[4].replace(b"ws_1,Acme,user_secret", b'"ws_1,Acme,user_secret",')
    home.land("workspaces/a.csv", b"".join(parts))
    odd = [
        jsonl_bytes([WORKSPACE]).replace(b"Acme", b"Ac\tme"),
        jsonl_bytes([WORKSPACE]).replace(b'"Acme"', b"[1]"),
        jsonl_bytes([WORKSPACE]).replace(b'"workspace_name"', b'"owner_user_id"'),
        jsonl_bytes([WORKSPACE]).replace(b'"owner_user_id"', b'"owner"').replace(b'"Acme"', b"[1]"),
    ]
    home.land("workspaces/a.jsonl", b"".join(odd))
    assert [report.malformed_rows for report in home.arrive()] == [4, 4]
    records = [row[0] for row in home.rows("select record from raw.malformed_rows")]
    assert len(records) == 8
    assert not any("secret" in record for record in records)
    assert sum("ws_1" in record for record in records) == 3
    assert sum(WORKSPACE["created_at"] in record for record in records) == 7
    assert all(json.loads(record) for record in records)


HOSTILE_NAMES = [
    "a[1].csv",
    "*.csv",
    "a?b{c,d}.csv",
    'it\'s "quoted".csv',
    "a;drop table raw.invoices;--.csv",
    "line\nend.csv",
    "-rf.csv",
    "a..b.csv",
    "$(touch x) `y` %s {}.csv",
    " .csv",
    "x.csv.csv",
    "日本語.csv",
    "☃" * 80 + ".csv",
]


def test_hostile_names_are_only_names(home: Home) -> None:
    for number, name in enumerate(HOSTILE_NAMES):
        home.land(f"invoices/{name}", csv_bytes([invoice(number)]))
    bad = os.fsencode(home.landing / "invoices") + b"/\xff.csv"
    Path(os.fsdecode(bad)).write_bytes(csv_bytes([invoice(99)]))
    reports = home.arrive()
    assert {report.verdict for report in reports} == {"loaded"}
    found = {
        row[0].removeprefix("invoices/")
        for row in home.rows("select file_name from raw.deliveries")
    }
    assert found == {*HOSTILE_NAMES, "\\xff.csv"}
    ids = {row[0] for row in home.rows("select invoice_id from raw.invoices")}
    assert ids == {*(f"in_{number}" for number in range(len(HOSTILE_NAMES))), "in_99"}
    assert not (Path.cwd() / "x").exists()


def test_a_data_home_with_a_pattern_for_a_name_reads_its_own_files(tmp_path: Path) -> None:
    other = Home(tmp_path / "home-a")
    other.land("invoices/a.csv", csv_bytes([invoice(1)]))
    other.arrive()
    home = Home(tmp_path / "home-[abc] {x,y}*")
    home.land("invoices/a.csv", csv_bytes([invoice(2)]))
    home.land("invoices/b.jsonl", jsonl_bytes([invoice(3)]))
    home.land("invoices/c.csv", csv_bytes([invoice(4)]) + b"x\n")
    assert [report.verdict for report in home.arrive()] == ["loaded"] * 3
    assert home.rows("select invoice_id from raw.invoices order by 1") == [
        ("in_2",),
        ("in_3",),
        ("in_4",),
    ]


def test_what_is_not_a_delivery_is_left_alone(home: Home) -> None:
    for name in ("a.csv.part", ".a.csv", "a.csv.manifest.json", ".hidden/a.csv"):
        home.land(f"invoices/{name}", b"rubbish")
    home.land(".git/config", b"rubbish")
    assert home.arrive() == []


def test_files_that_lie_in_no_feeds_folder_are_refused_and_kept(home: Home) -> None:
    content = csv_bytes([INVOICE])
    home.land("invoices/2026/01/a.csv", content)
    home.land("invoicez/a.csv", content)
    home.land("a.csv", content)
    home.land("invoices/a.txt", content)
    reports = {report.file_name: report for report in home.arrive()}
    assert {report.verdict for report in reports.values()} == {"refused"}
    assert "a folder inside 2026/" in str(reports["invoices/2026/01/a.csv"].reason)
    assert "not that of a feed" in str(reports["invoicez/a.csv"].reason)
    assert "no feed's folder" in str(reports["a.csv"].reason)
    ids = [row[0] for row in home.rows("select delivery_id from raw.deliveries")]
    assert len(ids) == len(set(ids)) == 3
    recorded = home.rows("select file_name, refusal_reason from raw.deliveries")
    assert all(str(reports[name].reason) in reason for name, reason in recorded)
    assert reports["invoices/a.txt"].delivery_id == reports["invoices/2026/01/a.csv"].delivery_id


def test_the_same_bytes_moved_to_the_right_place_are_loaded(home: Home) -> None:
    path = home.land("invoices/a.txt", csv_bytes([INVOICE]))
    assert home.arrive()[0].verdict == "refused"
    assert home.arrive()[0].verdict == "known"
    path.rename(path.with_suffix(".csv"))
    assert home.arrive()[0].verdict == "loaded"
    assert home.rows("select delivery_sequence, verdict from raw.deliveries") == [(2, "loaded")]
    assert home.arrive()[0].verdict == "known"
    before = home.everything()
    rebuild(home.path)
    assert home.everything() == before


def test_of_the_same_bytes_in_two_places_the_right_one_counts(home: Home) -> None:
    home.land("invoices/2026/01/a.csv", csv_bytes([INVOICE]))
    home.land("invoices/b.csv", csv_bytes([INVOICE]))
    home.land("invoices/c.csv", csv_bytes([INVOICE]))
    home.land("invoices/d.txt", csv_bytes([INVOICE]))
    verdicts = {report.file_name: report.verdict for report in home.arrive()}
    assert verdicts == {
        "invoices/2026/01/a.csv": "refused",
        "invoices/b.csv": "loaded",
        "invoices/c.csv": "known",
        "invoices/d.txt": "known",
    }
    assert home.rows("select file_name, verdict from raw.deliveries") == [
        ("invoices/b.csv", "loaded")
    ]
    before = home.everything()
    assert {report.verdict for report in home.arrive()} == {"known"}
    rebuild(home.path)
    assert home.everything() == before


def test_links_are_followed_only_within_the_landing_folder(home: Home, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_bytes(csv_bytes([invoice(9)]))
    home.land("invoices/a.csv", csv_bytes([invoice(1)]))
    for name, target in {
        "out.csv": secret,
        "up.csv": Path("../../secret.csv"),
        "nowhere.csv": Path("nothing"),
        "loop.csv": Path("loop.csv"),
        "in.csv": Path("a.csv"),
        "hosts.csv": Path("/etc/hosts"),
    }.items():
        (home.landing / "invoices" / name).symlink_to(target)
    (home.landing / "coupons").symlink_to(tmp_path)
    os.mkfifo(home.landing / "invoices/pipe.csv")
    verdicts = {report.file_name: report.verdict for report in home.arrive()}
    assert verdicts.pop("invoices/a.csv") in ("loaded", "known")
    assert verdicts.pop("invoices/in.csv") in ("loaded", "known")
    assert set(verdicts.values()) == {"refused"}
    assert len(verdicts) == 7
    assert home.rows("select invoice_id from raw.invoices") == [("in_1",)]
    archived = [
        path.read_bytes() for path in (home.path / "archive").glob("*/*") if not path.suffix
    ]
    assert archived == [csv_bytes([invoice(1)])]
    before = home.everything()
    assert {report.verdict for report in home.arrive("again")} == {"known"}
    assert home.everything() == before


@pytest.mark.parametrize("what", ["a.csv", "a.csv.manifest.json"])
@pytest.mark.parametrize(
    ("code", "is_transient"),
    [(errno.EACCES, False), (errno.EIO, True), (errno.ESTALE, True), (errno.EMFILE, True)],
    ids=lambda part: str(errno.errorcode.get(part, part)),
)
def test_a_file_that_cannot_be_read_is_refused_and_taken_once_it_can(
    home: Home, monkeypatch: pytest.MonkeyPatch, what: str, code: int, is_transient: bool
) -> None:
    home.land("invoices/a.csv", csv_bytes([INVOICE]))
    home.land("invoices/a.csv.manifest.json", b'{"rows": 1}')
    home.land("invoices/b.csv", csv_bytes([invoice(2)]))
    open_ = os.open

    def refusing(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith(what):
            raise OSError(code, os.strerror(code))
        return open_(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refusing)
        refused, other = home.arrive()
    assert (refused.verdict, other.verdict) == ("refused", "loaded")
    assert ("at the moment" in str(refused.reason)) == is_transient
    assert ("nothing is wrong with the file" in str(refused.remedy)) == is_transient
    assert str(refused.remedy).endswith("run again") or not is_transient
    assert [report.verdict for report in home.arrive()] == ["loaded", "known"]


def test_arriving_again_changes_nothing_and_imports_little(home: Home) -> None:
    home.land("invoices/a.csv", csv_bytes([invoice(1)]))
    home.land("invoices/bad.csv", b"rubbish")
    home.arrive()
    before = home.everything()
    home.land("invoices/same.csv", csv_bytes([invoice(1)]), at=1)
    home.land("invoices/bad-again.csv", b"rubbish")
    reports = {report.file_name: report for report in home.arrive("again")}
    assert {report.verdict for report in reports.values()} == {"known"}
    assert "missing required column" in str(reports["invoices/bad-again.csv"].reason)
    assert home.everything() == before
    script = (
        "import sys; from pathlib import Path; from datetime import datetime;"
        "from dagster_project.arrival import arrive;"
        "arrive(Path(sys.argv[1]), Path(sys.argv[2]), 'again', datetime(2026, 1, 1));"
        "print([m for m in ('pandas', 'pyarrow', 'great_expectations') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(home.landing), str(home.path)],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_the_same_bytes_in_two_feeds_are_two_deliveries(home: Home) -> None:
    header = dict.fromkeys([*feeds()["workspaces"].column_names, *INVOICES], "x")
    home.land("workspaces/a.csv", csv_bytes([header]))
    home.land("invoices/a.csv", csv_bytes([header]))
    first, second = home.arrive()
    assert (first.verdict, second.verdict) == ("loaded", "loaded")
    assert second.delivery_id == f"{first.delivery_id}-2"
    before = home.everything()
    assert {report.verdict for report in home.arrive()} == {"known"}
    rebuild(home.path)
    assert home.everything() == before


def test_deliveries_count_in_the_order_run_then_time_then_name(home: Home) -> None:
    home.land("invoices/b.csv", csv_bytes([invoice(1)]), at=100)
    home.land("invoices/a.csv", csv_bytes([invoice(2)]), at=100)
    home.land("invoices/z.csv", csv_bytes([invoice(3)]), at=50)
    home.arrive("first")
    home.land("invoices/old.csv", csv_bytes([invoice(4)]), at=10)
    home.arrive("second")
    assert home.rows("select file_name from raw.deliveries order by delivery_sequence") == [
        ("invoices/z.csv",),
        ("invoices/a.csv",),
        ("invoices/b.csv",),
        ("invoices/old.csv",),
    ]


def test_an_absent_landing_folder_is_an_error(home: Home) -> None:
    home.landing.rmdir()
    with pytest.raises(ArrivalError, match="no such folder"):
        home.arrive()


def landed_variety(home: Home) -> None:
    """A bit of everything."""
    home.land("workspaces/w.csv", csv_bytes([WORKSPACE]) + b"torn,row\n\n")
    home.land("invoices/a.csv", csv_bytes([invoice(number) for number in range(50)]))
    home.land("invoices/b.jsonl", jsonl_bytes([invoice(1)]) + b"rubbish\n")
    home.land("invoices/bad.csv", b"rubbish")
    home.land("invoices/c.parquet", WHOLE_PARQUET)
    home.land("stray/d.csv", csv_bytes([INVOICE]))


def test_rebuilding_from_the_archive_gives_the_same_tables(home: Home, tmp_path: Path) -> None:
    landed_variety(home)
    home.arrive(with_gate=True)
    home.land("invoices/later.csv", csv_bytes([invoice(7)]), at=1)
    home.arrive("later", with_gate=True)
    before = home.everything()
    assert before["gate_results"]
    home.landing.rename(tmp_path / "gone")
    reports = rebuild(home.path)
    assert [report.verdict for report in reports].count("refused") == 2
    assert home.everything() == before
    (home.path / "build/warehouse.duckdb").unlink()
    home.landing.mkdir()
    home.arrive("after the warehouse was lost")
    assert home.everything() == before
    (home.path / "build/warehouse.duckdb").write_bytes(b"not a database" * 1000)
    home.arrive("after the warehouse was damaged")
    assert home.everything() == before


def test_a_changed_archive_is_noticed(home: Home) -> None:
    home.land("invoices/a.csv", csv_bytes([INVOICE]))
    (report,) = home.arrive()
    path = home.path / "archive" / report.delivery_id[:2] / report.delivery_id
    path.chmod(0o640)
    path.write_bytes(path.read_bytes().replace(b"120.00", b"999.00"))
    with pytest.raises(ArrivalError, match=r"changed since it was archived.*invoices/a\.csv"):
        rebuild(home.path)
    path.unlink()
    with pytest.raises(ArrivalError, match="cannot be read"):
        rebuild(home.path)


@pytest.mark.parametrize("damage", ["altered", "cut off", "gone"])
def test_bytes_that_the_archive_lost_are_taken_from_the_file_delivered_again(
    home: Home, damage: str
) -> None:
    landed_variety(home)
    home.arrive()
    before = home.everything()
    path = Archive(home.path / "archive", home.path).bytes_path(
        hashlib.sha256((home.landing / "invoices/c.parquet").read_bytes()).hexdigest()
    )
    whole = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(whole[:-1] if damage == "cut off" else whole[:-1] + b"x")
    with pytest.raises(ArrivalError, match="deliver the file again and run again"):
        rebuild(home.path)
    told = told_again(home)
    assert "invoices/c.parquet was archived again: its bytes were gone or damaged" in told
    assert path.read_bytes() == whole
    assert home.everything() == before


def test_bytes_that_the_archive_lost_of_a_loaded_delivery_are_taken_again(home: Home) -> None:
    landed_variety(home)
    home.arrive()
    for path in (home.path / "archive").glob("??/*"):
        if path.suffix != ".json":
            path.unlink()
    assert all("was archived again" in line for line in told_again(home))
    assert told_again(home) == []
    before = home.everything()
    rebuild(home.path)
    assert home.everything() == before


class Killed(BaseException):
    """Ends a run as a kill would, at one point."""


def test_a_run_killed_anywhere_is_made_good_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = Home(tmp_path / "undisturbed")
    land_few(undisturbed)
    undisturbed.arrive()
    expected = undisturbed.everything()
    point = 0
    while True:
        home = Home(tmp_path / f"killed-{point}")
        land_few(home)
        if not _killed_at(home, point, monkeypatch):
            break
        home.arrive()
        assert home.everything() == expected, point
        if point % 4 == 0:
            rebuild(home.path)
            assert home.everything() == expected, point
        point += 1
    assert point > 10


def _killed_at(home: Home, point: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Let a run arrive and die at the n-th step that writes anything; return whether it got that far."""
    steps = 0

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps > point:
                raise Killed
            return function(*arguments, **options)

        return step

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", counting(shutil.rmtree))
        for name in ("load_rows", "write_deliveries", "record_digests", "drop_tables"):
            patched.setattr(warehouse, name, counting(getattr(warehouse, name)))
        for name in ("store", "write_record"):
            patched.setattr(Archive, name, counting(getattr(Archive, name)))
        patched.setattr(os, "replace", counting(os.replace))
        try:
            home.arrive()
        except Killed:
            return True
    return False


def land_few(home: Home) -> None:
    """One file that is loaded, with a malformed row, and one that is refused."""
    home.land("workspaces/w.csv", csv_bytes([WORKSPACE]) + b"torn,row\n")
    home.land("invoices/bad.csv", b"rubbish")


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ({}, None),
        ({"rows": 2}, None),
        ({"control_total": {"column": "list_amount", "total": "240.0"}}, None),
        ({"control_total": {"column": "list_amount", "total": 240}}, None),
        ({"rows": 3}, "it has 2 rows, its manifest says 3"),
        ({"sha256": "0" * 64}, "its manifest says 0000"),
        (
            {"control_total": {"column": "list_amount", "total": "240.01"}},
            "the sum of list_amount is 240, its manifest says 240.01",
        ),
        ({"control_total": {"column": "plan", "total": "1"}}, "no amount column"),
        ({"control_total": {"column": "list_amount", "total": "NaN"}}, "not an amount"),
        ({"control_total": 5}, "not an object"),
        ({"rows": "2"}, "not a whole number"),
        ({"sha256": 5}, "not 64 hex digits"),
        ({"row": 2}, "not an object with"),
        ([], "not an object with"),
        ("rubbish", "not an object with"),
        (b"\xff", "its manifest is not UTF-8"),
        (b"rubbish", "its manifest is not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
    ids=lambda part: str(part)[:40],
)
def test_a_manifest_is_enforced(home: Home, manifest: object, reason: str | None) -> None:
    content = csv_bytes([invoice(1), invoice(2)])
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    home.land("invoices/a.csv", content)
    home.land("invoices/a.csv.manifest.json", text)
    (report,) = home.arrive()
    if reason is None:
        assert (report.verdict, report.reason) == ("loaded", None)
        return
    assert report.verdict == "refused"
    assert reason in str(report.reason)
    assert home.arrive()[0].verdict == "known"
    right = {"sha256": hashlib.sha256(content).hexdigest(), "rows": 2}
    home.land("invoices/a.csv.manifest.json", json.dumps(right).encode())
    assert home.arrive()[0].verdict == "loaded"
    assert home.rows("select verdict from raw.deliveries") == [("loaded",)]


def test_a_manifest_notices_a_file_cut_at_a_line_end(home: Home) -> None:
    content = csv_bytes([invoice(1), invoice(2)])
    home.land("invoices/a.csv", b"".join(lines(content)[:-1]))
    home.land("invoices/a.csv.manifest.json", b'{"rows": 2}')
    assert "it has 1 row, its manifest says 2" in str(home.arrive()[0].reason)


def test_a_file_that_grows_while_it_is_read_waits_for_the_next_run(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster_project.arrival import archive

    path = home.land("invoices/a.csv", csv_bytes([invoice(1)]))
    read = archive._read

    def growing(source: Any) -> bytes:
        block = read(source)
        if block:
            with path.open("ab") as file:
                file.write(b"more")
        return b"" if len(block) == 4 else block

    with monkeypatch.context() as patched:
        patched.setattr(archive, "_read", growing)
        (report,) = home.arrive()
    assert "still being written" in str(report.reason)
    path.write_bytes(csv_bytes([invoice(1)]))
    assert home.arrive()[0].verdict == "loaded"
    assert home.rows("select invoice_id from raw.invoices") == [("in_1",)]


def test_a_reader_that_disagrees_with_duckdb_is_asked_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.land("invoices/a.csv", csv_bytes([invoice(1), invoice(2)]))
    copy = warehouse._copy_plain_csv

    def losing(connection: Any, feed: Any, source: Any, path: Path) -> None:
        copy(connection, feed, source, path)
        kept = path.with_suffix(".kept")
        connection.execute(
            f"copy (from '{path}' where row_number <> 2) to '{kept}' (format parquet)"
        )
        os.replace(kept, path)

    monkeypatch.setattr(warehouse, "_copy_plain_csv", losing)
    (report,) = home.arrive()
    assert (report.verdict, report.loaded_rows) == ("loaded", 2)


def test_the_gate_reports_bad_rows_and_lets_the_file_in(home: Home) -> None:
    rows = [invoice(number) for number in range(30)]
    rows[3]["discount_amount"] = "-1.00"
    rows[4]["status"] = "payed"
    rows[5]["total_amount"] = "1.00"
    rows[6]["invoice_id"] = "in_7"
    home.land("workspaces/w.csv", csv_bytes([WORKSPACE]))
    home.land("invoices/a.csv", csv_bytes(rows))
    _, report = home.arrive(with_gate=True)
    assert report.verdict == "loaded"
    failures = {failure.check_name: failure for failure in report.gate_failures}
    assert failures.keys() == {
        "discount_amount_is_in_range",
        "status_is_readable",
        "invoice_adds_up",
        "invoice_id_is_unique_in_the_file",
    }
    assert {failure.severity for failure in failures.values()} == {"warn"}
    assert failures["status_is_readable"].observed == "1 of 30 rows, such as 'payed'"
    recorded = home.rows(
        "select check_name from raw.gate_results where feed = 'invoices' and not passed"
    )
    assert {row[0] for row in recorded} == failures.keys()


COUPON = {
    "coupon_id": "c", "coupon_name": "C", "program": "special", "discount_type": "percent_off",
    "percent_off": "20", "duration": "forever", "updated_at": "2026-01-01T00:00:00Z",
}  # fmt: skip


@pytest.mark.parametrize("feed", ["invoices", "coupons"])
def test_the_gate_takes_numbers_of_any_length(home: Home, feed: str) -> None:
    good = invoice(1) if feed == "invoices" else COUPON
    numbers = [c.name for c in feeds()[feed].columns if c.type in ("amount", "decimal", "whole")]
    good = dict.fromkeys(numbers, "1") | good
    texts = [f"{sign}{'9' * digits}{end}" for digits in range(1, 40) for sign in ("", "-") for end in ("", ".9", ".0")]  # fmt: skip
    rows = [good | dict.fromkeys(numbers, text) for text in texts]
    home.land(f"{feed}/a.csv", csv_bytes([*rows, *[good] * len(rows)]))
    (report,) = home.arrive(with_gate=True)
    assert (report.verdict, report.reason) == ("loaded", None)


def test_columns_with_one_remedy_share_it(home: Home) -> None:
    both = {name: pa.array([150]) for name in ("list_amount", "total_amount")}
    home.land("invoices/a.parquet", parquet_bytes(invoices_table(**both)))
    (report,) = home.arrive()
    assert str(report.remedy).startswith("write list_amount, total_amount as a decimal")
    assert str(report.remedy).count("decimal(18, 2)") == 1


def test_the_gate_refuses_a_file_of_another_kind(home: Home) -> None:
    rows = [invoice(number, issued_at="soon") for number in range(30)]
    home.land("invoices/a.csv", csv_bytes(rows))
    home.land("invoices/torn.csv", csv_bytes([INVOICE]) + b"a,b\n" * 30)
    first, second = home.arrive(with_gate=True)
    assert (first.verdict, second.verdict) == ("refused", "refused")
    assert "issued_at_is_mostly_readable: issued at unreadable: 100%" in str(first.reason)
    assert "records_have_all_fields" in str(second.reason)
    assert str(first.remedy).startswith("correct the values")
    assert home.rows("from raw.invoices") == []
    assert home.rows("from raw.malformed_rows") == []
    assert home.rows("select count(*) from raw.gate_results where severity = 'error'")[0][0] > 0
    before = home.everything()
    rebuild(home.path)
    assert home.everything() == before


def test_a_delivery_of_unusual_size_is_told(home: Home) -> None:
    for day in range(4):
        rows = [invoice(day * 100 + number) for number in range(40)]
        home.land(f"invoices/{day}.csv", csv_bytes(rows))
    small = [invoice(1000 + number, list_amount="12.00") for number in range(20)]
    home.land("invoices/small.csv", csv_bytes(small[:15]))
    home.land("invoices/cheap.csv", csv_bytes(small * 2))
    *usual, fewer, cheap = home.arrive(with_gate=True)
    names = [{failure.check_name for failure in report.gate_failures} for report in usual]
    assert not any("row_count_is_as_usual" in found for found in names)
    assert "row_count_is_as_usual" in {failure.check_name for failure in fewer.gate_failures}
    found = {failure.check_name for failure in cheap.gate_failures}
    assert "average_list_amount_is_as_usual" in found


def test_a_file_of_malformed_lines_only_passes_the_gate_where_they_are_few(home: Home) -> None:
    home.land("invoices/a.jsonl", b"rubbish\n")
    home.land("coupons/a.jsonl", b"rubbish\n" * 30)
    refused, loaded = home.arrive(with_gate=True)
    assert (loaded.verdict, loaded.malformed_rows, loaded.loaded_rows) == ("loaded", 1, 0)
    assert (refused.verdict, refused.physical_rows) == ("refused", 30)


def test_a_second_writer_is_told_and_disturbs_nothing(home: Home) -> None:
    home.land("invoices/a.csv", csv_bytes([INVOICE]))
    home.arrive()
    busy = home.path / "build/tmp/busy"
    busy.mkdir(parents=True)
    script = (
        "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(home.path / "build/warehouse.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ArrivalError, match=r"cannot be opened.*wait for the other process"):
            home.arrive()
        assert busy.exists()
        other.communicate()
    assert home.arrive()[0].verdict == "known"
    assert not busy.exists()


def test_a_full_disk_is_told_and_the_next_run_goes_on(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.land("invoices/a.csv", csv_bytes([INVOICE]))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ArrivalError, match="No space left on device; check free space"):
            home.arrive()
    assert home.arrive()[0].verdict == "loaded"


def test_a_file_where_a_feeds_folder_should_be_is_refused(home: Home) -> None:
    home.land("invoices", csv_bytes([INVOICE]))
    (report,) = home.arrive()
    assert (report.verdict, report.feed) == ("refused", "")


def test_a_damaged_warehouse_is_put_aside_and_filled_again(home: Home) -> None:
    for number in range(3):
        home.land(f"invoices/{number}.csv", csv_bytes([invoice(number)]))
    home.arrive()
    before = home.everything()
    path = home.path / "build/warehouse.duckdb"
    whole = path.read_bytes()
    damages = [whole[:size] for size in (1, 4096, 12_288, len(whole) // 2, len(whole) - 4096)]
    damages += [whole[:at] + b"\xff" * 64 + whole[at + 64 :] for at in (8, 4_200, 8_300, 12_400)]
    for damage in damages:
        path.write_bytes(damage)
        home.arrive()
        assert home.everything() == before


@pytest.mark.parametrize("kept", [0, 3, 4, -1, None])
def test_stored_rows_that_are_cut_off_or_gone_are_filled_again(
    home: Home, kept: int | None
) -> None:
    landed_variety(home)
    home.arrive()
    before = home.everything()
    file = max((home.path / "build/raw").rglob("*.parquet"))
    if kept is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:kept])
    home.arrive()
    assert home.everything() == before


def test_a_stored_file_that_somebody_altered_is_made_again_from_the_archive(home: Home) -> None:
    landed_variety(home)
    home.arrive()
    before, files = home.everything(), stored_files(home)
    for file in files:
        alter(file)
        number = len(files)
        why = f"{file} was not the file that was stored"
        assert told_again(home) == [f"{number} files were loaded again from the archive: {why}"]
        assert home.everything() == before
        assert told_again(home) == []
    for file in files:
        alter(file)
    [told] = told_again(home)
    assert told.endswith(f"and {len(files) - 1} more were not the files that were stored")
    assert home.everything() == before


def test_what_is_loaded_again_is_not_counted_as_delivered_now(home: Home) -> None:
    landed_variety(home)
    first = home.arrive()
    alter(stored_files(home)[0])
    again = [report for report in home.arrive() if report.is_again]
    assert not any(report.is_again for report in first)
    assert sorted((one.feed, one.delivery_id, one.verdict) for one in again) == sorted(
        {(one.feed, one.delivery_id, one.verdict) for one in first if one.verdict != "known"}
    )


def test_a_file_of_text_beside_stored_values_is_not_read(home: Home) -> None:
    home.land("invoices/a.parquet", parquet_bytes(typed_invoices("UTC")))
    home.arrive()
    before = home.everything()
    [values] = stored_files(home)
    text = values.parents[1] / values.name
    with duckdb.connect(str(home.path / "build/warehouse.duckdb")) as connection:
        columns = ", ".join(["row_number", *feeds()["invoices"].column_names])
        connection.execute(f"copy (select {columns} from raw.invoices limit 1) to '{text}'")
    [told] = told_again(home)
    assert told.startswith("1 file was loaded again") and f"{text} was not the file" in told
    assert home.everything() == before


def test_files_that_an_earlier_version_stored_stay_and_their_digests_are_recorded(
    home: Home,
) -> None:
    landed_variety(home)
    home.arrive()
    before, files = home.everything(), stored_files(home)
    with duckdb.connect(str(home.path / "build/warehouse.duckdb")) as connection:
        connection.execute("drop table landed.stored_files; create schema kept")
    assert told_again(home) == []
    assert home.rows("from duckdb_schemas() where schema_name = 'kept'"), "a build may carry on"
    alter(files[0])
    [told] = told_again(home)
    assert f"{files[0]} was not the file that was stored" in told
    assert home.everything() == before
    assert not home.rows("from duckdb_schemas() where schema_name = 'kept'"), "it read these rows"


def test_a_run_killed_while_it_loads_again_is_made_good_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = Home(tmp_path / "undisturbed")
    land_few(undisturbed)
    undisturbed.arrive()
    expected, point = undisturbed.everything(), 0
    while True:
        home = Home(tmp_path / f"killed-{point}")
        shutil.copytree(undisturbed.landing, home.landing, dirs_exist_ok=True)
        home.arrive()
        alter(stored_files(home)[0])
        if not _killed_at(home, point, monkeypatch):
            break
        home.arrive()
        assert home.everything() == expected, point
        assert not told_again(home), point
        point += 1
    assert point > 5


def stored_files(home: Home) -> list[Path]:
    """The files in which delivered rows are stored."""
    return sorted((home.path / "build/raw").rglob("*.parquet"))


def told_again(home: Home) -> list[str]:
    """Run arrival, and return its notes on rows that it loads again from the archive."""
    told: list[str] = []
    home.arrive(note=told.append)
    return told


def alter(file: Path) -> None:
    """Remove the first row of a Parquet file, which stays a valid file."""
    pq.write_table(pq.read_table(file).slice(1), file)


def test_tables_of_another_version_of_the_product_are_filled_again(home: Home) -> None:
    landed_variety(home)
    home.arrive()
    before = home.everything()
    with duckdb.connect(str(home.path / "build/warehouse.duckdb")) as connection:
        connection.execute("alter table raw.deliveries drop column run_id")
    home.arrive("after an upgrade")
    assert home.everything() == before


def settled(folder: Path, age: float = 3_600) -> None:
    """Make everything in a folder, and the folder, as old as this."""
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (time.time() - age,) * 2)


def test_a_folder_of_parts_is_taken_once_it_is_whole(home: Home) -> None:
    folder = home.landing / "invoices/export"
    for part in range(3):
        home.land(f"invoices/export/part-{part}.csv", csv_bytes([invoice(part)]))
    home.land("invoices/export/.part-0.csv.crc", b"crc")
    home.land("invoices/export/part-0.crc", b"crc")
    home.land("invoices/export/_committed_123", b"{}")
    home.land("invoices/export/_logs/part-9.csv", b"rubbish")
    assert home.arrive() == []
    home.land("invoices/export/_SUCCESS", b"")
    (folder / "_temporary").mkdir()
    assert home.arrive() == []
    (folder / "_temporary").rmdir()
    reports = home.arrive()
    assert [(report.file_name, report.verdict) for report in reports] == [
        (f"invoices/export/part-{part}.csv", "loaded") for part in range(3)
    ]
    assert {report.verdict for report in home.arrive()} == {"known"}


@pytest.mark.parametrize(("age", "taken"), [(59, False), (61, True)])
def test_a_folder_without_a_mark_is_whole_once_it_has_settled(
    home: Home, age: float, taken: bool
) -> None:
    home.land("invoices/export/part-0.csv", csv_bytes([INVOICE]))
    settled(home.landing / "invoices/export", age)
    assert bool(home.arrive()) == taken


def reasons_to_wait(home: Home) -> list[str]:
    """What `run` says about the folders that are not whole."""
    return list(left_alone(home.landing, list(feeds()), time.time() - 60)["waiting"])


def test_a_folder_that_waits_is_told_with_what_it_waits_for(home: Home) -> None:
    folder = home.landing / "invoices/export"
    home.land("invoices/export/a.csv", csv_bytes([invoice(1)]))
    (reason,) = reasons_to_wait(home)
    assert reason == "invoices/export/ (it has no _SUCCESS and has changed a moment ago)"
    settled(folder)
    assert reasons_to_wait(home) == []
    (folder / "currency=USD").mkdir()
    settled(folder)
    for inside in ("_temporary", "currency=USD/_temporary"):
        (folder / inside).mkdir()
        settled(folder)
        (reason,) = reasons_to_wait(home)
        assert reason == "invoices/export/ (it is still being written: _temporary is in it)"
        assert home.arrive() == []
        (folder / inside).rmdir()
    (folder / "_SUCCESS").touch()
    assert reasons_to_wait(home) == []
    assert [report.verdict for report in home.arrive()] == ["loaded"]


@pytest.mark.parametrize("inside", ["b.csv.part", "currency=USD/b.csv.PART"])
def test_a_folder_with_an_unfinished_part_waits_even_if_it_is_marked_as_whole(
    home: Home, inside: str
) -> None:
    folder = home.landing / "invoices/export"
    home.land("invoices/export/a.csv", csv_bytes([invoice(1)]))
    home.land(f"invoices/export/{inside}", b"invoice")
    home.land("invoices/export/.c.csv.part", b"hidden")
    (folder / "_SUCCESS").touch()
    settled(folder)
    assert home.arrive() == []
    name = inside.rpartition("/")[2]
    assert reasons_to_wait(home) == [
        f"invoices/export/ (it is still being written: {name} is in it)"
    ]
    (folder / inside).unlink()
    assert [report.verdict for report in home.arrive()] == ["loaded"]
    assert reasons_to_wait(home) == []


def test_an_empty_part_beside_others_is_passed_over_and_told(home: Home) -> None:
    folder = home.landing / "invoices/export"
    home.land("invoices/export/a.csv", csv_bytes([invoice(1)]))
    home.land("invoices/export/b.csv", b"")
    settled(folder)
    assert [report.file_name for report in home.arrive()] == ["invoices/export/a.csv"]
    alone = left_alone(home.landing, list(feeds()), time.time())
    assert alone == {"waiting": (), "empty": ("invoices/export/b.csv",)}
    home.land("invoices/export/b.csv.manifest.json", b'{"rows": 1}')
    settled(folder)
    (refused,) = [report for report in home.arrive() if report.verdict == "refused"]
    assert (refused.file_name, refused.reason) == ("invoices/export/b.csv", "the file is empty")


def test_a_folder_of_empty_parts_alone_is_refused_as_an_empty_file_is(home: Home) -> None:
    home.land("invoices/export/a.csv", b"")
    settled(home.landing / "invoices/export")
    home.land("invoices/b.csv", b"")
    assert [report.reason for report in home.arrive() if report.verdict == "refused"] == [
        "the file is empty"
    ]
    assert left_alone(home.landing, list(feeds()), time.time())["empty"] == ()


def test_a_folder_named_as_a_column_gives_its_parts_that_column(home: Home) -> None:
    part = csv_bytes([{name: text for name, text in INVOICE.items() if name != "currency"}])
    for value in ("USD", "EUR", "__HIVE_DEFAULT_PARTITION__", "J%50Y"):
        home.land(f"invoices/export/currency={value}/part-0.csv", part)
    table = invoices_table(currency=None)
    home.land("invoices/export/currency=GBP/part-0.parquet", parquet_bytes(table))
    lines = jsonl_bytes([{name: text for name, text in INVOICE.items() if name != "currency"}])
    home.land("invoices/export/currency=CHF/year=2025/part-0.json", lines)
    home.land("invoices/export/currency=NOK/part-1.csv", csv_bytes([INVOICE]))
    home.land("invoices/export/_SUCCESS", b"")
    reports = {report.file_name: report for report in home.arrive()}
    refused = reports.pop("invoices/export/currency=NOK/part-1.csv")
    assert "its folder and the file itself give 'currency'" in str(refused.reason)
    assert {report.verdict for report in reports.values()} == {"loaded"}
    found = home.rows("select currency from raw.invoices order by currency")
    assert found == [("CHF",), ("EUR",), ("GBP",), ("JPY",), ("USD",), (None,)]
    assert home.rows(
        "select unknown_columns from raw.deliveries where file_name like '%.json'"
    ) == [("year",)]
    assert {report.verdict for report in home.arrive()} == {"known"}
    before = home.everything()
    rebuild(home.path)
    assert home.everything() == before


ARRAY = jsonl_bytes([invoice(1), invoice(2)]).decode().strip().replace("\n", ",\n")


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.json", f"[{ARRAY}]", 2),
        ("a.json", f"\ufeff \n[\n{ARRAY}\n]\n\n", 2),
        ("a.ndjson", ARRAY.replace(",\n", "\n"), 2),
        ("a.json", ARRAY.replace(",\n", "\n"), 2),
        ("a.jsonl", f"[{ARRAY}]", 2),
        ("a.json", "[]", 0),
    ],
)
def test_json_is_lines_or_one_array_by_its_first_byte(
    home: Home, name: str, text: str, rows: int
) -> None:
    home.land(f"invoices/{name}", text.encode())
    home.land(f"invoices/{name}.gz", gzip.compress(text.encode() + b"\n"))
    reports = home.arrive()
    assert [(report.verdict, report.physical_rows) for report in reports] == [("loaded", rows)] * 2
    assert home.rows("select count(*) from raw.invoices") == [(2 * rows,)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"[{ARRAY},]", "the array ends with a comma, after row 2"),
        (f"[{ARRAY}] x", "something follows"),
        (f"[{ARRAY} {ARRAY}]", "a comma or the end"),
        (ARRAY.join("[]").replace('"team"', '"say "hi""', 1), "not JSON in row 1"),
        (f"[{ARRAY}, " + "[" * 100_000, "nested too deeply"),
    ],
)
def test_a_broken_array_is_refused(home: Home, text: str, reason: str) -> None:
    home.land("invoices/a.json", text.encode())
    (report,) = home.arrive()
    assert report.verdict == "refused"
    assert reason in str(report.reason)


RECORD = '{"invoice_id": "in_1", "status": "pa\\u0069d", "mtus": 1.5e+3, "is_open": false}'


def test_a_record_cut_off_anywhere_is_told_as_cut_off(tmp_path: Path) -> None:
    for place in range(1, len(RECORD)):
        cut = RECORD[:place]
        told = refusal_of_json(tmp_path / "a.json", f"[{ARRAY}, {cut}")
        assert told.startswith("the array is not closed: the file ends within row 3; "), cut
        (tmp_path / "a.jsonl").write_text(f"{json.dumps(INVOICE)}\n{cut}", "utf-8")
        assert "the line ends before the object does" in malformed_in(tmp_path / "a.jsonl"), cut


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[", "ends before its first row"),
        (f"[{ARRAY}", "ends after row 2"),
        (f"[{ARRAY}\r\n", "ends after row 2"),
        (f"[{ARRAY}, \n", "ends after row 2"),
        (f"[{RECORD[:-1]}}}, {RECORD[:-1]},", "ends within row 2"),
        (f"[{RECORD}, {RECORD[:-1]}]", "not JSON in row 2 (Expecting ',' delimiter)"),
        (f"[{RECORD}, {RECORD[:-6]}x", "not JSON in row 2 (Expecting value)"),
    ],
)
def test_an_array_is_told_where_it_ends(tmp_path: Path, text: str, told: str) -> None:
    assert told in refusal_of_json(tmp_path / "a.json", text)


def refusal_of_json(path: Path, text: str) -> str:
    """Why a file of invoices is refused, and what to do."""
    path.write_text(text, "utf-8")
    with pytest.raises(Refusal) as refused:
        prepare_json(path, feeds()["invoices"], Limits(), path.with_name("rows"), {})
    return str(refused.value)


def malformed_in(path: Path) -> str:
    """Why rows of a file of invoices are set apart."""
    prepared = prepare_json(path, feeds()["invoices"], Limits(), path.with_name("lines"), {})
    return str(pq.read_table(prepared.malformed)["reason"].to_pylist())


def test_an_array_is_read_as_a_stream(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagster_project.arrival.json_lines.ARRAY_BLOCK", 7)
    rows = [{**invoice(number), "plan": 'é[]{},"\\' * number} for number in range(20)]
    home.land("invoices/a.json", json.dumps([*rows, 7, None, [1], "x", {"a": {}}]).encode())
    (report,) = home.arrive()
    assert (report.verdict, report.loaded_rows, report.malformed_rows) == ("loaded", 21, 4)
    found = home.rows("select invoice_id, plan from raw.invoices order by row_number limit 20")
    assert found == [(row["invoice_id"], row["plan"] or None) for row in rows]


def test_numbers_of_json_are_taken_by_their_digits(home: Home) -> None:
    line = jsonl_bytes([INVOICE]).decode()
    for old, new in (('"120.00"', "1.2E+2"), ('"10000"', "1.0E7")):
        assert old in line
        line = line.replace(old, new)
    home.land("invoices/a.jsonl", line.encode())
    home.land("workspaces/a.jsonl", jsonl_bytes([WORKSPACE]).replace(b'"ws_1"', b"7.0000001E7"))
    assert {report.verdict for report in home.arrive()} == {"loaded"}
    assert home.rows("select list_amount, mtus from raw.invoices") == [("120.0", "10000000.0")]
    assert home.rows("select workspace_id from raw.workspaces") == [("70000001.0",)]


SPELT_OUT = [
    ("99.900000000000005687", "99.9"),  # as SQLite writes them
    ("0.10000000000000000555", "0.1"),
    ("1234567.8000000000465", "1234567.8"),
    ("-0.020000000000000000416", "-0.02"),
    ("246913.55999999999766", "246913.56"),
    ("33.33330000000000126", "33.3333"),
    ("99.900000000000005688", "99.9"),
    ("99.900000000000005800", "99.900000000000005800"),  # no double is this
    ("0.10000000000000001555", "0.10000000000000001555"),
    ("5.000000000000000000001", "5.000000000000000000001"),
    ("0.250000000000000000001", "0.250000000000000000001"),
    (
        "70368744177664.0156250000000",
        "70368744177664.0156250000000",
    ),  # doubles of this size do not distinguish hundredths
    ("99.9000", "99.9000"),
]


@pytest.mark.parametrize(("written", "expected"), SPELT_OUT)
def test_a_double_of_json_that_is_spelt_out_is_its_shortest_decimal(
    home: Home, written: str, expected: str
) -> None:
    line = jsonl_bytes([{**INVOICE, "plan": "PLAN"}]).decode()
    line = line.replace('"120.00"', written).replace('"PLAN"', written)
    home.land("invoices/a.json", f"[{line}]".encode())
    home.arrive()
    assert home.rows("select list_amount, plan from raw.invoices") == [(expected, written)]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("9007199254740991.0", "9007199254740991.0"),
        ("9007199254740992.0", "9.0071992547409920e+15"),
        ("-9007199254740993.0", "-9.0071992547409930e+15"),
        ("9007199254740993", "9007199254740993"),
    ],
)
def test_a_whole_double_of_json_is_taken_as_far_as_doubles_hold_every_digit(
    home: Home, written: str, expected: str
) -> None:
    line = jsonl_bytes([INVOICE]).decode()
    home.land("invoices/a.jsonl", line.replace('"10000"', written).encode())
    home.arrive()
    assert home.rows("select mtus from raw.invoices") == [(expected,)]


def test_objects_over_several_lines_are_refused_with_what_to_do(home: Home) -> None:
    pretty = "\n".join(json.dumps(invoice(number), indent=2) for number in (1, 2))
    home.land("invoices/a.json", pretty.encode())
    home.land("invoices/b.json", json.dumps([invoice(1)], indent=2).encode())
    home.land("invoices/c.json", jsonl_bytes([invoice(2)]) + b"{\n}\n")
    reports = {report.file_name[-6:]: report for report in home.arrive()}
    assert "objects span several lines" in str(reports["a.json"].reason)
    assert "jq: -c" in str(reports["a.json"].remedy)
    assert reports["b.json"].loaded_rows == 1
    assert (reports["c.json"].loaded_rows, reports["c.json"].malformed_rows) == (1, 2)


def test_names_in_another_case_are_told_by_what_they_look_like(home: Home) -> None:
    header, rows = csv_bytes([WORKSPACE]).split(b"\n", 1)
    home.land("workspaces/a.csv", header.upper() + b"\n" + rows)
    (report,) = home.arrive()
    for name in ("workspace_id", "created_at", "updated_at"):
        assert f"'{name.upper()}' looks like {name}" in str(report.reason)


def test_json_escaped_twice_is_refused(home: Home) -> None:
    rows = [{**WORKSPACE, "workspace_name": name} for name in ("C:\\new", 'Say "Hi"')]
    home.land("workspaces/a.jsonl", jsonl_bytes(rows).replace(b"\\", b"\\\\"))
    home.land("workspaces/b.jsonl", jsonl_bytes(rows))
    first, second = home.arrive()
    assert "row 2 is not JSON: its backslashes are doubled" in str(first.reason)
    assert second.verdict == "loaded"


def test_what_is_taken_with_a_word_is_noted(home: Home) -> None:
    instants = [INVOICE["issued_at"], "2025-01-01 00:00:00", "2025-01-01", "2025-01-01T00:00 +02"]
    rows = [{**invoice(number), "issued_at": text} for number, text in enumerate(instants)]
    home.land("invoices/a.csv", csv_bytes(rows))
    home.land("invoices/b.csv", csv_bytes([invoice(9)]))
    home.land("workspaces/a.csv", csv_bytes([{**WORKSPACE, "workspace_name": "NULL"}]))
    home.arrive()
    assert home.rows("select file_name, notes from raw.deliveries order by 1") == [
        ("invoices/a.csv", "issued_at: 2 instants without an offset"),
        ("invoices/b.csv", None),
        ("workspaces/a.csv", "workspace_name: 1 value that may stand for a missing one"),
    ]


def test_what_rejects_many_rows_alike_is_noted_once_for_the_delivery(home: Home) -> None:
    rows = [
        invoice(1, workspace_id="7.0", mtus="NA", discount_amount="NaN"),
        invoice(2, workspace_id="8.00", mtus="NA", plan="N/A"),
        invoice(3, workspace_id="null", mtus="1000.0"),
        invoice(4, workspace_id="7.01", mtus=""),
    ]
    home.land("invoices/a.jsonl", jsonl_bytes(rows))
    home.arrive()
    assert home.rows("select string_split(notes, '; ') from raw.deliveries") == [
        (
            [
                "workspace_id: 2 numbers that went through a float, rejected",
                "workspace_id: 1 value that may stand for a missing one",
                "plan: 1 value that may stand for a missing one",
                "words for a missing value (NULL, NA, NaN, None, nan), rejected: 1 of"
                " discount_amount, 2 of mtus",
            ],
        )
    ]


@pytest.mark.parametrize(
    "manifest",
    [
        b'{"rows": 1e9999999999999999999999}',
        b'{"control_total": {"column": "list_amount", "total": 1E+999999999999999999999}}',
        b'{"rows": ' + b"9" * 10_000 + b"}",
        b'{"sha256": -1e-99999999999999999999}',
        b"[" * 100_000,
    ],
    ids=lambda content: str(content)[:40],
)
def test_a_manifest_of_numbers_without_a_bound_refuses_its_file_alone(
    home: Home, manifest: bytes
) -> None:
    home.land("invoices/a.csv", csv_bytes([invoice(1)]))
    home.land("invoices/a.csv.manifest.json", manifest)
    home.land("invoices/b.csv", csv_bytes([invoice(2)]))
    assert [report.verdict for report in home.arrive()] == ["refused", "loaded"]
    assert [report.verdict for report in home.arrive()] == ["known", "known"]


def test_a_manifest_that_is_no_file_refuses_its_file_alone(home: Home) -> None:
    home.land("invoices/a.csv", csv_bytes([invoice(1)]))
    home.land("invoices/a.csv.manifest.json/keep", b"")
    home.land("invoices/b.csv", csv_bytes([invoice(2)]))
    os.mkfifo(home.landing / "invoices/b.csv.manifest.json")
    home.land("invoices/c.csv", csv_bytes([invoice(3)]))
    writer = os.open(home.landing / "invoices/b.csv.manifest.json", os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(writer, b'{"rows": 1}')
        verdicts = {report.file_name: report for report in home.arrive()}
    finally:
        os.close(writer)
    assert "no regular file" in str(verdicts["invoices/a.csv"].reason)
    assert "no regular file" in str(verdicts["invoices/b.csv"].reason)
    assert verdicts["invoices/c.csv"].verdict == "loaded"


def test_an_unexpected_error_refuses_its_file_alone(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster_project.arrival import arriving, delimited

    def failing(path: Path, *arguments: Any) -> Any:
        if b"in_2" in path.read_bytes():
            raise ZeroDivisionError("SECRET")
        return delimited.prepare_csv(path, *arguments)

    monkeypatch.setattr(arriving, "reader_of", lambda *_: failing)
    for number in (1, 2, 3):
        home.land(f"invoices/{number}.csv", csv_bytes([invoice(number)]))
    reports = home.arrive()
    assert [report.verdict for report in reports] == ["loaded", "refused", "loaded"]
    assert "an unexpected error: ZeroDivisionError in test_arrival.py" in str(reports[1].reason)
    assert "report this" in str(reports[1].remedy)
    assert "SECRET" not in f"{reports[1].reason} {reports[1].remedy}"
    assert [report.verdict for report in home.arrive()] == ["known"] * 3


def test_an_error_while_small_files_are_loaded_together_refuses_one_alone(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes_of = warehouse.notes_of

    def failing(connection: Any, feed: Any, loaded: str) -> Any:
        if connection.execute(f"select 1 from {loaded} where invoice_id = 'in_2'").fetchall():
            raise ZeroDivisionError
        return notes_of(connection, feed, loaded)

    monkeypatch.setattr(warehouse, "notes_of", failing)
    for number in (1, 2, 3):
        home.land(f"invoices/{number}.csv", csv_bytes([invoice(number)]))
    assert [report.verdict for report in home.arrive()] == ["loaded", "refused", "loaded"]
    assert home.rows("select invoice_id from raw.invoices order by 1") == [("in_1",), ("in_3",)]


def test_a_delivery_larger_than_the_free_space_is_refused_before_it_is_copied(home: Home) -> None:
    home.land("invoices/a.csv", csv_bytes([invoice(1)]))
    large = home.landing / "invoices/b.csv"
    with large.open("wb") as file:
        file.truncate(2 * shutil.disk_usage(home.landing).free)
    assert [report.verdict for report in home.arrive()] == ["loaded", "refused"]
    (refused,) = [report for report in home.arrive() if report.verdict == "refused"]
    assert "more than can be copied" in str(refused.reason)
    large.write_bytes(csv_bytes([invoice(2)]))
    assert {report.file_name[-5:]: report.verdict for report in home.arrive()} == {
        "a.csv": "known",
        "b.csv": "loaded",
    }


def test_what_was_refused_for_want_of_space_is_taken_once_there_is_some(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.land("invoices/a.csv.gz", gzip.compress(csv_bytes([invoice(1)])))
    home.land("invoices/b.csv", csv_bytes([invoice(2)]))

    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("dagster_project.arrival.unpacking.unpack", full)
        assert [report.verdict for report in home.arrive()] == ["refused", "loaded"]
    assert [report.verdict for report in home.arrive()] == ["loaded", "known"]


def test_deep_folders_and_long_names_are_refused_once(home: Home) -> None:
    home.land("invoices/a.csv", csv_bytes([invoice(1)]))
    descriptor = os.open(home.landing / "invoices", os.O_RDONLY)
    for _ in range(1_500):
        os.mkdir("d" * 10, dir_fd=descriptor)
        below = os.open("d" * 10, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    try:
        reports = home.arrive()
    finally:  # pytest's own clean-up is recursive
        subprocess.run(["rm", "-rf", home.landing / "invoices" / ("d" * 10)], check=True)
    assert [report.verdict for report in reports if report.file_name == "invoices/a.csv"] == [
        "loaded"
    ]
    deep = [report for report in reports if report.file_name != "invoices/a.csv"]
    assert [report.verdict for report in deep] == ["refused"]
    assert "folders are nested" in str(deep[0].reason)


def test_a_line_of_very_many_keys_or_values_takes_no_time_and_little_memory(home: Home) -> None:
    good = jsonl_bytes([invoice(1)])
    keys = ", ".join(f'"k{number}": 1' for number in range(150_000))
    home.land("invoices/keys.jsonl", good + f'{{{keys}, "k1": 2}}\n'.encode())
    home.land("invoices/list.jsonl", good + b'{"x": [' + b"1," * 4_000_000 + b"1]}\n")
    started = time.process_time()
    reports = home.arrive()
    assert time.process_time() - started < 30
    assert [(report.loaded_rows, report.malformed_rows) for report in reports] == [(1, 1), (1, 1)]


def test_many_small_files_each_keep_their_own_verdict(home: Home) -> None:
    expected: dict[str, tuple[str, str | None]] = {}
    for number in range(15):
        rows = [invoice(100 * number + row) for row in range(25 if number % 7 == 0 else 1)]
        if number % 14 == 0:
            rows = [{**row, "issued_at": "yesterday"} for row in rows]
        content = csv_bytes(rows)
        if number % 10 == 3:
            content = content.replace(b"invoice_id", b"id")
        if number % 10 == 4:
            content += b"torn,row\n"
        name = f"invoices/{number:03d}.csv"
        home.land(name, content)
        if number % 14 == 0:
            expected[name] = ("refused", "issued_at_is_mostly_readable")
        elif number % 10 == 3:
            expected[name] = ("refused", "missing required column invoice_id")
        else:
            expected[name] = ("loaded", None)
    reports = home.arrive(with_gate=True)
    assert len(reports) == len(expected)
    for report in reports:
        verdict, reason = expected[report.file_name]
        assert report.verdict == verdict, report
        assert (reason or "") in str(report.reason)
    together = home.rows(
        "select file_name, check_name, passed, observed from raw.gate_results"
        " join raw.deliveries using (delivery_sequence) where check_name not like '%usual' order by all"
    )
    alone = Home(home.path.parent / "alone")
    for number in range(15):
        name = f"invoices/{number:03d}.csv"
        alone.land(name, (home.landing / name).read_bytes())
        alone.arrive(with_gate=True)
    assert together == alone.rows(
        "select file_name, check_name, passed, observed from raw.gate_results"
        " join raw.deliveries using (delivery_sequence) where check_name not like '%usual' order by all"
    )
    (one,) = [report for report in reports if report.file_name == "invoices/000.csv"]
    assert "row 1: 'yesterday': expected: an ISO 8601 instant" in str(one.reason)


def test_many_parquet_files_are_read_in_one_process_and_one_that_ends_it_is_found(
    home: Home,
) -> None:
    for number in range(5):
        table = invoices_table(invoice_id=pa.array([f"in_{number}"]))
        content = b"PAR1" + b"\xff" * 500 if number == 2 else parquet_bytes(table)
        home.land(f"invoices/{number}.parquet", content)
    assert [report.verdict for report in home.arrive()] == [
        "loaded", "loaded", "refused", "loaded", "loaded",
    ]  # fmt: skip


MEASURED = """
import re, sys
from datetime import UTC, datetime
from pathlib import Path
from dagster_project.arrival import arrive

def megabytes(what):
    return int(re.search(what + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024

folder = Path(sys.argv[1])
for made in sorted((folder / "made").iterdir()):
    made.rename(folder / "landing" / "invoices" / made.name)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again at what is held now
    before = megabytes("VmRSS")
    arrive(folder / "landing", folder / "home", "run", datetime.now(UTC), with_gate=False)
    print(made.name, megabytes("VmHWM") - before)
"""


def records_without_a_bound() -> Iterator[tuple[str, bytes]]:
    """Files of one record as large as is taken, or larger, of each kind that costs most."""
    most = Limits().line_bytes
    row = csv_bytes([invoice(2)])
    number = jsonl_bytes([invoice(3)]).replace(b'"10000"', b"9" * (most - 1_000))
    keys = b",".join(b'"k%d":1' % key for key in range(190_000))
    yield "0.csv", csv_bytes([invoice(1)])
    yield "lines.csv", row.replace(b"team", b'"' + b"y\n" * (most // 2 - 500) + b'"')
    yield "fields.csv", row + b"ab," * (most // 3 - 1)
    yield "endless.csv", row.replace(b"team", b'"' + b"x" * 40 + b"\n") + row * (most // 99)
    yield "number.json", b"[" + number + b"]"
    yield "long.json", b"[" + number[:-3] + b"9" * 2 * most + b"}]"
    yield "keys.jsonl", jsonl_bytes([invoice(4)]) + (b"{" + keys + b"}\n") * 4


def test_one_record_takes_at_most_256_megabytes(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "landing" / "invoices").mkdir(parents=True)
    for name, content in records_without_a_bound():
        (tmp_path / "made" / name).write_bytes(content)
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    taken = {name: int(megabytes) for name, megabytes in map(str.split, ended.stdout.splitlines())}
    assert len(taken) == 7
    # The first file also pays for what every arrival holds: DuckDB, the contracts, the imports.
    assert max(megabytes for name, megabytes in taken.items() if name != "0.csv") <= 256, taken
