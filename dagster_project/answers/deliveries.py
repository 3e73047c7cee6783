"""`deliveries` and `rejected`: what was delivered, what became of it, what the supplier must correct."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from dagster_project.answers.asking import (
    Connection,
    NotThere,
    Row,
    facts,
    has_column,
    near,
    rows,
)

EXAMPLES = 3
"""Rows shown to the supplier per reason."""

REJECTED_COLUMNS = ("delivery_id", "feed", "file_name", "row_number", "reasons", "record")

_BATCH = 10_000
_LISTED = "rejected: "
"""Comes before a list with commas in a note."""
_IGNORED = "ignored, since the feed has no such column: "
"""Comes before a list of columns in a note."""
_COUNTED = re.compile(r"(\D*)([0-9][0-9,]*)( .*)")
_COUNTED_THINGS = re.compile(r"( instant| value| number)s?\b")


def deliveries(connection: Connection) -> Row:
    """List every delivery with its row counts, in the order of arrival.

    The parts of a folder that arrived together and have the same verdict are one delivery, with a list
    of its `parts`. `failed_checks` are those of the supplier gate that single files did not pass.
    """
    found = rows(connection, "from release.deliveries order by arrived_at, feed, file_name")
    return {
        **facts(connection),
        "deliveries": with_folders(found),
        "failed_checks": failed_checks(connection),
    }


def failed_checks(connection: Connection) -> list[Row]:
    """Return the checks on arrival that files did not pass, by feed, file and arrival, and what they found.

    A release of an earlier version only counts the files (`release.checks`); its list is empty.
    """
    if not has_column(connection, "delivery_checks", "observed", "release"):
        return []
    return rows(
        connection,
        "select delivery_id, arrived_at, checks.feed, checks.file_name, name, severity, observed"
        " from release.delivery_checks as checks join release.deliveries using (delivery_id)"
        " order by checks.feed, checks.file_name, arrived_at, delivery_id, name",
    )


def with_folders(files: list[Row]) -> list[Row]:
    """Combine the parts of a folder that arrived together and have the same fate, in the place of the first.

    Args:
        files: Rows of `release.deliveries`.
    """
    together = parts_together(
        files, lambda file: (file["arrived_at"], file["verdict"], file["refusal_reason"])
    )
    return [_folder(parts) if len(parts) > 1 else parts[0] for parts in together]


def parts_together(
    files: Iterable[Row], fate: Callable[[Row], tuple[object, ...] | None]
) -> list[list[Row]]:
    """Group the parts of a folder that have the same fate, in the place of the first.

    Args:
        files: Each has a `file_name` that begins with its feed.
        fate: Returns the values that parts must share; None keeps a file by itself.
    """
    together: dict[tuple[object, ...], list[Row]] = {}
    for number, file in enumerate(files):
        *folder, _ = str(file["file_name"]).split("/", 2)
        shared = fate(file) if len(folder) == 2 else None
        key = (number,) if shared is None else (*folder, *shared)
        together.setdefault(key, []).append(file)
    return [*together.values()]


def _folder(parts: list[Row]) -> Row:
    first = parts[0]
    feed, folder, *_ = str(first["file_name"]).split("/")
    counted = {
        name: sum(part[name] or 0 for part in parts) for name in first if name.endswith("_rows")
    }
    return {
        **first,
        "file_name": f"{feed}/{folder}/",
        "delivery_id": None,
        "sha256": None,
        "notes": added_notes(part["notes"] for part in parts if part.get("notes")),
        **counted,
        "parts": parts,
    }


def added_notes(notes: Iterable[str]) -> str | None:
    """Combine the notes of some files into one, and add up the counts of equal phrases.

    Args:
        notes: The notes of each file, as `release.deliveries` has them.

    Returns:
        One note; None if there are no notes.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    ignored: dict[str, None] = {}
    for note in notes:
        for phrase in note.split("; "):
            if phrase.startswith(_IGNORED):
                ignored.update(dict.fromkeys(phrase.removeprefix(_IGNORED).split(", ")))
                continue
            before, is_list, listed = phrase.rpartition(_LISTED)
            for one in listed.split(", ") if is_list else [phrase]:
                about, number, what = _COUNTED.fullmatch(one).groups()  # type: ignore[union-attr]
                alike = _COUNTED_THINGS.sub(r"\1s", what)
                counts[before + is_list, about, alike] += int(number.replace(",", ""))
    told: dict[str, list[str]] = {}
    for (before, about, alike), number in counts.items():
        what = _COUNTED_THINGS.sub(r"\1", alike) if number == 1 else alike
        told.setdefault(before or about + what, []).append(f"{about}{number:,}{what}")
    phrases = [
        (before if before.endswith(_LISTED) else "") + ", ".join(parts)
        for before, parts in told.items()
    ]
    if ignored:
        phrases.append(_IGNORED + ", ".join(ignored))
    return "; ".join(phrases) or None


