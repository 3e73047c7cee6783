"""What a release says, as text for people in 80 columns, and as CSV.

Here belong questions to an open release and the layout of their answers. Amounts of different
currencies are never added up; numbers come as Decimal and are never turned into floats.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from dagster_project.answers.layout import count
from dagster_project.releases.closing import certified_releases
from dagster_project.releases.compare import CellDifference, TableDifference
from dagster_project.releases.files import current_release, read_history
from dagster_project.releases.read import ReleaseSummary

WIDTH = 80
LAPSE_DAYS = 90
_MOST_FILES = 3
_MOST_REFUSED = 5
_NOTHING = (Decimal("0.00"),) * 4  # list, discount, credit and net

Connection = duckdb.DuckDBPyConnection


def refresh(connection: Connection, home: Path, seconds: Mapping[str, float]) -> str:
    """The summary at the end of a refresh.

    Args:
        connection: The release now served.
        home: The data home.
        seconds: Time by step.
    """
    facts = _row(connection, "select release_id, as_of_date, created_at from release.release")
    release_id, as_of, created_at = facts
    where = (
        f"Release {release_id}, as of {as_of}, is served:\n"
        f"  {home / 'current'}\n"
        f"  published {created_at:%Y-%m-%d %H:%M} UTC; open it read-only in DuckDB 1.5 or later\n"
        f"  {home / 'releases' / str(release_id)}/*.parquet\n"
        "  the same marts, one file per table"
    )
    parts = [
        where,
        rows_in(connection),
        _given(connection),
        _credit_left(connection, as_of),
        _ending(connection, as_of),
        _findings(connection),
        restated(connection),
        _checks(connection),
        _times(seconds),
    ]
    return "\n\n".join(part for part in parts if part)


def rows_in(connection: Connection) -> str:
    """What became of delivered rows by feed, and the files that were refused, the newest first."""
    rows = connection.execute(
        "select feed, count(*), sum(physical_rows), sum(accepted_rows), sum(superseded_rows),"
        " sum(duplicate_rows), sum(rejected_rows) from release.deliveries"
        " where verdict = 'loaded' group by feed order by min(arrived_at), feed"
    ).fetchall()
    table = as_table(
        ["Rows in", "files", "rows", "current", "superseded", "duplicate", "rejected"],
        [[f"  {row[0]}", *row[1:]] for row in rows],
    )
    refused = connection.execute(
        "select file_name, refusal_reason from release.deliveries where verdict = 'refused'"
        " order by arrived_at desc, file_name"
    ).fetchall()
    if refused:
        table += f"  {count(len(refused), 'file')} refused, see `coupon-ledger deliveries`:\n"
        for name, why in refused[:_MOST_REFUSED]:
            told = f"{name}: {why}"
            table += f"    {_cut(told, WIDTH - 4)}\n"
        if len(refused) > _MOST_REFUSED:
            table += f"    and {len(refused) - _MOST_REFUSED:,} more\n"
    return table.rstrip("\n")


def _given(connection: Connection) -> str:
    rows = connection.execute(
        """
        with given as (
            select coupons.program, charges.currency, applications.redemption_id,
                applications.discount_amount, 0 as credit_amount
            from marts.fct_discount_applications as applications
            inner join marts.fct_discounted_charges as charges using (invoice_id)
            inner join marts.dim_coupons as coupons using (coupon_id)
            union all
            select coupons.program, ledger.currency, ledger.redemption_id, 0, -ledger.amount
            from marts.fct_credit_ledger as ledger
            inner join marts.dim_coupons as coupons using (coupon_id)
            where ledger.entry_type = 'draw'
        )
        select program, currency, count(distinct redemption_id),
            cast(sum(discount_amount) as decimal(18, 2)), cast(sum(credit_amount) as decimal(18, 2))
        from given group by program, currency order by program, currency
        """
    ).fetchall()
    return as_table(
        ["Given so far", "currency", "redemptions", "discount", "credit"],
        [[f"  {row[0]}", *row[1:]] for row in rows],
    ).rstrip("\n")


def _credit_left(connection: Connection, as_of: date) -> str:
    """Balances, and what of them lapses if it is not used: a grant ends with its own period."""
    until = as_of + timedelta(days=LAPSE_DAYS)
    rows = connection.execute(
        """
        with balances as (
            select grant_id, redemption_id, coupon_id, currency,
                cast(sum(amount) as decimal(18, 2)) as balance_amount,
                cast(regexp_extract(grant_id, '#([0-9]+)$', 1) as bigint) as grant_period
            from marts.fct_credit_ledger group by all
        ),
        ends as (
            select balances.*, least(redemptions.ends_at, redemptions.started_at + to_months(
                cast(balances.grant_period * coupons.credit_period_months as integer))) as ends_at
            from balances
            inner join marts.dim_coupon_redemptions as redemptions using (redemption_id)
            inner join marts.dim_coupons as coupons on coupons.coupon_id = balances.coupon_id
            where balances.balance_amount > 0
        )
        select currency, count(*), sum(balance_amount),
            coalesce(sum(balance_amount) filter (where ends_at < ?), 0)
        from ends group by currency order by currency
        """,
        [datetime.combine(until + timedelta(days=1), datetime.min.time())],
    ).fetchall()
    if not rows:
        return ""
    return as_table(
        ["Credit left", "grants", "balance", f"lapses by {until}"],
        [[f"  {row[0]}", *row[1:]] for row in rows],
    ).rstrip("\n")


def _ending(connection: Connection, as_of: date) -> str:
    if not _has(connection, "fct_upcoming_expirations"):
        return ""
    until = as_of + timedelta(days=LAPSE_DAYS)
    row = _row(
        connection,
        "select count(*), count(*) filter (where is_followed_up), count(distinct workspace_id)"
        " from marts.fct_upcoming_expirations where cast(ends_at as date) <= ?",
        [until],
    )
    return (
        f"Ending by {until}: {count(row[0], 'redemption')} on {count(row[2], 'workspace')},"
        f" {row[1]:,} with a follow-up"
    )


def _findings(connection: Connection) -> str:
    if not _has(connection, "fct_audit_findings"):
        return ""
    rows = connection.execute(
        "select finding_type, severity, currency, count(*), sum(amount_at_stake)"
        " from marts.fct_audit_findings group by all order by all"
    ).fetchall()
    if not rows:
        return "Findings in what billing did: none"
    return as_table(
        ["Findings in what billing did", "severity", "number", "at stake", ""],
        [[f"  {kind}", severity, n, stake, code] for kind, severity, code, n, stake in rows],
    ).rstrip("\n")


def _checks(connection: Connection) -> str:
    rows = connection.execute(
        "select name, failures, if(checked_by = 'dbt', 'row', 'file')"
        " from release.checks where status <> 'pass' order by checked_by, name"
    ).fetchall()
    (total,) = _row(connection, "select count(*) from release.checks")
    text = f"Checks: {total - len(rows)} of {total} passed"
    if rows:
        text += "; the others do not block, they are shown:"
    shown = [
        f"  {_cut(str(name), WIDTH - 24)}: {count(failures, unit)}"
        for name, failures, unit in rows[:10]
    ]
    if len(rows) > 10:
        shown.append(f"  and {len(rows) - 10} more, in release.checks")
    return "\n".join([text, *shown])


def _times(seconds: Mapping[str, float]) -> str:
    steps = ", ".join(f"{step} {taken:.1f}" for step, taken in seconds.items())
    return f"Seconds: {steps}; together {sum(seconds.values()):.1f}"


def deliveries(connection: Connection) -> str:
    """Every delivered file with its fate."""
    rows = connection.execute(
        "select cast(arrived_at as date), file_name, verdict, accepted_rows, superseded_rows,"
        " duplicate_rows, rejected_rows, refusal_reason from release.deliveries"
        " order by arrived_at, feed, file_name"
    ).fetchall()
    table = as_table(
        ["arrived", "file", "fate", "current", "older", "repeat", "reject"],
        [[str(row[0]), _cut(row[1], 28), *row[2:7]] for row in rows],
    )
    refused = [f"\nRefused {row[1]}: {row[7]}" for row in rows if row[2] == "refused"]
    return table.rstrip("\n") + "\n".join(["", *refused] if refused else [])


def rejected(
    connection: Connection,
    feed: str | None = None,
    delivery: str | None = None,
    limit: int = 50,
) -> str:
    """The rejected rows, each with every reason, after a count by reason."""
    where, values = rejected_filter(feed, delivery)
    reasons = connection.execute(
        "select feed, reason, count(*) from (select feed, unnest(string_split(reasons, '; '))"
        f" as reason from release.rejected_rows where {where}) group by all"
        " order by count(*) desc, feed, reason",
        values,
    ).fetchall()
    if not reasons:
        chosen = feed is not None or delivery is not None
        return "No such row was rejected." if chosen else "No row was rejected."
    (total,) = _row(connection, f"select count(*) from release.rejected_rows where {where}", values)
    lines = [f"{count(total, 'rejected row')}:", ""]
    lines += [f"  {number:>7,}  {name}: {_cut(reason, 58)}" for name, reason, number in reasons]
    rows = connection.execute(
        "select file_name, row_number, reasons, record from release.rejected_rows"
        f" where {where} order by file_name, row_number limit {int(limit)}",
        values,
    ).fetchall()
    for name, number, why, record in rows:
        lines += ["", f"{name}, row {number}", f"  {why}", f"  {record}"]
    if total > limit:
        lines += ["", f"and {total - limit:,} more: --csv FILE writes all of them"]
    return "\n".join(lines)


def rejected_to_csv(
    connection: Connection,
    path: Path,
    feed: str | None = None,
    delivery: str | None = None,
) -> int:
    """Write all rejected rows to a CSV file; what a spreadsheet would take for a formula is quoted.

    Returns:
        The number of rows written.
    """
    where, values = rejected_filter(feed, delivery)
    cursor = connection.execute(
        "select delivery_id, feed, file_name, row_number, reasons, record"
        f" from release.rejected_rows where {where} order by file_name, row_number",
        values,
    )
    written = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["delivery_id", "feed", "file_name", "row_number", "reasons", "record"])
        while rows := cursor.fetchmany(10_000):
            writer.writerows([_not_a_formula(value) for value in row] for row in rows)
            written += len(rows)
    return written


def has_delivery(connection: Connection, delivery: str) -> bool:
    """Whether there is a delivery of an id, or with a part of its name."""
    where, values = rejected_filter(None, delivery)
    (found,) = _row(connection, f"select count(*) from release.deliveries where {where}", values)
    return bool(found)


def rejected_filter(feed: str | None, delivery: str | None) -> tuple[str, list[str]]:
    """The condition in SQL that chooses rejected rows, and its values.

    Args:
        feed: Only rows of this feed.
        delivery: Only rows of this delivery: its id, or part of its name.
    """
    conditions, values = ["true"], []
    if feed is not None:
        conditions.append("feed = ?")
        values.append(feed)
    if delivery is not None:
        conditions.append("(starts_with(delivery_id, ?) or contains(file_name, ?))")
        values += [delivery, delivery]
    return " and ".join(conditions), values


def releases(kept: Sequence[ReleaseSummary], home: Path) -> str:
    """The releases kept, newest first, with what changed in their totals, and what was served."""
    if not kept:
        return f"No release in {home} yet: `coupon-ledger run` makes one."
    certified = certified_releases(home)
    lines: list[str] = []
    amounts: list[list[Any]] = []
    for number, release in enumerate(kept):
        mark = "*" if release.is_current else " "
        if release.problem:
            lines.append(f"{mark} {release.release_id}  DAMAGED: {release.problem}")
            continue
        before = next((one for one in kept[number + 1 :] if not one.problem), None)
        change = f" ({release.rows - before.rows:+,})" if before else ""
        lines.append(
            f"{mark} {release.release_id}  as of {release.as_of_date}  {release.rows:,} rows{change}"
        )
        if release.release_id in certified:
            lines.append(f"      kept for ever, closed {', '.join(certified[release.release_id])}")
        for row in _totals(release.totals, before.totals if before else None):
            amounts.append(row)
            lines.append("")  # takes the row once all of them are laid out
    heading, *laid_out = as_table(["", "list", "discount", "credit", "net"], amounts).splitlines()
    taken = iter(laid_out)
    lines = [heading, *(line or next(taken) for line in lines)]
    lines += ["", "* is served. Last events:"]
    lines += [f"  {_event(event)}" for event in read_history(home)[-5:]]
    if current_release(home) is None:
        lines.append("No release is served: `coupon-ledger restore ID` serves one.")
    return "\n".join(lines)


def _totals(
    totals: Mapping[str, tuple[Decimal, ...]], before: Mapping[str, tuple[Decimal, ...]] | None
) -> Iterator[list[Any]]:
    """A row of amounts per currency, and one with what has changed since the release before."""
    for currency in sorted({*totals, *(before or ())}):
        now = totals.get(currency, _NOTHING)
        yield [f"      {currency}", *now]
        changes = [
            Change(one - other) or None
            for one, other in zip(now, (before or {}).get(currency, _NOTHING), strict=True)
        ]
        if before is not None and any(changes):
            yield ["        change", *changes]


def _event(event: Mapping[str, Any]) -> str:
    at = f"{str(event['at'])[:16].replace('T', ' ')} UTC"
    by = f" by {event['by']}" if event.get("by") else ""
    month = f"{event['month']} with " if "month" in event else ""
    return f"{at}  {event['event']} {month}{event['release_id']}{by}"


def restated(connection: Connection) -> str:
    """What has changed in closed months, by month and currency; nothing if nothing has.

    A delivery is named with how many of the amounts it is known to be behind.
    """
    if not _has(connection, "fct_restatements"):
        return ""
    rows = connection.execute(
        "select strftime(closed_month, '%Y-%m') as month, currency, count(*),"
        " sum(delta_amount) filter (where table_name = 'fct_discounted_charges' and column_name ="
        " 'net_amount') from marts.fct_restatements group by all order by all"
    ).fetchall()
    if not rows:
        return ""
    explained = connection.execute(
        "select strftime(closed_month, '%Y-%m'), currency, file_name, count(*)"
        " from marts.fct_restatements where file_name is not null group by all"
        " order by count(*) desc, file_name"
    ).fetchall()
    table = as_table(
        ["Changed in closed months", "", "amounts", "net charges"],
        [
            [f"  {month}", currency, amounts, Change(net or "0.00")]
            for month, currency, amounts, net in rows
        ],
    )
    heading, *lines = table.splitlines()
    told = [heading]
    for line, (month, currency, amounts, _) in zip(lines, rows, strict=True):
        told.append(line)
        files = [one[2:] for one in explained if one[:2] == (month, currency)]
        told += [
            f"    {known:,} of {amounts:,} in {_cut(name, 48)}"
            for name, known in files[:_MOST_FILES]
        ]
        if len(files) > _MOST_FILES:
            told.append(f"    and more in {len(files) - _MOST_FILES:,} other files")
    return "\n".join([*told, "  one by one in marts.fct_restatements"])


def differences(found: Sequence[TableDifference], releases: Sequence[Mapping[str, Any]]) -> str:
    """What differs between two releases, table by table.

    Args:
        found: The differences.
        releases: What the two say they are.
    """
    lines = [
        f"{name}  {one['release_id']}  as of {one['as_of_date']}"
        for name, one in zip("AB", releases, strict=True)
    ]
    if releases[0]["as_of_date"] != releases[1]["as_of_date"]:
        lines.append("As of different days: what happened in between is part of the difference.")
    rows = as_table(
        ["rows", "in A", "in B", "added", "gone", "changed"],
        [[d.table_name, d.rows_before, d.rows_after, d.added, d.gone, d.changed] for d in found],
    )
    lines += ["", rows.rstrip("\n")]
    for one in found:
        if one.columns_added:
            lines.append(f"{one.table_name}: new columns {', '.join(one.columns_added)}")
        if one.columns_gone:
            lines.append(f"{one.table_name}: columns gone {', '.join(one.columns_gone)}")
    amounts: list[list[Any]] = []
    for one in found:
        if one.amounts:
            amounts.append([one.table_name, "", None, None, None])
        amounts += [
            [f"  {a.column}", a.currency or "", a.before, a.after, Change(a.after - a.before)]
            for a in one.amounts
        ]
    if amounts:
        totals = as_table(["totals that differ", "", "in A", "in B", "B - A"], amounts)
        lines += ["", totals.rstrip("\n")]
    if all(one.is_equal for one in found):
        lines += ["", "The marts are equal."]
    return "\n".join(lines)


def cells(found: Sequence[CellDifference]) -> str:
    """Differing cells, one a line."""
    lines = ["", "cells, A → B"]
    for cell in found:
        key = ", ".join("(none)" if part is None else part for part in cell.key)
        if cell.column in ("+row", "-row"):
            lines.append(f"{key}: {'only in B' if cell.column[0] == '+' else 'only in A'}")
        else:
            lines.append(f"{key}: {cell.column} {cell.before} → {cell.after}")
    return "\n".join(lines)


def as_table(names: Sequence[str], rows: Iterable[Sequence[Any]], *, is_plain: bool = False) -> str:
    """A plain table: numbers to the right, nulls empty, one line a row.

    Args:
        names: Column titles.
        rows: The values.
        is_plain: Whether whole numbers go without separators.
    """
    body = [[_cell(value, is_plain) for value in row] for row in rows]
    numeric = [True] * len(names)
    for row in body:
        for place, (_, is_number) in enumerate(row):
            numeric[place] = numeric[place] and is_number
    texts = [list(names), *[[text for text, _ in row] for row in body]]
    widths = [max(len(line[place]) for line in texts) for place in range(len(names))]
    lines = [
        "  ".join(
            text.rjust(width) if is_number else text.ljust(width)
            for text, width, is_number in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in texts
    ]
    return "\n".join(lines) + "\n"


class Change(Decimal):
    """A difference, shown with its sign."""


def _cell(value: object, is_plain: bool = False) -> tuple[str, bool]:
    if value is None:
        return "", True
    if isinstance(value, Change):
        return f"{value:+,}", True
    if isinstance(value, bool):
        return str(value).lower(), False
    if is_plain and isinstance(value, int):
        return str(value), True
    if isinstance(value, int | Decimal):
        return f"{value:,}", True
    text = str(value)
    return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in text), False


def as_csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV with a header; numbers untouched, formula-like text quoted."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_not_a_formula(value) for value in row] for row in rows)
    return text.getvalue()


def _not_a_formula(value: object) -> object:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value


def _cut(text: str, width: int) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= width else plain[: width - 1] + "…"


def _has(connection: Connection, table: str) -> bool:
    row = connection.execute(
        "select count(*) from release.tables where table_name = ?", [table]
    ).fetchone()
    return bool(row and row[0])


def _row(
    connection: Connection, sql: str, values: Sequence[object] | None = None
) -> tuple[Any, ...]:
    row = connection.execute(sql, values or []).fetchone()
    assert row is not None
    return tuple(row)
