"""`export`: the marts as files for a spreadsheet or another system, with a data dictionary.

Numbers, days and instants keep their types, and text from the source stays text: text that a spreadsheet
would read as a formula is a string cell in a workbook and begins with an apostrophe in CSV.

What is exported belongs here: the tables, their rows, the text of the first sheet. How a value becomes a
cell is in `workbook`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from dagster_project.answers import findings
from dagster_project.answers.as_csv import write_csv
from dagster_project.answers.asking import (
    Connection,
    NotThere,
    Row,
    bills_of_program,
    facts,
    local,
    month_in,
    must_be,
    rows,
    workspace,
    zone_of,
)
from dagster_project.answers.asking import program as known_program
from dagster_project.quoting import literal, quote
from dagster_project.releases.questions import Question

FORMATS: Final = ("xlsx", "csv", "parquet")
DICTIONARY: Final = "data_dictionary"
SUMMARY: Final = "summary"
RESULT: Final = "query"
"""Name of the sheet or file with the answer to a query in SQL."""

_ASKED = "temp.asked"
_NAME = "Name of the workspace, from dim_workspaces; not in the mart itself."
_BATCH = 10_000
_MEMORY = "128MB"
_PART = 16_384  # rows sorted at a time
_EVENTS = ("occurred_at", "effective_at", "issued_at")
"""Instants that assign a row without a month column to a month."""

Told = Callable[[str, int], None]


def _silent(name: str, rows: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class Narrowing:
    """The rows to export; all unless something is given.

    Attributes:
        month: Rows of this month; a table without months is exported whole.
        workspace_id: Rows of this workspace; a table without workspaces is left out.
        program: Rows of this program; a table without programs is left out.
    """

    month: date | None = None
    workspace_id: str | None = None
    program: str | None = None

    @property
    def suffix(self) -> str:
        """The narrowing as the end of a file's name."""
        given = [
            "" if self.month is None else f"{self.month:%Y-%m}",
            self.workspace_id or "",
            self.program or "",
        ]
        plain = [re.sub(r"[^A-Za-z0-9._-]", "_", one)[:60] for one in given if one]
        return "".join(f"-{one}" for one in plain)


@dataclass(frozen=True)
class Table:
    """A table to export.

    Attributes:
        name: The mart's name.
        columns: Its columns.
        condition: SQL condition that its rows, aliased `mart`, must meet.
        has_month: Whether its rows were chosen by month, if a month was given.
        key: Columns that identify a row.
    """

    name: str
    columns: tuple[str, ...]
    condition: str = "true"
    has_month: bool = True
    key: tuple[str, ...] = ()

    @property
    def relation(self) -> str:
        """The rows with the mart's own columns, as SQL."""
        whole = f"marts.{quote(self.name)}"
        if self.condition == "true":
            return whole
        return f"(select mart.* from {whole} as mart where {self.condition})"

    @property
    def has_name(self) -> bool:
        """Whether a workspace's name can be put beside its id."""
        has_owner = "workspace_id" in self.columns or "redemption_id" in self.columns
        return has_owner and "workspace_name" not in self.columns

    @property
    def named_columns(self) -> tuple[str, ...]:
        """The columns with the workspace's name among them: after its id, or after the redemption's."""
        if not self.has_name:
            return self.columns
        after = "workspace_id" if "workspace_id" in self.columns else "redemption_id"
        place = self.columns.index(after) + 1
        return (*self.columns[:place], "workspace_name", *self.columns[place:])

    @property
    def named_relation(self) -> str:
        """The rows with the workspace's name, in any order, as SQL."""
        return self._named("true") if self.has_name else self.relation

    def named_parts(self, connection: Connection) -> list[tuple[str, int]]:
        """Return the rows with the workspace's name a part at a time, in the order of the release.

        A release stores rows mostly in the order of their keys, which a join loses. Sorting parts of bounded
        size takes bounded memory.

        Returns:
            SQL for each part, and its number of rows; nothing if the name cannot be added.
        """
        if not self.has_name:
            return []
        counted = connection.execute(
            f"select rowid // {_PART} as part, count(*) from marts.{quote(self.name)} as mart"
            f" where {self.condition} group by part order by part"
        ).fetchall()
        return [
            (
                self._named(
                    f"mart.rowid between {part * _PART} and {part * _PART + _PART - 1}",
                    " order by mart.rowid",
                ),
                number,
            )
            for part, number in counted
        ]

    def _named(self, condition: str, order: str = "") -> str:
        selected = ", ".join(
            f"owners.{quote(name)}" if name == "workspace_name" else f"mart.{quote(name)}"
            for name in self.named_columns
        )
        owner, joined = "mart.workspace_id", ""
        if "workspace_id" not in self.columns:
            owner = "redemptions.workspace_id"
            joined = " left join marts.dim_coupon_redemptions as redemptions using (redemption_id)"
        return (
            f"(select {selected} from marts.{quote(self.name)} as mart{joined}"
            f" left join marts.dim_workspaces as owners on owners.workspace_id = {owner}"
            f" where {condition} and {self.condition}{order})"
        )

    @property
    def frozen(self) -> int:
        """How many of the first columns, at most four, are the key or the workspace and stay in view."""
        frozen = 0
        for name in self.named_columns[:4]:
            if name not in (*self.key, "workspace_id", "workspace_name"):
                break
            frozen += 1
        return frozen


