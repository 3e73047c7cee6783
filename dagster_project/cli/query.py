"""`query`: a question in SQL, and its answer as a table, CSV, JSON or a file; or the list of tables."""

from __future__ import annotations

import io
import os
import select
import shutil
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.answers.as_csv import write_csv
from dagster_project.answers.values import clean, count
from dagster_project.cli import layout
from dagster_project.cli.export import RawOption, neutralised
from dagster_project.cli.options import (
    HomeOption,
    JsonOption,
    ReleaseOption,
    print_data,
    settings_from,
    wrong,
)
from dagster_project.cli.reading import answer, asked, opened, question_asked

if TYPE_CHECKING:
    from dagster_project.answers.asking import Connection, Row
    from dagster_project.answers.query import Limits

_BY_NAME = {".csv": "csv", ".xlsx": "xlsx", ".parquet": "parquet"}
_PATIENCE = 0.2  # seconds in which a pipe must send something, or it has no question


def query(
    sql: Annotated[
        str | None,
        typer.Argument(metavar="SQL", help="One SELECT statement; - reads it from standard input."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="FILE", help="Read the statement from a file, or -."),
    ] = None,
    describe: Annotated[
        str | None, typer.Option("--describe", metavar="T", help="Describe a table instead.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write to a file: .csv, .xlsx or .parquet."),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    raw: RawOption = False,
    max_seconds: Annotated[
        float | None,
        typer.Option(min=0, metavar="N", help="Stop after N seconds; 0: never. [default: 300]"),
    ] = None,
    max_rows: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="At most N rows; 0: all. [default: 100000]"),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory limit, such as 500MB. [default: that of a run]"),
    ] = None,
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """Ask the release in SQL; without a question, list its tables.

    Tables need no schema. The limits come from COUPON_LEDGER_QUERY_SECONDS, _ROWS and _MEMORY where no
    option is given.
    """
    from dagster_project.answers import query as question

    if csv and json:
        wrong("Give --csv or --json, not both.")
    if out is not None and csv:
        wrong("Give --csv or --out, not both: --out FILE.csv writes CSV.")
    kind = _kind(out)
    if raw and not csv and kind != "csv":
        wrong("--raw goes with CSV: give --csv or --out FILE.csv.")
    text = None if describe is not None else _question(sql, file)
    limits = _limits(home, max_seconds, max_rows, max_memory)
    with opened(home, release, question.configuration(limits)) as connection:
        if describe is not None:
            if sql is not None or file is not None:
                wrong("Give --describe or a question, not both.")
            answer(question.describe(connection, describe), tell_table, json)
            return
        if text is None:
            if out is not None:
                wrong("Give a question: --out writes its answer.")
            answer(question.tables(connection), tell_tables, json)
            return
        with asked():
            if out is not None:
                data = _save(connection, text, out, kind, raw, limits)
                answer(data, tell_file, json)
                return
            data = question.query(connection, text, limits)
    names, is_whole = data.pop("columns"), data["is_whole"]
    found = [list(row.values()) for row in data["rows"]]
    if json:
        answer(data, lambda _: "", True)
    elif csv:
        printed = io.StringIO()
        _, cells = write_csv(printed, names, found, is_raw=raw)
        print_data(printed.getvalue())
        if cells:
            print(neutralised(cells), file=sys.stderr)
    else:
        layout.show(layout.grid_or_records(names, found, _terminal()))
    if not is_whole:
        stop = f"The answer has more rows: these are the first {limits.rows:,}."
        print(f"{stop} --max-rows N gives more, --max-rows 0 all.", file=sys.stderr)
        raise typer.Exit(1)


def tell_tables(data: Row) -> str:
    """Lay out the tables of a release as text."""
    lines = layout.heading("Tables", data)
    for schema in dict.fromkeys(row["schema_name"] for row in data["tables"]):
        lines += ["", f"  {schema}"]
        of_schema = [row for row in data["tables"] if row["schema_name"] == schema]
        names = max(len(row["table_name"]) for row in of_schema)
        for row in of_schema:
            number = "" if row["row_count"] is None else f"{row['row_count']:,}"
            lines.append(f"    {row['table_name']:<{names}}  {number:>12}".rstrip())
            lines += layout.wrap(row["description"] or "", " " * 6)
    lines += ["", 'Ask: coupon-ledger query "from dim_coupons", or --describe TABLE']
    return "\n".join(lines)


