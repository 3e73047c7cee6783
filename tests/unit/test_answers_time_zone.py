"""Days, months and quarters that answers give are those of the release's reporting time zone (R0)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime

import duckdb
import pytest

from dagster_project.answers.asking import zone_of
from dagster_project.answers.burndown import grants_left
from dagster_project.answers.cohorts import cohorts
from dagster_project.answers.export import Narrowing, _narrowed
from dagster_project.answers.freshness import late_feeds, newest_days
from dagster_project.answers.outlook import bill_changes
from dagster_project.answers.values import day, days_in
from dagster_project.dashboard.pages import _age
from dagster_project.settings import Settings

WEST, EAST, FAR_EAST = "America/Los_Angeles", "Asia/Tokyo", "Pacific/Kiritimati"


@pytest.fixture
def release() -> Iterator[duckdb.DuckDBPyConnection]:
    """A release of a few rows, with instants around the beginning of February."""
    with duckdb.connect() as connection:
        connection.execute(
            """
            create schema release;
            create schema marts;
            create table release.release as select
                'r' as release_id, date '2025-01-31' as as_of_date, 'UTC' as reporting_time_zone;
            create table release.tables as
                select 'marts' as table_schema, 'fct_bill_outlook_monthly' as table_name;
            """
        )
        yield connection


def reporting_in(zone: str, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """The release with another reporting time zone."""
    connection.execute(f"update release.release set reporting_time_zone = '{zone}'")
    return connection


@pytest.mark.parametrize(
    ("zone", "before", "first"),
    [
        ("UTC", "2025-01-31T23:59:59.999999", "2025-02-01T00:00:00"),
        (WEST, "2025-02-01T07:59:59.999999", "2025-02-01T08:00:00"),
        (EAST, "2025-01-31T14:59:59.999999", "2025-01-31T15:00:00"),
    ],
)
def test_the_day_of_an_instant_is_that_of_the_calendar_there(
    release: duckdb.DuckDBPyConnection, zone: str, before: str, first: str
) -> None:
    with days_in(zone_of(reporting_in(zone, release))):
        assert day(datetime.fromisoformat(before)) == "2025-01-31"
        assert day(datetime.fromisoformat(first)) == "2025-02-01"
        assert day(date(2025, 2, 1)) == "2025-02-01"
        assert _age(date(2025, 2, 1), datetime.fromisoformat(first)) == 0
        assert day(datetime.max)[:5] == "9999-"
        assert day(datetime.min)[:5] == "0001-"
    assert day(datetime(2025, 1, 31, 23)) == "2025-01-31"


@pytest.mark.parametrize(
    ("zone", "of_january"),
    [("UTC", ["utc"]), (WEST, ["utc", "west"]), (EAST, [])],
)
def test_rows_of_a_month_are_exported_by_the_calendar_there(
    release: duckdb.DuckDBPyConnection, zone: str, of_january: list[str]
) -> None:
    release.execute(
        """
        create table marts.fct_credit_ledger as select * from (values
            ('utc', timestamp '2025-01-31 23:59:59'), ('west', timestamp '2025-02-01 07:59:59'),
            ('none', timestamp '2025-02-01 08:00:00')) as entries (entry_id, effective_at)
        """
    )
    table = _narrowed(
        release,
        "fct_credit_ledger",
        ("entry_id", "effective_at"),
        (),
        Narrowing(month=date(2025, 1, 1)),
        zone_of(reporting_in(zone, release)),
    )
    assert table is not None
    found = release.execute(
        f"select entry_id from marts.fct_credit_ledger as mart where {table.condition}"
        " order by effective_at"
    ).fetchall()
    assert [name for (name,) in found] == of_january


@pytest.mark.parametrize(
    ("zone", "runs_out_on"),
    [("UTC", date(2025, 3, 1)), (WEST, date(2025, 2, 28)), (EAST, date(2025, 3, 1))],
)
def test_a_grant_ends_on_the_day_there(
    release: duckdb.DuckDBPyConnection, zone: str, runs_out_on: date
) -> None:
    release.execute(
        """
        create table marts.dim_coupons as select 'c' as coupon_id;
        create table marts.fct_credit_burndown_monthly as select
            'g' as grant_id, 'r' as redemption_id, 'c' as coupon_id, 'w' as workspace_id,
            'USD' as currency, 1 as grant_period, date '2025-01-01' as burn_month,
            cast(5 as decimal(18, 2)) as closing_amount, timestamp '2025-03-01 00:00' as grant_ends_at,
            cast(null as decimal(18, 2)) as run_rate_amount,
            cast(null as date) as projected_exhaustion_date,
            cast(5 as decimal(18, 2)) as projected_breakage_amount;
        """
    )
    (grant,) = grants_left(reporting_in(zone, release), "true", [])
    assert grant["runs_out_on"] == runs_out_on


@pytest.mark.parametrize(
    ("zone", "quarter"),
    [("UTC", date(2025, 1, 1)), (WEST, date(2024, 10, 1)), (EAST, date(2025, 1, 1))],
)
def test_a_cohort_starts_in_the_quarter_there(
    release: duckdb.DuckDBPyConnection, zone: str, quarter: date
) -> None:
    release.execute(
        """
        create table marts.dim_coupons as select 'c' as coupon_id, 'special' as program;
        create table marts.dim_coupon_redemptions as select
            'r' as redemption_id, 'c' as coupon_id, 'w' as workspace_id, true as is_honoured,
            timestamp '2025-01-01 07:59:59' as started_at, cast(null as timestamp) as ends_at;
        create table marts.fct_discounted_charges (invoice_id varchar, workspace_id varchar,
            issued_at timestamp, currency varchar, net_amount decimal(18, 2),
            discount_amount decimal(18, 2));
        create table marts.fct_discount_applications (invoice_id varchar, coupon_id varchar,
            currency varchar, discount_amount decimal(18, 2));
        create table marts.fct_credit_ledger (coupon_id varchar, workspace_id varchar,
            currency varchar, entry_type varchar, effective_at timestamp, amount decimal(18, 2));
        """
    )
    (cohort,) = cohorts(reporting_in(zone, release), None, 1)["cohorts"]
    assert cohort["start_quarter"] == quarter


@pytest.mark.parametrize(
    ("zone", "first", "end"),
    [
        ("UTC", "2025-01-31 00:00:00", "2025-03-13 00:00:00"),
        (WEST, "2025-01-31 08:00:00", "2025-03-13 07:00:00"),
        (FAR_EAST, "2025-01-30 10:00:00", "2025-03-12 10:00:00"),
    ],
)
def test_the_age_of_data_counts_days_there(
    release: duckdb.DuckDBPyConnection, zone: str, first: str, end: str
) -> None:
    """40 days are allowed; `first` is the first instant of the 40th day before 12 March, `end` that day's end."""
    settings = Settings.model_validate(
        {"reporting_time_zone": zone, "late_after_days": {"invoices": 40}}
    )
    release.execute(
        "create table marts.fct_discounted_charges as"
        f" select timestamp '{first}' - interval 1 microsecond as issued_at"
    )
    [late] = late_feeds(release, settings, date(2025, 3, 12))
    assert (late.newest, late.days) == (date(2025, 1, 30), 41)
    release.execute(f"insert into marts.fct_discounted_charges values ('{end}')")
    assert late_feeds(release, settings, date(2025, 3, 12)) == [late], "it is of the day after"
    release.execute(f"insert into marts.fct_discounted_charges values ('{first}')")
    assert late_feeds(release, settings, date(2025, 3, 12)) == []
    release.execute(
        "insert into marts.fct_discounted_charges"
        f" select timestamp '{end}' - interval 1 microsecond"
    )
    assert newest_days(release, settings, date(2025, 3, 12)) == {"invoices": date(2025, 3, 12)}


