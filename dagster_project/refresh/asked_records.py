"""Which records a question changes: the rows that would be delivered, and their changes in words.

A redemption is withdrawn by a version that is redeemed after the as-of date, which the rules do not know yet, or, if
terms hold from some day on, by one that is revoked on that day. A coupon is withdrawn by withdrawing its redemptions
and removing it as the follow-up of other coupons. If terms hold from some day on, changes of what is settled when a
coupon is redeemed are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo

import duckdb

from dagster_project.feeds import Column, Feed, feeds
from dagster_project.quoting import literal, literals, quote
from dagster_project.refresh.changes import (
    FALSE,
    FEEDS,
    TRUE,
    Change,
    Record,
    WrongTerms,
    unknown,
)
from dagster_project.settings import first_instant

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
"""The columns that refer to another record, and the feed of that record."""


class Asking:
    """Turns changes into the rows to deliver, and describes them.

    Attributes:
        withdrawn_coupons: The coupons that count as never delivered.
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
        self._end = first_instant(as_of + timedelta(days=1), ZoneInfo(zone))
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
        """Return the rows by feed, and a description of each change.

        Raises:
            WrongTerms: The changes name what does not exist, change nothing, or change what cannot change from a
                day on.
        """
        for change in changes:
            key = change.values[feeds()[change.feed].key.name]
            if (change.feed, key) in self._values:
                name = feeds()[change.feed].key.name
                raise WrongTerms(f"{change.place}: {name} {key!r} has two rows; give one.")
            self._values[change.feed, key] = change.values
            self._add(change, feeds()[change.feed], key)
        if not self._told:
            raise WrongTerms("These are the recorded terms: nothing would change.")
        self._must_leave_withdrawn()
        self._must_refer()
        return {feed: list(self._put_together(feed).values()) for feed in FEEDS}, self._told

    def _put_together(self, feed: str) -> dict[str, Record]:
        """Return the rows of a feed: those implied by other changes, overlaid with what is asked of the record."""
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
        """Make sure that the coupons and workspaces that changes name exist; recorded values may name others."""
        for place, row, name in self._named:
            feed = feeds()[_REFERS[name]]
            if row[name] in self._found.get(feed.name, {}):
                continue
            if _recorded(self._connection, feed, row[name]) is None:
                raise WrongTerms(f"{place}, {name}: {_no(self._connection, feed, row[name])}")

    def _must_leave_withdrawn(self) -> None:
        """Make sure that no change refers to a coupon that is withdrawn."""
        for row in self._found["redemptions"].values():
            is_withdrawn = row is self._values["redemptions", row["redemption_id"]]
            if row["coupon_id"] in self.withdrawn_coupons and not is_withdrawn:
                raise WrongTerms(
                    f"Redemption {row['redemption_id']}: its coupon {row['coupon_id']} is withdrawn;"
                    " leave out one of the two."
                )
        for key, row in self._found["coupons"].items():
            follow_up = self._values["coupons", key].get("follow_up_coupon_id")
            if follow_up and follow_up in self.withdrawn_coupons:
                raise WrongTerms(
                    f"Coupon {row['coupon_id']}: its follow-up {row['follow_up_coupon_id']} is"
                    " withdrawn; leave out one of the two."
                )

    def _must_be_known(self, change: Change, row: Record) -> None:
        """Make sure that a redemption is redeemed by the as-of date, since a later one is in no release (R0)."""
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
        """Make sure that a coupon's terms can change from a day on, and end the redemptions that need an end."""
        refused = [name for name in differing if name not in OF_A_BILL]
        is_counted = any(
            one["duration"] == "once" or one["duration_invoices"] for one in (row, recorded)
        )
        if "duration" in differing and is_counted:
            refused.append("duration, where bills are counted,")
        if refused:
            raise WrongTerms(
                f"{change.place}: {' and '.join(refused)} cannot change with --from:"
                f" {'it is' if len(refused) == 1 else 'they are'} settled before a bill is issued, for all"
                f" bills alike. With --from, only {', '.join(OF_A_BILL)} can change; ask for the others"
                " without it."
            )
        if {"duration", "duration_months"} & set(differing):
            self._end_redemptions(change, row["coupon_id"], row["duration_months"])

    def _end_redemptions(self, change: Change, coupon_id: str, months: str) -> None:
        """Set the ends of redemptions where the new duration would change what was settled before the day.

        A redemption that ended by the day keeps its end; one that would now have ended before the day ends on it.
        """
        if not re.fullmatch("[0-9]{1,4}|", months):
            return  # the contract of the feed refuses it
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
                    " terms give. Ask without --from."
                )
        for record in _records(self._connection, feeds()["redemptions"], list(ending)):
            if not record["ends_at"]:
                end = ending[record["redemption_id"]]
                self._implied["redemptions"][record["redemption_id"]] = {
                    **record,
                    "ends_at": f"{end.isoformat()}Z",
                }

    def _withdraw(self, change: Change, feed: Feed, recorded: Record) -> None:
        """Withdraw a record, or end it on the day from which terms change."""
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
        """Return the version of a redemption that withdraws it, or revokes it on the day from which terms change."""
        if self._first is None:
            dates = dict.fromkeys(("starts_at", "ends_at", "revoked_at", "eligible_until"), "")
            later = self._as_of + timedelta(days=2)
            return {**recorded, **dates, "redeemed_at": f"{later}T00:00:00Z"}
        return {**recorded, "revoked_at": f"{self._first.isoformat()}Z"}

    def _open(self, redemption_ids: Sequence[str]) -> list[str]:
        """Return the redemptions that a withdrawal changes: those known and not ended by the day of the change."""
        still = f" and coalesce(ended_at > {literals([self._first])}, true)" if self._first else ""
        found = self._connection.execute(
            "select redemption_id from intermediate.int_redemptions_with_terms"
            f" where redemption_id in (select unnest([{literals(redemption_ids)}]::varchar[]))"
            f"{still} order by redemption_id"
        ).fetchall()
        return [redemption_id for (redemption_id,) in found]