def configuration(out: Path, memory: str = _MEMORY) -> dict[str, Any]:
    """Return DuckDB's configuration under which a release is opened for an export.

    The memory of an export does not grow with the release: DuckDB keeps little of the file in memory and
    spills to disk. Rows are written one after the other, so more threads would take more memory and CPU
    time without being faster.

    Args:
        out: The folder to write to; DuckDB spills to a temporary folder in it.
        memory: How much memory DuckDB may use, as DuckDB writes it.
    """
    return {
        "memory_limit": memory,
        "threads": 1,
        "temp_directory": str(out.expanduser().absolute() / f".export.{os.getpid()}.tmp"),
    }


def export(
    connection: Connection,
    kind: str,
    wanted: Sequence[str],
    out: Path,
    only: Narrowing | None = None,
    *,
    is_raw: bool = False,
    question: Question | None = None,
    told: Told = _silent,
) -> Row:
    """Write tables of the schema `marts` to a folder.

    Args:
        connection: The release.
        kind: One of `FORMATS`.
        wanted: Tables; none means all.
        out: The folder; created if absent. Files of the same name are replaced.
        only: Which rows.
        is_raw: Whether CSV keeps text unchanged, even if a spreadsheet reads it as a formula.
        question: The what-if question that the release answers, if any.
        told: Called with the name and number of rows of each table once it is written.

    Raises:
        NotThere: There is no such table, or none of its rows belong to what was asked for.
        OSError: The folder cannot be written to.
    """
    only = only or Narrowing()
    tables, left_out = _tables(connection, wanted, only)
    folder = out.expanduser().absolute()
    about = {**facts(connection), **asdict(only)}
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "xlsx":
        path = folder / f"{_book_name(about, question)}{only.suffix}.xlsx"
        written = [_workbook(connection, tables, left_out, path, about, question, told)]
    else:
        relations = {table.name: table.relation for table in tables}
        relations[DICTIONARY] = f"({_dictionary(tables, is_named=False)})"
        written = [
            _file(
                connection,
                kind,
                relation,
                folder / f"{name}.{kind}",
                name,
                about,
                question,
                is_raw,
                told,
            )
            for name, relation in relations.items()
        ]
    return {
        **about,
        "format": kind,
        "folder": str(folder),
        "files": written,
        "left_out": left_out,
        "whole_tables": [table.name for table in tables if only.month and not table.has_month],
    }


