"""A summary of a release for the end of a refresh: rows, discounts, credit, endings, errors, checks."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from dagster_project.answers.asking import Connection, Row, end_of, rows
from dagster_project.answers.bridge import GIFTS
from dagster_project.answers.burndown import grants_left, lapsing
from dagster_project.answers.closes import moves, restatements
from dagster_project.answers.deliveries import with_folders
from dagster_project.answers.expiring import ending
from dagster_project.answers.findings import totals_by_type
from dagster_project.answers.glance import checks

DAYS_AHEAD = 90


def summary(connection: Connection) -> Row:
    """Answer what an analyst first asks about a release.

    Amounts of different currencies are never added up.
    """
    (release,) = rows(connection, "select release_id, as_of_date, created_at from release.release")
    until = release["as_of_date"] + timedelta(days=DAYS_AHEAD)
    checked = checks(connection)
    return {
        **release,
        **rows_in(connection),
        "given": _given(connection),
        "until": until,
        "credit_left": _credit_left(connection, end_of(connection, until)),
        "ending": ending(connection, end_of(connection, until)),
        "findings_by_type": totals_by_type(connection, {}),
        "restated": restatements(connection),
        "moved": moves(connection),
        "checks": len(checked),
        "checks_not_passed": [
            {
                "name": row["name"],
                "failures": row["failures"],
                "unit": "row" if row["checked_by"] == "dbt" else "file",
                "feed": None if row["checked_by"] == "dbt" else row["table_name"],
            }
            for row in checked
            if row["status"] != "pass"
        ],
        "checks_standing": sum(row["is_standing"] for row in checked),
    }


def rows_in(connection: Connection) -> Row:
    """Return counts of delivered rows by feed, the refused files, and the noted files that arrived last.

    Refused files are newest first. The parts of a folder that have the same fate are one entry.
    """
    return {
        "rows_in": rows(
            connection,
            "select feed, count(*) as files, sum(physical_rows) as physical_rows,"
            " sum(accepted_rows) as accepted_rows, sum(superseded_rows) as superseded_rows,"
            " sum(duplicate_rows) as duplicate_rows, sum(rejected_rows) as rejected_rows"
            " from release.deliveries where verdict = 'loaded' group by feed"
            " order by min(arrived_at), feed",
        ),
        "refused_files": with_folders(
            rows(
                connection,
                "from release.deliveries where verdict = 'refused'"
                " order by arrived_at desc, file_name",
            )
        ),
        "noted_files": with_folders(
            rows(
                connection,
                "from release.deliveries where notes is not null and arrived_at ="
                " (select max(arrived_at) from release.deliveries) order by file_name",
            )
        ),
    }


def _given(connection: Connection) -> list[Row]:
    """Return discount and credit by program and currency."""
    return rows(
        connection,
        f"""
        select program, currency, count(distinct redemption_id) as redemptions,
            cast(coalesce(sum(amount) filter (where discount_type <> 'credit'), 0)
                as decimal(18, 2)) as discount_amount,
            cast(coalesce(sum(amount) filter (where discount_type = 'credit'), 0)
                as decimal(18, 2)) as credit_amount
        from ({GIFTS}) group by program, currency order by program, currency
        """,
    )


def _credit_left(connection: Connection, before: datetime) -> list[Row]:
    """Return, by currency, the grants with credit left and how much of it will lapse before an instant."""
    grants = grants_left(connection, "true", [])
    return [
        {
            "currency": currency,
            "grants": len(of_currency),
            "balance_amount": sum(
                (grant["balance_amount"] for grant in of_currency), Decimal("0.00")
            ),
            "projected_breakage_amount": lapsing(of_currency, before),
        }
        for currency in dict.fromkeys(grant["currency"] for grant in grants)
        for of_currency in [[grant for grant in grants if grant["currency"] == currency]]
    ]
