"""A sample of many millions of invoices: a smaller one, copied by DuckDB.

The copying belongs here. The smaller sample is made by generate.py like any other, with its histories
and its planted errors; each of its workspaces is then repeated as often as needed, with a number after
every id (`ws_00123-7`). The copies share the coupons, whose limits on redemptions grow with them: equal
copies of a redemption are adjacent in the order of redemption, so the rules treat all copies of a
workspace alike, and every total is that of the smaller sample times the number of copies.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final, Literal

import duckdb

from dagster_project.sample.deliver import AMOUNTS, EXPORTED, WHOLE
from dagster_project.sample.generate import generate_sample
from dagster_project.sample.moments import DAY, day_number, instant_text, month_of, month_start

LargeFormat = Literal["csv", "parquet"]
Grouping = Literal["year", "month", "single"]

# The most invoices that are not copies; enough that no stretch of a file repeats itself.
BASE_INVOICES: Final = 500_000
# How many invoices a workspace gets in an average month.
_RATE: Final = 0.885
_COPIED_IDS: Final = ("workspace_id", "owner_user_id", "redemption_id", "user_id", "invoice_id")
_EXTRACT: Final = re.compile(r"invoices-\d{4}")
_RESTATED: Final = "invoices-restated"


@dataclass(frozen=True, slots=True)
class _File:
    """A file to write: rows of a feed, stretch after stretch.

    Attributes:
        folder: Its landing folder.
        feed: Its feed.
        name: Its name without extension.
        stretches: Conditions in SQL; all copies of the first's rows come before those of the second.
        modified_at: Its modification time, seconds since 1970.
        has_reasons: Whether it has the column with the reason of a restatement, which is not in the
            contract.
    """

    folder: Path
    feed: str
    name: str
    stretches: tuple[str, ...]
    modified_at: float
    has_reasons: bool = False


@dataclass(frozen=True, slots=True)
class LargeSummary:
    """What a large sample consists of.

    Attributes:
        invoices: Invoices, each counted once however often it was delivered.
        workspaces: Workspaces.
        copies: How often each record of the smaller sample occurs.
        last_day: Its last day, the as-of date of its truth.
        files: Files written.
        rows: Records in them.
    """

    invoices: int
    workspaces: int
    copies: int
    last_day: date
    files: int
    rows: int


def generate_large_sample(
    invoices: int,
    months: int,
    seed: int,
    out: Path,
    file_format: LargeFormat = "parquet",
    grouping: Grouping = "year",
    *,
    hold_back: bool = False,
    base_invoices: int = BASE_INVOICES,
) -> LargeSummary:
    """Write a large sample: `landing/<feed>/…`, `truth.json` and, on request, `next/invoices/…`.

    The same arguments give the same rows in the same order. `truth.json` is the truth about one copy,
    with `copies`: its record `in_00014_009` represents `in_00014_009-1` to the last copy. All rows can
    be read. Coupons are always CSV, and in Parquet yen have files of their own, because a Parquet column
    has one number of decimals.

    Args:
        invoices: About how many invoices, at least 1.
        months: How many calendar months, at least 1; 2 if the last is held back.
        seed: Any whole number; another seed gives another sample.
        out: Folder to write to, empty or not yet existing.
        file_format: Format of workspaces, redemptions and invoices.
        grouping: Which invoices share a file: those of a calendar year, of a month, or all.
        hold_back: Whether events of the last month's invoices are written to `next/`, a landing
            folder of its own, to be delivered later.
        base_invoices: About how many invoices the smaller sample has at most.

    Returns:
        What was written.

    Raises:
        ValueError: If a number is too small.
    """
    if invoices < 1 or months < 1 + hold_back:
        raise ValueError(
            f"a sample needs at least 1 invoice and {1 + hold_back} months, not {invoices} and {months}"
        )
    copies = -(-invoices // base_invoices)
    workspaces = max(1, round(invoices / copies / months / _RATE))
    with tempfile.TemporaryDirectory(prefix="coupon-ledger-sample-") as folder:
        base = Path(folder)
        made = generate_sample(workspaces, months, seed, base, plain=True)
        with duckdb.connect() as connection:
            connection.execute("set threads = 2; set memory_limit = '3GB'; set TimeZone = 'UTC'")
            connection.execute(f"set temp_directory = '{base / 'spill'}'")
            for feed in ("workspaces", "redemptions", "invoices"):
                _load(connection, base / "landing", feed)
            cut = month_start(month_of(day_number(made.last_day))) * DAY if hold_back else None
            files = [
                *_as_delivered(base / "landing", out / "landing", ("workspaces", "redemptions")),
                *_invoice_files(connection, base / "landing", out, grouping, cut),
            ]
            written = [
                each for file in files for each in _write(connection, file, copies, file_format)
            ]
            written += [
                _write_coupons(connection, path, out / "landing", copies)
                for path in sorted((base / "landing" / "coupons").iterdir())
            ]
        truth = json.loads((base / "truth.json").read_text("utf-8"))
    summary = LargeSummary(
        invoices=made.invoices * copies,
        workspaces=made.workspaces * copies,
        copies=copies,
        last_day=made.last_day,
        files=len(written),
        rows=sum(rows for _, rows in written),
    )
    truth["copies"] = copies
    (out / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", "utf-8")
    return summary


def _load(connection: duckdb.DuckDBPyConnection, landing: Path, feed: str) -> None:
    """Load all records of a feed as text, in the order of their files, with the file's name."""
    columns = [*EXPORTED[feed], *(("restatement_reason",) if feed == "invoices" else ())]
    connection.execute(f"create table {feed} (file varchar, {' varchar, '.join(columns)} varchar)")
    for path in sorted((landing / feed).iterdir()):
        connection.execute(
            f"insert into {feed} by name select '{path.stem}' as file, * "
            "from read_csv($path, all_varchar = true, header = true, quote = '\"', delim = ',')",
            {"path": str(path)},
        )


