"""What a run would make of a file or folder, tried in a data home that is thrown away.

The trial belongs here: arrival, the gate, and the staging models, which judge every row. It works on a
copy, stores nothing, and needs no data home.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from dagster_project.arrival.landing import DEEPEST
from dagster_project.arrival.report import DeliveryReport
from dagster_project.feeds import Feed, feeds
from dagster_project.settings import Settings

Row = dict[str, Any]

_NEEDS_OTHERS = ("_is_mostly_known", "_is_as_usual")
"""Endings of the names of checks that compare a file with other deliveries."""
MODELS = "+stg_billing__rejected_rows +stg_billing__repeated_rows"


class NotCheckable(Exception):
    """The path cannot be checked; the message says why and what to give instead."""


def check(path: Path, feed: str | None, settings: Settings) -> Row:
    """Report what a run would make of a file, a folder of parts, or a landing folder.

    Args:
        path: The file or folder; it is only read.
        feed: Its feed; by default the feed named by the folder, or by the file's name.
        settings: Time zones of feeds, threads and memory; their data home is not touched.

    Returns:
        `is_accepted`, and `files`: each with its verdict (`loaded`, `refused`, or `known` where it has the
        bytes of the file `same_as`, which adds nothing), how many rows would be accepted, superseded,
        duplicate and rejected if nothing else were delivered, the reasons with the first row and value of
        each, and what the gate found.

    Raises:
        NotCheckable: There is no such file, or its feed is unknown.
    """
    if not path.exists():
        raise NotCheckable(f"There is no {path}: name a file or a folder")
    with tempfile.TemporaryDirectory(prefix="coupon-ledger-check-") as folder:
        home = Path(folder) / "home"
        landing = _lay_out(path, feed, Path(folder) / "landing")
        trial = settings.model_copy(update={"home": home, "landing": landing, "engine": "duckdb"})
        from dagster_project.arrival import arrive

        reports = arrive(landing, home, "check", datetime.now(UTC), settle_seconds=0)
        if any(report.loaded_rows for report in reports):
            _judge_rows(trial)
        with duckdb.connect(str(trial.warehouse), read_only=True) as connection:
            first: dict[tuple[str, str], str] = {}
            files = [
                _file(
                    connection,
                    report,
                    settings,
                    first.setdefault((report.feed, report.delivery_id), report.file_name),
                )
                for report in reports
            ]
    return {
        "path": str(path),
        "is_accepted": bool(files)
        and all(file["verdict"] != "refused" and not file["rejected_rows"] for file in files),
        "files": files,
    }


def _lay_out(path: Path, feed: str | None, landing: Path) -> Path:
    """Put the file or folder where a run would find it; a landing folder stays where it is.

    Returns:
        The landing folder, which is only read from here on.
    """
    if feed is None and path.is_dir() and any((path / name).is_dir() for name in feeds()):
        return path
    name = feed or _feed_of(path)
    (landing / name).mkdir(parents=True)
    target = landing / name / path.resolve().name
    if path.is_dir():
        _copy_folder(path, target)
        return landing
    _copy(path.resolve(), target)
    beside = path.with_name(f"{path.name}.manifest.json")
    if beside.is_dir():
        (landing / name / beside.name).mkdir()
    elif beside.exists():
        _copy(beside, landing / name / beside.name)
    return landing


def _feed_of(path: Path) -> str:
    """Return the feed that a path names: its folder, else the beginning of its name.

    Raises:
        NotCheckable: The path names no feed.
    """
    for part in (path.resolve().parent.name, path.resolve().name):
        for name in feeds():
            if part == name or part.startswith((f"{name}.", f"{name}-", f"{name}_")):
                return name
    raise NotCheckable(
        f"The name of {path} does not name its feed: give --feed, one of {', '.join(feeds())}"
    )


def _copy_folder(source: Path, target: Path) -> None:
    """Copy a folder, links as links, no deeper than a run looks."""
    waiting = [(source, target, 0)]
    while waiting:
        here, there, depth = waiting.pop()
        there.mkdir()
        if depth > DEEPEST:
            continue
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((Path(entry.path), there / entry.name, depth + 1))
                else:
                    _copy(Path(entry.path), there / entry.name)


def _copy(source: Path, target: Path) -> None:
    """Copy anything but a folder; a file on the same disk is hard-linked, which costs nothing."""
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
    elif not source.is_file():
        os.mkfifo(target)  # stands for any special file, which is refused unopened
    else:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)


def _judge_rows(settings: Settings) -> None:
    """Build the staging models, which type every row and say why they reject one."""
    from dagster_project.refresh import acceptances, dbt_build

    with duckdb.connect(str(settings.warehouse)) as connection:
        acceptances.load(connection, settings.accepted_findings_file)
    with _silence():
        dbt_build.build_models(settings, MODELS)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Discard what libraries write to standard output, which may be JSON."""
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nothing,
        contextlib.redirect_stdout(nothing),
    ):
        yield


