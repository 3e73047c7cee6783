"""`query`: the answer to a question in SQL as a table, CSV or JSON."""

from __future__ import annotations

from typing import Annotated

import typer

from dagster_project.cli import layout
from dagster_project.cli.options import HomeOption, JsonOption, ReleaseOption, print_data, wrong
from dagster_project.cli.reading import answer, opened


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT statement.")],
    home: HomeOption = None,
    release: ReleaseOption = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    json: JsonOption = False,
) -> None:
    """Query the release in SQL, read-only."""
    import duckdb

    from dagster_project.answers import query as question

    if csv and json:
        wrong("Give --csv or --json, not both.")
    with opened(home, release) as connection:
        try:
            data = question.query(connection, sql)
        except (duckdb.Error, ValueError) as error:
            wrong(str(error), is_one_line=False)
    names, rows = data.pop("columns"), [list(row.values()) for row in data["rows"]]
    if csv:
        print_data(layout.as_csv(names, rows))
    else:
        answer(data, lambda _: layout.grid(names, rows), json)
