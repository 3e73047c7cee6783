"""Opening and examining releases: always read-only, locked down, and by file, not by link."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from dagster_project.quoting import literal, quote
from dagster_project.releases import files
from dagster_project.releases.data_home import check_layout
from dagster_project.releases.errors import LaterMethod, NoRelease, ReleaseError
from dagster_project.releases.fingerprint import TableContent, content_hash_of, content_of, parquet
from dagster_project.releases.machine import explanation
from dagster_project.releases.questions import is_of_question

# Every open of a file in one process must ask for the same configuration.
LOCKED_DOWN: Mapping[str, Any] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "lock_configuration": True,
}


@dataclass(frozen=True)
class ReleaseSummary:
    """One line of the list of releases.

    Attributes:
        release_id: Its id.
        is_current: Whether it is the current release.
        as_of_date: Last day whose events count.
        created_at: When it was published, UTC.
        code_version: What calculated it.
        rows: Rows in all marts.
        totals: List, discount, credit and net amount by currency.
        problem: Why it cannot be read, if it cannot.
    """

    release_id: str
    is_current: bool
    as_of_date: date | None
    created_at: datetime | None
    code_version: str
    rows: int
    totals: Mapping[str, tuple[Decimal, Decimal, Decimal, Decimal]]
    problem: str = ""


@dataclass(frozen=True)
class Verification:
    """Whether a release holds what its own records say.

    Attributes:
        release_id: The release.
        tables: Tables compared.
        checks: Checks recorded in it.
        problems: What is wrong, one sentence each.
    """

    release_id: str
    tables: int
    checks: int
    problems: tuple[str, ...]

    def raise_unless_sound(self) -> None:
        """Raise ReleaseError if there is any problem."""
        if self.problems:
            raise ReleaseError(
                f"Release {self.release_id} is damaged: {'; '.join(self.problems)}.",
                "`coupon-ledger restore ID` makes another release current; `coupon-ledger run` makes a"
                " new one.",
            )


def open_release(
    home: Path, release_id: str | None = None, configuration: Mapping[str, Any] | None = None
) -> duckdb.DuckDBPyConnection:
    """Open a release, the current one by default, read-only and locked down.

    Args:
        home: The data home.
        release_id: The release.
        configuration: DuckDB's, besides what locks it down.

    Raises:
        NoRelease: There is no such release.
        ReleaseError: The file cannot be opened, or a newer version wrote the data home.
    """
    check_layout(home)
    wanted = files.resolve(home, release_id)
    try:
        return open_file(files.release_path(home, wanted), configuration)
    except ReleaseError:
        # The release may have been pruned between reading the link and opening the file.
        again = files.resolve(home, release_id)
        if again == wanted:
            raise
        return open_file(files.release_path(home, again), configuration)


@contextmanager
def reading(
    home: Path, release_id: str | None = None, configuration: Mapping[str, Any] | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a release for a caller's queries, and turn DuckDB's errors into what to do.

    Args:
        home: The data home.
        release_id: The release; the current one by default.
        configuration: DuckDB's, besides what locks it down.

    Raises:
        NoRelease: There is no such release.
        ReleaseError: The release is damaged or cannot be opened, an earlier version made it without
            what is asked for, or the machine lacks memory.
    """
    with open_release(home, release_id, configuration) as connection:
        try:
            yield connection
        except duckdb.Error as error:
            raise _unreadable(home, connection, release_id, error) from error


def _unreadable(
    home: Path,
    connection: duckdb.DuckDBPyConnection,
    release_id: str | None,
    error: duckdb.Error,
) -> ReleaseError:
    """Return the error for an open release that does not answer."""
    of_the_machine = explanation(home, error)
    if of_the_machine:
        return of_the_machine
    if isinstance(error, duckdb.CatalogException | duckdb.BinderException):
        with suppress(duckdb.Error):  # a release without its pedigree is damaged
            found = connection.execute("select release_id, code_version from release.release")
            made = " made by version ".join(map(str, found.fetchone() or ()))
            missing = str(error).splitlines()[0].partition(": ")[2].rstrip("!")
            return ReleaseError(
                f"Release {made} lacks what this command needs: {missing}",
                "Ask a newer release: `coupon-ledger releases` lists them, `coupon-ledger run` makes"
                " one.",
            )
    return damaged(files.resolve(home, release_id), error)


