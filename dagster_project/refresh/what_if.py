"""The recorded history and the outlook under other terms, in a data home of their own.

Asking belongs here: which records a question changes, whether it can be asked, and its answer, the release in
`HOME/what-if/NAME`. It is calculated (`concerned`) from a copy of the last build and written as a changed copy of
the recorded release (`releases/answering.py`); `HOME/current` is not touched.

A row names its record and the columns that change; what it leaves out stays as recorded. A redemption is
withdrawn by a version that is redeemed after the as-of date, which the rules do not know yet; a coupon by
withdrawing its redemptions, with nothing leading to it. Findings are those of the recorded release: no bill is
called wrong because of a question.

Where terms hold from some day on, bills issued earlier stay as the build before left them, with the uses and
the credit they took; only later ones are calculated, under the changed terms with what is left. What was settled
before that day can then not change: which redemptions are honoured, when they started, which ended, what was
granted. Changes of what is settled when a coupon is redeemed are refused, and what came of the others is compared
with the recorded build before anything is published.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

import duckdb
import yaml

from dagster_project.feeds import Column, Feed, feeds
from dagster_project.home import make_private
from dagster_project.refresh import carrying_on, compiled, dbt_build
from dagster_project.refresh.compiled import Models, Moment
from dagster_project.refresh.concerned import (
    CHARGES,
    CONCERNED,
    SUMMED,
    TERMS,
    Broken,
    Calculated,
    calculate,
    of_concerned,
)
from dagster_project.releases import files, questions, restatements
from dagster_project.releases.answering import Mart, publish_answer
from dagster_project.releases.errors import Busy, ReleaseError
from dagster_project.releases.fingerprint import Known, literal, literals, quote
from dagster_project.releases.lock import one_writer
from dagster_project.releases.machine import explained
from dagster_project.releases.publishing import MADE_BY
from dagster_project.releases.read import open_release, read_pedigree
from dagster_project.releases.reuse import DATABASE, recall
from dagster_project.settings import Settings

FEEDS: Final = ("coupons", "redemptions")
"""The feeds whose rows are terms."""
WITHDRAWN: Final = "withdrawn"
"""The column of a row that takes its record away."""
OF_A_BILL: Final = (
    *("percent_off", "amount_off", "amount_off_per"),
    *("credit_amount", "credit_priority"),
    *("duration", "duration_months"),
)
"""The columns of a coupon that can change from some day on."""
_REFERS: Final = {
    "coupon_id": "coupons",
    "workspace_id": "workspaces",
    "follow_up_coupon_id": "coupons",
}
"""The columns that name a record, and of which feed."""
_RECORDED: Final = "recorded.duckdb"
_JUDGED: Final = "warehouse.marts.judged_charges"
_LONGEST_REFRESH_SECONDS: Final = 3600
_BILLS_OF_A_THREAD: Final = 2_000_000
_TRUE: Final = ("true", "t", "1", "yes")
_FALSE: Final = ("false", "f", "0", "no")

Record = dict[str, str]


class WrongTerms(Exception):
    """The question does not make sense as it is; says what is wrong and what to do."""


@dataclass(frozen=True)
class Change:
    """One row of a question.

    Attributes:
        feed: `coupons` or `redemptions`.
        values: Columns that change, as text, the key among them.
        is_withdrawn: Whether the record is taken away.
        place: Where the row stands, for messages.
    """

    feed: str
    values: Mapping[str, str]
    is_withdrawn: bool
    place: str


@dataclass(frozen=True)
class Prepared:
    """A question that can be asked, with a copy of what it is asked about.

    Attributes:
        settings: Of its data home.
        question: What is asked.
        pedigree: The row of `release.release` of the recorded release.
        remembered: What the tables of that release held when it was published, where that is known.
        rows: The changed records by feed, as they would be delivered.
        first: The first instant whose bills are under the changed terms; None for all bills.
        models: What is calculated.
    """

    settings: Settings
    question: questions.Question
    pedigree: Mapping[str, Any]
    remembered: Mapping[tuple[str, str], Known]
    rows: Mapping[str, Sequence[Mapping[str, str]]]
    first: datetime | None
    models: Models


def read(path: Path) -> list[Change]:
    """Read the changed terms of a file.

    CSV has rows of one feed. YAML and JSON have lists of rows by feed, or one list of rows.

    Raises:
        WrongTerms: The file cannot be read, or has no rows of these feeds.
    """
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() == ".csv":
            content: Any = _table(text)
        elif path.suffix.lower() == ".json":
            content = json.loads(text, parse_float=str, parse_int=str, object_pairs_hook=_once)
        elif path.suffix.lower() in (".yaml", ".yml"):
            content = yaml.load(text, _Texts)  # noqa: S506 (every scalar as its text)
        else:
            raise WrongTerms(f"{path} is neither .csv, .yaml nor .json; name it so.")
    except OSError as error:
        raise WrongTerms(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise WrongTerms(
            f"{path} is not UTF-8: byte {error.start + 1} is no character. Save it as UTF-8."
        ) from None
    except (ValueError, csv.Error, yaml.YAMLError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise WrongTerms(f"{path} cannot be read as {path.suffix[1:].upper()}: {told}") from None
    by_feed = content if isinstance(content, dict) else {"": content}
    changes = []
    for feed, rows in by_feed.items():
        if feed not in ("", *FEEDS):
            raise WrongTerms(f"{path}: {_unknown('list of rows', str(feed), FEEDS)}")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise WrongTerms(f"{path}: give rows as a list, each with its columns by name.")
        for number, row in enumerate(rows, 1):
            place = f"{path.name}, {feed or 'row'} {number}"
            values = {str(name): _text(value, place) for name, value in row.items()}
            changes.append(_change(feed or _feed_of(values, place), values, place))
    if not changes:
        raise WrongTerms(f"{path} has no rows. Give rows of coupons or redemptions.")
    return changes


def _table(text: str) -> list[Record]:
    """Return the rows of a CSV file by the names of its columns.

    Raises:
        ValueError: A row has more or fewer values than there are columns, or two have one name.
    """
    lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    if not lines:
        return []
    header, *body = lines
    found = []
    for number, values in enumerate(body, 1):
        if len(values) != len(header):
            raise ValueError(f"row {number} has {len(values)} values for {len(header)} columns")
        found.append(_once(list(zip(header, values, strict=True))))
    return found


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return what is named, each once.

    Raises:
        ValueError: A name comes twice.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is given twice")
        found[name] = value
    return found


class _Texts(yaml.BaseLoader):
    """YAML of which every scalar is its text, and every name of a mapping comes once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(name, deep=True) for name, _ in node.value]
        _once([(str(name), None) for name in names])
        return dict(super().construct_mapping(node, deep=deep))


