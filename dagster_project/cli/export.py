"""`export`: which files were written, as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.answers.values import clean, count
from dagster_project.cli import layout
from dagster_project.cli.options import HomeOption, JsonOption, ReleaseOption, wrong
from dagster_project.cli.reading import answer, opened

if TYPE_CHECKING:
    from dagster_project.answers.asking import Row


def export(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write to.")],
    format: Annotated[  # noqa: A002 (it names the option)
        str, typer.Option("--format", metavar="F", help="xlsx, csv or parquet.")
    ] = "xlsx",
    table: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="T", help="Only this table; may be repeated."),
    ] = None,
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """Write the marts to files, with a data dictionary."""
    from dagster_project.answers import asking
    from dagster_project.answers import export as files

    with opened(home, release) as connection:
        asking.must_be("format", format, files.FORMATS)
        try:
            written = files.export(connection, format, table or [], out)
        except OSError as error:
            wrong(
                f"{clean(out)} cannot be written to ({error.strerror}); name another folder with --out."
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
    return "\n".join(lines)
