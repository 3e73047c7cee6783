"""What pulls of a Stripe account leave for the next: objects as they came, and what was delivered.

One SQLite file in the data home, `pulls/stripe/account.sqlite`. A page of objects and the place to
read on from are written in one transaction, so that a pull that is killed goes on where it was; what
is delivered and the files that say so likewise.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from dagster_project.sources.stripe_mapping import Remembered
from dagster_project.sources.stripe_shapes import Json, id_of

_LAYOUT = """
create table if not exists objects (
    kind text not null, id text not null, customer text, status text, created integer,
    content blob not null, seen integer not null, primary key (kind, id)
) without rowid;
create index if not exists objects_of_customer on objects (kind, customer);
create table if not exists progress (
    resource text primary key, cursor text, is_done integer not null, objects integer not null
) without rowid;
create table if not exists delivered (
    feed text not null, key text not null, content blob not null, updated_at text not null,
    primary key (feed, key)
) without rowid;
create table if not exists discounts (
    id text primary key, gone_by integer, was_hanging integer not null
) without rowid;
create table if not exists canonical (shared text primary key, id text not null) without rowid;
create table if not exists facts (name text primary key, value text) without rowid;
"""


def parsed(text: str | bytes) -> Any:
    """JSON in which a number with a point stays the decimal it is written as."""
    return json.loads(text, parse_float=Decimal)


def _packed(found: Json) -> bytes:
    return zlib.compress(json.dumps(found, default=_as_written, sort_keys=True).encode(), 1)


def _as_written(value: Any) -> Any:
    if isinstance(value, Decimal):
        return {"~decimal": str(value)}
    raise TypeError(f"{type(value).__name__} is not of JSON")


def _unpacked(content: bytes) -> Any:
    return json.loads(zlib.decompress(content), object_hook=_decimals)


def _decimals(found: Json) -> Any:
    return Decimal(found["~decimal"]) if found.keys() == {"~decimal"} else found


class Books:
    """The objects of one account and what was delivered of them.

    It gives objects to the mapping as `stripe_mapping.Objects` asks for them.
    """

    def __init__(self, path: Path | str) -> None:
        """Open the file, and lay it out if it is new."""
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = normal")
        self._connection.executescript(_LAYOUT)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write everything in this block, or nothing of it."""
        self._connection.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._connection.execute("rollback")
            raise
        self._connection.execute("commit")

    # -- Objects -----------------------------------------------------------------------------------

    @property
    def pull(self) -> int:
        """The number of the pull that is running or ran last."""
        return int(self.fact("pull") or 0)

    def put(self, kind: str, objects: Iterable[Json]) -> None:
        """Keep objects as this pull saw them."""
        pull = self.pull
        self._connection.executemany(
            "insert or replace into objects (kind, id, customer, status, created, content, seen)"
            " values (?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    kind,
                    one["id"],
                    id_of(one.get("customer")),
                    one.get("status") if isinstance(one.get("status"), str) else None,
                    one.get("created"),
                    _packed(one),
                    pull,
                )
                for one in objects
            ),
        )

    def remove(self, kind: str, object_id: str) -> None:
        """Forget an object that Stripe deleted."""
        self._connection.execute("delete from objects where kind = ? and id = ?", (kind, object_id))

    def each(self, kind: str) -> Iterator[Json]:
        """All objects of a kind, ordered by id."""
        yield from self._selected("kind = ?", kind)

    def of_customer(self, kind: str, customer: str) -> Iterator[Json]:
        """Those of one customer, ordered by id."""
        yield from self._selected("kind = ? and customer = ?", kind, customer)

    def _selected(self, condition: str, *values: str) -> Iterator[Json]:
        cursor = self._connection.execute(
            f"select content from objects where {condition} order by id", values
        )
        for (content,) in cursor:
            yield _unpacked(content)

    def get(self, kind: str, object_id: str) -> Json | None:
        """One object, None where no pull has seen it."""
        return next(self._selected("kind = ? and id = ?", kind, object_id), None)

    def is_listed(self, kind: str, object_id: str) -> bool:
        """Whether the newest pull saw the object in Stripe."""
        row = self._connection.execute(
            "select seen from objects where kind = ? and id = ?", (kind, object_id)
        ).fetchone()
        return row is not None and row[0] == self.pull

    def ids(self, kind: str, statuses: Iterable[str] = (), not_seen: bool = False) -> list[str]:
        """Ids of a kind, those of some statuses, those this pull has not seen."""
        wanted = list(statuses)
        condition = "kind = ?"
        values: list[Any] = [kind]
        if wanted:
            condition += f" and status in ({', '.join('?' * len(wanted))})"
            values += wanted
        if not_seen:
            condition += " and seen <> ?"
            values.append(self.pull)
        rows = self._connection.execute(
            f"select id from objects where {condition} order by id", values
        )
        return [row[0] for row in rows]

    def newest(self, *kinds: str) -> int | None:
        """When the newest object of some kinds was created, None where there is none."""
        row = self._connection.execute(
            f"select max(created) from objects where kind in ({', '.join('?' * len(kinds))})", kinds
        ).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def count(self, kind: str) -> int:
        """How many objects of a kind there are."""
        found: int = self._connection.execute(
            "select count(*) from objects where kind = ?", (kind,)
        ).fetchone()[0]
        return found

    # -- Progress ----------------------------------------------------------------------------------

    def progress(self, resource: str) -> tuple[str | None, bool, int]:
        """Where to read on, whether the end is reached, and how many objects were read."""
        row = self._connection.execute(
            "select cursor, is_done, objects from progress where resource = ?", (resource,)
        ).fetchone()
        return (row[0], bool(row[1]), row[2]) if row else (None, False, 0)

    def advance(self, resource: str, cursor: str | None, is_done: bool, objects: int) -> None:
        """Note how far a resource is read."""
        self._connection.execute(
            "insert or replace into progress values (?, ?, ?, ?)",
            (resource, cursor, int(is_done), objects),
        )

    def begin(self, facts: dict[str, str]) -> None:
        """Begin a new pull: nothing is read yet."""
        with self.together():
            self._connection.execute("delete from progress")
            self.set_fact("pull", str(self.pull + 1))
            for name, value in facts.items():
                self.set_fact(name, value)

    def fact(self, name: str) -> str | None:
        """Something noted by name."""
        row = self._connection.execute("select value from facts where name = ?", (name,)).fetchone()
        return row[0] if row else None

    def set_fact(self, name: str, value: str | None) -> None:
        """Note something by name."""
        self._connection.execute("insert or replace into facts values (?, ?)", (name, value))

    # -- What was delivered -------------------------------------------------------------------------

    def delivered(self, feed: str, key: str) -> bytes | None:
        """What a row said when it was delivered last, as its digest."""
        row = self._connection.execute(
            "select content from delivered where feed = ? and key = ?", (feed, key)
        ).fetchone()
        return row[0] if row else None

    def delivered_keys(self, feed: str) -> Iterator[str]:
        """The keys of all rows that were ever delivered."""
        rows = self._connection.execute(
            "select key from delivered where feed = ? order by key", (feed,)
        )
        yield from (row[0] for row in rows)

    def set_delivered(self, feed: str, key: str, content: bytes, updated_at: str) -> None:
        """Note what a row says now."""
        self._connection.execute(
            "insert or replace into delivered values (?, ?, ?, ?)", (feed, key, content, updated_at)
        )

    def forget_delivered(self, feed: str, updated_at: str) -> None:
        """Deliver again what one pull delivered: its file was lost before it arrived."""
        self._connection.execute(
            "delete from delivered where feed = ? and updated_at = ?", (feed, updated_at)
        )

    # -- What is remembered of discounts -----------------------------------------------------------

    def remembered(self) -> Remembered:
        """What earlier pulls saw of discounts."""
        found = Remembered()
        for discount, gone_by, was_hanging in self._connection.execute(
            "select id, gone_by, was_hanging from discounts"
        ):
            if gone_by is not None:
                found.gone_by[discount] = gone_by
            if was_hanging:
                found.was_hanging.add(discount)
        for shared, discount in self._connection.execute("select shared, id from canonical"):
            found.canonical[tuple(json.loads(shared))] = discount
        return found

    def remember(self, found: Remembered) -> None:
        """Keep what this pull saw of discounts."""
        self._connection.execute("delete from discounts")
        ids = found.gone_by.keys() | found.was_hanging
        self._connection.executemany(
            "insert into discounts values (?, ?, ?)",
            ((one, found.gone_by.get(one), int(one in found.was_hanging)) for one in sorted(ids)),
        )
        self._connection.executemany(
            "insert or replace into canonical values (?, ?)",
            ((json.dumps(shared), one) for shared, one in found.canonical.items()),
        )