def save(
    connection: Connection,
    sql: str,
    path: Path,
    kind: str,
    *,
    is_raw: bool = False,
    most_rows: int = 0,
    question: Question | None = None,
) -> Row:
    """Write the answer to one query in SQL to a file.

    Args:
        connection: The release.
        sql: One statement that answers with rows.
        path: The file; replaced if it exists.
        kind: One of `FORMATS`.
        is_raw: Whether CSV keeps text unchanged, even if a spreadsheet reads it as a formula.
        most_rows: The most rows it may have; 0 for no limit.
        question: The what-if question that the release answers, if any.

    Raises:
        TooManyRows: The answer has more rows; nothing is written.
        WrongQuestion: A column of the answer is of a type that Parquet does not have.
        OSError: The file cannot be written.
        duckdb.Error: DuckDB cannot run it.
    """
    limit = f" limit {most_rows + 1}" if most_rows else ""
    answer = f"(from (\n{sql}\n){limit})"
    about = facts(connection)
    if kind == "xlsx":
        # Run once: a sheet is examined before it is written, and a second run may give another answer.
        connection.execute(f"create or replace temp table asked as from {answer}")
        (found,) = rows(connection, f"select count(*) as rows from {_ASKED}")
        if most_rows and found["rows"] > most_rows:
            raise TooManyRows(most_rows)
        written = _answer_book(connection, path, about, question, sql)
    else:
        written = _file(
            connection, kind, answer, path, RESULT, about, question, is_raw, _silent, most_rows
        )
    return {**about, "format": kind, "files": [written]}


def export_answer(
    connection: Connection,
    sql: str,
    kind: str,
    out: Path,
    *,
    is_raw: bool = False,
    question: Question | None = None,
) -> Row:
    """Write the answer to one query in SQL to a folder, under a name of its own.

    Args:
        connection: The release.
        sql: One statement that answers with rows.
        kind: One of `FORMATS`.
        out: The folder; created if absent.
        is_raw: Whether CSV keeps text unchanged, even if a spreadsheet reads it as a formula.
        question: The what-if question that the release answers, if any.

    Raises:
        WrongQuestion: A column of the answer is of a type that Parquet does not have.
        OSError: The folder cannot be written to.
        duckdb.Error: DuckDB cannot run it.
    """
    folder = out.expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    name = RESULT
    if kind == "xlsx":
        name = f"{_book_name(facts(connection), question)}-{RESULT}"
    path = folder / f"{name}.{kind}"
    written = save(connection, sql, path, kind, is_raw=is_raw, question=question)
    return {**written, "folder": str(folder)}


def _book_name(about: Row, question: Question | None) -> str:
    named = "" if question is None else f"what-if-{question.name}-"
    return f"coupon-ledger-{named}{about['release_id']}"


class TooManyRows(Exception):
    """An answer has more rows than it may have.

    Attributes:
        most: How many it may have.
    """

    def __init__(self, most: int) -> None:
        super().__init__(f"The answer has more than {most:,} rows")
        self.most = most


# Which tables, and which of their rows


def narrowing(
    connection: Connection, month: str | None, workspace_id: str | None, program: str | None
) -> Narrowing:
    """Return which rows to export, from names that may not exist.

    Raises:
        NotThere: One of the names does not exist.
    """
    at = None
    if month is not None:
        (span,) = rows(
            connection,
            "select min(billing_month) as first, max(billing_month) as last"
            " from marts.fct_discounted_charges",
        )
        at = month_in(month, span["first"], span["last"])
    if workspace_id is not None:
        workspace(connection, workspace_id)
    if program is not None:
        program = known_program(program)
    return Narrowing(at, workspace_id, program)