def rejected(
    connection: Connection,
    feed: str | None = None,
    delivery: str | None = None,
    limit: int | None = None,
) -> Row:
    """Return the rejected rows as delivered, each with every reason, and their number by reason.

    Args:
        connection: The release.
        feed: Only rows of this feed.
        delivery: Only rows of this delivery: its id, or part of its name.
        limit: How many rows to list; all by default. Counts are of all.

    Raises:
        NotThere: There is no such delivery.
    """
    where, values = _filter(connection, feed, delivery)
    reasons = rows(
        connection,
        "select feed, reason, count(*) as rows from (select feed,"
        " unnest(string_split(reasons, '; ')) as reason from release.rejected_rows"
        f" where {where}) group by all order by rows desc, feed, reason",
        values,
    )
    (total,) = rows(
        connection, f"select count(*) as rows from release.rejected_rows where {where}", values
    )
    listed = rows(
        connection,
        "select delivery_id, feed, file_name, row_number, string_split(reasons, '; ') as reasons,"
        f" record from release.rejected_rows where {where} order by file_name, row_number"
        + ("" if limit is None else f" limit {int(limit)}"),
        values,
    )
    return {
        **facts(connection),
        "total": total["rows"],
        "rows_by_reason": reasons,
        "rejected_rows": listed,
    }


def rejected_rows(
    connection: Connection, feed: str | None = None, delivery: str | None = None
) -> Iterator[tuple[object, ...]]:
    """Yield all rejected rows one by one, as `REJECTED_COLUMNS`; there may be more than fit in memory.

    Args:
        connection: The release.
        feed: Only rows of this feed.
        delivery: Only rows of this delivery: its id, or part of its name.

    Raises:
        NotThere: There is no such delivery.
    """
    where, values = _filter(connection, feed, delivery)
    cursor = connection.execute(
        f"select {', '.join(REJECTED_COLUMNS)} from release.rejected_rows where {where}"
        " order by file_name, row_number",
        values,
    )
    while batch := cursor.fetchmany(_BATCH):
        yield from batch


def for_supplier(connection: Connection) -> Row:
    """Collect what the supplier needs: row counts, refused files, reasons with examples, checks, by file too."""
    reasons = rows(
        connection,
        "select feed, reasons as text, count(*) as rows from release.rejected_rows"
        " group by all order by rows desc, feed, text",
    )
    for reason in reasons:
        reason["examples"] = rows(
            connection,
            "select file_name, row_number, record from release.rejected_rows"
            " where feed = ? and reasons = ? order by file_name, row_number limit ?",
            [reason["feed"], reason["text"], EXAMPLES],
        )
    (totals,) = rows(
        connection,
        "select count(*) as files, coalesce(sum(physical_rows), 0) as rows,"
        " coalesce(sum(accepted_rows), 0) as accepted,"
        " coalesce(sum(superseded_rows), 0) as superseded,"
        " coalesce(sum(duplicate_rows), 0) as duplicate,"
        " coalesce(sum(rejected_rows), 0) as rejected from release.deliveries",
    )
    files = rows(connection, "from release.deliveries order by feed, arrived_at, file_name")
    checks = rows(
        connection,
        "select table_name as feed, name, severity, failures from release.checks"
        " where checked_by = 'supplier gate' order by feed, name",
    )
    return {
        "noted": [file for file in files if file.get("notes")],
        **facts(connection),
        "totals": totals,
        "files": files,
        "refused": [file for file in files if file["verdict"] != "loaded"],
        "reasons": reasons,
        "broken": [check for check in checks if check["failures"]],
        "failed_checks": failed_checks(connection),
        "met": [check for check in checks if not check["failures"]],
    }


def _filter(
    connection: Connection, feed: str | None, delivery: str | None
) -> tuple[str, list[str]]:
    """Return the condition in SQL that chooses rows by feed and delivery, and its values."""
    conditions, values = ["true"], []
    if feed is not None:
        conditions.append("feed = ?")
        values.append(feed)
    if delivery is not None:
        names = rows(connection, "select delivery_id, file_name from release.deliveries")
        if not any(
            row["delivery_id"].startswith(delivery) or delivery in row["file_name"] for row in names
        ):
            close = near(delivery, dict.fromkeys(row["file_name"] for row in names))
            raise NotThere("delivery", delivery, near=close)
        conditions.append("(starts_with(delivery_id, ?) or contains(file_name, ?))")
        values += [delivery, delivery]
    return " and ".join(conditions), values
