"""What-ifs: the recorded history and the outlook under other terms, in a data home of their own.

The check whether a question can be asked, and its answer, belong here. The answer is a release in `HOME/what-if/NAME`.
It is calculated (`concerned`) from a copy of the last build and written as a changed copy of the recorded release
(`releases/answering.py`); `HOME/current` is not touched. `changes` reads the changed terms, and `asked_records` finds
the records that they change. The findings are those of the recorded release, because a question makes no bill wrong.

If terms hold from some day on, bills issued earlier stay as the last build left them, with the uses and the credit
they took. Only later bills are calculated, under the changed terms and with what is left. What was settled before that
day must then stay the same: which redemptions are honoured, when they started and which ended, and therefore what was
granted. Redemptions are compared with those of the recorded build before anything is published.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import duckdb

from dagster_project.home import make_private
from dagster_project.quoting import literal
from dagster_project.refresh import carrying_on, compiled, dbt_build
from dagster_project.refresh.asked_records import Asking
from dagster_project.refresh.changes import Change, WrongTerms, checked_name, first_of_bills
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
from dagster_project.releases.answering import DATABASE, Mart, publish_answer
from dagster_project.releases.errors import Busy, ReleaseError
from dagster_project.releases.lock import one_writer
from dagster_project.releases.machine import explained
from dagster_project.releases.read import open_release, read_pedigree
from dagster_project.settings import Settings, first_instant

_RECORDED: Final = "recorded.duckdb"
_JUDGED: Final = "warehouse.marts.judged_charges"
_LONGEST_REFRESH_SECONDS: Final = 3600
_BILLS_OF_A_THREAD: Final = 2_000_000


@dataclass(frozen=True)
class Prepared:
    """A question that can be asked, with a copy of the build it is about.

    Attributes:
        settings: Of its data home.
        question: What is asked.
        pedigree: The row of `release.release` of the recorded release.
        rows: The changed records by feed, as they would be delivered.
        first: The first instant whose bills are under the changed terms; None for all bills.
        models: The compiled models.
    """

    settings: Settings
    question: questions.Question
    pedigree: Mapping[str, Any]
    rows: Mapping[str, Sequence[Mapping[str, str]]]
    first: datetime | None
    models: Models


@contextmanager
def prepared(
    settings: Settings,
    name: str,
    changes: Sequence[Change],
    holds_from: date | None = None,
    waiting: Callable[[str], None] | None = None,
) -> Iterator[Prepared]:
    """Lock the data home of a question and fill it with what is needed to answer it; remove that at the end.

    Args:
        settings: Of the data home with the recorded release, which is the current one.
        name: The name of the question.
        changes: The changes to the recorded terms.
        holds_from: The day from which bills are issued under these terms; None for all bills.
        waiting: Called with a message about a running refresh before waiting for its end; None to raise `Busy` instead.

    Raises:
        WrongTerms: The changes name what does not exist, or change nothing.
        NoRelease: Nothing has been published yet.
        ReleaseError: The current release was not made from the last build, or not by this version.
        Busy: A refresh is running, or the same question is being asked.
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
            make_private(side.parent)
            held.enter_context(one_writer(side, command, is_asking=True))
            aside = settings.model_copy(update={"home": side})
            held.callback(_forget_unanswered, side)
            held.callback(_forget_build, aside)
            _forget_build(aside)
            aside.scratch.mkdir(parents=True)
            shutil.copyfile(settings.warehouse, aside.warehouse)
            _hold(side / _RECORDED, files.release_path(home, release_id))
        models = _models(aside, project, side / _RECORDED)
        yield Prepared(aside, question, pedigree, rows, first, models)


@contextmanager
def _recorded_state(
    home: Path, command: str, waiting: Callable[[str], None] | None
) -> Iterator[None]:
    """Lock a data home, so that its build and its release stay those of one refresh; wait for a running one."""
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


def _forget_unanswered(side: Path) -> None:
    """Remove the data home of a question that was refused, unless it holds an earlier question."""
    if not questions.is_of_question(side):
        shutil.rmtree(side, ignore_errors=True)


def answer(prepared: Prepared) -> Calculated:
    """Calculate what a question asks, and publish it in the question's data home; until then, an earlier answer stays.

    Raises:
        WrongTerms: A row breaks the supplier's contract.
        ReleaseError: What was settled before --from would change, a data test does not pass, or the release
            cannot be written.
    """
    settings, question = prepared.settings, prepared.question
    recorded = Path(os.path.realpath(settings.home / _RECORDED))
    end = first_instant(
        prepared.pedigree["as_of_date"] + timedelta(days=1), ZoneInfo(settings.reporting_time_zone)
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
                DATABASE,
            )
        except Broken as error:
            raise WrongTerms(
                f"The changed terms break the contract of the feeds: {error}. Correct them;"
                " docs/inputs.md says what each column must be."
            ) from error
        _judge_by_record(connection, calculated.models, question.withdrawn_coupons)
        publish_answer(
            connection,
            settings.home,
            question,
            recorded,
            prepared.pedigree,
            _marts(connection, calculated.models),
            datetime.now(UTC),
        )
    return calculated


def _judge(prepared: Prepared, connection: duckdb.DuckDBPyConnection) -> None:
    """Make sure that redemptions fit the bills that are not recalculated."""
    holds_from = prepared.question.holds_from
    if holds_from is not None and prepared.first is not None:
        _must_leave_the_past(connection, holds_from, prepared.first)


@contextmanager
def _calculating(settings: Settings, recorded: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty database with dbt's settings, and attach the recorded build and release."""
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
    """Return the new rows of each mart that may differ from the recorded one, and the rows that they replace.

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
        if name == restatements.NAME:  # a question restates no closed month
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


def _must_leave_the_past(
    connection: duckdb.DuckDBPyConnection, holds_from: date, first: datetime
) -> None:
    """Make sure that terms that hold from a day on do not change what was settled before it.

    Bills issued or expected before that day are not recalculated, so redemptions that start before it, expected
    follow-ups included, must be as recorded up to that day.

    Raises:
        ReleaseError: A redemption that starts before that day would differ.
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
        f"What was settled before {holds_from} would change: redemption {found[0]} {told}.",
        "Bills issued before --from stay as recorded, so that redemptions that start earlier must"
        " start as they did and not end earlier. Ask without --from, or give a later start or end.",
    )


def _judge_by_record(
    connection: duckdb.DuckDBPyConnection, models: Collection[str], withdrawn_coupons: Sequence[str]
) -> None:
    """Take the variances of bills, and the deliveries of records, from the recorded release.

    A question edits nothing in the billing system: it delivers nothing and makes no bill wrong.
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
    # After net, the bridge has the recorded errors, as if billing had known these terms.
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


def _models(settings: Settings, project: dbt_build.Project, marts: Path) -> Models:
    try:
        return compiled.models(settings, project, settings.warehouse, marts)
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


def _point_to(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.realpath(target))


def _hold(link: Path, target: Path) -> None:
    """Link to a file that is never written again, so that it stays even if a refresh or pruning removes it."""
    link.unlink(missing_ok=True)
    try:
        link.hardlink_to(os.path.realpath(target))
    except OSError:  # another file system, or one without hard links
        _point_to(link, target)