def damaged(release_id: str, error: duckdb.Error) -> ReleaseError:
    """Say that a release is damaged, and what to do about it."""
    return ReleaseError(
        f"Release {release_id} cannot be read: {' '.join(str(error).split())}",
        f"`coupon-ledger verify {release_id}` shows what is damaged; `coupon-ledger restore ID`"
        " serves another release, `coupon-ledger run --always` makes a new one.",
    )


def open_file(
    path: Path, configuration: Mapping[str, Any] | None = None
) -> duckdb.DuckDBPyConnection:
    """Open the DuckDB file of a release, which may be one that nobody serves yet.

    Args:
        path: The file.
        configuration: DuckDB's, besides what locks it down.

    Raises:
        ReleaseError: It is damaged, or has a write-ahead log beside it.
    """
    if files.log_of(path).exists():
        raise ReleaseError(
            f"There is a write-ahead log beside the release: {path}.wal.",
            "Releases are read-only: remove that file, or let the next `coupon-ledger run` remove it.",
        )
    try:
        return duckdb.connect(
            str(path), read_only=True, config={**LOCKED_DOWN, **(configuration or {})}
        )
    except duckdb.Error as error:
        raise damaged(files.release_of(path), error) from error


@contextmanager
def attached(home: Path, *release_ids: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a locked-down connection with releases attached as r0, r1, … in the order given."""
    connection = duckdb.connect(":memory:")
    try:
        for number, release_id in enumerate(release_ids):
            path = files.release_path(home, release_id)
            connection.execute(f"attach {literal(str(path))} as r{number} (read_only)")
        for name, value in LOCKED_DOWN.items():
            connection.execute(f"set {name} = {str(value).lower()}")
        yield connection
    except duckdb.Error as error:
        raise explanation(home, error) or ReleaseError(
            f"Release {' or '.join(release_ids)} cannot be read: {' '.join(str(error).split())}",
            "`coupon-ledger verify ID` shows whether one is damaged; `coupon-ledger restore ID`"
            " serves another release.",
        ) from error
    finally:
        connection.close()


def read_pedigree(home: Path, release_id: str) -> dict[str, Any]:
    """Return the one row of a release's table `release.release`."""
    with reading(home, release_id) as connection:
        cursor = connection.execute("select * from release.release")
        names = [column[0] for column in cursor.description or []]
        rows = cursor.fetchall()
    if len(rows) != 1:
        raise ReleaseError(f"Release {release_id} describes itself {len(rows)} times, not once.")
    return dict(zip(names, rows[0], strict=True))


def list_releases(home: Path) -> list[ReleaseSummary]:
    """Return all retained releases, newest first, with totals; a damaged one is marked as such."""
    current = files.served_release(home)
    summaries = []
    for release_id in reversed(files.release_ids(home)):
        try:
            summaries.append(_summary(home, release_id, release_id == current))
        except (duckdb.Error, NoRelease, ReleaseError) as error:
            summaries.append(
                ReleaseSummary(release_id, release_id == current, None, None, "", 0, {}, str(error))
            )
    return summaries


def _summary(home: Path, release_id: str, is_current: bool) -> ReleaseSummary:
    pedigree = read_pedigree(home, release_id)
    with reading(home, release_id) as connection:
        counted = connection.execute(
            "select coalesce(sum(row_count), 0) from release.tables where table_schema = 'marts'"
        ).fetchone()
        totals = _totals(connection)
    return ReleaseSummary(
        release_id=release_id,
        is_current=is_current,
        as_of_date=pedigree["as_of_date"],
        created_at=pedigree["created_at"],
        code_version=str(pedigree["code_version"]),
        rows=int(counted[0]) if counted else 0,
        totals={str(row[0]): (row[1], row[2], row[3], row[4]) for row in totals},
    )


def _totals(connection: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    """Return list, discount, credit and net by currency, from the monthly mart if the release has it."""
    marts = {
        "fct_charge_bridge_monthly": "percent_off_amount + amount_off_amount",
        "fct_discounted_charges": "discount_amount",  # of a release of version 0.4 or older
    }
    there = {
        name
        for (name,) in connection.execute(
            "select table_name from duckdb_tables() where schema_name = 'marts'"
        ).fetchall()
    }
    for mart in marts:
        if mart in there:
            return connection.execute(
                f"select currency, sum(list_amount), sum({marts[mart]}), sum(credit_amount),"
                f" sum(net_amount) from marts.{mart} group by currency order by currency"
            ).fetchall()
    return []


def verify(home: Path, release_id: str | None = None) -> Verification:
    """Compare what a release holds with what its records say, its Parquet copy included.

    The release stores a hash of all its content, and its name has the first digits of the hash. So a
    release that was altered together with its own fingerprints, or has the name of another release,
    is noticed too.

    Raises:
        NoRelease: There is no such release.
        LaterMethod: A later version published it, and this one cannot compare its fingerprints.
    """
    wanted = files.resolve(home, release_id)
    problems: list[str] = []
    promised: list[tuple[str, str, int, str]] = []
    checks: list[tuple[str, str, int]] = []
    contents: dict[tuple[str, str], TableContent] = {}
    try:
        with open_release(home, wanted) as connection:
            promised = connection.execute(
                "select table_schema, table_name, row_count, fingerprint from release.tables"
                " order by rowid"
            ).fetchall()
            checks = connection.execute(
                "select name, severity, failures from release.checks"
                " where checked_by = 'dbt' order by all"
            ).fetchall()
            for schema, name, rows, fingerprint in promised:
                found = content_of(connection, f"{quote(schema)}.{quote(name)}", fingerprint)
                contents[schema, name] = found
                if (found.rows, found.fingerprint) != (rows, fingerprint):
                    problems.append(
                        f"table {name} has {found.rows} rows with fingerprint {found.fingerprint},"
                        f" not {rows} with {fingerprint}"
                    )
        if not (files.is_what_if(wanted) or is_of_question(home)):  # an answer has no such copy
            problems += _parquet_problems(home, wanted, promised)
        if not problems:
            named = files.release_of(files.release_path(home, wanted))
            pedigree = read_pedigree(home, wanted)
            problems += _pedigree_problems(named, pedigree, contents)
            problems += _about_problems(files.parquet_dir(home, wanted), pedigree)
    except LaterMethod as error:
        raise LaterMethod(
            f"Release {wanted} cannot be verified by this version of Coupon Ledger, and nothing says that"
            " it is damaged: its tables have fingerprints of a later version's method.",
            f"Verify it with the version that published it, {read_pedigree(home, wanted)['code_version']},"
            " or a later one.",
        ) from error
    except (duckdb.Error, ReleaseError) as error:
        problems.append(" ".join(str(error).split()))
    if not promised and not problems:
        problems.append("it lists no tables")
    problems += [
        f"check {name} has {failures} failures"
        for name, severity, failures in checks
        if severity == "error" and failures
    ]
    return Verification(wanted, len(promised), len(checks), tuple(problems))


def _pedigree_problems(
    release_id: str,
    pedigree: Mapping[str, Any],
    contents: Mapping[tuple[str, str], TableContent],
) -> list[str]:
    """Check that a release with intact tables is the one that its name and its pedigree say."""
    if pedigree["release_id"] != release_id:
        return [f"it is release {pedigree['release_id']} under another name"]
    found = content_hash_of(
        pedigree["as_of_date"],
        str(pedigree["code_version"]),
        str(pedigree["engine"]),
        contents,
        str(pedigree.get("reporting_time_zone", "UTC")),
    )
    if found != pedigree["content_hash"] or not release_id.endswith(f"-{found[:8]}"):
        return [
            "its tables, day, code version and engine give another hash than at its publication"
        ]
    return []


def _about_problems(folder: Path, pedigree: Mapping[str, Any]) -> list[str]:
    """Check that `release.json` beside the Parquet files names the same release and day."""
    file = folder / files.ABOUT_NAME
    try:
        about = json.loads(file.read_text("utf-8"))
        named = [str(about[name]) for name in ("release_id", "as_of_date")]
    except FileNotFoundError:  # a release of version 0.4 or older
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"its {file.name} cannot be read: {type(error).__name__}"]
    if named != [str(pedigree[name]) for name in ("release_id", "as_of_date")]:
        return [f"its {file.name} is that of release {named[0]} as of {named[1]}"]
    return []


def _parquet_problems(
    home: Path, release_id: str, promised: list[tuple[str, str, int, str]]
) -> list[str]:
    folder = files.parquet_dir(home, release_id)
    problems = []
    with duckdb.connect(":memory:") as connection:
        for schema, name, rows, fingerprint in promised:
            if schema != "marts":
                continue
            file = folder / f"{name}.parquet"
            if not file.is_file():
                problems.append(f"its Parquet copy of {name} is missing")
                continue
            found = content_of(connection, parquet(file), fingerprint)
            if (found.rows, found.fingerprint) != (rows, fingerprint):
                problems.append(f"its Parquet copy of {name} differs")
    return problems