def _file(
    connection: duckdb.DuckDBPyConnection, report: DeliveryReport, settings: Settings, same_as: str
) -> Row:
    """Return what becomes of one file; `same_as` is the first file with its bytes."""
    feed = feeds().get(report.feed)
    is_refused = report.reason is not None  # of a known file, the reason why it was refused before
    is_loaded = not is_refused and report.verdict == "loaded"
    rejections = _rejections(connection, report, feed) if is_loaded else []
    [(rejected, superseded, duplicate)] = (
        connection.execute(
            "select (select count(*) from staging.stg_billing__rejected_rows where delivery_id = ?),"
            " count(*) filter (where fate = 'superseded'), count(*) filter (where fate = 'duplicate')"
            " from staging.stg_billing__repeated_rows where delivery_sequence in"
            " (select delivery_sequence from raw.deliveries where delivery_id = ?)",
            [report.delivery_id] * 2,
        ).fetchall()
        if is_loaded and _is_judged(connection)
        else [(report.malformed_rows, 0, 0)]
    )
    notes = connection.execute(
        "select notes from raw.deliveries where delivery_id = ?", [report.delivery_id]
    ).fetchall()
    zone = settings.feed_time_zones.get(report.feed, "UTC")
    return {
        "file_name": report.file_name,
        "feed": report.feed,
        "verdict": "refused" if is_refused else report.verdict,
        "same_as": None if same_as == report.file_name else same_as,
        "reason": report.reason,
        "remedy": report.remedy,
        "rows": report.physical_rows,
        "accepted_rows": 0
        if is_refused
        else report.physical_rows - rejected - superseded - duplicate,
        "superseded_rows": superseded,
        "duplicate_rows": duplicate,
        "rejected_rows": 0 if is_refused else rejected,
        "rejections": rejections,
        "notes": notes[0][0].replace("without an offset", f"without an offset, read as {zone}")
        if is_loaded and notes and notes[0][0]
        else None,
        "gate": [
            {
                "check": result.check_name,
                "severity": result.severity,
                "observed": result.observed,
            }
            for result in report.gate_failures
            if not result.check_name.endswith(_NEEDS_OTHERS)
        ],
    }


def _is_judged(connection: duckdb.DuckDBPyConnection) -> bool:
    return bool(
        connection.execute(
            "select 1 from information_schema.tables where table_schema = 'staging'"
            " and table_name = 'stg_billing__rejected_rows'"
        ).fetchall()
    )


def _rejections(
    connection: duckdb.DuckDBPyConnection, report: DeliveryReport, feed: Feed | None
) -> list[Row]:
    """Return the reasons for rejection, the most common first, each with its first row and value."""
    relation = (
        "staging.stg_billing__rejected_rows"
        if _is_judged(connection)
        else "(select delivery_id, row_number, reason as reasons, record from raw.malformed_rows"
        " join raw.deliveries using (delivery_sequence))"
    )
    found = connection.execute(
        "select reason, count(*), min(row_number), arg_min(record, row_number) from (select"
        f" unnest(string_split(reasons, '; ')) as reason, row_number, record from {relation}"
        " where delivery_id = ?) group by reason order by 2 desc, 1",
        [report.delivery_id],
    ).fetchall()
    return [
        {
            "reason": reason,
            "rows": int(count),
            "first_row": int(first),
            **_seen(feed, str(reason), str(record)),
        }
        for reason, count, first, record in found
    ]


def is_missing(rejection: Row) -> bool:
    """Return whether a rejection is for a value that is missing."""
    return str(rejection["reason"]).endswith(" is missing")


def gate_beyond(file: Row) -> list[Row]:
    """Return what the gate found in a file, without what the rejections of its rows say already.

    Args:
        file: One of the `files` of `check`.
    """
    if not file["rejections"]:
        return list(file["gate"])
    from expectations.building import given_check, readable_check

    repeated = {
        (given_check if is_missing(one) else readable_check)(one["column"])
        for one in file["rejections"]
        if one["column"]
    }
    return [one for one in file["gate"] if one["check"] not in repeated]


def _seen(feed: Feed | None, reason: str, record: str) -> Row:
    """Return the column of a reason, the value seen and, where the form is wrong, the form expected.

    No form is returned for a value of the right form that breaks a rule, because the reason says what is wrong.
    No personal data is returned.
    """
    from expectations.hints import explanation_of, form_of

    name = reason.partition(" ")[0]
    for column in feed.columns if feed else ():
        if column.name == name:
            value = None
            if not column.personal:
                with contextlib.suppress(ValueError, AttributeError):
                    value = json.loads(record).get(name)
            wrong_forms = (
                (f"{name} is ", f"{name} has ")
                if column.type == "id"
                else (
                    f"{name} is missing",
                    f"{name} is a word ",
                    f"{name} is not {form_of(column)}",
                )
            )
            expected = explanation_of(column, value) if reason.startswith(wrong_forms) else None
            return {"column": name, "value": value, "expected": expected}
    return {"column": None, "value": None, "expected": None}
