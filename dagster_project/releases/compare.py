"""What changed between two releases: rows by key, totals of amounts, down to single cells."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import duckdb

from dagster_project.quoting import quote
from dagster_project.releases import files, restatements
from dagster_project.releases.contents import is_amount
from dagster_project.releases.errors import NoRelease
from dagster_project.releases.fingerprint import Column, columns_of
from dagster_project.releases.read import attached


@dataclass(frozen=True)
class AmountDifference:
    """The total of an amount column in both releases; currencies are never added up."""

    column: str
    currency: str | None
    before: Decimal
    after: Decimal


@dataclass(frozen=True)
class TableDifference:
    """How a table differs from one release to another.

    Attributes:
        table_name: The table.
        rows_before: Rows in the first release.
        rows_after: Rows in the second.
        added: Keys only in the second.
        gone: Keys only in the first.
        changed: Keys in both whose other columns differ.
        columns_added: Columns only in the second.
        columns_gone: Columns only in the first.
        amounts: Amount columns whose totals differ.
    """

    table_name: str
    rows_before: int
    rows_after: int
    added: int
    gone: int
    changed: int
    columns_added: tuple[str, ...] = ()
    columns_gone: tuple[str, ...] = ()
    amounts: tuple[AmountDifference, ...] = ()

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return not (
            self.added or self.gone or self.changed or self.columns_added or self.columns_gone
        )


@dataclass(frozen=True)
class CellDifference:
    """One cell, or a whole row that is only in one release (`column` is then `+row` or `-row`)."""

    key: tuple[str | None, ...]
    column: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class _Pair:
    """A table in both releases, made ready to be joined."""

    name: str
    key: tuple[str, ...]
    before: tuple[Column, ...]
    after: tuple[Column, ...]

    @property
    def shared(self) -> list[Column]:
        after = {column.name for column in self.after}
        return [column for column in self.before if column.name in after]

    @property
    def values(self) -> list[str]:
        return [column.name for column in self.shared if column.name not in self.key]

    @property
    def joined(self) -> str:
        """SQL for a full join of the two tables, a and b, by key; `is_there` in each says that it has the row."""
        name = quote(self.name)
        on = " and ".join(
            f"a.{quote(column)} is not distinct from b.{quote(column)}" for column in self.key
        )
        return (
            f"(select *, true as is_there from r0.marts.{name}) as a"
            f" full join (select *, true as is_there from r1.marts.{name}) as b on {on}"
        )

    def differs(self, column: str) -> str:
        """Return SQL for whether a column differs, compared as text where its type changed."""
        types = {
            kind.type
            for kinds in (self.before, self.after)
            for kind in kinds
            if kind.name == column
        }
        before, after = f"a.{quote(column)}", f"b.{quote(column)}"
        if len(types) > 1:
            before, after = f"cast({before} as varchar)", f"cast({after} as varchar)"
        return f"{before} is distinct from {after}"


def diff(home: Path, before: str, after: str, table: str | None = None) -> list[TableDifference]:
    """Compare the marts of two releases.

    Args:
        home: The data home.
        before: Id of the release to compare from.
        after: Id of the release to compare with.
        table: Only this table.

    Raises:
        NoRelease: One of the releases, or the table, does not exist.
    """
    before, after = files.resolve(home, before), files.resolve(home, after)
    with attached(home, before, after) as connection:
        return [_difference(connection, name) for name in _table_names(connection, table)]


def diff_cells(
    home: Path, before: str, after: str, table: str, limit: int = 50
) -> list[CellDifference]:
    """Return the cells of one table that differ, in key order, at most `limit` of them.

    Raises:
        NoRelease: One of the releases, or the table, does not exist.
    """
    before, after = files.resolve(home, before), files.resolve(home, after)
    with attached(home, before, after) as connection:
        (name,) = _table_names(connection, table)
        pair = _pair(connection, name)
        if pair is None:
            return []
        cells: list[CellDifference] = []
        for cell in _cells(connection, pair, limit):
            cells.append(cell)
            if len(cells) >= limit:
                break
        return cells


def _table_names(connection: duckdb.DuckDBPyConnection, table: str | None) -> list[str]:
    names = [
        str(name)
        for (name,) in connection.execute(
            "select table_name from r0.release.tables where table_schema = 'marts' union"
            " select table_name from r1.release.tables where table_schema = 'marts' order by all"
        ).fetchall()
    ]
    if table is None:
        return names
    if table not in names:
        near = difflib.get_close_matches(table, names, n=3) or names
        raise NoRelease(
            f"There is no table {table!r} in these releases; use one of: {', '.join(near)}."
        )
    return [table]


def _pair(connection: duckdb.DuckDBPyConnection, name: str) -> _Pair | None:
    """Return the table in both releases, None if one of them lacks it or has another key."""
    keys: Mapping[str, str] = dict(
        connection.execute(
            "select release, primary_key from (select 'r0' as release, * from r0.release.tables"
            " union all by name select 'r1' as release, * from r1.release.tables)"
            " where table_schema = 'marts' and table_name = ?",
            [name],
        ).fetchall()
    )
    if keys.get("r0") != keys.get("r1"):
        return None
    return _Pair(
        name=name,
        key=tuple(keys["r1"].split(", ")),
        before=columns_of(connection, f"r0.marts.{quote(name)}"),
        after=columns_of(connection, f"r1.marts.{quote(name)}"),
    )


def _difference(connection: duckdb.DuckDBPyConnection, name: str) -> TableDifference:
    pair = _pair(connection, name)
    counts = dict(
        connection.execute(
            "select release, row_count from (select 'r0' as release, * from r0.release.tables"
            " union all by name select 'r1' as release, * from r1.release.tables)"
            " where table_schema = 'marts' and table_name = ?",
            [name],
        ).fetchall()
    )
    rows_before, rows_after = int(counts.get("r0", 0)), int(counts.get("r1", 0))
    if pair is None:
        return TableDifference(
            name,
            rows_before,
            rows_after,
            added=rows_after,
            gone=rows_before,
            changed=0,
            columns_added=_names(connection, "r1", name) if "r1" in counts else (),
            columns_gone=_names(connection, "r0", name) if "r0" in counts else (),
        )
    changed = " or ".join(pair.differs(column) for column in pair.values) or "false"
    row = connection.execute(
        "select count(*) filter (where a.is_there is null),"
        " count(*) filter (where b.is_there is null),"
        f" count(*) filter (where a.is_there and b.is_there and ({changed}))"
        f" from {pair.joined}"
    ).fetchone()
    assert row is not None
    names_before = {column.name for column in pair.before}
    names_after = {column.name for column in pair.after}
    return TableDifference(
        table_name=name,
        rows_before=rows_before,
        rows_after=rows_after,
        added=int(row[0]),
        gone=int(row[1]),
        changed=int(row[2]),
        columns_added=tuple(c.name for c in pair.after if c.name not in names_before),
        columns_gone=tuple(c.name for c in pair.before if c.name not in names_after),
        amounts=tuple(_amounts(connection, pair)),
    )


def _names(connection: duckdb.DuckDBPyConnection, release: str, table: str) -> tuple[str, ...]:
    columns = columns_of(connection, f"{release}.marts.{quote(table)}")
    return tuple(column.name for column in columns)


def _amounts(connection: duckdb.DuckDBPyConnection, pair: _Pair) -> Iterator[AmountDifference]:
    amounts = [column.name for column in pair.shared if is_amount(column)]
    sources = [_with_currency(release, pair) for release in ("r0", "r1")]
    if not amounts or None in sources or pair.name == restatements.NAME:
        return  # amounts without a currency, or of different kinds, cannot be added up
    sums = ", ".join(f"coalesce(sum({quote(name)}), 0)" for name in amounts)
    totals: list[dict[str | None, tuple[Decimal, ...]]] = []
    for source in sources:
        rows = connection.execute(
            f"select currency, {sums} from {source} group by currency"
        ).fetchall()
        totals.append({row[0]: tuple(row[1:]) for row in rows})
    nothing = tuple(Decimal("0.00") for _ in amounts)
    for key in sorted(totals[0].keys() | totals[1].keys(), key=lambda value: value or ""):
        pairs = zip(
            amounts,
            totals[0].get(key, nothing),
            totals[1].get(key, nothing),
            strict=True,
        )
        for name, was, is_now in pairs:
            if was != is_now:
                yield AmountDifference(name, key, Decimal(was), Decimal(is_now))


def _with_currency(release: str, pair: _Pair) -> str | None:
    """Return SQL for the table in one release, each row with its currency; None if it has no currency."""
    shared = {column.name for column in pair.shared}
    table = f"{release}.marts.{quote(pair.name)}"
    if "currency" in shared:
        return table
    if "invoice_id" in shared:
        return (
            f"(select own.*, charged.currency from {table} as own"
            f" left join {release}.marts.fct_discounted_charges as charged using (invoice_id))"
        )
    return None


def _cells(
    connection: duckdb.DuckDBPyConnection, pair: _Pair, limit: int
) -> Iterator[CellDifference]:
    keys = [f"coalesce(a.{quote(name)}, b.{quote(name)})" for name in pair.key]
    changed = " or ".join(pair.differs(column) for column in pair.values) or "false"
    values = "".join(
        f", cast(a.{quote(name)} as varchar), cast(b.{quote(name)} as varchar)"
        for name in pair.values
    )
    rows = connection.execute(
        f"select a.is_there, b.is_there, {', '.join(f'cast({key} as varchar)' for key in keys)}"
        f"{values} from {pair.joined} where a.is_there is null or b.is_there is null or ({changed})"
        f" order by {', '.join(keys)} limit {int(limit)}"
    ).fetchall()
    for row in rows:
        was_there, is_there = row[0], row[1]
        key = tuple(row[2 : 2 + len(keys)])
        if not (was_there and is_there):
            yield CellDifference(key, "-row" if was_there else "+row", None, None)
            continue
        cells = row[2 + len(keys) :]
        for number, name in enumerate(pair.values):
            before, after = cells[2 * number], cells[2 * number + 1]
            if before != after:
                yield CellDifference(key, name, before, after)