def tell_table(data: Row) -> str:
    """Lay out a table and its columns as text."""
    lines = layout.heading(f"{data['schema_name']}.{data['table_name']}", data)
    lines += ["", *layout.wrap(data["description"] or "")]
    if data["row_count"] is not None:
        lines.append(f"{count(data['row_count'], 'row')}; key: {data['primary_key']}")
    lines.append("")
    for row in data["columns"]:
        lines.append(f"  {clean(row['column_name'])}  {row['data_type']}")
        lines += layout.wrap(row["description"] or "", " " * 6)
    return "\n".join(lines)


def tell_file(data: Row) -> str:
    """Say which file was written."""
    (one,) = data["files"]
    text = f"{count(one['rows'], 'row')} to {clean(one['file'])}"
    cells = {row["column"]: row["cells"] for row in one.get("neutralised", [])}
    return "\n".join([text, *([neutralised(cells)] if cells else [])])


def _save(connection: Connection, sql: str, out: Path, kind: str, raw: bool, limits: Limits) -> Row:
    from dagster_project.answers import export as files
    from dagster_project.answers import query as question

    path = out.expanduser().absolute()
    try:
        with question.asking(connection, limits):
            one = question.only_statement(connection, sql)
            return files.save(
                connection,
                one,
                path,
                kind,
                is_raw=raw,
                most_rows=limits.rows,
                question=question_asked(),
            )
    except files.TooManyRows as error:
        print(
            f"The answer has more than {error.most:,} rows; nothing was written. --max-rows N allows"
            " more, --max-rows 0 all.",
            file=sys.stderr,
        )
        raise typer.Exit(1) from None
    except OSError as error:
        wrong(f"{clean(out)} cannot be written ({error.strerror}): name another file with --out.")


def _kind(out: Path | None) -> str:
    if out is None:
        return ""
    kind = _BY_NAME.get(out.suffix.lower())
    if kind is None:
        wrong(f"{clean(out)}: name a file that ends in {', '.join(_BY_NAME)}.")
    return kind


def _limits(
    home: Path | None, seconds: float | None, most: int | None, memory: str | None
) -> Limits:
    from dagster_project.answers.query import Limits

    settings = settings_from(home, query_seconds=seconds, query_rows=most, query_memory=memory)
    return Limits(
        settings.query_seconds, settings.query_rows, settings.query_memory or settings.memory_limit
    )


def _question(sql: str | None, file: str | None) -> str | None:
    """Return the question from the argument, a file or standard input; None if there is none."""
    if sql is not None and file is not None:
        wrong("Give a question or --file, not both.")
    if file is not None and file != "-":
        try:
            return Path(file).expanduser().read_text("utf-8")
        except UnicodeDecodeError:
            wrong(f"{clean(file)} is not UTF-8: save it as UTF-8.")
        except OSError as error:
            wrong(
                f"{clean(file)} cannot be read ({error.strerror}): name another file with --file."
            )
    if sql is not None and sql != "-":
        return sql
    is_asked = "-" in (file, sql)
    if is_asked and sys.stdin is None:
        wrong("Standard input is closed; give a question, or --file FILE.")
    if not is_asked and not _is_piped():
        return None
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError:
        wrong("Standard input is not UTF-8: write the question in UTF-8.")
    return text if is_asked or text.strip() else None


def _is_piped() -> bool:
    """Return whether a question may be waiting at standard input; an idle pipe is not read."""
    if sys.stdin is None or sys.stdin.closed:
        return False
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):  # standard input is not a file of the operating system
        return True
    if stat.S_ISREG(mode):
        return True
    is_pipe = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
    return is_pipe and bool(select.select([sys.stdin], [], [], _PATIENCE)[0])


def _terminal() -> int | None:
    """Return the columns of the terminal; None if the answer goes elsewhere."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        return shutil.get_terminal_size().columns
    return None
