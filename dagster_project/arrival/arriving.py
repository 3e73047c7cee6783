"""Brings deliveries from the landing folder into the raw tables, one file after another.

Here belongs the order of the steps: archive, judge, load, and what is done again after a run that was
killed. Each step itself is another module of this package.

The archive is the truth. A file is first kept there with its place in the order; whatever is in the
archive and not in the warehouse is loaded, which is all there is to recovering from a killed run and
to rebuilding the warehouse.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from dagster_project.arrival import manifest as manifests
from dagster_project.arrival import warehouse
from dagster_project.arrival.archive import (
    Archive,
    SideRecord,
    pseudo_sha256,
    sha256_of,
)
from dagster_project.arrival.landing import (
    EXTENSIONS,
    LandedFile,
    find_landed,
    format_of,
)
from dagster_project.arrival.report import (
    ArrivalError,
    DeliveryReport,
    Limits,
    Refusal,
)
from dagster_project.arrival.rows import Prepared
from dagster_project.arrival.supplier_gate import GateRefusal, ask_gate
from dagster_project.feeds import Feed, feeds

Reader = Callable[[Path, Feed, Limits, Path], Prepared]

READ_AHEAD = 2
"""Deliveries that are read, each by a thread or a process of its own, while one is being loaded."""
RULES_VERSION = 2
"""Raised when arrival accepts what it used to refuse, so that refused files are judged again."""


def arrive(
    landing: Path,
    home: Path,
    run_id: str,
    now: datetime,
    feed_names: Sequence[str] | None = None,
    limits: Limits = Limits(),  # noqa: B008 (immutable)
    *,
    with_gate: bool = True,
) -> list[DeliveryReport]:
    """Load every new file of the landing folder into the raw tables of the warehouse.

    Args:
        landing: The landing folder, with a folder per feed; it is only read.
        home: The data home; its archive and warehouse are made where absent.
        run_id: The run that sees the files.
        now: When that run started; without a zone it is UTC.
        feed_names: Feeds to look at; None means all, and also files that lie in no feed's folder,
            which are refused.
        limits: How far a file is trusted.
        with_gate: Whether the supplier's gate is asked; only tests and measurements do without.

    Returns:
        One report per file, in the order in which they were taken; first those that an earlier run
        had archived and not loaded.

    Raises:
        ArrivalError: If the landing folder is absent, or the archive or warehouse is damaged.
    """
    if not landing.is_dir():
        raise ArrivalError(f"{landing}: no such folder; name the folder the deliveries land in")
    names = tuple(feeds())
    unknown = [name for name in feed_names or () if name not in names]
    if unknown:
        raise ArrivalError(f"no feed {unknown[0]!r}; the feeds are {', '.join(names)}")
    with _opened(home, limits, with_gate) as arrival:
        reports = arrival.catch_up(None if feed_names is None else set(feed_names))
        waiting = find_landed(landing, names, feed_names)
        while waiting:
            told, waiting = arrival.take(waiting, run_id, _utc(now))
            reports += told
        return reports


def rebuild(
    home: Path,
    limits: Limits = Limits(),  # noqa: B008 (immutable)
) -> list[DeliveryReport]:
    """Make the raw tables again from the archive alone.

    Args:
        home: The data home.
        limits: How far a file is trusted that was archived and never judged.

    Returns:
        One report per delivery, in their order, with the same delivery_sequence as before.

    Raises:
        ArrivalError: If the archive is damaged.
    """
    with _opened(home, limits, with_gate=True) as arrival:
        with warehouse.transaction(arrival.connection):
            warehouse.drop_tables(arrival.connection)
            warehouse.create_tables(arrival.connection, arrival.rows)
        arrival.known = _Known(())
        return arrival.catch_up(None)


def _utc(now: datetime) -> str:
    aware = now.replace(tzinfo=UTC) if now.tzinfo is None else now.astimezone(UTC)
    return aware.replace(tzinfo=None).isoformat()


@contextmanager
def _opened(home: Path, limits: Limits, with_gate: bool) -> Iterator[_Arrival]:
    """Open a data home for one call, alone, with an empty folder for temporary files.

    Raises:
        ArrivalError: Also for what the operating system or DuckDB refuses: space, memory, rights.
    """
    temporary = home / "build" / "tmp"
    try:
        path = home / "build" / "warehouse.duckdb"
        connection, deliveries = warehouse.open_warehouse(path, limits, temporary)
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            archive = Archive(home / "archive", temporary)
            archive.folder.mkdir(exist_ok=True)
            known = _Known(deliveries)
            rows = warehouse.raw_rows(path)
            yield _Arrival(archive, connection, rows, temporary, limits, with_gate, known)
            shutil.rmtree(temporary, ignore_errors=True)
        finally:
            connection.close()
    except (OSError, duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise ArrivalError(
            f"{home}: {error}; check free space, memory and permissions, then run again: "
            "what has arrived so far is kept"
        ) from error


class _Known:
    """The deliveries known so far: those in the warehouse, and those archived by this run."""

    def __init__(self, deliveries: Sequence[warehouse.KnownDelivery]) -> None:
        self._by_bytes: dict[tuple[str, str], warehouse.KnownDelivery] = {}
        self._feeds: dict[str, str] = {}
        self._sizes: set[tuple[str, int]] = set()
        self.last_sequence = 0
        for delivery in deliveries:
            self.add(delivery)

    def add(self, delivery: warehouse.KnownDelivery) -> None:
        self._by_bytes[delivery.feed, delivery.identity] = delivery
        self._feeds[delivery.delivery_id] = delivery.feed
        self._sizes.add((delivery.feed, delivery.size_bytes))
        self.last_sequence = max(self.last_sequence, delivery.delivery_sequence)

    def ids(self) -> set[str]:
        return set(self._feeds)

    def with_bytes(self, feed: str, identity: str) -> warehouse.KnownDelivery | None:
        return self._by_bytes.get((feed, identity))

    def may_have(self, feed: str, size_bytes: int) -> bool:
        return (feed, size_bytes) in self._sizes

    def free_id(self, feed: str, identity: str, earlier: warehouse.KnownDelivery | None) -> str:
        """The sha256, followed by a number where another feed had the same bytes before."""
        if earlier is not None:
            return earlier.delivery_id
        delivery_id, number = identity, 1
        while delivery_id in self._feeds:
            number += 1
            delivery_id = f"{identity}-{number}"
        return delivery_id


@dataclass
class _Arrival:
    """One call of arrive or rebuild: its folders, its connection, and what is known so far."""

    archive: Archive
    connection: duckdb.DuckDBPyConnection
    rows: warehouse.RawRows
    temporary: Path
    limits: Limits
    with_gate: bool
    known: _Known
    unjudged: set[str] = field(default_factory=set)

    def catch_up(self, feed_names: set[str] | None) -> list[DeliveryReport]:
        """Load what the archive holds and the warehouse does not, in the order of all deliveries."""
        pending = self.archive.records(self.archive.delivery_ids() - self.known.ids())
        for record in pending:
            self.known.add(_known(record))
        wanted = [record for record in pending if feed_names is None or record.feed in feed_names]
        for record in wanted:
            self.archive.check_bytes(record)
        return self.judge_all([(record, 0.0) for record in wanted])

    def take(
        self, files: Sequence[LandedFile], run_id: str, arrived_at: str
    ) -> tuple[list[DeliveryReport], list[LandedFile]]:
        """Archive all of these files, then judge them.

        Returns:
            The reports, and the files to be looked at again: those that have the same bytes as
            another one, which may have been refused for its place or name only.
        """
        reports: list[DeliveryReport] = []
        again: list[LandedFile] = []
        records: dict[str, tuple[SideRecord, float]] = {}
        for landed in files:
            outcome = self.keep(landed, run_id, arrived_at)
            if outcome is None:
                again.append(landed)
            elif isinstance(outcome, DeliveryReport):
                reports.append(outcome)
            else:
                records[outcome[0].delivery_id] = outcome
        return self.judge_all(list(records.values())) + reports, again

    def keep(
        self, landed: LandedFile, run_id: str, arrived_at: str
    ) -> DeliveryReport | tuple[SideRecord, float] | None:
        """Archive a landed file, unless its feed had the same bytes before.

        Returns:
            The side record to be judged and the seconds used so far; a report if there is nothing
            more to do; None if the same bytes are to be judged first.
        """
        started = time.perf_counter()
        refusal = landed.refusal
        manifest = sha256 = None
        size = landed.size_bytes
        circumstances = ""
        try:
            if landed.is_readable:
                manifest = manifests.read_manifest(landed)
                circumstances = self._circumstances(landed, manifest)
                if self.known.may_have(landed.feed, size):
                    known = self._settled(landed.feed, sha256_of(landed), circumstances)
                    if known is not None:
                        return self._known_report(landed, known, started)
                sha256, size = self.archive.store(landed)
        except Refusal as problem:
            refusal = problem
        identity = sha256
        if identity is None:
            assert refusal is not None
            identity = pseudo_sha256(landed, refusal)
        known = self._settled(landed.feed, identity, circumstances)
        if known is not None:
            return self._known_report(landed, known, started)
        form, is_packed = None, False
        try:
            form, is_packed = format_of(landed.file_name)
        except Refusal as problem:
            refusal = refusal or problem
        earlier = self.known.with_bytes(landed.feed, identity)
        judged_in = (
            self.archive.read_record(earlier.delivery_id).circumstances
            if earlier is not None
            else ()
        )
        record = SideRecord(
            delivery_id=self.known.free_id(landed.feed, identity, earlier),
            delivery_sequence=self.known.last_sequence + 1,
            feed=landed.feed,
            file_name=landed.file_name,
            sha256=sha256,
            size_bytes=size,
            modified_ns=landed.modified_ns,
            arrived_at=arrived_at,
            run_id=run_id,
            format=form,
            is_packed=is_packed,
            manifest=manifest,
            circumstances=tuple(dict.fromkeys((*judged_in, circumstances))),
        )
        if refusal is not None:
            record = record.refused(refusal)
        self.archive.write_record(record)
        if earlier is not None:
            with warehouse.transaction(self.connection):
                warehouse.forget_delivery(self.connection, record.delivery_id)
        self.known.add(_known(record))
        self.unjudged.add(record.delivery_id)
        return record, time.perf_counter() - started

    def judge_all(self, outcomes: Sequence[tuple[SideRecord, float]]) -> list[DeliveryReport]:
        """Judge archived deliveries in their order, while the ones that follow are read.

        Args:
            outcomes: Their side records, and the seconds that each has taken so far.
        """
        reports = []
        reading: deque[Future[Prepared]] = deque()
        with ThreadPoolExecutor(READ_AHEAD, thread_name_prefix="reading") as pool:
            try:
                for place, (record, seconds) in enumerate(outcomes):
                    for ahead, _ in outcomes[place + len(reading) : place + 1 + READ_AHEAD]:
                        reading.append(pool.submit(self._read, ahead))
                    reports.append(self.judge(record, seconds, reading.popleft()))
            finally:
                pool.shutdown(cancel_futures=True)
        return reports

    def _read(self, record: SideRecord) -> Prepared:
        """Make the rows of a delivery ready, in a folder of its own.

        Raises:
            Refusal: It was refused before, or cannot be read.
        """
        if record.refusal is not None:
            raise record.refusal
        feed = feeds().get(record.feed)
        if feed is None:
            raise Refusal(f"there is no feed {record.feed}", "move it to a feed's folder")
        work = self._work(record)
        work.mkdir()
        return self._prepare(record, feed, work)

    def _work(self, record: SideRecord) -> Path:
        return self.temporary / f"work-{record.delivery_sequence}"

    def judge(
        self, record: SideRecord, seconds: float, reading: Future[Prepared]
    ) -> DeliveryReport:
        """Load an archived delivery, or refuse it; either way the warehouse knows it afterwards.

        Args:
            record: Its side record.
            seconds: What it has taken so far.
            reading: Its rows, or why it is refused.
        """
        started = time.perf_counter() - seconds
        prepared: Prepared | None = None
        refusal: Refusal | None = None
        work = self._work(record)
        try:
            prepared = reading.result()
            feed = feeds()[record.feed]
            try:
                record = self._load(record, feed, prepared)
            except warehouse.LoadMismatch:
                prepared = self._prepare(record, feed, work, is_plain_trusted=False)
                record = self._load(record, feed, prepared)
        except warehouse.LoadMismatch as mismatch:
            refusal = Refusal(f"two readers read it differently ({mismatch})", "report this file")
        except Refusal as problem:
            refusal = problem
            if isinstance(problem, GateRefusal):
                record = replace(record, gate=problem.results)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        if refusal is not None:
            if prepared is not None:
                record = _counted(record, prepared)
            record = record.refused(refusal)
            self.rows.path(record.feed, record.delivery_sequence).unlink(missing_ok=True)
            with warehouse.transaction(self.connection):
                self.archive.write_record(record)
                warehouse.write_gate_results(self.connection, record)
                warehouse.write_delivery(self.connection, record)
        self.known.add(_known(record))
        self.unjudged.discard(record.delivery_id)
        report = record.report(time.perf_counter() - started)
        if record.verdict == "loaded" and prepared is not None:
            report = replace(
                report,
                loaded_rows=prepared.good_rows,
                malformed_rows=prepared.malformed_rows,
            )
        return report

    def _prepare(
        self, record: SideRecord, feed: Feed, work: Path, *, is_plain_trusted: bool = True
    ) -> Prepared:
        """Check the bytes of a delivery and make its rows ready to be loaded."""
        assert record.sha256 is not None
        if record.size_bytes == 0:
            header = " and with its header" if record.format == "csv" else ""
            raise Refusal("the file is empty", f"deliver it again, complete{header}")
        manifest = _manifest(record, feed)
        manifests.check_sha256(manifest, record.sha256)
        try:
            prepared = self._read_rows(record, record.sha256, feed, work, is_plain_trusted)
        except Refusal as refusal:
            from dagster_project.arrival.unpacking import misnamed

            path = self.archive.bytes_path(record.sha256)
            other = misnamed(path, record.format, record.is_packed)
            if other is None:
                raise
            raise other from refusal
        manifests.check_rows(manifest, prepared.physical_rows)
        return prepared

    def _read_rows(
        self, record: SideRecord, sha256: str, feed: Feed, work: Path, is_plain_trusted: bool
    ) -> Prepared:
        path = self.archive.bytes_path(sha256)
        if record.is_packed:
            from dagster_project.arrival.unpacking import unpack

            path = unpack(path, work / sha256, self.limits)
        return _reader(record, is_plain_trusted)(path, feed, self.limits, work / "rows")

    def _load(self, record: SideRecord, feed: Feed, prepared: Prepared) -> SideRecord:
        """Write the rows, what the gate says of them, and the delivery: all of it or nothing."""
        sequence = record.delivery_sequence
        with warehouse.transaction(self.connection):
            loaded = warehouse.load_rows(self.connection, feed, sequence, prepared, self.rows)
            warehouse.load_malformed(self.connection, feed.name, sequence, prepared)
            manifest = _manifest(record, feed)
            if manifest.control_total is not None:
                column = manifest.control_total.column
                total = warehouse.sum_of_amounts(self.connection, loaded, column)
                manifests.check_total(manifest, total)
            gate = record.gate
            if record.verdict is None and self.with_gate:
                gate = ask_gate(self.connection, feed, sequence, prepared, loaded)
            record = replace(_counted(record, prepared), verdict="loaded", gate=gate)
            self.archive.write_record(record)
            warehouse.write_gate_results(self.connection, record)
            warehouse.write_delivery(self.connection, record)
            warehouse.create_view(self.connection, feed, self.rows)
        return record

    def _settled(self, feed: str, identity: str, circumstances: str) -> SideRecord | None:
        """The delivery that brought these bytes to the feed before, if its verdict stands.

        A refusal does not stand when what it rested on has changed: the place, the manifest, the
        format by the name, the limits, the feed's columns, or the rules of arrival.
        """
        known = self.known.with_bytes(feed, identity)
        if known is None:
            return None
        record = self.archive.read_record(known.delivery_id)
        if known.delivery_id in self.unjudged:
            return record
        if known.verdict == "refused" and (
            record.verdict is None or circumstances not in record.circumstances
        ):
            return None
        return record

    def _known_report(
        self, landed: LandedFile, record: SideRecord, started: float
    ) -> DeliveryReport | None:
        if record.delivery_id in self.unjudged:
            return None
        return DeliveryReport(
            feed=landed.feed,
            file_name=landed.file_name,
            delivery_id=record.delivery_id,
            verdict="known",
            reason=record.reason,
            remedy=record.remedy,
            seconds=time.perf_counter() - started,
        )

    def _circumstances(self, landed: LandedFile, manifest: str | None) -> str:
        try:
            form = str(format_of(landed.file_name))
        except Refusal:
            form = ""
        place = landed.refusal.reason if landed.refusal else None
        contract = repr(feeds().get(landed.feed))
        judged_by = [RULES_VERSION, contract, place, form, manifest, asdict(self.limits)]
        text = json.dumps(judged_by, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _known(record: SideRecord) -> warehouse.KnownDelivery:
    return warehouse.KnownDelivery(
        record.delivery_id,
        record.feed,
        record.sha256 or record.delivery_id,
        record.size_bytes,
        record.verdict or "pending",
        record.delivery_sequence,
    )


def _counted(record: SideRecord, prepared: Prepared) -> SideRecord:
    return replace(
        record,
        physical_rows=prepared.physical_rows,
        blank_rows=prepared.blank_rows,
        unknown_columns=prepared.unknown_columns,
    )


def _manifest(record: SideRecord, feed: Feed) -> manifests.Manifest:
    if record.manifest is None:
        return manifests.Manifest()
    return manifests.parse_manifest(record.manifest, feed)


def _reader(record: SideRecord, is_plain_trusted: bool) -> Reader:
    """The reader of the format of a delivery; only what is needed is imported."""
    match record.format:
        case "csv":
            from dagster_project.arrival.delimited import prepare_csv, rewrite_csv

            return prepare_csv if is_plain_trusted else rewrite_csv
        case "jsonl":
            from dagster_project.arrival.json_lines import prepare_jsonl

            return prepare_jsonl
        case "parquet":
            from dagster_project.arrival.parquet_files import prepare_parquet

            return prepare_parquet
        case None:
            raise Refusal("unknown extension", f"deliver it as one of {', '.join(EXTENSIONS)}")
