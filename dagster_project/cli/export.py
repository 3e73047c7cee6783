"""`export`: the marts, or the answer to a question, as files, and the list of these files as text."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.answers.values import clean, count
from dagster_project.cli import layout
from dagster_project.cli.options import (
    HomeOption,
    JsonOption,
    ReleaseOption,
    settings_of_home,
    wrong,
)
from dagster_project.cli.reading import (
    MonthOption,
    ProgramOption,
    answer,
    asked,
    opened,
    question_asked,
)

if TYPE_CHECKING:
    from dagster_project.answers.asking import Row

RawOption = Annotated[
    bool,
    typer.Option(
        "--raw", help="CSV: leave text unchanged, even if a spreadsheet would calculate it."
    ),
]


def export(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write to.")],
    format: Annotated[  # noqa: A002 (it names the option)
        str, typer.Option("--format", metavar="F", help="xlsx, csv or parquet.")
    ] = "xlsx",
    table: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="T", help="Only this table; may be repeated."),
    ] = None,
    month: MonthOption = None,
    workspace: Annotated[
        str | None, typer.Option("--workspace", metavar="WS", help="Only this workspace.")
    ] = None,
    program: ProgramOption = None,
    sql: Annotated[
        str | None,
        typer.Option("--sql", metavar="SQL", help="The answer to this question instead of marts."),
    ] = None,
    raw: RawOption = False,
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """Write the marts to files, with a summary and a dictionary."""
    from dagster_project.answers import asking
    from dagster_project.answers import export as files
    from dagster_project.answers import query as question

    if raw and format != "csv":
        wrong("--raw needs --format csv: the other formats never calculate text.")
    if sql is not None and (table or month or workspace or program):
        wrong(
            "Give --sql, or --table, --month, --workspace and --program, not both: a question"
            " chooses its own rows."
        )
    # A question gets the memory of a run; marts are only read, which needs little.
    limit = {} if sql is None else {"memory": settings_of_home(home).memory_limit}
    with opened(home, release, files.configuration(out, **limit)) as connection:
        asking.must_be("format", format, files.FORMATS)
        try:
            if sql is None:
                only = files.narrowing(connection, month, workspace, program)
                written = files.export(
                    connection,
                    format,
                    table or [],
                    out,
                    only,
                    is_raw=raw,
                    question=question_asked(),
                    told=_progress(),
                )
            else:
                with asked(), question.asking(connection, question.Limits()):
                    one = question.only_statement(connection, sql)
                    written = files.export_answer(
                        connection, one, format, out, is_raw=raw, question=question_asked()
                    )
        except OSError as error:
            wrong(
                f"{clean(error.filename or out)} cannot be written ({error.strerror}): name another"
                " folder with --out."
            )
        answer(written, tell, json)


def tell(data: Row) -> str:
    """Lay out what was written, as text."""
    lines = layout.heading(f"Exported to {data['folder']}", data)
    lines.append("")
    lines += layout.table(
        ["~file", ">tables", ">rows"],
        [
            [Path(row["file"]).name, f"{len(row['tables']):,}", f"{row['rows']:,}"]
            for row in data["files"]
        ],
    )
    together = sum(row["rows"] for row in data["files"])
    lines.append(f"{count(len(data['files']), 'file')}, {count(together, 'row')}")
    for label, names in (
        ("Left out, since no row names its workspace or program", data.get("left_out")),
        (
            "Whole, as of the day above, since no row names its month",
            data.get("whole_tables"),
        ),
    ):
        if names:
            lines += ["", *layout.wrap(f"{label}: {', '.join(names)}", hanging="  ")]
    for row in data["files"]:
        cells = {one["column"]: one["cells"] for one in row.get("neutralised", [])}
        if cells:
            lines += ["", *layout.wrap(f"{Path(row['file']).name}: {neutralised(cells)}", "", "  ")]
    return "\n".join(lines)


def neutralised(cells: Mapping[str, int]) -> str:
    """Say which texts of a CSV file got an apostrophe."""
    columns = ", ".join(f"{clean(name)} ({number:,})" for name, number in cells.items())
    together = sum(cells.values())
    return (
        f"{count(together, 'text')} that a spreadsheet would calculate"
        f" {'begins' if together == 1 else 'begin'} with an apostrophe: {columns}. --raw leaves"
        f" {'it' if together == 1 else 'them'} unchanged."
    )


def _progress() -> Callable[[str, int], None]:
    """Return a function that prints the progress on a terminal, and nothing anywhere else."""
    if not sys.stderr.isatty():
        return lambda name, rows: None
    begun = monotonic()

    def told(name: str, rows: int) -> None:
        print(f"  {name:<32} {rows:>12,} rows {monotonic() - begun:>7.1f} s", file=sys.stderr)

    return told