def _tables(
    connection: Connection, wanted: Sequence[str], only: Narrowing
) -> tuple[list[Table], list[str]]:
    """Return the tables to export, and the names of tables left out because their rows name no owner."""
    columns: dict[str, list[str]] = {}
    for row in rows(
        connection,
        "select table_name, column_name from duckdb_columns() where schema_name = 'marts'"
        " order by table_name, column_index",
    ):
        columns.setdefault(row["table_name"], []).append(row["column_name"])
    keys = {
        row["table_name"]: tuple(str(row["primary_key"]).split(", "))
        for row in rows(
            connection,
            "select table_name, primary_key from release.tables where table_schema = 'marts'",
        )
    }
    chosen = list(dict.fromkeys(must_be("table", name, columns) for name in wanted)) or list(
        columns
    )
    zone = zone_of(connection)
    tables, left_out = [], []
    for name in chosen:
        table = _narrowed(connection, name, tuple(columns[name]), keys.get(name, ()), only, zone)
        if table is None:
            left_out.append(name)
        else:
            tables.append(table)
    if not tables:
        kind = "table with a workspace or program"
        known = [
            name
            for name in columns
            if _narrowed(connection, name, tuple(columns[name]), (), only, zone) is not None
        ]
        raise NotThere(kind, chosen[0], known=known)
    return tables, left_out


def _narrowed(
    connection: Connection,
    name: str,
    columns: tuple[str, ...],
    key: tuple[str, ...],
    only: Narrowing,
    zone: ZoneInfo,
) -> Table | None:
    """Return a table with the rows asked for; None where its rows do not name their owner.

    Findings are those that a close and the pages show.
    """
    is_of_findings = name == "fct_audit_findings"
    conditions = []
    if only.workspace_id is not None:
        of_workspace = _of_workspace(columns, literal(only.workspace_id))
        if of_workspace is None:
            return None
        conditions.append(of_workspace)
    if only.program is not None:
        program = literal(only.program)
        of_program = (
            findings.of_program("mart", program)
            if is_of_findings
            else _of_program(columns, program)
        )
        if of_program is None:
            return None
        conditions.append(of_program)
    of_month = None
    if only.month is not None:
        month = f"date '{only.month}'"
        of_month = (
            findings.of_month(connection, month)
            if is_of_findings
            else _of_month(columns, month, zone)
        )
    if of_month is not None:
        conditions.append(of_month)
    return Table(name, columns, " and ".join(conditions) or "true", of_month is not None, key)


def _of_workspace(columns: Sequence[str], wanted: str) -> str | None:
    if "workspace_id" in columns:
        return f"mart.workspace_id = {wanted}"
    if "redemption_id" in columns:
        return (
            "mart.redemption_id in (select redemption_id from marts.dim_coupon_redemptions"
            f" where workspace_id = {wanted})"
        )
    if "invoice_id" in columns:
        return (
            "mart.invoice_id in (select invoice_id from marts.fct_discounted_charges"
            f" where workspace_id = {wanted})"
        )
    return None


def _of_program(columns: Sequence[str], wanted: str) -> str | None:
    coupons = f"(select coupon_id from marts.dim_coupons where program = {wanted})"
    if "program" in columns:
        return f"mart.program = {wanted}"
    if "coupon_id" in columns:
        return f"mart.coupon_id in {coupons}"
    if "redemption_id" in columns:
        return (
            "mart.redemption_id in (select redemption_id from marts.dim_coupon_redemptions"
            f" where coupon_id in {coupons})"
        )
    if "invoice_id" in columns:  # a bill belongs to each program that gave something on it
        return f"mart.invoice_id in {bills_of_program(wanted)}"
    return None


def _of_month(columns: Sequence[str], month: str, zone: ZoneInfo) -> str | None:
    named = next((name for name in columns if name.endswith("_month")), None)
    if named is not None:
        return f"mart.{quote(named)} = {month}"
    event = next((name for name in _EVENTS if name in columns), None)
    if event is not None:
        return f"date_trunc('month', {local(f'mart.{event}', zone)}) = {month}"
    if "invoice_id" in columns:
        return (
            "mart.invoice_id in (select invoice_id from marts.fct_discounted_charges"
            f" where billing_month = {month})"
        )
    return None


