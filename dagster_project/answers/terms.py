"""Changed terms of coupons: old and new terms, the delivery, and the bills that differ because of it.

Terms apply to the past too, so a change of terms changes bills issued long before. The differences are
found by comparing a release with the one before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import duckdb

from dagster_project.answers import words
from dagster_project.answers.asking import Connection, Row, has_table, rows
from dagster_project.releases import files
from dagster_project.releases.errors import ReleaseError
from dagster_project.releases.read import attached, open_release

_MOST_RELEASES = 60
_COMPARED = {"fct_credit_ledger", "fct_discount_applications", "fct_discounted_charges"}
"""The marts that are compared between releases; a release without them cannot be compared."""


def versions_of(connection: Connection, coupon_id: str) -> list[Row]:
    """Return each change of the terms of a coupon, the oldest first.

    Returns:
        `coupon_id`, `updated_at`, `file_name`, `delivery_id`, `delivery_row` and `changes`: name, value
        before and value after of each term that differs.
    """
    if not has_table(connection, "coupon_versions", "release"):
        return []
    versions = rows(
        connection,
        "select versions.*, deliveries.file_name from release.coupon_versions as versions"
        " left join release.deliveries as deliveries using (delivery_id)"
        " where versions.coupon_id = ? order by versions.version_number",
        [coupon_id],
    )
    changed = []
    for before, after in pairwise(versions):
        differing = [name for name in words.TERMS if before[name] != after[name]]
        if differing:
            changed.append(
                {
                    "coupon_id": coupon_id,
                    "updated_at": after["updated_at"],
                    "file_name": after["file_name"],
                    "delivery_id": after["delivery_id"],
                    "delivery_row": after["delivery_row"],
                    "changes": [
                        {
                            "name": name,
                            "before": words.term(
                                name, before[name], before["currency"], after[name]
                            ),
                            "after": words.term(name, after[name], after["currency"], before[name]),
                        }
                        for name in differing
                    ],
                }
            )
    return changed


def changed(home: Path, release_id: str) -> list[Row]:
    """Return each change of terms for which a release raises a finding, the latest first.

    Args:
        home: The data home.
        release_id: The whole id of the release.

    Returns:
        As `versions_of`, with `release_before`, the last release without the version's delivery (None
        if no retained one can be compared), and `differing`, by currency: the number of bills on which the
        coupon gives another amount although bill and redemption are the same in both releases, and the
        change in what it gives.
    """
    with open_release(home, release_id) as connection:
        coupons = rows(
            connection,
            "select distinct coupon_id from marts.fct_audit_findings"
            " where finding_type = 'coupon_terms_changed' order by coupon_id",
        )
        found = [one for row in coupons for one in versions_of(connection, row["coupon_id"])]
    before = _releases_before(home, release_id, {str(one["delivery_id"]) for one in found})
    differing: dict[str, list[Row]] = {}
    for release in sorted(set(before.values())):
        names = sorted(
            {str(one["coupon_id"]) for one in found if before.get(one["delivery_id"]) == release}
        )
        try:
            differing[release] = _differing(home, release, release_id, names)
        except ReleaseError:  # the earlier release is damaged; the question is about the later one
            before = {known: one for known, one in before.items() if one != release}
    for one in found:
        earlier = before.get(one["delivery_id"])
        one["release_before"] = earlier
        one["differing"] = [
            row for row in differing.get(earlier or "", []) if row["coupon_id"] == one["coupon_id"]
        ]
    return sorted(found, key=lambda one: (one["updated_at"], one["coupon_id"]), reverse=True)


def open_changes(home: Path, release_id: str) -> dict[str, str]:
    """Return the changes of terms that nobody has accepted, in words, by the id of their findings."""
    with open_release(home, release_id) as connection:
        found = rows(
            connection,
            "select finding_id, coupon_id, occurred_at from marts.fct_audit_findings"
            " where finding_type = 'coupon_terms_changed' and review_status = 'open'"
            " order by finding_id",
        )
    if not found:
        return {}
    sentences: dict[tuple[str, datetime], list[str]] = {}
    for one in changed(home, release_id):
        place = (one["coupon_id"], one["updated_at"])
        sentences.setdefault(place, []).append(words.change_of_terms(one))
    return {
        row["finding_id"]: "; ".join(sentences.get((row["coupon_id"], row["occurred_at"]), []))
        for row in found
    }


def _releases_before(home: Path, release_id: str, deliveries: set[str]) -> dict[str, str]:
    """Return, by delivery, the newest release before a given one that does not list the delivery."""
    before: dict[str, str] = {}
    earlier = [one for one in files.release_ids(home) if one < release_id]
    for candidate in reversed(earlier[-_MOST_RELEASES:]):
        if len(before) == len(deliveries):
            break
        try:
            with open_release(home, candidate) as connection:
                listed = rows(connection, "select delivery_id from release.deliveries")
                tables = rows(
                    connection,
                    "select table_name from duckdb_tables() where schema_name = 'marts'",
                )
        except (ReleaseError, duckdb.Error):
            continue  # its records cannot be read any more
        if not {str(row["table_name"]) for row in tables} >= _COMPARED:
            continue
        for unknown in deliveries - {str(row["delivery_id"]) for row in listed}:
            before.setdefault(unknown, candidate)
    return before


_OF_A_BILL = (
    *("workspace_id", "plan", "billing_interval", "interval_count", "subscription_id", "currency"),
    *("period_start", "period_end", "issued_at"),
    *("list_amount", "discountable_amount", "creditable_amount"),
)
_OF_A_REDEMPTION = ("coupon_id", "workspace_id", "subscription_id", "redeemed_at")
_ENDED_BY_HAND = "case when {}.ended_by in ('revocation', 'eligibility') then {}.ends_at end"
"""When a redemption was revoked or lost its eligibility; an expiry may follow from the terms."""


def _differing(home: Path, before: str, after: str, coupons: Sequence[str]) -> list[Row]:
    """Return, by coupon and currency, how many bills get another amount from the coupon, and the change.

    A bill or redemption that was also corrected, or that only one of the releases contains, is left out:
    its difference need not come from the terms.
    """
    marks = ", ".join("?" * len(coupons))

    def given(release: str) -> str:
        return (
            "(select redemption_id, invoice_id, sum(amount) as amount from ("
            "select redemption_id, coupon_id, invoice_id, discount_amount as amount"
            f" from {release}.marts.fct_discount_applications"
            " union all select redemption_id, coupon_id, invoice_id, -amount"
            f" from {release}.marts.fct_credit_ledger where entry_type = 'draw'"
            f") where coupon_id in ({marks}) group by redemption_id, invoice_id)"
        )

    with attached(home, before, after) as connection:

        def is_same(table: str, names: Sequence[str]) -> str:
            known = rows(
                connection,
                "select column_name from duckdb_columns() where table_name = ?"
                " and schema_name = 'marts' and database_name in ('r0', 'r1')"
                " group by column_name having count(*) = 2",
                [table],
            )
            return " and ".join(
                f"was.{name} is not distinct from now.{name}"
                for name in names
                if name in {row["column_name"] for row in known}
            )

        def same(table: str, key: str, names: Sequence[str], besides: str = "") -> str:
            return (
                f"(select now.* from r0.marts.{table} as was"
                f" inner join r1.marts.{table} as now on was.{key} = now.{key}"
                f" and {is_same(table, names)}{besides})"
            )

        bills = same("fct_discounted_charges", "invoice_id", _OF_A_BILL)
        redemptions = same(
            "dim_coupon_redemptions",
            "redemption_id",
            _OF_A_REDEMPTION,
            f" and {_ENDED_BY_HAND.format('was', 'was')} is not distinct from"
            f" {_ENDED_BY_HAND.format('now', 'now')}",
        )
        return rows(
            connection,
            "select redemptions.coupon_id, bills.currency,"
            " count(distinct bills.invoice_id) as bills,"
            " cast(sum(coalesce(now.amount, 0) - coalesce(was.amount, 0)) as decimal(18, 2))"
            " as given_delta_amount"
            f" from {given('r0')} as was full join {given('r1')} as now"
            " using (redemption_id, invoice_id)"
            f" inner join {bills} as bills using (invoice_id)"
            f" inner join {redemptions} as redemptions using (redemption_id)"
            " where coalesce(now.amount, 0) <> coalesce(was.amount, 0)"
            " group by redemptions.coupon_id, bills.currency"
            " order by redemptions.coupon_id, bills.currency",
            [*coupons, *coupons],
        )