@pytest.mark.parametrize(("zone", "is_reason"), [("UTC", False), (WEST, True), (EAST, False)])
def test_bills_change_after_the_month_there_in_which_a_promotion_gave_for_the_last_time(
    release: duckdb.DuckDBPyConnection, zone: str, is_reason: bool
) -> None:
    """The last benefit is given at the first instant of April in UTC; the bills of April are lower."""
    release.execute(
        """
        create table marts.fct_bill_outlook_monthly as select 'w' as workspace_id,
            'USD' as currency, month as outlook_month, 1 as expected_bills,
            cast(net as decimal(18, 2)) as list_amount, cast(0 as decimal(18, 2)) as discount_amount,
            cast(0 as decimal(18, 2)) as credit_amount, cast(net as decimal(18, 2)) as net_amount
            from (values (date '2025-02-01', 9), (date '2025-03-01', 8), (date '2025-04-01', 7))
                as bills (month, net);
        create table marts.fct_discounted_charges (workspace_id varchar, billing_month date,
            currency varchar, net_amount decimal(18, 2));
        create table marts.fct_upcoming_expirations as select * from (select
            'ends' as redemption_id, 'c' as coupon_id, 'w' as workspace_id, 'end' as runs_out_by,
            timestamp '2025-04-20' as runs_out_at, timestamp '2025-04-01' as last_benefit_at,
            false as is_followed_up, 'f' as follow_up_coupon_id);
        create table marts.dim_coupons as select 'c' as coupon_id,
            cast(null as varchar) as follow_up_coupon_id;
        create table marts.dim_coupon_redemptions (redemption_id varchar, coupon_id varchar,
            workspace_id varchar, is_honoured boolean, next_event varchar, next_event_at timestamp,
            ends_at timestamp, status varchar, ended_by varchar);
        create table marts.fct_credit_burndown_monthly (redemption_id varchar, coupon_id varchar,
            workspace_id varchar, burn_month date, projected_exhaustion_date date);
        """
    )
    changes = bill_changes(reporting_in(zone, release), "w")
    assert (date(2025, 4, 1) in [row["month"] for row in changes]) is is_reason
