"""From the landing folder into the raw tables, one delivery after another.

The order of the steps belongs here: archive, judge, load, and what is repeated after a killed run. Each
step itself is another module of this package.

The archive is the truth. A file is first stored there with its place in the order; whatever is in the
archive and not in the warehouse is loaded. Recovering from a killed run and rebuilding the warehouse
consist of nothing else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from dagster_project.arrival import manifest as manifests
from dagster_project.arrival import warehouse
from dagster_project.arrival.archive import (
    Archive,
    SideRecord,
    identity_of,
    pseudo_sha256,
    sha256_of_landed,
)
from dagster_project.arrival.landing import (
    EXTENSIONS,
    LandedFile,
    find_landed,
    format_of,
)
from dagster_project.arrival.report import (
    OWN_TROUBLE_REMEDY,
    ArrivalError,
    DeliveryReport,
    Limits,
    Refusal,
    TransientRefusal,
)
from dagster_project.arrival.rows import PlainCsv, Prepared, note_of_unknown
from dagster_project.arrival.supplier_gate import ask_gate, gate_refusal
from dagster_project.feeds import Feed, feeds

_log = logging.getLogger(__name__)
Reader = Callable[[Path, Feed, Limits, Path, Mapping[str, str | None]], Prepared]

READ_AHEAD = 2
"""How many groups of deliveries are read, each by a thread or a process of its own, while another is loaded."""
SMALL_BYTES, MOST_TOGETHER, MOST_BYTES_TOGETHER = 1024 * 1024, 250, 32 * 1024 * 1024
"""Deliveries of one feed up to the first size are taken together, at most so many, of so many bytes in all."""
RULES_VERSION = 3
"""Raised when arrival accepts what it used to refuse, so that refused files are judged again."""


def arrive(
    landing: Path,
    home: Path,
    run_id: str,
    now: datetime,
    limits: Limits = Limits(),  # noqa: B008 (immutable)
    *,
    with_gate: bool = True,
    settle_seconds: int = 60,
    note: Callable[[str], None] = lambda line: None,
) -> list[DeliveryReport]:
    """Load every new file of the landing folder into the raw tables of the warehouse.

    Args:
        landing: The landing folder, with a folder per feed; it is only read.
        home: The data home; its archive and warehouse are made where absent.
        run_id: The run that sees the files.
        now: When that run started; without a zone it is UTC.
        limits: How far a file is trusted.
        with_gate: Whether the supplier's gate checks files; only tests and measurements omit it.
        settle_seconds: How long a folder of parts without `_SUCCESS` must have been unchanged.
        note: Called with a line if rows are loaded again from the archive, or bytes are archived again, because
            what the data home had of them is gone or damaged.

    Returns:
        One report per file, in the order in which they were taken; first those that an earlier run
        had archived and that are not, or no longer, in the warehouse.

    Raises:
        ArrivalError: If the landing folder is absent, or the archive or warehouse is damaged.
    """
    if not landing.is_dir():
        raise ArrivalError(f"{landing}: no such folder; name the folder the deliveries land in")
    with _opened(home, limits, with_gate) as arrival:
        arrival.note = note
        waiting = find_landed(landing, tuple(feeds()), time.time() - settle_seconds)
        reports = arrival.catch_up(waiting)
        while waiting:
            reported, waiting = arrival.take(waiting, run_id, _utc(now))
            reports += reported
        return reports


def rebuild(home: Path) -> list[DeliveryReport]:
    """Make the raw tables again from the archive alone.

    Args:
        home: The data home.

    Returns:
        One report per delivery, in their order, with the same delivery_sequence as before.

    Raises:
        ArrivalError: If the archive is damaged.
    """
    with _opened(home, Limits(), with_gate=True) as arrival:
        with warehouse.transaction(arrival.connection):
            warehouse.drop_tables(arrival.connection)
            warehouse.create_tables(arrival.connection, arrival.rows)
        arrival.known = _Known(())
        return arrival.catch_up()


def _utc(now: datetime) -> str:
    aware = now.replace(tzinfo=UTC) if now.tzinfo is None else now.astimezone(UTC)
    return aware.replace(tzinfo=None).isoformat()


@contextmanager
def _opened(home: Path, limits: Limits, with_gate: bool) -> Iterator[_Arrival]:
    """Open a data home for one call, alone, with an empty folder for temporary files.

    Raises:
        ArrivalError: Also if the operating system or DuckDB lacks space, memory or rights.
    """
    temporary = home / "build" / "tmp"
    try:
        path = home / "build" / "warehouse.duckdb"
        opened = warehouse.open_warehouse(path, limits, temporary)
        connection = opened.connection
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            archive = Archive(home / "archive", temporary)
            archive.folder.mkdir(exist_ok=True)
            known = _Known(opened.deliveries)
            rows = warehouse.raw_rows(path)
            yield _Arrival(
                archive,
                connection,
                rows,
                temporary,
                limits,
                with_gate,
                known,
                opened.emptied_since,
            )
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
        """Return the earlier delivery's id, else the identity, with a number if another feed had the same content."""
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
    emptied_since: str | None
    note: Callable[[str], None] = lambda line: None
    unjudged: set[str] = field(default_factory=set)

    def catch_up(self, landed: Sequence[LandedFile] = ()) -> list[DeliveryReport]:
        """Load what the archive holds and the warehouse does not, in the order of all deliveries.

        Args:
            landed: Files that may have the bytes that the archive has lost.
        """
        pending = self.archive.records(self.archive.delivery_ids() - self.known.ids())
        for record in pending:
            self.known.add(_known(record))
            try:
                self.archive.check_bytes(record)
            except ArrivalError:
                if not self._archived_again(record, landed):
                    raise
        reports = [
            replace(report, is_again=report.verdict == record.verdict)
            for report, record in zip(
                self.judge_all([(record, 0.0) for record in pending]), pending, strict=True
            )
        ]
        number = sum(report.is_again and report.verdict == "loaded" for report in reports)
        if number:
            files = "1 file was" if number == 1 else f"{number:,} files were"
            why = f": {self.emptied_since}" if self.emptied_since else ""
            self.note(f"{files} loaded again from the archive{why}")
        return reports

    def _archived_again(self, record: SideRecord, landed: Sequence[LandedFile]) -> bool:
        """Archive the bytes of a delivery again from a landed file that has them; return whether there is one."""
        for file in landed:
            if not file.is_readable or file.size_bytes != record.size_bytes:
                continue
            with suppress(Refusal):  # a file that cannot be read is reported when it is taken
                if sha256_of_landed(file) == record.sha256:
                    self.archive.store(file)
                    self.note(
                        f"{file.file_name} was archived again: its bytes were gone or damaged"
                    )
                    return True
        return False

    def take(
        self, files: Sequence[LandedFile], run_id: str, arrived_at: str
    ) -> tuple[list[DeliveryReport], list[LandedFile]]:
        """Archive all of these files, then judge them.

        Returns:
            The reports, and the files to look at again: those that have the same bytes as
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
            more to do; None if the same bytes must be judged first.
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
                    identity = identity_of(sha256_of_landed(landed), landed.given)
                    known = self._settled(landed.feed, identity, circumstances)
                    if known is not None:
                        if known.sha256 and not self.archive.bytes_path(known.sha256).exists():
                            self._archived_again(known, [landed])
                        return self._known_report(landed, known, started)
                sha256, size = self.archive.store(landed)
        except Exception as problem:  # noqa: BLE001 (one file stops no other)
            refusal = as_refusal(problem)
        if sha256 is None:
            assert refusal is not None
            identity = pseudo_sha256(landed, refusal)
        else:
            identity = identity_of(sha256, landed.given)
        known = self._settled(landed.feed, identity, circumstances)
        if known is not None:
            return self._known_report(landed, known, started)
        form, is_packed = None, False
        try:
            form, is_packed = format_of(landed.file_name)
        except Refusal as problem:
            refusal = refusal or self._better_named(problem, sha256)
        earlier = self.known.with_bytes(landed.feed, identity)
        judged_in: tuple[str, ...] = (circumstances,)
        if isinstance(refusal, TransientRefusal):
            judged_in = ()
        if earlier is not None:
            before = self.archive.read_record(earlier.delivery_id).circumstances
            judged_in = tuple(dict.fromkeys((*before, *judged_in)))
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
            circumstances=judged_in,
            given=landed.given,
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

    def _better_named(self, refusal: Refusal, sha256: str | None) -> Refusal:
        """Return the refusal of a name, adding what the bytes reveal about the file."""
        from dagster_project.arrival.unpacking import kind_of

        kind = None if sha256 is None else kind_of(self.archive.bytes_path(sha256))
        if kind is None or kind.name in refusal.reason:
            return refusal
        remedy = refusal.remedy if kind.is_container and ": " in refusal.reason else kind.remedy
        return Refusal(f"{refusal.reason}; by its content it is {kind.name}", remedy)

    def judge_all(self, outcomes: Sequence[tuple[SideRecord, float]]) -> list[DeliveryReport]:
        """Judge archived deliveries in their order, while the ones that follow are read.

        Args:
            outcomes: Their side records, and the seconds that each has taken so far.
        """
        reports = []
        groups = _together(outcomes)
        reading: deque[Future[list[Prepared | Refusal]]] = deque()
        with ThreadPoolExecutor(READ_AHEAD, thread_name_prefix="reading") as pool:
            try:
                for place, group in enumerate(groups):
                    for ahead in groups[place + len(reading) : place + 1 + READ_AHEAD]:
                        records = [record for record, _ in ahead]
                        reading.append(pool.submit(self._read_all, records))
                    reports += self.judge(group, reading.popleft())
            finally:
                pool.shutdown(cancel_futures=True)
        return reports

    def _read_all(self, records: Sequence[SideRecord]) -> list[Prepared | Refusal]:
        """Prepare the rows of some deliveries of one feed, each in a folder of its own.

        Returns:
            For each, its rows or why it is refused.
        """
        found: dict[str, Prepared | Refusal] = {}
        parquet: list[SideRecord] = []
        for record in records:
            try:
                feed = self._expected(record)
                self._work(record).mkdir()
                if record.format == "parquet" and len(records) > 1:
                    parquet.append(record)
                else:
                    found[record.delivery_id] = self._prepare(record, feed)
            except Exception as error:  # noqa: BLE001 (one file stops no other)
                found[record.delivery_id] = as_refusal(error)
        if parquet:
            found |= self._read_parquet(parquet)
        return [found[record.delivery_id] for record in records]

    def _read_parquet(self, records: Sequence[SideRecord]) -> dict[str, Prepared | Refusal]:
        """Read some Parquet files in one process."""
        from dagster_project.arrival.parquet_files import ParquetFile, prepare_parquets

        feed = feeds()[records[0].feed]
        files = [
            ParquetFile(
                self.archive.bytes_path(str(record.sha256)),
                self._work(record) / "rows",
                dict(record.given),
            )
            for record in records
        ]
        found: dict[str, Prepared | Refusal] = {}
        try:
            outcomes = prepare_parquets(files, feed, self.limits)
        except Exception as error:  # noqa: BLE001 (the files of other formats go on)
            return dict.fromkeys((one.delivery_id for one in records), as_refusal(error))
        for record, outcome in zip(records, outcomes, strict=True):
            try:
                if isinstance(outcome, Refusal):
                    raise self._better_told(record, outcome)
                manifests.check_rows(_manifest(record, feed), outcome.physical_rows)
                found[record.delivery_id] = outcome
            except Refusal as refusal:
                found[record.delivery_id] = refusal
        return found

    def _better_told(self, record: SideRecord, refusal: Refusal) -> Refusal:
        """Return the refusal of bytes that cannot be read as their name says, with what they are instead if known."""
        if isinstance(refusal, TransientRefusal):
            return refusal
        from dagster_project.arrival.unpacking import misnamed

        sha256 = str(record.sha256)
        unpacked = self._work(record) / sha256
        other = misnamed(
            self.archive.bytes_path(sha256),
            record.file_name,
            record.format,
            unpacked if record.is_packed and unpacked.exists() else None,
        )
        return other or refusal

    def _expected(self, record: SideRecord) -> Feed:
        """Return the feed of a delivery that may be read.

        Raises:
            Refusal: It was refused before, is empty, or is not what its manifest says.
        """
        if record.refusal is not None:
            raise record.refusal
        feed = feeds().get(record.feed)
        if feed is None:
            raise Refusal(f"there is no feed {record.feed}", "move it to a feed's folder")
        if record.size_bytes == 0:
            header = " and with its header" if record.format == "csv" else ""
            raise Refusal("the file is empty", f"deliver it again, complete{header}")
        manifests.check_sha256(_manifest(record, feed), str(record.sha256))
        return feed

    def _work(self, record: SideRecord) -> Path:
        return self.temporary / f"work-{record.delivery_sequence}"

    def judge(
        self,
        group: Sequence[tuple[SideRecord, float]],
        reading: Future[list[Prepared | Refusal]],
    ) -> list[DeliveryReport]:
        """Load archived deliveries of one feed, or refuse them; the warehouse knows all afterwards.

        Args:
            group: Their side records, and the seconds that each has taken so far.
            reading: The rows of each, or why it is refused.
        """
        started = time.perf_counter()
        outcomes = reading.result()
        records = [record for record, _ in group]
        readable = [
            (record, outcome)
            for record, outcome in zip(records, outcomes, strict=True)
            if isinstance(outcome, Prepared)
        ]
        judged = {
            record.delivery_id: _refused(record, outcome)
            for record, outcome in zip(records, outcomes, strict=True)
            if isinstance(outcome, Refusal)
        }
        try:
            self._refuse(list(judged.values()))
            judged |= self._load_all(readable)
        finally:
            for record in records:
                shutil.rmtree(self._work(record), ignore_errors=True)
        spent = (time.perf_counter() - started) / len(group)
        reports = []
        for (record, seconds), outcome in zip(group, outcomes, strict=True):
            done = judged[record.delivery_id]
            self.known.add(_known(done))
            self.unjudged.discard(record.delivery_id)
            report = done.report(seconds + spent)
            if done.verdict == "loaded" and isinstance(outcome, Prepared):
                report = replace(
                    report,
                    loaded_rows=outcome.good_rows,
                    malformed_rows=outcome.malformed_rows,
                )
            reports.append(report)
        return reports

    def _load_all(self, readable: Sequence[tuple[SideRecord, Prepared]]) -> dict[str, SideRecord]:
        """Load deliveries of one feed together; if that fails, each half of them on its own."""
        if not readable:
            return {}
        if len(readable) > 1:
            try:
                return self._load(readable)
            except ArrivalError:
                raise
            except Exception:  # noqa: BLE001 (loading fewer finds which file it is)
                _log.debug("small files could not be loaded together", exc_info=True)
            middle = len(readable) // 2
            return self._load_all(readable[:middle]) | self._load_all(readable[middle:])
        [(record, prepared)] = readable
        try:
            return self._load_one(record, prepared)
        except Exception as error:  # noqa: BLE001 (one file stops no other)
            refused = _refused(_counted(record, prepared), as_refusal(error))
            self._refuse([refused])
            return {record.delivery_id: refused}

    def _load_one(self, record: SideRecord, prepared: Prepared) -> dict[str, SideRecord]:
        """Load a delivery; if DuckDB reads a CSV file differently, load it as the csv module reads it."""
        try:
            return self._load([(record, prepared)])
        except warehouse.LoadMismatch as mismatch:
            if not isinstance(prepared.source, PlainCsv):
                raise _read_differently(mismatch) from mismatch
        again = self._prepare(record, feeds()[record.feed], is_plain_trusted=False)
        try:
            return self._load([(record, again)])
        except warehouse.LoadMismatch as mismatch:
            raise _read_differently(mismatch) from mismatch

    def _refuse(self, records: Sequence[SideRecord]) -> None:
        """Record that deliveries are refused, and remove their rows."""
        if not records:
            return
        for record in records:
            self.rows.remove(record.feed, record.delivery_sequence)
        with warehouse.transaction(self.connection):
            for record in records:
                self.archive.write_record(record)
            warehouse.write_gate_results(self.connection, records)
            warehouse.write_deliveries(self.connection, records, {})

    def _prepare(
        self, record: SideRecord, feed: Feed, *, is_plain_trusted: bool = True
    ) -> Prepared:
        """Check the bytes of a delivery and prepare its rows for loading."""
        try:
            prepared = self._read_rows(record, str(record.sha256), feed, is_plain_trusted)
        except Refusal as refusal:
            raise self._better_told(record, refusal) from refusal
        if prepared.malformed_rows and not prepared.good_rows:
            none_read = Refusal("none of its rows can be read", "deliver it again")
            told = self._better_told(record, none_read)
            if told is not none_read:
                raise told
        manifests.check_rows(_manifest(record, feed), prepared.physical_rows)
        return prepared

    def _read_rows(
        self, record: SideRecord, sha256: str, feed: Feed, is_plain_trusted: bool
    ) -> Prepared:
        path, work = self.archive.bytes_path(sha256), self._work(record)
        if record.is_packed:
            from dagster_project.arrival.unpacking import unpack

            path = unpack(path, work / sha256, self.limits)
        read = reader_of(record, is_plain_trusted)
        return read(path, feed, self.limits, work / "rows", dict(record.given))

    def _load(self, members: Sequence[tuple[SideRecord, Prepared]]) -> dict[str, SideRecord]:
        """Write the rows, the gate's results and the deliveries: all or nothing.

        Returns:
            Their side records, loaded or refused, by delivery id.
        """
        feed = feeds()[members[0][0].feed]
        batches = {
            record.delivery_sequence: warehouse.Batch(record.delivery_sequence, prepared)
            for record, prepared in members
        }
        with warehouse.transaction(self.connection):
            loaded = warehouse.load_rows(self.connection, feed, list(batches.values()), self.rows)
            refusals = self._broken_promises(feed, members)
            asked = [
                batches[record.delivery_sequence]
                for record, _ in members
                if record.verdict is None and record.delivery_sequence not in refusals
            ]
            answers = {}
            if self.with_gate and asked:
                answers = ask_gate(self.connection, feed, asked, self.rows)
            notes = warehouse.notes_of(self.connection, feed, loaded)
            for record, prepared in members:
                if ignored := note_of_unknown(feed, prepared):
                    before = notes.get(record.delivery_sequence)
                    notes[record.delivery_sequence] = f"{before}; {ignored}" if before else ignored
            judged: list[SideRecord] = []
            for record, prepared in members:
                done = replace(
                    _counted(record, prepared),
                    gate=answers.get(record.delivery_sequence, record.gate),
                )
                refusal = refusals.get(record.delivery_sequence) or gate_refusal(
                    answers.get(record.delivery_sequence, ())
                )
                judged.append(
                    replace(done, verdict="loaded") if refusal is None else done.refused(refusal)
                )
            kept = [
                batches[record.delivery_sequence] for record in judged if record.verdict == "loaded"
            ]
            warehouse.load_malformed(self.connection, feed.name, kept)
            for record in judged:
                self.archive.write_record(record)
            warehouse.write_gate_results(self.connection, judged)
            warehouse.write_deliveries(self.connection, judged, notes)
            warehouse.create_view(self.connection, feed, self.rows)
            warehouse.record_digests(self.connection, feed, self.rows)
        for record in judged:
            if record.verdict != "loaded":
                self.rows.remove(feed.name, record.delivery_sequence)
        return {record.delivery_id: record for record in judged}

    def _broken_promises(
        self, feed: Feed, members: Sequence[tuple[SideRecord, Prepared]]
    ) -> dict[int, Refusal]:
        """Return the deliveries whose control total differs from their manifest's."""
        refusals = {}
        for record, _ in members:
            manifest = _manifest(record, feed)
            if manifest.control_total is not None:
                path = self.rows.path(feed.name, record.delivery_sequence)
                total = warehouse.sum_of_amounts(
                    self.connection,
                    warehouse.relation(feed, [path]),
                    manifest.control_total.column,
                )
                try:
                    manifests.check_total(manifest, total)
                except Refusal as refusal:
                    refusals[record.delivery_sequence] = refusal
        return refusals

    def _settled(self, feed: str, identity: str, circumstances: str) -> SideRecord | None:
        """Return the delivery that brought these bytes to the feed before, if its verdict stands.

        A refusal does not stand if what it depended on has changed: the place, the manifest, the
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
        except Refusal as refusal:
            form = refusal.reason
        place = landed.refusal.reason if landed.refusal else None
        contract = repr(feeds().get(landed.feed))
        judged_by = [RULES_VERSION, contract, place, form, manifest, asdict(self.limits)]
        text = json.dumps(judged_by, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _together(
    outcomes: Sequence[tuple[SideRecord, float]],
) -> list[list[tuple[SideRecord, float]]]:
    """Return deliveries in groups, in order: consecutive small ones of a feed, or a single one."""
    groups: list[list[tuple[SideRecord, float]]] = []
    group_bytes = 0
    for outcome in outcomes:
        record = outcome[0]
        before = groups[-1] if groups else []
        if (
            before
            and len(before) < MOST_TOGETHER
            and before[0][0].feed == record.feed
            and max(before[0][0].size_bytes, record.size_bytes) <= SMALL_BYTES
            and group_bytes + record.size_bytes <= MOST_BYTES_TOGETHER
            and not record.is_packed | before[0][0].is_packed
        ):
            before.append(outcome)
            group_bytes += record.size_bytes
        else:
            groups.append([outcome])
            group_bytes = record.size_bytes
    return groups


def _refused(record: SideRecord, refusal: Refusal) -> SideRecord:
    """Return a side record with a refusal; one that is not the file's own fault is judged again."""
    if isinstance(refusal, TransientRefusal):
        record = replace(record, circumstances=())
    return record.refused(refusal)