def _as_delivered(landing: Path, target: Path, feeds: tuple[str, ...]) -> Iterator[_File]:
    """Yield the files of the smaller sample, with all their rows."""
    for feed in feeds:
        for path in sorted((landing / feed).iterdir()):
            yield _File(
                folder=target,
                feed=feed,
                name=path.stem,
                stretches=(f"file = '{path.stem}'",),
                modified_at=path.stat().st_mtime,
                has_reasons=path.stem == _RESTATED,
            )


def _invoice_files(
    connection: duckdb.DuckDBPyConnection,
    landing: Path,
    out: Path,
    grouping: Grouping,
    cut: int | None,
) -> Iterator[_File]:
    """Yield files of invoices: extracts, a repeated delivery, restatements; withheld ones apart.

    Args:
        connection: Where the smaller sample's rows are.
        landing: The smaller sample's deliveries.
        out: The large sample's folder.
        grouping: Which invoices share a file.
        cut: First instant of what is held back, seconds since 1970; None for nothing.
    """
    earlier = later = "true"
    if cut is not None:
        instant = f"'{instant_text(cut)}'"
        happened = f"case when file = '{_RESTATED}' then updated_at else issued_at end"
        earlier, later = f"{happened} < {instant}", f"{happened} >= {instant}"
    delivered = [
        replace(file, stretches=(f"{file.stretches[0]} and {earlier}",))
        for file in _as_delivered(landing, out / "landing", ("invoices",))
    ]
    newest = max(delivered, key=lambda file: file.modified_at)
    if grouping == "single":
        stretches = tuple(file.stretches[0] for file in delivered)
        yield replace(newest, name="invoices", stretches=stretches, has_reasons=True)
    elif grouping == "year":
        yield from delivered
    else:
        for file in delivered:
            if _EXTRACT.fullmatch(file.name) is None:
                yield file
                continue
            months = connection.execute(
                "select distinct substr(issued_at, 1, 7) as month from invoices"
                f" where {file.stretches[0]} order by month"
            ).fetchall()
            for (month,) in months:
                following = month_of(day_number(date.fromisoformat(f"{month}-01"))) + 1
                yield replace(
                    file,
                    name=f"invoices-{month}",
                    stretches=(f"{file.stretches[0]} and issued_at like '{month}%'",),
                    modified_at=(month_start(following) + 3) * DAY,
                )
    if cut is not None:
        month = instant_text(cut)[:7]
        for name, condition, has_reasons in (
            (f"invoices-{month}", f"file <> '{_RESTATED}'", False),
            (f"{_RESTATED}-{month}", f"file = '{_RESTATED}'", True),
        ):
            yield replace(
                newest,
                folder=out / "next",
                name=name,
                stretches=(f"{condition} and {later}",),
                has_reasons=has_reasons,
            )