def _dictionary(tables: Sequence[Table], *, is_named: bool) -> str:
    """Return SQL for the meaning of every exported column, in the order of the tables."""
    names = ", ".join(literal(table.name) for table in tables)
    described = (
        "select columns.table_name, tables.comment as table_description, columns.column_name,"
        " lower(columns.data_type) as data_type, columns.comment as description,"
        " columns.column_index as place"
        " from duckdb_columns() as columns inner join duckdb_tables() as tables"
        " on columns.table_oid = tables.table_oid and columns.schema_oid = tables.schema_oid"
        " and columns.database_oid = tables.database_oid"
        f" where columns.schema_name = 'marts' and columns.table_name in ({names})"
    )
    if not is_named:
        return f"select * exclude (place) from ({described}) order by table_name, place"
    added = "".join(
        f" union all select {literal(table.name)}, (select comment from duckdb_tables()"
        f" where schema_name = 'marts' and table_name = {literal(table.name)}), 'workspace_name',"
        f" 'varchar', {literal(_NAME)},"
        f" {table.named_columns.index('workspace_name')} + 0.5"
        for table in tables
        if table.has_name
    )
    sheets = " ".join(
        f"when {literal(table.name)} then {literal(sheet_name(table.name))}" for table in tables
    )
    return (
        f"select case table_name {sheets} end as sheet, * exclude (place)"
        f" from ({described}{added}) order by table_name, place"
    )


def sheet_name(table: str) -> str:
    """Return the name of a mart's sheet, cut to the length a sheet's name may have."""
    from dagster_project.answers.workbook import SHEET_NAME

    return table[:SHEET_NAME]


# CSV and Parquet


def _file(
    connection: Connection,
    kind: str,
    relation: str,
    path: Path,
    name: str,
    about: Mapping[str, Any],
    question: Question | None,
    is_raw: bool,
    told: Told,
    most_rows: int = 0,
) -> Row:
    neutralised: dict[str, int] = {}

    def write(to: Path) -> int:
        if kind == "csv":
            cursor = connection.execute(f"from {relation}")
            names = [str(column[0]) for column in cursor.description or []]
            with to.open("w", encoding="utf-8", newline="") as file:
                written, cells = write_csv(file, names, _fetched(cursor), is_raw=is_raw)
            neutralised.update(cells)
        else:
            written = _write_parquet(connection, relation, to, name, about, question)
        if most_rows and written > most_rows:
            raise TooManyRows(most_rows)
        return written

    written = _whole(path, write)
    told(name, written)
    return {
        "file": str(path),
        "tables": [name],
        "rows": written,
        "neutralised": [
            {"column": column, "cells": cells} for column, cells in neutralised.items()
        ],
    }


