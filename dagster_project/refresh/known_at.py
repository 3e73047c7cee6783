"""What would have been published from what was known at an earlier instant.

Making a data home of its own for that instant, `HOME/known-at/<instant>`, belongs here: the deliveries
that had arrived, from the archive, and the months closed by then. Refreshing that data home is the
ordinary job, and `HOME/current` is not touched.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb

from dagster_project.arrival.archive import Archive, SideRecord
from dagster_project.releases import files
from dagster_project.releases.errors import ReleaseError
from dagster_project.releases.lock import one_writer
from dagster_project.releases.read import open_release, read_pedigree
from dagster_project.settings import Settings


@dataclass(frozen=True)
class Instant:
    """An instant to look back to.

    Attributes:
        at: The instant. Deliveries that had arrived by then are known, unless a release was given.
        as_of: The as-of date of the newest release at that instant, if any.
        release_id: The release given instead of an instant, if any; the deliveries that it lists are known.
    """

    at: datetime
    as_of: date | None
    release_id: str | None = None

    @property
    def name(self) -> str:
        """The instant as the name of a folder."""
        return self.at.strftime("%Y%m%dT%H%M%S.%fZ")


@dataclass(frozen=True)
class Prepared:
    """A data home that holds what was known.

    Attributes:
        settings: Settings to refresh it with.
        known: Number of deliveries that had arrived.
        deliveries: Number of deliveries now in the archive.
    """

    settings: Settings
    known: int
    deliveries: int


def resolve(home: Path, text: str) -> Instant:
    """Return the instant of a release id or an ISO 8601 date and time, UTC unless it has a zone.

    An instant without a fraction means the whole second: what arrived within it is known.

    Raises:
        NoRelease: The text is part of a release id, and there is no such release.
        ValueError: The text is neither a release id nor an instant.
    """
    if files.is_release_id(text):
        pedigree = read_pedigree(home, files.resolve(home, text))
        return Instant(pedigree["created_at"].replace(tzinfo=UTC), pedigree["as_of_date"], text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"--known-at {text}: give the id of a release, or an instant as YYYY-MM-DDTHH:MM:SSZ."
        ) from None
    if len(text) <= len("YYYY-MM-DD"):
        raise ValueError(f"--known-at {text}: a day is not an instant; add the time as THH:MM:SSZ.")
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    if at.microsecond == 0:
        at = at.replace(microsecond=999_999)
    return Instant(at, _as_of_then(home, at))


def _as_of_then(home: Path, at: datetime) -> date | None:
    """Return the as-of date of the newest release made by an instant."""
    for release_id in reversed(files.release_ids(home)):
        try:
            pedigree = read_pedigree(home, release_id)
        except (ReleaseError, duckdb.Error):
            continue
        if pedigree["created_at"].replace(tzinfo=UTC) <= at:
            day = pedigree["as_of_date"]
            assert isinstance(day, date)
            return day
    return None


def prepare(settings: Settings, instant: Instant) -> Prepared:
    """Make the data home of an instant, from scratch apart from its releases.

    Args:
        settings: Those of the data home that has the archive.
        instant: The instant to look back to.

    Raises:
        ValueError: Nothing had arrived by then.
        ReleaseError: The archive lacks what the release was made from.
        ArrivalError: The archive is damaged.
        Busy: The same instant is being refreshed.
    """
    home = settings.home
    archive = Archive(home / "archive", home / "build" / "tmp")
    records = archive.records(archive.delivery_ids())
    if instant.release_id is None:
        known = [record for record in records if _arrived_at(record) <= instant.at]
    else:
        known = _listed(home, instant.release_id, records)
    if not known:
        first = min(map(_arrived_at, records), default=None)
        why = f"the first came at {first:%Y-%m-%dT%H:%M:%S}Z" if first else "the archive is empty"
        raise ValueError(f"No delivery had arrived by {instant.at:%Y-%m-%dT%H:%M:%S}Z; {why}.")
    side = home / "known-at" / instant.name
    with one_writer(side, "coupon-ledger run --known-at"):
        for name in ("archive", "build", "landing"):
            shutil.rmtree(side / name, ignore_errors=True)
            (side / name).mkdir(parents=True)
        copy_archive(archive, Archive(side / "archive", side / "build"), known)
        _copy_closes(home, side, instant.at)
        # Reviews of findings have no arrival time: those of today apply.
        (side / "accepted_findings.csv").unlink(missing_ok=True)
        if settings.accepted_findings_file.is_file():
            shutil.copyfile(settings.accepted_findings_file, side / "accepted_findings.csv")
    return Prepared(
        settings.model_copy(update={"home": side, "landing": side / "landing"}),
        len(known),
        len(records),
    )


def _listed(home: Path, release_id: str, records: list[SideRecord]) -> list[SideRecord]:
    """Return the deliveries that a release lists, whatever their arrival times say."""
    with open_release(home, release_id) as connection:
        listed = connection.execute("select delivery_id, file_name from release.deliveries")
        names: dict[str, str] = dict(listed.fetchall())
    missing = names.keys() - {record.delivery_id for record in records}
    if missing:
        raise ReleaseError(
            f"{len(missing)} deliveries that release {release_id} was made from are not in the"
            f" archive, such as {names[min(missing)]}.",
            f"Restore {home / 'archive'} from a backup.",
        )
    return [record for record in records if record.delivery_id in names]


def _arrived_at(record: SideRecord) -> datetime:
    at = datetime.fromisoformat(record.arrived_at)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def copy_archive(source: Archive, target: Archive, records: list[SideRecord]) -> None:
    """Copy the side records, and link to the bytes, which never change."""
    for record in records:
        target.write_record(record)
        if record.sha256 is None:
            continue
        path = target.bytes_path(record.sha256)
        path.parent.mkdir(exist_ok=True)
        if not path.is_symlink():
            path.symlink_to(os.path.realpath(source.bytes_path(record.sha256)))


def _copy_closes(home: Path, side: Path, at: datetime) -> None:
    """Copy the register of closes as it was at an instant, and link to the releases it names."""
    path = files.closes_path(side)
    path.unlink(missing_ok=True)
    files.releases_dir(side).mkdir(exist_ok=True)
    for line in files.read_lines(files.closes_path(home)):
        if datetime.fromisoformat(str(line["at"])) > at:
            continue
        files.append_line(path, line, is_chained=True)
        release_id = str(line["release_id"])
        for entry in files.entries(home, release_id):
            link = files.releases_dir(side) / entry.name
            if not link.is_symlink():
                link.symlink_to(os.path.realpath(entry))
