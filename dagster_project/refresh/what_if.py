"""The recorded history and the outlook under other terms, in a data home of their own.

Making `HOME/what-if/NAME` belongs here: the result of the last build, and one more delivery with the
changed coupons and redemptions. Refreshing it is the ordinary job, incremental from that build, so that
only what the change affects is calculated; `HOME/current` is not touched.

A row names its record and the columns that change; what it leaves out stays as recorded. A redemption is
withdrawn by a version that is redeemed after the as-of date, which the rules do not know yet; a coupon by a
version that closed before any redemption, and that nothing leads to. Findings are those of the recorded
release: no bill is called wrong because of a question.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import duckdb
import yaml

from dagster_project.arrival.archive import Archive
from dagster_project.feeds import Feed, feeds
from dagster_project.refresh import dbt_build
from dagster_project.refresh.known_at import copy_archive
from dagster_project.releases import files
from dagster_project.releases.errors import ReleaseError
from dagster_project.releases.fingerprint import literal, quote
from dagster_project.releases.lock import one_writer
from dagster_project.releases.read import open_release, read_pedigree
from dagster_project.settings import Settings

FEEDS: Final = ("coupons", "redemptions")
"""The feeds whose rows are terms."""
WITHDRAWN: Final = "withdrawn"
"""The column of a row that takes its record away."""
_LONG_AGO: Final = "0001-01-02T00:00:00Z"
_TRUE: Final = ("true", "t", "1", "yes")

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
    """A data home for a question.

    Attributes:
        settings: Of a refresh of it.
        as_of: Last day whose events count, that of the recorded release.
        release_id: The recorded release.
        told: What changes, one sentence each.
    """

    settings: Settings
    as_of: date
    release_id: str
    told: tuple[str, ...]


def read(path: Path) -> list[Change]:
    """Read the changed terms of a file.

    CSV has rows of one feed. YAML and JSON have lists of rows by feed, or one list of rows.

    Raises:
        WrongTerms: The file cannot be read, or has no rows of these feeds.
    """
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() == ".csv":
            lines = list(csv.DictReader(text.splitlines(), restval="", restkey="", strict=True))
            content: Any = lines
        elif path.suffix.lower() == ".json":
            content = json.loads(text, parse_float=str, parse_int=str)
        elif path.suffix.lower() in (".yaml", ".yml"):
            content = yaml.load(text, yaml.BaseLoader)  # noqa: S506 (every scalar as its text)
        else:
            raise WrongTerms(f"{path} is neither .csv, .yaml nor .json; name it so.")
    except OSError as error:
        raise WrongTerms(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, csv.Error, yaml.YAMLError) as error:
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


def prepare(settings: Settings, name: str, changes: Sequence[Change]) -> Prepared:
    """Make the data home of a question, anew apart from its releases.

    Args:
        settings: Of the data home with the recorded release, which is the one served.
        name: What the question is called.
        changes: What is other than recorded.

    Raises:
        WrongTerms: They name what is not there, or change nothing.
        NoRelease: Nothing has been published yet.
        ReleaseError: What the last build left is not what is served.
        Busy: A refresh is running, or the same question is asked.
    """
    home = settings.home
    side = home / "what-if" / checked_name(name)
    with one_writer(home, f"coupon-ledger what-if --name {name}"):
        release_id = files.resolve(home, None)
        pedigree = read_pedigree(home, release_id)
        as_of = pedigree["as_of_date"]
        _must_be_of_this_code(settings, release_id, str(pedigree["code_version"]))
        _must_be_built(settings, release_id)
        with duckdb.connect(str(settings.warehouse), read_only=True) as connection:
            rows, told = _rows(connection, changes, as_of)
        with one_writer(side, f"coupon-ledger what-if --name {name}"):
            for folder in ("archive", "build", "landing"):
                shutil.rmtree(side / folder, ignore_errors=True)
                (side / folder).mkdir(parents=True)
            archive = Archive(home / "archive", home / "build" / "tmp")
            records = archive.records(archive.delivery_ids())
            copy_archive(archive, Archive(side / "archive", side / "build"), records)
            shutil.copyfile(settings.warehouse, side / "build" / settings.warehouse.name)
            for path in sorted((settings.build / "raw").glob("*/*.parquet")):
                (side / "build" / "raw" / path.parent.name).mkdir(parents=True, exist_ok=True)
                _point_to(side / "build" / "raw" / path.parent.name / path.name, path)
            _point_to(side / files.WHAT_IF_RECORDED, files.release_path(home, release_id))
            (side / "accepted_findings.csv").unlink(missing_ok=True)
            if settings.accepted_findings_file.is_file():
                shutil.copyfile(settings.accepted_findings_file, side / "accepted_findings.csv")
            for feed in FEEDS:
                if rows[feed]:
                    _write(side / "landing" / feed / f"{name}.csv", feeds()[feed], rows[feed])
    zone = {"reporting_time_zone": pedigree.get("reporting_time_zone", "UTC")}
    quiet = {"alert_webhook_url": None, "alert_smtp_host": None, "strict": False}
    aside = {"home": side, "landing": side / "landing", "accepted_findings": None, "pull_from": ()}
    return Prepared(
        settings.model_copy(update={**zone, **quiet, **aside}), as_of, release_id, tuple(told)
    )


def settle(settings: Settings) -> None:
    """Make sure that the changed terms count, and judge bills by the recorded ones; called before publication.

    In a data home that is not of a question nothing is done.

    Args:
        settings: Of the refresh.

    Raises:
        ReleaseError: A row breaks the supplier's contract, so that the question was not asked.
    """
    recorded = settings.home / files.WHAT_IF_RECORDED
    if not recorded.is_symlink():
        return
    with duckdb.connect(str(settings.warehouse)) as connection:
        connection.execute(f"attach {literal(os.path.realpath(recorded))} as recorded (read_only)")
        asked = "delivery_id not in (select delivery_id from recorded.release.deliveries)"
        refused = connection.execute(
            f"select file_name, refusal_reason from raw.deliveries where {asked}"
            " and verdict <> 'loaded' order by arrived_at desc limit 1"
        ).fetchone()
        if refused:
            raise _broken(f"{refused[0]} is refused: {refused[1]}")
        rejected = connection.execute(
            "select feed, row_number, reasons from staging.stg_billing__rejected_rows"
            f" where {asked} order by feed, row_number"
        ).fetchall()
        if rejected:
            told = "; ".join(f"{feed}, row {number}: {why}" for feed, number, why in rejected)
            raise _broken(told)
        _judge_by_record(connection)


def _broken(told: str) -> ReleaseError:
    return ReleaseError(
        f"The changed terms break the contract of the feeds: {told}.",
        "Correct them; docs/inputs.md says what each column must be.",
    )


def _judge_by_record(connection: duckdb.DuckDBPyConnection) -> None:
    """Take findings, and what bills were found to differ by, from the recorded release."""
    described = connection.execute("describe marts.fct_audit_findings").fetchall()
    names = ", ".join(quote(str(row[0])) for row in described)
    connection.execute("delete from marts.fct_audit_findings")
    connection.execute(
        f"insert into marts.fct_audit_findings ({names})"
        f" select {names} from recorded.marts.fct_audit_findings"
    )
    connection.execute(
        "update marts.fct_discounted_charges as charges set"
        " discount_variance_amount = recorded.discount_variance_amount,"
        " credit_variance_amount = recorded.credit_variance_amount,"
        " audit_status = recorded.audit_status"
        " from recorded.marts.fct_discounted_charges as recorded"
        " where charges.invoice_id = recorded.invoice_id and ("
        "charges.discount_variance_amount is distinct from recorded.discount_variance_amount"
        " or charges.credit_variance_amount is distinct from recorded.credit_variance_amount"
        " or charges.audit_status is distinct from recorded.audit_status)"
    )
    # From net on, as if billing had known these terms and made the errors that it made.
    connection.execute(
        "update marts.fct_charge_bridge_monthly as bridge set"
        " billing_error_amount = recorded.billing_error_amount,"
        " billed_net_amount = bridge.net_amount + recorded.billing_error_amount,"
        " billed_net_after_notes_amount"
        " = bridge.net_amount + recorded.billing_error_amount - bridge.credited_amount"
        " from recorded.marts.fct_charge_bridge_monthly as recorded"
        " where (bridge.currency, bridge.bridge_month, bridge.plan)"
        " = (recorded.currency, recorded.bridge_month, recorded.plan)"
        " and bridge.billing_error_amount <> recorded.billing_error_amount"
    )


def _must_be_of_this_code(settings: Settings, release_id: str, code_version: str) -> None:
    """Make sure that both releases are calculated alike, so that they differ by their terms only."""
    try:
        ours = dbt_build.prepare(settings).code_version
    except dbt_build.DbtFailed as error:
        raise ReleaseError(str(error)) from error
    if ours != code_version:
        raise ReleaseError(
            f"Release {release_id} was calculated by {code_version}, and a what-if would be by {ours}.",
            "`coupon-ledger run --always` calculates it again; then ask again.",
        )


def _must_be_built(settings: Settings, release_id: str) -> None:
    """Make sure that the warehouse holds what the release was made from."""
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
            connection.execute("select 1 from staging.stg_billing__coupons limit 1")
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


def _rows(
    connection: duckdb.DuckDBPyConnection, changes: Sequence[Change], as_of: date
) -> tuple[dict[str, list[Record]], list[str]]:
    """Return the rows to deliver by feed, and what they change in words.

    Raises:
        WrongTerms: They name what is not there, or change nothing.
    """
    found: dict[str, dict[str, Record]] = {feed: {} for feed in FEEDS}
    told: list[str] = []
    for change in changes:
        feed = feeds()[change.feed]
        key = change.values[feed.key.name]
        if key in found[feed.name]:
            raise WrongTerms(f"{change.place}: {feed.key.name} {key!r} has two rows; give one.")
        recorded = _recorded(connection, feed, key)
        if change.is_withdrawn:
            if recorded is None:
                raise WrongTerms(f"{change.place}: {_no(connection, feed, key)}")
            rows = _withdrawn(connection, feed, recorded, as_of)
            told.append(f"{key}: withdrawn")
            for other in rows:
                found[feed.name].setdefault(other[feed.key.name], other)
            continue
        if recorded is None:
            _must_be_whole(connection, feed, change)
            base = dict.fromkeys(feed.column_names, "")
            base["updated_at"] = f"{as_of}T00:00:00Z"
            told.append(f"{key}: added")
        else:
            base = recorded
            differing = [
                f"{name} {recorded[name] or 'empty'} → {value or 'empty'}"
                for name, value in change.values.items()
                if not _is_same(recorded[name], value)
            ]
            if not differing:
                continue
            told.append(f"{key}: {', '.join(differing)}")
        row = {**base, **change.values}
        if recorded is not None:
            row["updated_at"] = recorded["updated_at"]
        found[feed.name][key] = row
    if not told:
        raise WrongTerms("These terms are those that are recorded: nothing would change.")
    _must_refer(connection, found)
    return {feed: list(rows.values()) for feed, rows in found.items()}, told


def _is_same(recorded: str, value: str) -> bool:
    """Return whether two texts are the same value, `15` and `15.00` too."""
    if recorded == value:
        return True
    number = re.compile(r"-?[0-9]+([.][0-9]+)?")
    if not (number.fullmatch(recorded) and number.fullmatch(value)):
        return False
    return _plain(recorded) == _plain(value)


def _plain(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number


def _recorded(connection: duckdb.DuckDBPyConnection, feed: Feed, key: str) -> Record | None:
    """Return the version of a record that holds, as it was delivered, dated a second later."""
    names = feed.column_names
    columns = {
        str(row[0]) for row in connection.execute(f"describe raw.{quote(feed.name)}").fetchall()
    }
    raw = ", ".join(f"raw_rows.{quote(name)}" if name in columns else "null" for name in names)
    row = connection.execute(
        f"select typed.updated_at, {raw} from staging.stg_billing__{feed.name} as typed"
        f" inner join raw.{quote(feed.name)} as raw_rows using (delivery_sequence, row_number)"
        f" where typed.{quote(feed.key.name)} = ?",
        [key],
    ).fetchone()
    if row is None:
        return None
    record = {name: str(value or "") for name, value in zip(names, row[1:], strict=True)}
    later: datetime = row[0] + timedelta(seconds=1)
    return {**record, feed.key.name: key, "updated_at": f"{later.isoformat()}Z"}


def _withdrawn(
    connection: duckdb.DuckDBPyConnection, feed: Feed, recorded: Record, as_of: date
) -> list[Record]:
    """Return the rows that take a record away."""
    if feed.name == "redemptions":
        dates = dict.fromkeys(("starts_at", "ends_at", "revoked_at", "eligible_until"), "")
        return [{**recorded, **dates, "redeemed_at": f"{as_of + timedelta(days=2)}T00:00:00Z"}]
    leading = connection.execute(
        "select coupon_id from staging.stg_billing__coupons where follow_up_coupon_id = ?"
        " and coupon_id <> ? order by coupon_id",
        [recorded["coupon_id"]] * 2,
    ).fetchall()
    rows = [{**recorded, "redeem_by": _LONG_AGO, "follow_up_coupon_id": ""}]
    for (coupon_id,) in leading:
        other = _recorded(connection, feed, coupon_id)
        assert other is not None
        rows.append({**other, "follow_up_coupon_id": ""})
    return rows


def _must_be_whole(connection: duckdb.DuckDBPyConnection, feed: Feed, change: Change) -> None:
    """Make sure that a record that is not on record has all it must have."""
    needed = [name for name in feed.required_names if name != "updated_at"]
    missing = [name for name in needed if not change.values.get(name)]
    if missing:
        told = _no(connection, feed, change.values[feed.key.name])
        raise WrongTerms(f"{change.place}: {told} To add it, give {', '.join(missing)} too.")


def _must_refer(
    connection: duckdb.DuckDBPyConnection, found: Mapping[str, Mapping[str, Record]]
) -> None:
    """Make sure that added and changed redemptions name coupons and workspaces that exist."""
    for row in found["redemptions"].values():
        place = f"Redemption {row['redemption_id']}"
        for name, feed in (("coupon_id", "coupons"), ("workspace_id", "workspaces")):
            known = row[name] in found.get(feed, {}) or _recorded(
                connection, feeds()[feed], row[name]
            )
            if not known:
                raise WrongTerms(f"{place}: {_no(connection, feeds()[feed], row[name])}")
    for row in found["coupons"].values():
        follow_up = row["follow_up_coupon_id"]
        feed_of_coupons = feeds()["coupons"]
        is_new = follow_up and follow_up not in found["coupons"]
        if is_new and _recorded(connection, feed_of_coupons, follow_up) is None:
            told = _no(connection, feed_of_coupons, follow_up)
            raise WrongTerms(f"Coupon {row['coupon_id']}, follow_up_coupon_id: {told}")


def _no(connection: duckdb.DuckDBPyConnection, feed: Feed, key: str) -> str:
    """Say that there is no such record, and which come near."""
    known = connection.execute(
        f"select {quote(feed.key.name)} from staging.stg_billing__{feed.name}"
        f" order by jaro_winkler_similarity(lower({quote(feed.key.name)}), lower(?)) desc, 1 limit 4",
        [key],
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
    withdrawn = values.pop(WITHDRAWN, "")
    for name, value in values.items():
        if name not in feed.column_names:
            known = [*feed.column_names, WITHDRAWN]
            raise WrongTerms(f"{place}: {_unknown(f'column of {feed_name}', name, known)}")
        column = next(one for one in feed.columns if one.name == name)
        if column.values and value and value not in column.values:
            raise WrongTerms(f"{place}, {name}: {_unknown('value', value, column.values)}")
    values.pop("updated_at", None)
    if not values.get(feed.key.name):
        raise WrongTerms(f"{place}: it names no {feed.key.name}.")
    return Change(feed_name, values, withdrawn.casefold() in _TRUE, place)


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


def _write(path: Path, feed: Feed, rows: Iterable[Record]) -> None:
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, feed.column_names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