def _whole(path: Path, write: Callable[[Path], int]) -> int:
    """Make a file appear whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        written = write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return written


def _fetched(cursor: Connection) -> Iterator[tuple[Any, ...]]:
    while batch := cursor.fetchmany(_BATCH):
        yield from batch


def _write_parquet(
    connection: Connection,
    relation: str,
    path: Path,
    name: str,
    about: Mapping[str, Any],
    question: Question | None,
) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from dagster_project.answers.query import WrongQuestion

    comments = {
        row["column_name"]: row["comment"]
        for row in rows(
            connection,
            "select column_name, comment from duckdb_columns() where schema_name = 'marts'"
            " and table_name = ? and comment is not null",
            [name],
        )
    }
    table = rows(
        connection,
        "select comment from duckdb_tables() where schema_name = 'marts' and table_name = ?",
        [name],
    )
    metadata = {
        "release_id": str(about["release_id"]),
        "as_of_date": str(about["as_of_date"]),
        "table_comment": str((table[0]["comment"] if table else None) or ""),
        "column_comments": json.dumps(comments, ensure_ascii=False),
    }
    if question is not None:
        metadata["what_if"] = question.told
    # The connection has no access to files, so no query has; Arrow writes instead. A reader that is not closed
    # keeps the release open, and DuckDB would wait for it when the release is opened again.
    with connection.execute(f"from {relation}").to_arrow_reader(_BATCH) as reader:
        schema = reader.schema.with_metadata(metadata)
        written = 0
        try:
            writer = pq.ParquetWriter(path, schema, compression="zstd")
        except pa.ArrowNotImplementedError as error:
            raise WrongQuestion(
                f"Parquet has no type for a column of the answer ({str(error).rpartition(' ')[2]}): cast"
                " the column to varchar.",
                [],
                [],
            ) from error
        with writer:
            for batch in reader:
                writer.write_batch(batch.cast(schema))
                written += batch.num_rows
    return written


# The workbook


def _workbook(
    connection: Connection,
    tables: Sequence[Table],
    left_out: Sequence[str],
    path: Path,
    about: Row,
    question: Question | None,
    told: Told,
) -> Row:
    from dagster_project.answers import workbook

    facts_first = sorted(tables, key=lambda table: (not table.name.startswith("fct_"), table.name))
    sheets = [
        workbook.Sheet(
            sheet_name(table.name),
            table.named_relation,
            table.frozen,
            tuple(workbook.Part(*part) for part in table.named_parts(connection)),
        )
        for table in facts_first
    ]
    sheets.append(workbook.Sheet(DICTIONARY, f"({_dictionary(tables, is_named=True)})", 1))
    blocks = summary(connection, tables, is_asked=question is not None)

    def write(to: Path) -> int:
        def first(book: Any, sheets: Sequence[Any]) -> None:
            _first_sheet(book, about, question, left_out, blocks, sheets, tables)

        return sum(one.rows for one in workbook.write(to, connection, sheets, first, told))

    return {
        "file": str(path),
        "tables": [table.name for table in tables],
        "rows": _whole(path, write),
    }


def _answer_book(
    connection: Connection, path: Path, about: Row, question: Question | None, sql: str
) -> Row:
    from dagster_project.answers import workbook

    def write(to: Path) -> int:
        def first(book: Any, sheets: Sequence[Any]) -> None:
            _first_sheet(book, {**about, "sql": sql}, question, [], [], sheets, [])

        (written,) = workbook.write(to, connection, [workbook.Sheet(RESULT, _ASKED)], first)
        return written.rows

    return {"file": str(path), "tables": [RESULT], "rows": _whole(path, write)}


_CREDIT_LEFT = " union all select currency, 'left', null, sum(amount), 1 from {fct_credit_ledger} group by currency"
"""The sum of all entries, which is the balance; the entries of one month alone give no balance."""


_BRIDGE: Final = {
    "list_amount": "list_amount",
    "percent_off_amount": "-percent_off_amount",
    "amount_off_amount": "-amount_off_amount",
    "credit_amount": "-credit_amount",
    "net_amount": "net_amount",
    "billing_error_amount": "billed_net_amount - net_amount",
    "billed_net_amount": "billed_net_amount",
    "credit_notes_amount": "-credited_amount",
    "kept_amount": "billed_net_after_notes_amount",
}
"""The bridge of the first sheet, and each amount in a row of bills."""


def _bridge(by_name: Mapping[str, Table], *, is_asked: bool) -> tuple[str, str]:
    """Return the table that the bridge is calculated from, and its SQL.

    An export of one workspace or program lacks the mart of the bridge; bills give the same totals, except that the
    bills of a what-if do not say what billing would have charged.
    """
    name, bills, amounts = "fct_charge_bridge_monthly", "cast(sum(invoices) as bigint)", _BRIDGE
    if name in by_name:
        amounts = {**amounts, "billing_error_amount": "billing_error_amount"}
    else:
        name, bills = "fct_discounted_charges", "count(*)"
        columns = by_name[name].columns if name in by_name else ()
        before = list(amounts)[: list(amounts).index("net_amount") + 1]
        amounts = {
            one: sql
            for one, sql in amounts.items()
            if one in before
            or (not is_asked and {word.lstrip("-") for word in sql.split(" - ")} <= {*columns})
        }
    sums = ", ".join(f"sum({sql}) as {one}" for one, sql in amounts.items())
    return name, (
        f"select currency, {bills} as bills, {sums} from {{{name}}} group by currency order by currency"
    )


def summary(
    connection: Connection, tables: Sequence[Table], *, is_asked: bool = False
) -> list[Row]:
    """Return totals calculated from the exported rows, never across currencies.

    Args:
        connection: The release.
        tables: The exported tables.
        is_asked: Whether the release answers a what-if question.

    Returns:
        Blocks of `title`, `columns` and `rows`; in a row with a `currency` all amounts are in it.
    """
    by_name = {table.name: table for table in tables}
    is_whole = not any(table.has_month for table in tables)
    blocks = []
    bridged, bridge = _bridge(by_name, is_asked=is_asked)
    for title, needed, sql in (
        ("From list to what was billed and kept, all bills exported", (bridged,), bridge),
        (
            "Given by program",
            ("fct_discount_applications", "fct_credit_ledger"),
            "with given as (select given.coupon_id, charges.currency, given.redemption_id,"
            " given.discount_amount, 0 as credit_amount from {fct_discount_applications} as given"
            " inner join marts.fct_discounted_charges as charges using (invoice_id)"
            " union all select coupon_id, currency, redemption_id, 0, -amount"
            " from {fct_credit_ledger} where entry_type = 'draw')"
            " select coupons.program, given.currency, count(distinct redemption_id) as redemptions,"
            " cast(sum(discount_amount) as decimal(38, 2)) as discount_amount,"
            " cast(sum(given.credit_amount) as decimal(38, 2)) as credit_amount from given"
            " inner join marts.dim_coupons as coupons using (coupon_id)"
            " group by all order by coupons.program, given.currency",
        ),
        (
            "Credit",
            ("fct_credit_ledger",),
            "select * exclude (place) from (select currency, entry_type, count(*) as entries,"
            " sum(amount) as amount, 0 as place from {fct_credit_ledger} group by all"
            f"{_CREDIT_LEFT if is_whole else ''}) order by currency, place, entry_type",
        ),
        (
            "Findings",
            ("fct_audit_findings",),
            "select finding_type, severity, currency, count(*) as findings,"
            " sum(amount_at_stake) as amount_at_stake from {fct_audit_findings}"
            " group by all order by all",
        ),
    ):
        if all(name in by_name for name in needed):
            found = rows(
                connection, sql.format(**{name: by_name[name].relation for name in needed})
            )
            columns = list(found[0]) if found else []
            blocks.append({"title": title, "columns": columns, "rows": found})
    return blocks


def _first_sheet(
    book: Any,
    about: Mapping[str, Any],
    question: Question | None,
    left_out: Sequence[str],
    blocks: Sequence[Row],
    sheets: Sequence[Any],
    tables: Sequence[Table],
) -> None:
    """Write the first sheet: what the workbook is, and its totals."""
    from dagster_project.answers import workbook

    page = workbook.Page(book, SUMMARY)
    page.title("Coupon Ledger")
    page.line("Release", about["release_id"])
    page.line("As of", about["as_of_date"])
    if question is not None:
        page.line("What if", question.told)
    for name, label in (
        ("month", "Only month"),
        ("workspace_id", "Only workspace"),
        ("program", "Only program"),
        ("sql", "Asked"),
    ):
        if about.get(name) is not None:
            given = about[name]
            page.line(label, f"{given:%Y-%m}" if name == "month" else given)
    if left_out:
        page.line("Left out", f"{', '.join(left_out)}: nothing in a row says whose it is")
    whole = [table.name for table in tables if about.get("month") and not table.has_month]
    if whole:
        page.line("Not by month", f"{', '.join(whole)}: as of the day above, whole")
    for block in blocks:
        page.block(block["title"], block["columns"], block["rows"])
        if not block["rows"]:
            page.note("none")
    page.heading("Sheets")
    for sheet in sheets:
        page.link(sheet.name, sheet.rows)
    for sheet in sheets:
        for column, cells in sheet.as_text.items():
            page.note(
                f"{sheet.name}, {column}: {cells:,} numbers of more than {workbook.EXACT_DIGITS}"
                " digits are text, since a spreadsheet would round them; sums leave them out."
            )
    page.note(
        "Amounts are per currency: never add amounts of different currencies. Instants are UTC."
    )
    page.end()