def _read_differently(mismatch: warehouse.LoadMismatch) -> Refusal:
    return Refusal(f"two readers read it differently ({mismatch})", "report this file")


def as_refusal(error: Exception) -> Refusal:
    """Return an error with one file as its refusal, without values, which may be personal data.

    Raises:
        ArrivalError: If arrival itself cannot go on.
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ArrivalError):
        raise error
    if isinstance(error, MemoryError | duckdb.OutOfMemoryException):
        return TransientRefusal(
            "reading it takes more memory than there is",
            "give the product more memory, or deliver it in parts",
        )
    if isinstance(error, OSError | duckdb.IOException):
        why = getattr(error, "strerror", None) or type(error).__name__
        return TransientRefusal(
            f"it cannot be taken ({why})",
            OWN_TROUBLE_REMEDY,
        )
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    _log.debug("an unexpected error", exc_info=error)
    return Refusal(
        f"an unexpected error: {type(error).__name__}{place}",
        "report this; the file is kept in the archive, and the others go on",
    )


def _known(record: SideRecord) -> warehouse.KnownDelivery:
    return warehouse.KnownDelivery(
        record.delivery_id,
        record.feed,
        record.identity,
        -1 if record.sha256 is None else record.size_bytes,
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


def reader_of(record: SideRecord, is_plain_trusted: bool) -> Reader:
    """Return the reader of the format of a delivery; only what is needed is imported."""
    match record.format:
        case "csv":
            from dagster_project.arrival.delimited import prepare_csv, rewrite_csv

            return prepare_csv if is_plain_trusted else rewrite_csv
        case "jsonl":
            from dagster_project.arrival.json_lines import prepare_json

            return prepare_json
        case "parquet":
            from dagster_project.arrival.parquet_files import prepare_parquet

            return prepare_parquet
        case None:
            raise Refusal("unknown extension", f"deliver it as one of {', '.join(EXTENSIONS)}")
