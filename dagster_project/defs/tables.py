"""What is shown of a table beside its name: rows, columns, and the deliveries it came from.

Reading that from DuckDB and presenting it as metadata belongs here. Values of rows are never read, because
metadata is stored for a long time and seen by many.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from dagster_project.feeds import feeds
from dagster_project.quoting import literals

MOST_DELIVERIES = 20
Metadata = dict[str, Any]


@dataclass(frozen=True)
class Deliveries:
    """The files of a feed that were loaded.

    Attributes:
        files: How many files.
        newest: The last files, newest first, each with the day it arrived and its rows.
    """

    files: int
    newest: tuple[str, ...]


class Tables:
    """The tables of one DuckDB file, read once.

    Of the views only those of Parquet files are counted, because the files store their row counts; other
    views would have to be calculated.
    """

    def __init__(self, path: Path, schemas: Sequence[str]) -> None:
        """Read the tables of a file.

        Args:
            path: The file.
            schemas: The schemas to look into.
        """
        with duckdb.connect(str(path), read_only=True) as connection:
            named = literals(schemas)
            self._rows = {
                str(name): int(count)
                for name, count in connection.execute(
                    "select table_name, estimated_size from duckdb_tables()"
                    f" where schema_name in ({named})"
                ).fetchall()
            }
            for schema_name, name in connection.execute(
                f"select schema_name, view_name from duckdb_views() where schema_name in ({named})"
                " and contains(sql, 'read_parquet(')"
            ).fetchall():
                (count,) = connection.execute(
                    f'select count(*) from "{schema_name}"."{name}"'
                ).fetchone() or (0,)
                self._rows[str(name)] = int(count)
            self._columns: dict[str, list[tuple[str, str, bool]]] = {}
            for name, column, data_type, is_nullable in connection.execute(
                "select table_name, column_name, data_type, is_nullable from duckdb_columns()"
                f" where schema_name in ({named}) order by table_oid, column_index"
            ).fetchall():
                self._columns.setdefault(name, []).append((column, data_type, is_nullable))

    def metadata(self, name: str, descriptions: Mapping[str, str]) -> Metadata:
        """Return rows and columns of a table or view.

        Args:
            name: The table.
            descriptions: Descriptions of its columns.
        """
        found: Metadata = {}
        if name in self._rows:
            found["dagster/row_count"] = self._rows[name]
        if name in self._columns:
            found["dagster/column_schema"] = schema(
                [
                    (column, data_type.lower(), descriptions.get(column, ""), is_nullable)
                    for column, data_type, is_nullable in self._columns[name]
                ]
            )
        return found


def schema(columns: Sequence[tuple[str, str, str, bool]]) -> dg.TableSchema:
    """Return columns as Dagster shows them: name, type, description, and whether it may be null."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                name,
                type=data_type,
                description=description or None,
                constraints=dg.TableColumnConstraints(nullable=is_nullable),
            )
            for name, data_type, description, is_nullable in columns
        ]
    )


def contract(feed: str) -> dg.TableSchema:
    """Return the columns of a feed as its supplier must deliver them."""
    return schema(
        [
            (column.name, column.type, column.description, not column.required)
            for column in feeds()[feed].columns
        ]
    )


def loaded_deliveries(warehouse: Path) -> dict[str, Deliveries]:
    """Return the files that were loaded, by feed.

    Args:
        warehouse: The warehouse, after arrival.
    """
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        rows = connection.execute(
            "select feed, count(*), list(file_name || ', arrived ' ||"
            " strftime(arrived_at, '%Y-%m-%d') || ', ' || physical_rows || ' rows'"
            f" order by delivery_sequence desc)[:{MOST_DELIVERIES}] from raw.deliveries"
            " where verdict = 'loaded' group by feed"
        ).fetchall()
    return {str(feed): Deliveries(int(files), tuple(newest)) for feed, files, newest in rows}


def came_from(deliveries: Mapping[str, Deliveries], names: Sequence[str]) -> Metadata:
    """Return the delivery files that a table came from.

    Args:
        deliveries: The files that were loaded, by feed.
        names: The feeds it is made of.
    """
    lines: list[str] = []
    files = 0
    for feed in names:
        if feed not in deliveries:
            continue
        found = deliveries[feed]
        files += found.files
        lines.append(f"**{feed}**: {found.files:,} files")
        lines += [f"- {line}" for line in found.newest]
        if found.files > len(found.newest):
            lines.append(f"- and {found.files - len(found.newest):,} earlier ones")
    return {"delivery_files": files, "deliveries": dg.MetadataValue.md("\n".join(lines) or "none")}


def code(*paths: Path) -> Metadata:
    """Return links to the files that define a table or check.

    Args:
        paths: The files.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # the lock pins the beta version
        return _linked(paths)


def _linked(paths: Sequence[Path]) -> Metadata:
    references = [dg.LocalFileCodeReference(file_path=str(path), label=path.name) for path in paths]
    return {
        "dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[*references])
    }