def of_coupon(coupon_id: str, settings_of: Sequence[str]) -> list[Change]:
    """Return the change of one coupon given as `column=value`.

    Raises:
        WrongTerms: One of them is not so.
    """
    values = {"coupon_id": coupon_id}
    for text in settings_of:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise WrongTerms(f"--set {text}: give COLUMN=VALUE, such as percent_off=15.")
        if name.strip() == "coupon_id":
            raise WrongTerms(f"--set {text}: name the coupon with --coupon alone.")
        if name.strip() in values:
            raise WrongTerms(f"--set {text}: {name.strip()} is set twice; set it once.")
        values[name.strip()] = value.strip()
    return [_change("coupons", values, f"coupon {coupon_id}")]


def checked_name(name: str) -> str:
    """Return a name that can be that of a folder.

    Raises:
        WrongTerms: It cannot.
    """
    if not re.fullmatch(files.WHAT_IF_NAME, name):
        raise WrongTerms(
            f"--name {name}: give at most 64 letters, digits, dots, dashes and underscores, a letter"
            " or digit first."
        )
    return name


def checked_day(text: str) -> date:
    """Return the day from which on terms change.

    Raises:
        WrongTerms: It is no day.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise WrongTerms(f"--from {text}: give a day as YYYY-MM-DD.") from None


@contextmanager
def prepared(
    settings: Settings,
    name: str,
    changes: Sequence[Change],
    holds_from: date | None = None,
    waiting: Callable[[str], None] | None = None,
) -> Iterator[Prepared]:
    """Hold the data home of a question, with what is needed to answer it; that goes at the end.

    Args:
        settings: Of the data home with the recorded release, which is the one served.
        name: What the question is called.
        changes: What is other than recorded.
        holds_from: The day from which on bills are issued under these terms, if not all are.
        waiting: Is told what a running refresh is, before its end is waited for; None not to wait.

    Raises:
        WrongTerms: They name what is not there, or change nothing.
        NoRelease: Nothing has been published yet.
        ReleaseError: What the last build left is not what is served.
        Busy: A refresh is running, or the same question is asked.
    """
    home = settings.home
    side = home / files.WHAT_IF / checked_name(name)
    command = f"coupon-ledger what-if --name {name}"
    with ExitStack() as held:
        with _recorded_state(home, command, waiting):
            release_id = files.resolve(home, None)
            pedigree = read_pedigree(home, release_id)
            as_of = pedigree["as_of_date"]
            zone = str(pedigree.get("reporting_time_zone", "UTC"))
            settings = settings.model_copy(update={"reporting_time_zone": zone})
            project = _project_of(settings, release_id, str(pedigree["code_version"]))
            _must_be_built(settings, project, release_id, as_of)
            first = first_of_bills(holds_from, as_of, zone)
            with duckdb.connect(str(settings.warehouse), read_only=True) as connection:
                asking = Asking(connection, as_of, first, zone, project.time_zones)
                rows, told = asking.rows(changes)
            if holds_from is not None:
                told = [f"{one}, on bills issued from {holds_from} on" for one in told]
            question = questions.Question(
                name,
                datetime.now(UTC).isoformat(timespec="seconds"),
                release_id,
                as_of.isoformat(),
                tuple(told),
                None if holds_from is None else holds_from.isoformat(),
                tuple(asking.withdrawn_coupons),
            )
            published = recall(home, MADE_BY)
            is_of_it = published is not None and published.release_id == release_id
            remembered = published.tables if published and is_of_it else {}
            make_private(side.parent)
            held.enter_context(one_writer(side, command))
            aside = settings.model_copy(update={"home": side})
            files.current_link(side).unlink(missing_ok=True)  # it answers an earlier question
            _forget_build(aside)
            aside.scratch.mkdir(parents=True)
            shutil.copyfile(settings.warehouse, aside.warehouse)
            _hold(side / _RECORDED, files.release_path(home, release_id))
            questions.write(side, question)
        held.callback(_forget_build, aside)
        models = _models(aside, project)
        yield Prepared(aside, question, pedigree, remembered, rows, first, models)


@contextmanager
def _recorded_state(
    home: Path, command: str, waiting: Callable[[str], None] | None
) -> Iterator[None]:
    """Hold a data home, so that its build and its release stay those of one refresh; wait for a running one."""
    with ExitStack() as held:
        try:
            held.enter_context(one_writer(home, command))
        except Busy as busy:
            if waiting is None:
                raise
            waiting(busy.message)
            held.enter_context(one_writer(home, command, _LONGEST_REFRESH_SECONDS))
        yield


def _forget_build(settings: Settings) -> None:
    """Remove what a question is calculated from."""
    shutil.rmtree(settings.build, ignore_errors=True)
    (settings.home / _RECORDED).unlink(missing_ok=True)


def answer(prepared: Prepared) -> Calculated:
    """Calculate what a question asks, and publish it in the question's data home.

    Raises:
        ReleaseError: A row breaks the supplier's contract, what was settled before --from would be
            another, a data test does not pass, or the release cannot be written.
    """
    settings, question = prepared.settings, prepared.question
    recorded = Path(os.path.realpath(settings.home / _RECORDED))
    end = _first_instant(
        prepared.pedigree["as_of_date"] + timedelta(days=1), settings.reporting_time_zone
    )
    remedy = "Ask again; if it fails in the same way, ask after `coupon-ledger run --always`."
    with (
        explained(settings.home, "The question cannot be answered", remedy),
        _calculating(settings, recorded) as connection,
    ):
        ((last,),) = connection.execute(
            "select coalesce(max(delivery_sequence), 0) from recorded.raw.deliveries"
        ).fetchall()
        moment = Moment(prepared.pedigree["as_of_date"], end, int(last), prepared.first)
        try:
            calculated = calculate(
                connection,
                prepared.models,
                moment,
                prepared.rows,
                partial(_judge, prepared, connection),
            )
        except Broken as error:
            raise ReleaseError(
                f"The changed terms break the contract of the feeds: {error}.",
                "Correct them; docs/inputs.md says what each column must be.",
            ) from error
        _judge_by_record(connection, calculated.models, question.withdrawn_coupons)
        publish_answer(
            connection,
            settings.home,
            recorded,
            prepared.pedigree,
            prepared.remembered,
            _marts(connection, calculated.models),
            datetime.now(UTC),
        )
    return calculated


def _judge(prepared: Prepared, connection: duckdb.DuckDBPyConnection) -> None:
    """Make sure that redemptions fit the bills that are not calculated again."""
    holds_from = prepared.question.holds_from
    if holds_from is not None and prepared.first is not None:
        _must_leave_the_past(connection, holds_from, prepared.first)


@contextmanager
def _calculating(settings: Settings, recorded: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty database, with the recorded build and release attached, as dbt's settings are."""
    with duckdb.connect(
        config={
            "threads": 1,
            "memory_limit": settings.memory_limit,
            "temp_directory": str(settings.scratch),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "disabled_optimizers": "in_clause",
        }
    ) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(f"attach {literal(str(settings.warehouse))} as recorded (read_only)")
        connection.execute(f"attach {literal(str(recorded))} as {DATABASE} (read_only)")
        connection.execute("attach ':memory:' as warehouse")
        connection.execute("use warehouse")
        # A second thread costs a quarter more processor time, which little work does not repay.
        ((bills,),) = connection.execute(
            f"select count(*) from {DATABASE}.marts.fct_discounted_charges"
        ).fetchall()
        threads = min(settings.threads, 1 + int(bills) // _BILLS_OF_A_THREAD)
        connection.execute(f"set threads = {threads}")
        yield connection


def _marts(connection: duckdb.DuckDBPyConnection, models: Collection[str]) -> dict[str, Mart]:
    """Return what each mart is to hold that may be another than recorded.

    Args:
        connection: The connection of the calculation.
        models: The models that were run.
    """
    columns: dict[str, list[str]] = {}
    for name, column in connection.execute(
        "select table_name, column_name from duckdb_columns()"
        f" where database_name = {literal(DATABASE)} and schema_name = 'marts'"
        " order by table_name, column_index"
    ).fetchall():
        columns.setdefault(name, []).append(column)
    marts = {}
    for name, names in columns.items():
        recorded = f"{DATABASE}.marts.{name}"
        if name == restatements.NAME:  # what a month was closed with is compared with records only
            marts[name] = Mart(f"(select * from {recorded} where false)", recorded)
        elif name in TERMS:
            marts[name] = Mart(f"warehouse.marts.{name}", recorded)
        elif name in SUMMED and name in models:
            marts[name] = Mart(f"warehouse.all_workspaces.{name}", recorded)
        elif name in models:
            of_these = of_concerned(names)
            assert of_these, f"{name} says of no workspace"
            held = f"(select * from {recorded} where {of_these})"
            marts[name] = Mart(f"warehouse.marts.{name}", held)
            if name == "fct_discounted_charges":
                marts[name] = Mart(_JUDGED, CHARGES)
    return marts


def first_of_bills(holds_from: date | None, as_of: date, zone: str) -> datetime | None:
    """Return the first instant of a day in the reporting time zone.

    Raises:
        WrongTerms: No bill is looked at from that day on.
    """
    if holds_from is None:
        return None
    if not date(1970, 1, 1) <= holds_from < as_of + timedelta(days=730):
        raise WrongTerms(
            f"--from {holds_from}: bills are looked at up to 24 months after {as_of}, the as-of date;"
            " give a day from 1970-01-01 to then."
        )
    return _first_instant(holds_from, zone)


def _first_instant(day: date, zone: str) -> datetime:
    """Return the first instant of a day, or of the next one there is, in a time zone."""
    midnight = datetime.combine(day, time(), UTC)
    quarters = (midnight + timedelta(minutes=15 * number) for number in range(-60, 168))
    reporting = ZoneInfo(zone)
    first = next(one for one in quarters if one.astimezone(reporting).date() >= day)
    return first.replace(tzinfo=None)


def _must_leave_the_past(
    connection: duckdb.DuckDBPyConnection, holds_from: date, first: datetime
) -> None:
    """Make sure that terms that hold from a day on leave what was settled before as it is recorded.

    Bills issued before are not calculated again, nor are bills to come before that day, so that redemptions and
    grants must fit them, follow-ups to come among them.

    Raises:
        ReleaseError: A redemption that starts before is another one.
    """
    stands = "coupon_id, workspace_id, subscription_id, promotion_id, started_at, refusal_reason"
    until = f"least(coalesce(ended_at, {literal(str(first))}), {literal(str(first))}) as ends_at"
    terms = "{}.intermediate.int_redemptions_with_terms"
    stood = (
        f"select redemption_id, {stands}, {until} from {terms}"
        f" where started_at < {literal(str(first))} and {CONCERNED}"
    )
    recorded, asked = stood.format("recorded"), stood.format("warehouse")
    found = connection.execute(
        f"select redemption_id from (({recorded} except {asked}) union"
        f" ({asked} except {recorded}))"
        " group by redemption_id order by redemption_id limit 1"
    ).fetchone()
    if found is None:
        return
    before, after = (
        connection.execute(
            f"select {stands}, ended_at from {terms.format(side)}"
            f" where redemption_id = {literal(found[0])}"
        ).fetchone()
        for side in ("recorded", "warehouse")
    )
    names = (*stands.split(", "), "ends_at")
    if before is None or after is None:
        told = "is not recorded" if before is None else "is recorded, and would not have been"
        if str(found[0]).endswith("~follow-up"):
            told = "is a follow-up that nobody recorded, and would not have been"
            told = "is no follow-up as recorded, and would be one" if before is None else told
    else:
        told = "; ".join(
            f"{name} {one if one is not None else 'none'}, what if"
            f" {other if other is not None else 'none'}"
            for name, one, other in zip(names, before, after, strict=True)
            if one != other
        )
    raise ReleaseError(
        f"What was settled before {holds_from} would be other than recorded: redemption {found[0]}"
        f" {told}.",
        "Bills issued before --from stay as recorded, so that redemptions that start earlier must"
        " start as they did and not end earlier. Ask without --from, or give a later start or end.",
    )


def _judge_by_record(
    connection: duckdb.DuckDBPyConnection, models: Collection[str], withdrawn_coupons: Sequence[str]
) -> None:
    """Take what bills were found to differ by, and where records came from, from the recorded release.

    A question is no edit in the billing system: it delivers nothing, and no bill is wrong because of it.
    """
    for coupon_id in withdrawn_coupons:
        connection.execute(f"delete from marts.dim_coupons where coupon_id = {literal(coupon_id)}")
    for mart, key, places in (
        ("dim_coupons", "coupon_id", ("updated_at", "delivery_id", "delivery_row")),
        ("dim_coupon_redemptions", "redemption_id", ("delivery_id", "delivery_row")),
    ):
        if mart not in models:
            continue
        values = ", ".join(f"{place} = recorded.{place}" for place in places)
        connection.execute(
            f"update marts.{mart} as asked set {values} from {DATABASE}.marts.{mart} as recorded"
            f" where asked.{key} = recorded.{key} and asked.delivery_id is null"
        )
        connection.execute(f"update marts.{mart} set delivery_row = null where delivery_id is null")
    if "fct_discounted_charges" not in models:
        return
    judged = ("discount_variance_amount", "credit_variance_amount", "audit_status")
    as_recorded = ", ".join(f"recorded.{column} as {column}" for column in judged)
    connection.execute(
        f"create view {_JUDGED} as select charges.* replace ({as_recorded})"
        " from warehouse.marts.fct_discounted_charges as charges inner join"
        f" {CHARGES} as recorded on charges.invoice_id = recorded.invoice_id"
    )
    # From net on, as if billing had known these terms and made the errors that it made.
    connection.execute(
        "update all_workspaces.fct_charge_bridge_monthly as bridge set"
        " billing_error_amount = recorded.billing_error_amount,"
        " billed_net_amount = bridge.net_amount + recorded.billing_error_amount,"
        " billed_net_after_notes_amount"
        " = bridge.net_amount + recorded.billing_error_amount - bridge.credited_amount"
        f" from {DATABASE}.marts.fct_charge_bridge_monthly as recorded"
        " where (bridge.currency, bridge.bridge_month, bridge.plan)"
        " = (recorded.currency, recorded.bridge_month, recorded.plan)"
        " and bridge.billing_error_amount <> recorded.billing_error_amount"
    )


def _project_of(settings: Settings, release_id: str, code_version: str) -> dbt_build.Project:
    """Return the project that made a release, so that an answer differs from it by its terms only."""
    try:
        project = dbt_build.prepare(settings)
    except dbt_build.DbtFailed as error:
        raise ReleaseError(str(error)) from error
    if project.code_version != code_version:
        raise ReleaseError(
            f"Release {release_id} was calculated by {code_version}, and a what-if would be by"
            f" {project.code_version}.",
            "`coupon-ledger run --always` calculates it again; then ask again.",
        )
    return project


def _models(settings: Settings, project: dbt_build.Project) -> Models:
    try:
        return compiled.models(settings, project, settings.warehouse)
    except dbt_build.DbtFailed as error:
        raise ReleaseError(str(error)) from error


def _must_be_built(
    settings: Settings, project: dbt_build.Project, release_id: str, as_of: date
) -> None:
    """Make sure that the warehouse holds what the release was made from, whole and tested."""
    remedy = "`coupon-ledger run --always` makes both alike; then ask again."
    if settings.engine != "duckdb":
        raise ReleaseError(
            "A what-if carries on from a build of DuckDB, and the engine is Spark.",
            "Ask with COUPON_LEDGER_ENGINE=duckdb, after a run with it.",
        )
    if not settings.warehouse.is_file():
        raise ReleaseError(f"There is no build {settings.warehouse} to carry on from.", remedy)
    with open_release(settings.home, release_id) as release:
        listed = set(release.execute("select delivery_id from release.deliveries").fetchall())
    try:
        with duckdb.connect(str(settings.warehouse), read_only=True) as connection:
            loaded = set(connection.execute("select delivery_id from raw.deliveries").fetchall())
            is_whole = carrying_on.is_left(connection, dbt_build.made_by(settings, project), as_of)
    except duckdb.Error as error:
        raise ReleaseError(
            f"The build {settings.warehouse} cannot be read: {' '.join(str(error).split())}", remedy
        ) from error
    if listed != loaded:
        raise ReleaseError(
            f"The last build knows {len(loaded):,} deliveries, and the release that is current,"
            f" {release_id}, {len(listed):,}: they are not of the same state.",
            remedy,
        )
    if not is_whole:
        raise ReleaseError(
            f"The last build is not that of {release_id}, the release that is current: it failed, is of"
            " another day or version, or has not been made again since `coupon-ledger rebuild`.",
            remedy,
        )


class Asking:
    """From changes to the rows to deliver, and what they change in words.

    Attributes:
        withdrawn_coupons: The coupons that are as if they had never been.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        as_of: date,
        first: datetime | None,
        zone: str = "UTC",
        feed_zones: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Begin with no change.

        Args:
            connection: The build of the recorded release.
            as_of: Its last day.
            first: The first instant whose bills are under the changed terms; None for all bills.
            zone: The reporting time zone.
            feed_zones: Time zones of feeds whose instants without an offset are not in UTC.
        """
        self._feed_zones = feed_zones
        self._end = _first_instant(as_of + timedelta(days=1), zone)
        self.withdrawn_coupons: list[str] = []
        self._connection = connection
        self._as_of = as_of
        self._first = first
        self._found: dict[str, dict[str, Record]] = {feed: {} for feed in FEEDS}
        self._implied: dict[str, dict[str, Record]] = {feed: {} for feed in FEEDS}
        self._values: dict[tuple[str, str], Mapping[str, str]] = {}
        self._told: list[str] = []
        self._named: list[tuple[str, Record, str]] = []

    def rows(self, changes: Sequence[Change]) -> tuple[dict[str, list[Record]], list[str]]:
        """Return the rows by feed, and what they change, one sentence each.

        Raises:
            WrongTerms: They name what is not there, change nothing, or what cannot change from a day on.
        """
        for change in changes:
            key = change.values[feeds()[change.feed].key.name]
            if (change.feed, key) in self._values:
                name = feeds()[change.feed].key.name
                raise WrongTerms(f"{change.place}: {name} {key!r} has two rows; give one.")
            self._values[change.feed, key] = change.values
            self._add(change, feeds()[change.feed], key)
        if not self._told:
            raise WrongTerms("These terms are those that are recorded: nothing would change.")
        self._must_leave_withdrawn()
        self._must_refer()
        return {feed: list(self._put_together(feed).values()) for feed in FEEDS}, self._told

    def _put_together(self, feed: str) -> dict[str, Record]:
        """Return the rows of a feed: what follows from other changes, and on it what is asked of the record."""
        rows = {**self._found[feed], **self._implied[feed]}
        for key in self._found[feed].keys() & self._implied[feed].keys():
            rows[key] = {**self._implied[feed][key], **self._values[feed, key]}
        return rows

    def _add(self, change: Change, feed: Feed, key: str) -> None:
        recorded = _recorded(self._connection, feed, key)
        if change.is_withdrawn:
            if recorded is None:
                raise WrongTerms(f"{change.place}: {_no(self._connection, feed, key)}")
            self._withdraw(change, feed, recorded)
        elif recorded is None:
            _must_be_whole(self._connection, feed, change)
            base = dict.fromkeys(feed.column_names, "")
            row = {**base, "updated_at": f"{self._as_of}T00:00:00Z", **change.values}
            self._must_be_known(change, row)
            self._found[feed.name][key] = row
            self._named += [(change.place, row, name) for name in _REFERS if row.get(name)]
            self._told.append(f"{key}: added")
        else:
            differing = [
                name
                for name, value in change.values.items()
                if not _is_same(feed.column(name), recorded[name], value, self._zone_of(feed.name))
            ]
            if not differing:
                return
            row = {**recorded, **change.values, "updated_at": recorded["updated_at"]}
            self._must_be_known(change, row)
            if self._first is not None and feed.name == "coupons":
                self._from_a_day_on(change, recorded, row, differing)
            self._found[feed.name][key] = row
            self._named += [
                (change.place, row, one) for one in differing if one in _REFERS and row[one]
            ]
            shown = [
                f"{name} {recorded[name] or 'empty'} → {change.values[name] or 'empty'}"
                for name in differing
                if not feed.column(name).personal
            ]
            shown += ["another user"] * (len(shown) < len(differing))
            self._told.append(f"{key}: {', '.join(shown)}")

    def _zone_of(self, feed_name: str) -> str:
        return self._feed_zones.get(feed_name, "UTC")

    def _must_refer(self) -> None:
        """Make sure that the coupons and workspaces that changes name exist; what is recorded may name others."""
        for place, row, name in self._named:
            feed = feeds()[_REFERS[name]]
            if row[name] in self._found.get(feed.name, {}):
                continue
            if _recorded(self._connection, feed, row[name]) is None:
                raise WrongTerms(f"{place}, {name}: {_no(self._connection, feed, row[name])}")

    def _must_leave_withdrawn(self) -> None:
        """Make sure that nothing is changed to be of a coupon that is withdrawn."""
        for row in self._found["redemptions"].values():
            is_withdrawn = row is self._values["redemptions", row["redemption_id"]]
            if row["coupon_id"] in self.withdrawn_coupons and not is_withdrawn:
                raise WrongTerms(
                    f"Redemption {row['redemption_id']}: its coupon {row['coupon_id']} is withdrawn;"
                    " leave out one of both."
                )
        for key, row in self._found["coupons"].items():
            follow_up = self._values["coupons", key].get("follow_up_coupon_id")
            if follow_up and follow_up in self.withdrawn_coupons:
                raise WrongTerms(
                    f"Coupon {row['coupon_id']}: its follow-up {row['follow_up_coupon_id']} is"
                    " withdrawn; leave out one of both."
                )

    def _must_be_known(self, change: Change, row: Record) -> None:
        """Make sure that a redemption is made by the as-of date: a later one is in no release (R0)."""
        redeemed = row.get("redeemed_at", "")
        at = _moment(redeemed, self._zone_of(change.feed))
        if change.feed == "redemptions" and at is not None and at.replace(tzinfo=None) >= self._end:
            raise WrongTerms(
                f"{change.place}: redeemed_at {redeemed} is after {self._as_of}, the as-of date, so that"
                " the redemption would not be known yet. Give a day up to then, and a later starts_at"
                " where it is to begin later."
            )

    def _from_a_day_on(
        self, change: Change, recorded: Record, row: Record, differing: Sequence[str]
    ) -> None:
        """Make sure that a coupon's terms can change from a day on, and end its redemptions as they then do."""
        refused = [name for name in differing if name not in OF_A_BILL]
        is_counted = any(
            one["duration"] == "once" or one["duration_invoices"] for one in (row, recorded)
        )
        if "duration" in differing and is_counted:
            refused.append("duration, where bills are counted,")
        if refused:
            raise WrongTerms(
                f"{change.place}: {' and '.join(refused)} cannot change with --from: it is settled before"
                " a bill is issued, for all bills alike. With --from can change"
                f" {', '.join(OF_A_BILL)}; ask for the others without it."
            )
        if {"duration", "duration_months"} & set(differing):
            self._end_redemptions(change, row["coupon_id"], row["duration_months"])

    def _end_redemptions(self, change: Change, coupon_id: str, months: str) -> None:
        """End the redemptions of a coupon that ended before the day as recorded, and none of the others before it."""
        if not re.fullmatch("[0-9]{1,4}|", months):
            return  # the contract of the feed says so
        own = f"to_months({int(months)})" if months else "null::interval"
        periods = (
            "case discount_type when 'credit' then credit_period_months * credit_max_periods end"
        )
        ends = f"(started_at + coalesce({own}, to_months({periods})))"
        first = literals([self._first])
        found = self._connection.execute(
            "select redemption_id, is_derived,"
            f" case when natural_end_at <= {first} then natural_end_at else {first} end as ends_at"
            " from intermediate.int_redemptions_with_terms"
            f" where coupon_id = {literal(coupon_id)} and started_at < {first}"
            f" and coalesce(least(natural_end_at, {ends}) < {first}, false)"
            f" and natural_end_at is distinct from {ends} order by redemption_id"
        ).fetchall()
        ending = {redemption_id: ends_at for redemption_id, _, ends_at in found}
        for redemption_id, is_derived, _ in found:
            if is_derived:
                raise WrongTerms(
                    f"{change.place}: how long it lasts cannot change with --from: redemption"
                    f" {redemption_id} is a follow-up that nobody recorded, whose end only the coupon's"
                    " terms say. Ask without --from."
                )
        for record in _records(self._connection, feeds()["redemptions"], list(ending)):
            if not record["ends_at"]:
                end = ending[record["redemption_id"]]
                self._implied["redemptions"][record["redemption_id"]] = {
                    **record,
                    "ends_at": f"{end.isoformat()}Z",
                }

    def _withdraw(self, change: Change, feed: Feed, recorded: Record) -> None:
        """Take a record away, or end it with the day from which on terms change."""
        key = recorded[feed.key.name]
        if feed.name == "redemptions":
            if not self._open([key]):
                return
            row = self._found["redemptions"][key] = self._withdrawn(recorded)
            self._values["redemptions", key] = row
            self._told.append(f"{key}: withdrawn")
            return
        made = self._connection.execute(
            "select redemption_id, is_derived from intermediate.int_redemptions_with_terms"
            f" where coupon_id = {literal(key)}"
            f" and (not is_to_come or started_at < {literals([self._first or self._end])})"
            " order by redemption_id"
        ).fetchall()
        if self._first is not None and any(is_derived for _, is_derived in made):
            raise WrongTerms(
                f"{change.place}: it cannot be withdrawn with --from: it follows other coupons by"
                " itself, and nobody recorded those redemptions. Ask without --from."
            )
        own = [redemption_id for redemption_id, is_derived in made if not is_derived]
        ending = self._open(own)
        for record in _records(self._connection, feeds()["redemptions"], ending):
            self._implied["redemptions"][record["redemption_id"]] = self._withdrawn(record)
        leading = self._connection.execute(
            "select coupon_id from staging.stg_billing__coupons"
            f" where follow_up_coupon_id = {literal(key)} and coupon_id <> {literal(key)}"
            " order by coupon_id"
        ).fetchall()
        for record in _records(self._connection, feed, [one for (one,) in leading]):
            self._implied["coupons"][record["coupon_id"]] = {**record, "follow_up_coupon_id": ""}
        if self._first is None:
            self.withdrawn_coupons.append(key)
        elif not ending and not leading:
            return
        noun = "redemption" if len(own) == 1 else "redemptions"
        self._told.append(f"{key}: withdrawn, with {len(own):,} {noun}")

    def _withdrawn(self, recorded: Record) -> Record:
        """Return the version of a redemption that takes it away."""
        if self._first is None:
            dates = dict.fromkeys(("starts_at", "ends_at", "revoked_at", "eligible_until"), "")
            later = self._as_of + timedelta(days=2)
            return {**recorded, **dates, "redeemed_at": f"{later}T00:00:00Z"}
        return {**recorded, "revoked_at": f"{self._first.isoformat()}Z"}

    def _open(self, redemption_ids: Sequence[str]) -> list[str]:
        """Return those redemptions that a withdrawal changes: known, and not ended by the day of the change."""
        still = f" and coalesce(ended_at > {literals([self._first])}, true)" if self._first else ""
        found = self._connection.execute(
            "select redemption_id from intermediate.int_redemptions_with_terms"
            f" where redemption_id in (select unnest([{literals(redemption_ids)}]::varchar[]))"
            f"{still} order by redemption_id"
        ).fetchall()
        return [redemption_id for (redemption_id,) in found]


def _is_same(column: Column, recorded: str, value: str, zone: str) -> bool:
    """Return whether two texts are one value: `15` and `15.00`, an instant, empty and what it stands for.

    Args:
        column: The column.
        recorded: The text as recorded.
        value: The text as asked.
        zone: The time zone of instants without an offset.
    """
    recorded, value = recorded or column.default or "", value or column.default or ""
    if recorded == value:
        return True
    if column.type == "boolean":
        words = {recorded.casefold(), value.casefold()}
        return words <= {*_TRUE} or words <= {*_FALSE}
    if column.type == "currency":
        return recorded.casefold() == value.casefold()
    if column.type in ("instant", "date"):
        return _moment(recorded, zone) == _moment(value, zone) is not None
    number = re.compile(r"-?[0-9]+([.][0-9]+)?")
    if column.type in ("id", "text", "enum") or not (
        number.fullmatch(recorded) and number.fullmatch(value)
    ):
        return False
    return _plain(recorded) == _plain(value)


def _moment(text: str, zone: str) -> datetime | None:
    """Return the instant that a text names in ISO 8601, in a time zone where it has no offset."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)
    except (ValueError, OverflowError):  # an offset can move it past the last year
        return None


def _plain(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number


def _recorded(connection: duckdb.DuckDBPyConnection, feed: Feed, key: str) -> Record | None:
    """Return the version of a record that holds, as it was delivered, dated a second later."""
    return next(iter(_records(connection, feed, [key])), None)


def _records(
    connection: duckdb.DuckDBPyConnection, feed: Feed, keys: Sequence[str]
) -> list[Record]:
    """Return the versions of records that hold, as they were delivered, dated a second later."""
    names = feed.column_names
    columns = {
        str(row[0]) for row in connection.execute(f"describe raw.{quote(feed.name)}").fetchall()
    }
    raw = ", ".join(f"raw_rows.{quote(name)}" if name in columns else "null" for name in names)
    key = f"typed.{quote(feed.key.name)}"
    found = connection.execute(
        f"select {key}, typed.updated_at, {raw} from staging.stg_billing__{feed.name} as typed"
        f" inner join raw.{quote(feed.name)} as raw_rows using (delivery_sequence, row_number)"
        f" where {key} in (select unnest([{literals(keys)}]::varchar[])) order by {key}"
    ).fetchall()
    records, second = [], timedelta(seconds=1)
    for own, updated_at, *values in found:
        later: datetime = min(updated_at, datetime.max - second) + second
        record = {name: str(value or "") for name, value in zip(names, values, strict=True)}
        records.append({**record, feed.key.name: own, "updated_at": f"{later.isoformat()}Z"})
    return records


def _must_be_whole(connection: duckdb.DuckDBPyConnection, feed: Feed, change: Change) -> None:
    """Make sure that a record that is not on record has all it must have."""
    needed = [name for name in feed.required_names if name != "updated_at"]
    missing = [name for name in needed if not change.values.get(name)]
    if missing:
        told = _no(connection, feed, change.values[feed.key.name])
        raise WrongTerms(f"{change.place}: {told} To add it, give {', '.join(missing)} too.")


def _no(connection: duckdb.DuckDBPyConnection, feed: Feed, key: str) -> str:
    """Say that there is no such record, and which come near."""
    known = connection.execute(
        f"select {quote(feed.key.name)} from staging.stg_billing__{feed.name}"
        f" order by jaro_winkler_similarity(lower({quote(feed.key.name)}), lower({literal(key)})) desc,"
        " 1 limit 4"
    ).fetchall()
    noun = feed.name.removesuffix("s")
    return _unknown(noun, key, [str(row[0]) for row in known])


def _unknown(kind: str, wanted: str, known: Iterable[str]) -> str:
    names = list(known)
    near = get_close_matches(wanted.casefold(), [name.casefold() for name in names], 3, 0.5)
    meant = [name for name in names if name.casefold() in near]
    hint = f"Did you mean {' or '.join(meant)}?" if meant else f"There is {', '.join(names)}."
    return f"there is no {kind} {wanted!r}. {hint if names else ''}".strip()


def _change(feed_name: str, values: dict[str, str], place: str) -> Change:
    """Return a row whose columns are those of its feed.

    Raises:
        WrongTerms: They are not, or it does not say which record it is.
    """
    feed = feeds()[feed_name]
    withdrawn = values.pop(WITHDRAWN, "").casefold()
    if withdrawn not in ("", *_TRUE, *_FALSE):
        raise WrongTerms(f"{place}, {WITHDRAWN}: give true or false, not {withdrawn!r}.")
    for name, value in values.items():
        if name not in feed.column_names:
            known = [*feed.column_names, WITHDRAWN]
            raise WrongTerms(f"{place}: {_unknown(f'column of {feed_name}', name, known)}")
        column = feed.column(name)
        if column.values and value and value not in column.values:
            raise WrongTerms(f"{place}, {name}: {_unknown('value', value, column.values)}")
    values.pop("updated_at", None)
    if not values.get(feed.key.name):
        raise WrongTerms(f"{place}: it names no {feed.key.name}.")
    return Change(feed_name, values, withdrawn in _TRUE, place)


def _feed_of(values: Mapping[str, str], place: str) -> str:
    """Return the feed of a row by its key; a redemption names its coupon too."""
    if "redemption_id" in values:
        return "redemptions"
    if "coupon_id" in values:
        return "coupons"
    raise WrongTerms(
        f"{place}: it is neither of coupons nor of redemptions: it has no coupon_id or redemption_id."
    )


def _text(value: object, place: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value.strip()
    raise WrongTerms(f"{place}: {value!r} is not one value.")


def _point_to(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.realpath(target))


def _hold(link: Path, target: Path) -> None:
    """Keep a file that is never written again, whatever a refresh or pruning does meanwhile."""
    link.unlink(missing_ok=True)
    try:
        link.hardlink_to(os.path.realpath(target))
    except OSError:  # another file system, or one without such links
        _point_to(link, target)