def _write(
    connection: duckdb.DuckDBPyConnection, file: _File, copies: int, file_format: LargeFormat
) -> Iterator[tuple[Path, int]]:
    """Write a file with all copies, in Parquet another one for yen; no file without rows.

    Yields:
        The path and the number of records of each.
    """
    kinds = [("", "true", 2)]
    if file_format == "parquet" and file.feed == "invoices":
        kinds = [("", "currency <> 'JPY'", 2), ("-yen", "currency = 'JPY'", 0)]
    for suffix, currencies, places in kinds:
        columns = [
            _typed(column, places) if file_format == "parquet" else column
            for column in EXPORTED[file.feed]
        ]
        if file.has_reasons:
            columns.append("restatement_reason")
        selects, rows = [], 0
        for number, stretch in enumerate(file.stretches):
            connection.execute(
                f"create or replace temp table stretch_{number} as "
                f"select {', '.join(columns)} from {file.feed} where {stretch} and {currencies}"
            )
            [counted] = connection.execute(f"select count(*) from stretch_{number}").fetchall()
            rows += counted[0]
            selects += [
                _copy(f"stretch_{number}", file.feed, copy) for copy in range(1, copies + 1)
            ]
        if not rows:
            continue
        path = file.folder / file.feed / f"{file.name}{suffix}.{file_format}"
        path.parent.mkdir(parents=True, exist_ok=True)
        how = (
            "format parquet, compression zstd" if file_format == "parquet" else "format csv, header"
        )
        connection.execute(f"copy ({' union all '.join(selects)}) to '{path}' ({how})")
        os.utime(path, (file.modified_at, file.modified_at))
        yield path, rows * copies


def _typed(column: str, places: int) -> str:
    """Return SQL for a column of text with its type in Parquet."""
    if column in AMOUNTS:
        return f"cast({column} as decimal(18, {places})) as {column}"
    if column in WHOLE:
        return f"cast({column} as bigint) as {column}"
    if column.startswith("period_"):
        return f"cast({column} as date) as {column}"
    if column.endswith("_at") or column == "eligible_until":
        return f"cast({column} as timestamptz) as {column}"
    return column


def _copy(table: str, feed: str, copy: int) -> str:
    """Return SQL for one copy, with its number after every id."""
    copied = [
        f"{column} || '-{copy}' as {column}" for column in _COPIED_IDS if column in EXPORTED[feed]
    ]
    return f"select * replace ({', '.join(copied)}) from {table}"


def _write_coupons(
    connection: duckdb.DuckDBPyConnection, path: Path, landing: Path, copies: int
) -> tuple[Path, int]:
    """Write a file of coupons, with limits for all copies."""
    target = landing / "coupons" / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = connection.read_csv(str(path), all_varchar=True, header=True)
    count = len(rows)
    connection.execute(
        f"copy (select * replace (cast(max_redemptions as bigint) * {copies} as max_redemptions)"
        f" from rows) to '{target}' (format csv, header)"
    )
    modified_at = path.stat().st_mtime
    os.utime(target, (modified_at, modified_at))
    return target, count