def _is_same(column: Column, recorded: str, value: str, zone: str) -> bool:
    """Return whether two texts mean the same value: `15` and `15.00`, or empty and the column's default.

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
        return words <= {*TRUE} or words <= {*FALSE}
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
    """Return the instant of a text in ISO 8601, read in a time zone if it has no offset; None if it has no instant."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)
    except (ValueError, OverflowError):  # an offset can move it past the last year
        return None


def _plain(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number


def _recorded(connection: duckdb.DuckDBPyConnection, feed: Feed, key: str) -> Record | None:
    """Return the current version of a record as delivered, but with `updated_at` a second later."""
    return next(iter(_records(connection, feed, [key])), None)


def _records(
    connection: duckdb.DuckDBPyConnection, feed: Feed, keys: Sequence[str]
) -> list[Record]:
    """Return the current versions of records as delivered, but with `updated_at` a second later."""
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
    """Make sure that an added record has all required values."""
    needed = [name for name in feed.required_names if name != "updated_at"]
    missing = [name for name in needed if not change.values.get(name)]
    if missing:
        told = _no(connection, feed, change.values[feed.key.name])
        raise WrongTerms(f"{change.place}: {told} To add it, give {', '.join(missing)} too.")


def _no(connection: duckdb.DuckDBPyConnection, feed: Feed, key: str) -> str:
    """Say that there is no such record, and name similar ones."""
    known = connection.execute(
        f"select {quote(feed.key.name)} from staging.stg_billing__{feed.name}"
        f" order by jaro_winkler_similarity(lower({quote(feed.key.name)}), lower({literal(key)})) desc,"
        " 1 limit 4"
    ).fetchall()
    noun = feed.name.removesuffix("s")
    mart = "dim_coupon_redemptions" if feed.name == "redemptions" else f"dim_{feed.name}"
    return unknown(noun, key, [str(row[0]) for row in known], f'coupon-ledger query "from {mart}".')
